"""A built-in tool and its input → its result (language.md §6.5).

What runs a workflow is given by `flows`; how its end reads as the result of a tool is said here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from compozy_prefect.compiler.builtins import CALL_TIMEOUT, CALL_WORKFLOW, CALLS_AT_ONCE
from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import RunError, ToolFailed
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import SUCCESS, Failure, Outcome
from compozy_prefect.runtime.together import together


class Ran(NamedTuple):
    execution_id: str
    outcome: Outcome


class Workflows(Protocol):
    """Runs another workflow of the plan as a part of this run.

    `key` names the call, also when it is made again: what the run of that key has done is not done
    again. `first` is the task to begin with, if not the first one. Raises InputInvalid when the
    input breaks the workflow's schema, and UsageError when there is no such workflow or task.
    """

    async def __call__(
        self, workflow_id: str, input: Mapping[str, Json], *, key: str, first: str = ""
    ) -> Ran: ...


class Result(NamedTuple):
    raw: Json
    usage: Usage


async def call(tool: str, given: Mapping[str, Any], workflows: Workflows, key: str) -> Result:
    """The result of one of `compiler.builtins.BUILTINS`; `given` fits its input schema."""
    if tool == CALL_WORKFLOW:
        done = await _called(given, workflows, key)
        if done.error is not None:
            raise done.failure()
        return Result(done.to_json(), done.usage)
    started, slots = time.monotonic(), asyncio.Semaphore(CALLS_AT_ONCE)

    async def one(index: int, asked: Mapping[str, Any]) -> _Call:
        async with slots:
            try:
                return await _called(asked, workflows, f"{key}/{index}")
            except RunError as fault:
                return _Call(str(asked["workflow_id"]), error=Failure.of(fault))

    calls = await together(one(n, asked) for n, asked in enumerate(given["workflows"]))
    succeeded = sum(call.error is None for call in calls)
    raw = {
        "results": [call.to_json() for call in calls],
        "total_count": len(calls),
        "success_count": succeeded,
        "failure_count": len(calls) - succeeded,
        "total_duration_ms": _milliseconds(started),
    }
    return Result(raw, sum((call.usage for call in calls), Usage()))


@dataclass(frozen=True, slots=True)
class _Call:
    workflow_id: str
    execution_id: str = ""
    status: str = "FAILED"
    output: Json = None
    error: Failure | None = None
    milliseconds: int = 0
    usage: Usage = field(default_factory=Usage)

    def to_json(self) -> dict[str, Json]:
        shown: dict[str, Json] = {
            "success": self.error is None,
            "workflow_id": self.workflow_id,
            "workflow_exec_id": self.execution_id,
            "status": self.status,
            "output": self.output,
            "duration_ms": self.milliseconds,
        }
        if self.error is not None:
            shown["error"] = {"message": self.error.message, "code": self.error.code}
        return shown

    def failure(self) -> ToolFailed:
        assert self.error is not None
        return ToolFailed(
            f"workflow `{self.workflow_id}` failed: {self.error.message}",
            code=self.error.code,
            details={**self.error.details, "workflow_exec_id": self.execution_id},
        )


async def _called(asked: Mapping[str, Any], workflows: Workflows, key: str) -> _Call:
    id, started = str(asked["workflow_id"]), time.monotonic()
    seconds = asked.get("timeout_ms", 0) / 1000 or CALL_TIMEOUT
    try:
        async with asyncio.timeout(seconds) as clock:
            execution, outcome = await workflows(
                id, asked.get("input", {}), key=key, first=asked.get("initial_task_id", "")
            )
    except TimeoutError:
        if not clock.expired():
            raise
        message = f"workflow `{id}` took longer than {seconds:g} s"
        raise ToolFailed(message, code="DeadlineExceeded") from None
    done = _Call(id, execution, outcome.status, outcome.output, None, _milliseconds(started))
    done = replace(done, usage=outcome.usage)
    if outcome.status != SUCCESS:
        done = replace(done, error=outcome.error or Failure(f"it ended {outcome.status}", "FAILED"))
    return done


def _milliseconds(since: float) -> int:
    return round((time.monotonic() - since) * 1000)
