"""A tool of `type: python` and its input → what its function gives (language.md §6.1).

`config.function` is `module:function`, of a module in the project's folder or an installed one, and
one of those that `runtime.python.allowlist` names. It is called with the input as keywords, in a
process that has the project's folder, the declared variables, and no others.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from compozy_prefect.compiler.plan import Json, ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.language import functions
from compozy_prefect.runtime.processes import guarded
from compozy_prefect.runtime.processes.guarded import Limits, NotStarted, Program
from compozy_prefect.runtime.processes.pool import POOLS
from compozy_prefect.runtime.processes.worker import CallFailed, Worker
from compozy_prefect.runtime.tools.failures import failed
from compozy_prefect.runtime.tools.programs import environment
from compozy_prefect.runtime.tools.surroundings import Surroundings

LEAST_MEMORY = 64 << 20  # bytes; the interpreter takes a quarter
_RUNNER = Path(__file__).with_name("runner.py")
_SAID = {
    "MissingModule": "there is no module `{module}` in the project, and none is installed",
    "Missing": "`{module}` has no function `{name}`; it has: {message}",
}


@dataclass(frozen=True, slots=True)
class Launch:
    """A process for the functions of one module; calls with equal ones share it."""

    root: str
    module: str
    memory: int
    is_offline: bool
    variables: tuple[tuple[str, str], ...] = field(repr=False)

    def start(self) -> Worker:
        """Raises CallFailed."""
        program = Program(
            (self.root, self.module),
            cwd=self.root,
            env=dict(self.variables),
            limits=Limits(self.memory),
            is_offline=self.is_offline,
            runner=str(_RUNNER),
        )
        try:
            process = guarded.start(program)
        except NotStarted as fault:
            raise CallFailed("start", f"its process cannot be started: {fault}") from None
        return Worker(process, self.memory, {}, lambda code, said, is_first: None)


async def call(
    tool: ToolPlan, input: dict[str, Any], config: dict[str, Any], around: Surroundings
) -> Json:
    """Any JSON. Raises ToolFailed, which names the file and the line where the function failed."""
    written = str(tool.config.get("function") or "")  # as the file has it, and no template
    module, _, name = written.partition(":")
    if not functions.FUNCTION.fullmatch(written):
        message = f"`config.function` is no `module:function`: `{written}`"
        raise failed(tool, around, message, kind="start", retryable=False)
    if not functions.is_allowed(written, around.runtime.python):
        message = functions.refusal(written, around.runtime.python)
        raise failed(tool, around, message, kind="refused", retryable=False)
    pool = POOLS.of(_launch(module, around))
    given = {key: value for key, value in config.items() if key != "function"}
    try:
        process = await pool.take()
        try:
            return await process.call(name, input, given, tool.timeout or None)
        finally:
            pool.give(process)
            if process.printed:
                around.printed(process.printed.decode("utf-8", "replace"))
    except CallFailed as fault:
        raise _explained(tool, around, fault, module, name) from None
    except ValueError as fault:
        message = f"the input is no JSON: {fault}"
        raise failed(tool, around, message, kind="stdin", retryable=False) from None


def _launch(module: str, around: Surroundings) -> Launch:
    variables = environment(around.root, around.declared)
    return Launch(
        _real(around.root),
        module,
        max(around.runtime.memory_limit or guarded.MEMORY, LEAST_MEMORY),
        around.is_offline,
        tuple(sorted(variables.items())),
    )


_real = lru_cache(maxsize=64)(os.path.realpath)


def _explained(
    tool: ToolPlan, around: Surroundings, fault: CallFailed, module: str, name: str
) -> ToolFailed:
    if fault.kind != "thrown":
        details: dict[str, Json] = {}
        if fault.kind == "timeout":
            details["timeout_seconds"] = tool.timeout
        again = fault.kind in ("timeout", "exit")
        return failed(
            tool, around, fault.message, kind=fault.kind, details=details, retryable=again
        )
    if fault.name in _SAID:
        message = _SAID[fault.name].format(module=module, name=name, message=fault.message)
        return failed(tool, around, message, kind="start", retryable=False)
    if fault.name in ("NoJson", "Unfit"):
        ended = fault.name == "NoJson"  # and did what it does
        return failed(
            tool, around, fault.message, kind="thrown", retryable=False, is_known=not ended
        )
    details = {"type": fault.name, "stack": fault.stack}
    message = fault.message
    if fault.name not in ("Exception", "SystemExit") and fault.name != message:
        message = f"{fault.name}: {message}"
    return failed(tool, around, message, kind="thrown", details=details, at=fault.at)
