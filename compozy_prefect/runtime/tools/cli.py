"""A tool of `type: cli` and its input → what its program wrote, and its exit code (§6.1, §13).

There is no shell: `config.command` is a list, and each element is one argument, whatever it holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compozy_prefect.compiler.plan import Json, ToolPlan, pointer
from compozy_prefect.errors import ToolFailed
from compozy_prefect.expressions import Environment, TemplateError, parse
from compozy_prefect.language.discovery import within
from compozy_prefect.runtime import templates
from compozy_prefect.runtime.processes import command
from compozy_prefect.runtime.processes.guarded import MEMORY, Limits, NotStarted, Program
from compozy_prefect.runtime.tools import programs
from compozy_prefect.runtime.tools.effects import IDEMPOTENT
from compozy_prefect.runtime.tools.failures import failed
from compozy_prefect.runtime.tools.surroundings import Surroundings

_KEY = "COMPOZY_IDEMPOTENCY_KEY"
_MOST_SHOWN = 1000  # characters of what a program wrote that an error has
_LIMITS = {
    "memory": "it took more memory than its limit, {limit} MiB",
    "cpu": "it took more processor time than its limit, {seconds:g} s",
    "processes": "it started more processes than it may",
    "output": "its output is over {most:,} bytes, the `max_stdout_bytes` of `exec`",
    "timeout": "it did not end within {seconds:g} s",
}
_FINAL = ("output", "memory", "processes")


def rendered(
    config: Mapping[str, Json],
    seen: Mapping[str, Any],
    environment: Environment,
    at: str,
    spans: templates.Spans,
) -> dict[str, Json]:
    """`config` of a tool, its `command` element by element: text stays text, whatever it looks
    like. Raises TemplateFailed."""
    rest = {key: value for key, value in config.items() if key != "command"}
    out = dict(templates.render(rest, seen, environment, at, spans))
    given = config.get("command")
    if not isinstance(given, list):
        return {**out, "command": given}
    place = at + pointer("command")
    argv = []
    for index, one in enumerate(given):
        if isinstance(one, str) and "{{" in one:
            try:
                one = parse(one).native(seen, environment)
            except TemplateError as fault:
                raise templates.located(fault, one, place + pointer(index), spans) from None
        argv.append(one)
    return {**out, "command": argv}


async def call(
    tool: ToolPlan, input: dict[str, Any], config: dict[str, Any], around: Surroundings
) -> Json:
    """`{exit_code, data, stderr}`: `data` is stdout, as JSON if it is JSON, else as text.

    On stdin is `config.stdin`, or the input as JSON. Raises ToolFailed, also for an exit code that
    is not 0, unless `config.fail_on_error` is false.
    """
    bounds, seconds = around.runtime.native_tools.exec, tool.timeout or None
    limits = Limits(around.runtime.memory_limit or MEMORY, cpu=seconds or 0.0)
    try:
        argv = _argv(config.get("command"))
        allowed = programs.find(argv, around.runtime, around.root)
        if allowed.entry.timeout:
            seconds = min(seconds or allowed.entry.timeout, allowed.entry.timeout)
        program = Program(
            tuple(argv),
            path=allowed.path,
            cwd=_folder(config.get("cwd"), around.root),
            env=_variables(tool, around),
            limits=limits,
            fence=allowed.fence,
            is_offline=around.is_offline,
        )
        ended = await command.run(
            program,
            _stdin(config, input),
            seconds=seconds,
            most_out=bounds.max_stdout,
            most_err=bounds.max_stderr,
        )
    except programs.NotAllowed as fault:
        raise failed(tool, around, str(fault), kind="refused", retryable=False) from None
    except programs.NotFound as fault:
        raise failed(tool, around, str(fault), kind="start", retryable=False) from None
    except NotStarted as fault:
        message = f"`{argv[0]}` cannot be started: {fault}"
        raise failed(tool, around, message, kind="start", retryable=False) from None
    except ValueError as fault:
        raise failed(tool, around, str(fault), kind="stdin", retryable=False) from None
    stderr = ended.stderr.decode("utf-8", "replace")
    if stderr:
        around.printed(stderr)
    if ended.reason:
        message = _LIMITS[ended.reason].format(
            limit=limits.memory >> 20, seconds=seconds or 0, most=bounds.max_stdout
        )
        again = ended.reason not in _FINAL
        details = {"stderr": stderr, "timeout_seconds": seconds}
        raise failed(
            tool, around, message, kind=ended.reason, details=details, retryable=again
        ) from None
    if ended.code and config.get("fail_on_error") is not False:
        raise _ended_badly(tool, around, argv[0], ended, stderr)
    return {"exit_code": ended.code, "data": _data(config, ended.stdout), "stderr": stderr}


def _variables(tool: ToolPlan, around: Surroundings) -> dict[str, str]:
    env = programs.environment(around.root, around.declared)
    return {**env, _KEY: around.key} if tool.effect == IDEMPOTENT else env


def _ended_badly(
    tool: ToolPlan, around: Surroundings, name: str, ended: command.Ended, stderr: str
) -> ToolFailed:
    how = f"with signal {-ended.code}" if ended.code < 0 else f"with code {ended.code}"
    said = stderr.strip() or ended.stdout[-_MOST_SHOWN:].decode("utf-8", "replace").strip()
    details: dict[str, Json] = {
        "exit_code": ended.code,
        "stderr": stderr,
        "stdout": ended.stdout[-_MOST_SHOWN:].decode("utf-8", "replace"),
    }
    message = f"`{name}` ended {how}" + (f": {said[-_MOST_SHOWN:]}" if said else "")
    told = ended.code >= 0
    return failed(tool, around, message, kind="exit", details=details, is_known=told)


def _argv(given: Json) -> list[str]:
    """Raises ValueError."""
    if not isinstance(given, list) or not given:
        raise ValueError("`config.command` is no list of a program and its arguments")
    argv = []
    for number, one in enumerate(given, 1):
        if isinstance(one, bool | int | float):
            one = json.dumps(one)
        if not isinstance(one, str):
            what = "null" if one is None else "a list" if isinstance(one, list) else "a map"
            raise ValueError(f"element {number} of `config.command` is {what}, and no text")
        if "\0" in one:
            raise ValueError(f"element {number} of `config.command` has a zero byte")
        argv.append(one)
    if not argv[0]:
        raise ValueError("the program in `config.command` is empty")
    return argv


def _folder(given: Json, root: Path) -> str:
    """Raises ValueError."""
    real = within(root, str(given or "."))
    if real is None:
        raise ValueError(f"`config.cwd` leads out of the project: `{given}`")
    if not os.path.isdir(real):
        raise ValueError(f"`config.cwd` is no folder of the project: `{given}`")
    return real


def _stdin(config: Mapping[str, Json], input: Json) -> bytes:
    """Raises ValueError for what is no JSON."""
    given = config.get("stdin", input)
    if given is None:
        return b""
    if isinstance(given, str):
        return given.encode("utf-8", "replace")
    return json.dumps(given, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def _data(config: Mapping[str, Json], stdout: bytes) -> Json:
    text = stdout.decode("utf-8", "replace")
    if config.get("stdout") == "text":
        return text
    try:
        return json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return text


def _no_json(name: str) -> Json:
    raise ValueError(name)
