"""`compozy run`: one workflow, run as a Prefect flow, with its result on stdout."""

from __future__ import annotations

import json as json_
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from compozy_prefect.cli import DONE, FAILED, INTERRUPTED
from compozy_prefect.cli.app import SETTINGS
from compozy_prefect.cli.output import colour, note, print_diagnostics, print_json
from compozy_prefect.compiler.compile import CompiledProject, compile_project
from compozy_prefect.errors import UsageError
from compozy_prefect.language.data import read_data
from compozy_prefect.runtime.inputs import misspelt

if TYPE_CHECKING:
    from compozy_prefect.compiler.plan import StepPlan
    from compozy_prefect.flows.run import RunResult
    from compozy_prefect.runtime.mocks import Mocks
    from compozy_prefect.runtime.outcome import Failure

# How a detached run tells its parent who it is: the number of an open file descriptor.
_ANNOUNCE = "COMPOZY_ANNOUNCE_FD"
_DETACH_SECONDS = 180.0
_TAIL = 400  # characters of an answer that are kept to be shown

# `-i key=value` and `--input-file`, of whichever command takes an input.
Items = Annotated[list[str] | None, Parameter(alias="-i", negative="", allow_leading_hyphen=True)]
InputFile = Annotated[Path | None, Parameter(allow_leading_hyphen=True)]


