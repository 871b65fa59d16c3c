"""`compozy tool`: tools, tried out one by one."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from compozy_prefect.cli import DONE, FAILED
from compozy_prefect.cli.app import SETTINGS
from compozy_prefect.cli.output import note, print_diagnostics, print_json
from compozy_prefect.cli.run import InputFile, Items, answers_of, input_of
from compozy_prefect.diagnostics import printable


def call(
    tool: str,
    path: Path = Path("."),
    /,
    *,
    workflow: str | None = None,
    input: Items = None,
    input_file: InputFile = None,
    offline: Annotated[bool, Parameter(negative="")] = False,
    mocks: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Call one tool under its permissions, and print its result.

    Parameters
    ----------
    tool
        The id of a tool of the project, or of a built-in one such as `cp__read_file`.
    path
        A project directory or a YAML file.
    workflow
        The workflow whose tools and variables count; the first that has the tool if not given.
    input
        key=value, as often as needed. JSON if it is JSON, text otherwise; a.b=1 nests.
    input_file
        The input as YAML or JSON; `-` reads stdin. Keys given by --input win.
    offline
        Without a network: a tool that needs one is refused.
    mocks
        A YAML file with the answers of tools.
    json
        Print the whole result: status, input, output, error, duration.
    """
    from compozy_prefect.compiler.compile import check, compiled
    from compozy_prefect.compiler.lower import tool_plan
    from compozy_prefect.runtime import trial
    from compozy_prefect.runtime.js.call import notice
    from compozy_prefect.runtime.services import Services

    given = input_of(input or [], input_file)
    checked = check(path, env_file=SETTINGS.env_file, flags=SETTINGS.flags)
    project = compiled(checked)
    if not SETTINGS.quiet:
        # That nothing uses a tool is no news to who tries it out.
        shown = [one for one in project.warnings if one.code != "CZ218"]
        print_diagnostics(shown, project.sources)
    if workflow is not None:
        project.only_workflow(workflow)
    answers = answers_of(project, mocks)
    plan, id, found = tool_plan(checked.project, project.plan, tool, workflow)
    if not (answers is not None and answers.has_tool(found.id)):
        line = notice(plan.project.runtime, [found])
        if line:
            note(line)
    services = Services.create(
        offline=offline,
        mocks=answers,
        env={**os.environ, **project.env},
        root=project.root,
    )
    result = asyncio.run(trial.call(plan, id, found, given, services, _printed))
    if json:
        print_json(result.to_json())
    elif result.error is None:
        print_json(result.output)
    if result.error is not None:
        print(f"error: {result.error.message}", file=sys.stderr)
        return FAILED
    return DONE


def _printed(text: str) -> None:
    if not SETTINGS.quiet:
        print(printable(text.rstrip("\n")), file=sys.stderr, flush=True)
