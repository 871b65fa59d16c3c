"""`compozy prompt`: what a task would ask its model, with the number of tokens, unsent."""

from __future__ import annotations

import asyncio
import json as json_
import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from compozy_prefect.cli import DONE
from compozy_prefect.cli.app import SETTINGS
from compozy_prefect.cli.output import note, print_json
from compozy_prefect.cli.run import InputFile, Items, answers_of, input_of
from compozy_prefect.diagnostics import printable
from compozy_prefect.errors import UsageError
from compozy_prefect.language.data import read_data


def prompt(
    task: str,
    path: Path = Path("."),
    /,
    *,
    workflow: str | None = None,
    input: Items = None,
    input_file: InputFile = None,
    outputs: Path | None = None,
    item: str | None = None,
    mocks: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Print what a task would ask its model, with the number of tokens; nothing is sent.

    Parameters
    ----------
    task
        The id of a task that asks an agent, or its path in its containers.
    path
        A project directory or a YAML file.
    workflow
        The id of the workflow; needed when the project has several.
    input
        key=value of the workflow's input, as often as needed.
    input_file
        The input as YAML or JSON; `-` reads stdin.
    outputs
        A YAML file with the outputs of the tasks before it, by their ids.
    item
        The item of the collection around it, as JSON.
    mocks
        A YAML file with the answers of tools that the prompt calls.
    json
        Print the messages, tools and parameters as data.
    """
    from compozy_prefect.compiler.compile import compile_project
    from compozy_prefect.runtime import preview
    from compozy_prefect.runtime.services import Services

    project = compile_project(path, env_file=SETTINGS.env_file, flags=SETTINGS.flags)
    plan = project.plan.workflows[project.only_workflow(workflow)]
    step = preview.find(plan, task)
    given = input_of(input or [], input_file)
    services = Services.create(
        offline=True,
        mocks=answers_of(project, mocks),
        env={**os.environ, **project.env},
        root=project.root,
    )
    found = asyncio.run(
        preview.preview(
            project.plan,
            plan,
            step,
            given,
            services,
            outputs=_outputs(outputs),
            brought=_brought(item),
        )
    )
    if found.skipped:
        note(f"the condition of `{step.id}` is false: nothing is asked")
        return DONE
    for id in found.missing:
        note(f"the output of `{id}` is read and reads as null: give it with --outputs FILE")
    if json:
        print_json(found.to_json())
        return DONE
    print(printable(_text(found)), end="")
    tokens = "an unknown number of" if found.tokens is None else f"{found.tokens:,}"
    usd = "" if found.usd is None else f", {found.usd:.6f} USD without the answer"
    note(f"{found.model}: {tokens} tokens{usd}; nothing was sent")
    return DONE


def _text(found: Any) -> str:
    parts = []
    for message in found.messages:
        content = message["content"]
        if not isinstance(content, str):
            content = json_.dumps(content, indent=2, ensure_ascii=False)
        parts.append(f"--- {message['role']}\n{content.rstrip()}\n")
    for tool in found.tools:
        function = tool["function"]
        schema = json_.dumps(function["parameters"], ensure_ascii=False)
        said = function.get("description", "")
        parts.append(f"--- tool {function['name']}\n{said}\n{schema}\n")
    if found.response_format:
        form = json_.dumps(found.response_format, indent=2, ensure_ascii=False)
        parts.append(f"--- response format\n{form}\n")
    if found.params:
        parts.append(f"--- parameters\n{json_.dumps(found.params, ensure_ascii=False)}\n")
    return "\n".join(parts)


def _outputs(file: Path | None) -> dict[str, Any]:
    data = {} if file is None else read_data(file)
    if not isinstance(data, dict):
        raise UsageError(f"{file}: the outputs must be a map of task ids to values")
    return dict(data)


def _brought(item: str | None) -> dict[str, Any]:
    if item is None:
        return {}
    try:
        return {"item": json_.loads(item), "index": 0}
    except ValueError:
        return {"item": item, "index": 0}