def run(
    path: Path = Path("."),
    /,
    *,
    workflow: str | None = None,
    input: Items = None,
    input_file: InputFile = None,
    offline: Annotated[bool, Parameter(negative="")] = False,
    mocks: Path | None = None,
    record: Path | None = None,
    replay: Path | None = None,
    replay_loose: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    detach: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Run a workflow as a Prefect flow and print its output.

    Parameters
    ----------
    path
        A project directory or a YAML file.
    workflow
        The id of the workflow; needed when the project has several.
    input
        key=value, as often as needed. JSON if it is JSON, text otherwise; a.b=1 nests.
    input_file
        The input as YAML or JSON; `-` reads stdin. Keys given by --input win.
    offline
        Answer agents without a network, with made-up data of the right shape.
    mocks
        A YAML file with the answers of agents and tools.
    record
        Write every call of a model or a tool and its answer to this file, without secrets.
    replay
        Answer models and tools from such a file; a call that it does not hold is an error.
    replay_loose
        Give such a call the next answer of its agent and action, or its tool.
    json
        Print the whole result: status, output, tasks, usage.
    detach
        Leave the run to a background process and print its id.
    """
    given = input_of(input or [], input_file)
    if detach:
        files = {"--mocks": mocks, "--record": record, "--replay": replay}
        flags = {"--offline": offline, "--replay-loose": replay_loose}
        return _detached(path, workflow, given, files, flags)
    project = compile_project(path, env_file=SETTINGS.env_file, flags=SETTINGS.flags)
    if not SETTINGS.quiet:
        print_diagnostics(project.warnings, project.sources)
    workflow_id = project.only_workflow(workflow)
    answers = answers_of(project, mocks)
    from compozy_prefect.flows import local

    cassette = local.cassette(record, replay, loose=replay_loose)
    _say_what_is_offline(project, workflow_id, answers, offline)
    _say_what_runs_tools(project, workflow_id, answers)
    if not offline and replay is None:
        _say_what_is_started(project, workflow_id)
    for name, near in misspelt(project.plan.workflows[workflow_id], given):
        note(f"warning: the workflow has no input `{name}`; did you mean `{near}`?")

    logging.raiseExceptions = False  # a server that is gone is our sentence to say, not its log's
    result = local.run(
        project,
        workflow_id,
        input=given,
        offline=offline,
        mocks=answers,
        cassette=cassette,
        env_file=SETTINGS.env_file,
        observer=Progress(),
        notify=note,
    )
    return finish(result, json)


def finish(result: RunResult, json: bool) -> int:
    if json:
        print_json(result.to_json())
    elif result.status == "SUCCESS":
        print_json(result.output)
    if result.status == "CANCELED":
        note("interrupted; the run is cancelled")
        return INTERRUPTED
    if result.status != "SUCCESS":
        message = result.error.message if result.error else "no reason was given"
        print(f"error: {result.status}: {message}", file=sys.stderr)
        return FAILED
    return DONE


def answers_of(project: CompiledProject, path: Path | None) -> Mocks | None:
    if path is None:
        return None
    from compozy_prefect.runtime.mocks import Mocks

    answers = Mocks.from_file(path)
    for stranger in answers.unknown(*project.known):
        note(f"warning: {stranger.message}")
    return answers


def _say_what_is_offline(
    project: CompiledProject, workflow_id: str, mocks: Mocks | None, offline: bool
) -> None:
    plan = project.plan.workflows[workflow_id]
    mocked, made_up = [], []
    for step in plan.all_steps.values():
        if step.agent is not None:
            agent = plan.agents[step.agent.agent].id
            if mocks is not None and mocks.has_agent(agent, step.agent.action):
                mocked.append(agent)
            elif offline:
                made_up.append(agent)
        elif step.tool is not None and mocks is not None and mocks.has_tool(step.tool.tool):
            mocked.append(step.tool.tool)
    if mocked:
        note(f"mocked: {_list(mocked)}")
    if made_up:
        note(
            f"offline: {_list(made_up)} answered with made-up data, since --offline was given; "
            "no model is asked"
        )


def _say_what_runs_tools(project: CompiledProject, workflow_id: str, mocks: Mocks | None) -> None:
    from compozy_prefect.runtime.js.call import notice

    tools = project.plan.workflows[workflow_id].tools.values()
    real = [tool for tool in tools if mocks is None or not mocks.has_tool(tool.id)]
    line = notice(project.plan.project.runtime, real)
    if line:
        note(line)


def _say_what_is_started(project: CompiledProject, workflow_id: str) -> None:
    """The programs of MCP servers, before the first of them is started."""
    from compozy_prefect.runtime.mcp.connection import command_line

    for server in project.plan.workflows[workflow_id].mcps.values():
        if server.transport == "stdio":
            note(f"MCP server `{server.id}` is started when it is needed: {command_line(server)}")


def _list(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def input_of(pairs: list[str], file: Path | None) -> dict[str, Any]:
    """The input of the run. Raises UsageError for what is no `key=value`."""
    out: dict[str, Any] = {}
    if file is not None:
        data = read_data(file)
        if not isinstance(data, dict):
            name = "stdin" if os.fspath(file) == "-" else file
            raise UsageError(f"{name}: the input must be a map of names to values")
        out = json_.loads(json_.dumps(data))
    for pair in map(_utf8, pairs):
        key, equals, text = pair.partition("=")
        names = key.split(".")
        if not equals or not all(names):
            raise UsageError(f"-i {pair!r} is no key=value, such as -i name=Alice")
        holder = out
        for name in names[:-1]:
            inner = holder.setdefault(name, {})
            if not isinstance(inner, dict):
                raise UsageError(f"-i {pair!r}: `{name}` already has a value that is no map")
            holder = inner
        holder[names[-1]] = _value(text)
    return out


def _utf8(argument: str) -> str:
    """An argument as UTF-8, whatever the locale. Raises UsageError for bytes that are none."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeError:
        raise UsageError(f"-i {argument!r} is not UTF-8; use --input-file for other text") from None


def _value(text: str) -> Any:
    """JSON if it is JSON, text otherwise; as which counts what no float can hold, as 12e3456."""
    try:
        return json_.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def _finite(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _refuse(text)


def _refuse(name: str) -> Any:
    raise ValueError(name)


class Progress:
    """A line for each step on a terminal; elsewhere only the address of the run.

    While a step is under way its line shows the last words of the answer that is coming in.
    """

    def __init__(self) -> None:
        self.streams = self._shown = sys.stderr.isatty() and not SETTINGS.quiet
        self._colour = colour(sys.stderr)
        self._said: dict[str, str] = {}

    def run_started(self, execution_id: str, ui_url: str) -> None:
        note(f"run {execution_id}\n{ui_url}")
        announce = os.environ.pop(_ANNOUNCE, None)
        if announce is not None:
            with open(int(announce), "w") as pipe:
                pipe.write(json_.dumps({"execution_id": execution_id, "ui_url": ui_url}))

    def step_started(self, step: StepPlan) -> None:
        if self._shown:
            print(f"  … {step.id}", end="\r", file=sys.stderr, flush=True)

    def step_said(self, step: StepPlan, text: str | None) -> None:
        said = "" if text is None else self._said.get(step.path, "") + text
        self._said[step.path] = said = said[-_TAIL:]
        words = " ".join("".join(c if c.isprintable() else " " for c in said).split())
        width = max(shutil.get_terminal_size().columns - len(step.id) - 8, 10)
        tail = words if len(words) <= width else f"…{words[1 - width :]}"
        print(f"\x1b[2K  … {step.id}  {tail}", end="\r", file=sys.stderr, flush=True)

    def run_waits(self, signal: str, why: str) -> None:
        note(f"waits for the signal `{signal}`" + (f": {why}" if why else ""))

    def step_finished(
        self, step: StepPlan, status: str, seconds: float, error: Failure | None
    ) -> None:
        self._said.pop(step.path, None)
        if not self._shown:
            return
        good = status == "SUCCESS"
        mark = "✓" if good else "✗"
        if self._colour:
            mark = f"\x1b[3{2 if good else 1}m{mark}\x1b[0m"
        said = "" if good else f"  {status}"
        print(f"\x1b[2K  {mark} {step.id}  {seconds:.2f}s{said}", file=sys.stderr, flush=True)

    def run_finished(self, result: RunResult) -> None:
        pass


def _detached(
    path: Path,
    workflow: str | None,
    given: dict[str, Any],
    files: Mapping[str, Path | None],
    flags: Mapping[str, bool],
) -> int:
    """Starts the same run in a process of its own, and waits until it knows its id."""
    command = [sys.executable, "-m", "compozy_prefect", "run", os.fspath(path), "--quiet", "--json"]
    command += ["--input-file", "-"]
    command += ["--workflow", workflow] if workflow else []
    command += [flag for flag, on in flags.items() if on]
    for option, file in files.items():
        command += [option, os.fspath(file)] if file else []
    command += ["--env-file", os.fspath(SETTINGS.env_file)] if SETTINGS.env_file else []
    with _log() as (log, name):
        reader, writer = os.pipe()
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=(writer,),
            env={**os.environ, _ANNOUNCE: str(writer)},
            start_new_session=True,
        )
        os.close(writer)
        assert child.stdin is not None
        child.stdin.write(json_.dumps(given).encode())
        child.stdin.close()
        with open(reader) as pipe:
            announced = pipe.read()
    if announced:
        note(f"what it says goes to {name}")
        print_json(json_.loads(announced))
        return DONE
    code = child.wait(_DETACH_SECONDS)
    sys.stderr.write(Path(name).read_text("utf-8", "replace"))
    return code or FAILED


@contextmanager
def _log() -> Iterator[tuple[Any, str]]:
    """Where a detached run writes; kept, since nobody else sees what it says."""
    from compozy_prefect.flows.server_state import server_home

    folder = server_home(os.environ).path.parent / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    name = folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    with open(name, "wb") as log:
        os.chmod(name, 0o600)
        yield log, os.fspath(name)
