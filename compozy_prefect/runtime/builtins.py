"""A built-in tool that calls something, and its input → its result (language.md §6.5).

What makes one call, of a workflow, an agent or a task, is given; that there are several at once,
how long one may take, how its end reads and what is kept of it is said here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from compozy_prefect.compiler.builtins import Family
from compozy_prefect.compiler.plan import CallPlan, Json
from compozy_prefect.errors import FATAL, RunError, ToolFailed
from compozy_prefect.runtime.budgets import Spend
from compozy_prefect.runtime.calls import Calls
from compozy_prefect.runtime.clocks import Clocks
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import Failure
from compozy_prefect.runtime.together import together

INVALID, TOO_LATE, INTERNAL = "InvalidArgument", "DeadlineExceeded", "Internal"
DENIED = "PermissionDenied"

DEEPEST = 20  # calls inside each other


class Ended(NamedTuple):
    """How what was called ended. `shown` is what its result has beside `success` and its id.

    `error` is what it fails with, when it is called alone; None when it succeeded.
    """

    shown: dict[str, Json]
    error: RunError | None = None


# Makes one call under a key, which names it also when it is made again; the last hears what it
# takes. Raises RunError.
One = Callable[[Mapping[str, Any], str, Spend], Awaitable[Ended]]


def check_depth(depth: int, tool: str) -> None:
    """Raises RunError when a call would be one too many inside each other."""
    if depth >= DEEPEST:
        what = f"agents, tasks and workflows call each other more than {DEEPEST} deep"
        raise invalid(f"{what}; the last call is one of `{tool}`")


def switched_off(tool: str) -> ToolFailed:
    message = f"`{tool}` is switched off, by `runtime.native_tools`"
    return ToolFailed(message, code=DENIED, retryable=False)


def invalid(message: str, details: Mapping[str, Any] | None = None) -> ToolFailed:
    """What is asked for is not there, or not what can be called."""
    return ToolFailed(message, code=INVALID, details=details, retryable=False)


@dataclass(frozen=True, slots=True)
class Caller:
    """The calls of one built-in tool, each made by `one`.

    What several calls gave is kept one by one in `calls`. `spend` hears what each has taken;
    `recall` counts that of a call which an earlier process has made. `clock` is in seconds, and
    stands still where two runs have to give the same; `clocks` are those of the step.
    """

    family: Family
    bounds: CallPlan
    one: One
    calls: Calls
    spend: Spend
    recall: Spend
    clock: Callable[[], float]
    clocks: Clocks

    async def call(self, tool: str, given: Mapping[str, Any], key: str) -> Json:
        """The result of the tool; `given` fits its input schema. Raises RunError."""
        if not self.bounds.enabled:
            raise switched_off(tool)
        if tool == self.family.one:
            started = self.clock()
            ended = await self._in_time(given, key, self.spend)
            if ended.error is not None:
                raise ended.error
            return self._shown(given, ended, started)
        started, slots = self.clock(), asyncio.Semaphore(self.bounds.at_once)
        listed = given[self.family.listed]
        results = await together(
            self._member(asked, f"{key}-{n}", slots) for n, asked in enumerate(listed, 1)
        )
        succeeded = sum(bool(result["success"]) for result in results)
        return {
            "results": results,
            "total_count": len(results),
            "success_count": succeeded,
            "failure_count": len(results) - succeeded,
            "total_duration_ms": self._milliseconds(started),
        }

    async def _member(
        self, asked: Mapping[str, Any], key: str, slots: asyncio.Semaphore
    ) -> dict[str, Json]:
        """The result of one of several, which does not end the others when it fails."""
        kept = self.calls.get(key)
        if kept is not None:
            self.recall(Usage.from_json(kept["usage"]))
            known: dict[str, Json] = kept["result"]
            return known
        taken: list[Usage] = []

        def spend(usage: Usage) -> None:
            taken.append(usage)
            self.spend(usage)

        async with slots:
            started = self.clock()
            try:
                ended = await self._in_time(asked, key, spend)
            except FATAL:
                raise
            except RunError as fault:
                ended = Ended({}, fault)
            result = self._shown(asked, ended, started)
            await self.calls.keep(key, {"result": result, "usage": sum(taken, Usage()).kept()})
        return result

    async def _in_time(self, asked: Mapping[str, Any], key: str, spend: Spend) -> Ended:
        seconds = asked.get("timeout_ms", 0) / 1000 or self.bounds.timeout
        try:
            async with asyncio.timeout(seconds) as clock:
                with self.clocks.running(clock):
                    return await self.one(asked, key, spend)
        except TimeoutError:
            if not clock.expired():
                raise
            what = f"{self.family.noun} `{asked[self.family.id]}`"
            raise ToolFailed(f"{what} took longer than {seconds:g} s", code=TOO_LATE) from None

    def _shown(self, asked: Mapping[str, Any], ended: Ended, started: float) -> dict[str, Json]:
        family = self.family
        shown = {"success": ended.error is None, family.id: asked[family.id], **ended.shown}
        if "duration_ms" in family.gives:
            shown["duration_ms"] = self._milliseconds(started)
        if ended.error is not None:
            failure = Failure.of(ended.error)
            code = INTERNAL if failure.code == RunError.code else failure.code
            shown["error"] = {"message": failure.message, "code": code}
        return shown

    def _milliseconds(self, since: float) -> int:
        return round((self.clock() - since) * 1000)
