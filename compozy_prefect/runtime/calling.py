"""A built-in tool that the run itself answers, and its input → its result (language.md §6.5).

Agents are asked here, in a talk inside of the step that calls them. Tasks and other workflows are
run by what `flows` has put into the scope.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compozy_prefect.compiler.builtins import AGENTS, TASKS, WORKFLOWS, family_of
from compozy_prefect.compiler.canonical import canonical
from compozy_prefect.compiler.plan import AgentCall, Json
from compozy_prefect.errors import BudgetExceeded, InputInvalid, ToolFailed
from compozy_prefect.runtime import builtins, catalogue
from compozy_prefect.runtime.budgets import Meter, Spend
from compozy_prefect.runtime.calls import Called, Under, WatchUnder
from compozy_prefect.runtime.clocks import Clocks
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import SUCCESS, Failure
from compozy_prefect.runtime.scope import Within

if TYPE_CHECKING:
    from compozy_prefect.runtime.executors import Executors


@dataclass(frozen=True, slots=True)
class Calling:
    """What one step calls. `call` is the key of the call that its model makes, empty where the tool
    is the step's own; `spend` hears what models take of it."""

    by: Executors
    call: str
    spend: Spend

    async def result(self, tool: str, given: Mapping[str, Any]) -> Json:
        """The result of one of `compiler.builtins.INNER`; `given` fits its input schema.

        Raises RunError: what is called failed, or `InvalidArgument`, `PermissionDenied` and
        `DeadlineExceeded`.
        """
        by, family = self.by, family_of(tool)
        native = by.scope.context.runtime.native_tools
        if family is None:
            if not native.enabled:
                raise builtins.switched_off(tool)
            return catalogue.told(by.scope.workflow, tool, given)
        builtins.check_depth(by.scope.within.depth, tool)
        caller = builtins.Caller(
            family,
            native.calls.get(tool, family.bounds),
            {AGENTS: self._agent, TASKS: self._task, WORKFLOWS: self._workflow}[family],
            by.calls,
            self._spent,
            self._recalled,
            # What a cassette answers must not depend on how long something took.
            time.monotonic if by.scope.services.cassette is None else float,
            by.scope.within.clocks or Clocks(),
        )
        return await caller.call(tool, given, f"{self.call}/call" if self.call else "call")

    def _spent(self, usage: Usage) -> None:
        """Counts what budgets know already."""
        self.by.meter.spend(usage)
        self.spend(usage)

    def _recalled(self, usage: Usage) -> None:
        self.by.meter.add(usage)
        self.spend(usage)

    def _within(self) -> Within:
        by = self.by
        now = by.scope.within
        return replace(now, depth=now.depth + 1, budgets=by.meter.budgets, effects=by.effects)

    # --- agents ---------------------------------------------------------------------------------

    async def _agent(self, asked: Mapping[str, Any], key: str, spend: Spend) -> builtins.Ended:
        by, cassette = self.by, self.by.scope.services.cassette
        call = catalogue.call_of(by.scope.workflow, asked)
        execution = by.watch.id_of(key)
        if cassette is not None:
            cassette.stands_for(execution)
        inner = self._inner(call, asked.get("with", {}), key, spend)
        with self._watched(key, str(asked["agent_id"])):
            try:
                question = await inner.question(call, asked.get("prompt", ""))
            except InputInvalid as fault:
                raise builtins.invalid(fault.message, fault.details) from None
            try:
                answer = await inner.answer(question)
            except BudgetExceeded as fault:
                if "budget" in fault.details:
                    raise
                # A bound of its own talk is a failure of the agent that was called.
                raise ToolFailed(fault.message, code=fault.code, details=fault.details) from None
        shown: dict[str, Json] = {"action_id": call.action} if call.action else {}
        return builtins.Ended({**shown, "exec_id": execution, "response": answer.output})

    def _inner(
        self, call: AgentCall, given: Mapping[str, Json], key: str, spend: Spend
    ) -> Executors:
        """The executors of an agent that is called, with the environment of the step."""
        by = self.by
        scope = replace(by.scope, within=self._within())
        step = replace(by.step, agent=call, tool=None, attachments=())
        return replace(
            by,
            scope=scope,
            step=step,
            opened=replace(by.opened, given=dict(given)),
            meter=Meter(step.id, scope.budgets_of(step, by.where), spend),
            calls=Under(by.calls, key),
            watch=WatchUnder(by.watch, key),
            inside=by.place(key),
        )

    @contextmanager
    def _watched(self, key: str, agent: str) -> Iterator[None]:
        watch, started = self.by.watch, time.monotonic()
        error = ""
        watch.began(key, "agent", agent)
        try:
            yield
        except BaseException as fault:
            error = str(fault) or "cancelled"
            raise
        finally:
            watch.ended(Called(key, "agent", agent, time.monotonic() - started, error=error))

    # --- tasks and workflows --------------------------------------------------------------------

    async def _task(self, asked: Mapping[str, Any], key: str, spend: Spend) -> builtins.Ended:
        by = self.by
        assert by.scope.tasks is not None
        id, given, place = str(asked["task_id"]), asked.get("with", {}), by.place(key)
        if self.call:  # another attempt of the talk may ask for something else at this place
            place += f"~{hashlib.sha256(canonical([id, given])).hexdigest()[:8]}"
        execution, state = await by.scope.tasks(
            id, given, caller=by.where, key=place, within=self._within(), spend=spend
        )
        if by.scope.services.cassette is not None:
            by.scope.services.cassette.stands_for(execution)
        if state.error is None:
            return builtins.Ended({"exec_id": execution, "output": state.output})
        details = {**state.error.details, "exec_id": execution}
        if not by.step.retry.given:
            details["attempts"] = state.attempts  # those are enough
        error = ToolFailed(
            f"task `{id}` failed: {state.error.message}", code=state.error.code, details=details
        )
        return builtins.Ended({"exec_id": execution}, error)

    async def _workflow(self, asked: Mapping[str, Any], key: str, spend: Spend) -> builtins.Ended:
        by = self.by
        assert by.scope.workflows is not None
        id = str(asked["workflow_id"])
        execution, outcome = await by.scope.workflows(
            id,
            asked.get("input", {}),
            key=f"{by.key}/{key}",
            depth=by.scope.within.depth + 1,
            first=asked.get("initial_task_id", ""),
        )
        spend(outcome.usage)
        shown = {
            "workflow_exec_id": execution,
            "status": outcome.status,
            "output": outcome.output,
        }
        if outcome.status == SUCCESS:
            return builtins.Ended(shown)
        failure = outcome.error or Failure(f"it ended {outcome.status}", "FAILED")
        error = ToolFailed(
            f"workflow `{id}` failed: {failure.message}",
            code=failure.code,
            details={**failure.details, "workflow_exec_id": execution},
        )
        return builtins.Ended(shown, error)
