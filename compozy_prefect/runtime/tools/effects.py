"""Calls that must not happen twice: those of tools with `effect: write` (docs/tools.md).

A mark is kept before such a call and what it gave after it. A mark alone says that the process died
in between, or that no answer came: then nobody knows whether the call has happened, and a person
decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from compozy_prefect import faults
from compozy_prefect.compiler.plan import Json, ToolPlan
from compozy_prefect.errors import RunError, ToolFailed
from compozy_prefect.runtime.calls import Calls

WRITE, IDEMPOTENT = "write", "idempotent"
IN_DOUBT = "IN_DOUBT"
REPEAT, DONE, FAIL = "repeat", "done", "fail"

Run = Callable[[], Awaitable[Json]]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A call of which nobody knows whether it has happened. `call` names it in its step."""

    tool: str
    call: str
    input: Json


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done: `repeat` makes the call again, under its key; with `done` it gave
    `output`; with `fail` its step fails."""

    what: str
    output: Json = None


class Decide(Protocol):
    """Asks a person about a call. Raises RunError where nobody can be asked."""

    async def __call__(self, doubt: Doubt) -> Decision: ...


class Effects:
    """The calls of one attempt that must not be made twice.

    `unknown` are the tools whose calls may have happened, and `made` those whose calls have: the
    attempt is then not to be made again. That of a step which has called the one of this attempt,
    whose effects are `outer`, is not either.
    """

    def __init__(self, calls: Calls, decide: Decide | None, outer: Effects | None = None) -> None:
        self._calls, self._decide = calls, decide
        self._all: tuple[Effects, ...] = (self, *(outer._all if outer is not None else ()))
        self._unknown: dict[tuple[Effects, str], str] = {}  # tools, by whose call and which
        self.made: dict[str, None] = {}

    async def once(self, tool: ToolPlan, call: str, input: Json, run: Run) -> Json:
        """What the call gives, or gave. Raises what `run` does, and ToolFailed with IN_DOUBT."""
        if tool.effect != WRITE:
            return await run()
        mark = _mark(call)
        before: Any = self._calls.get(mark)
        if before is not None and "gave" in before:
            self._happened(tool)
            return before["gave"]
        if before is not None:
            decision = await self._decided(tool, call, input)
            if decision.what == DONE:
                return self._gave(tool, call, decision.output)
            if decision.what == FAIL:
                raise _doubtful(tool, "it was not to be made again")
        await self._calls.keep(mark, {"began": True})
        await faults.point("effect.begun", call)
        self._doubt(tool, call)
        try:
            given = await run()
        except RunError as fault:
            if fault.is_known:
                self._settle(call)
                self._calls.note(mark, None)
            raise
        await faults.point("effect.made", call)
        return self._gave(tool, call, given)

    @property
    def unknown(self) -> list[str]:
        """The tools of calls of which it is not known whether they have happened."""
        return list(dict.fromkeys(self._unknown.values()))

    def _gave(self, tool: ToolPlan, call: str, given: Json) -> Json:
        self._settle(call)
        self._happened(tool)
        self._calls.note(_mark(call), {"gave": given})
        return given

    def _doubt(self, tool: ToolPlan, call: str) -> None:
        for one in self._all:
            one._unknown[self, call] = tool.id

    def _settle(self, call: str) -> None:
        for one in self._all:
            one._unknown.pop((self, call), None)

    def _happened(self, tool: ToolPlan) -> None:
        for one in self._all:
            one.made[tool.id] = None

    async def _decided(self, tool: ToolPlan, call: str, input: Json) -> Decision:
        self._doubt(tool, call)
        if self._decide is None:
            raise _doubtful(tool, "nobody can be asked")
        return await self._decide(Doubt(tool.id, call, input))


def _mark(call: str) -> str:
    return f"{call}@effect"


def _doubtful(tool: ToolPlan, why: str) -> ToolFailed:
    return ToolFailed(
        f"{unknown(tool.id)}, and {why}",
        code=IN_DOUBT,
        details={"tool": tool.id},
        retryable=False,
        is_known=False,
    )


def unknown(tool: str) -> str:
    """A sentence without an end."""
    return f"whether tool `{tool}` has had its effect is not known"
