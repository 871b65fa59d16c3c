"""A step that has no steps in it → its state, shown as a task run (design.md, decision 4).

The attempts, the pauses between them and the kept result are ours: Prefect's engine for tasks takes
five times as long for each, and shows nothing more (prefect-facts.md §3c).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from traceback import format_exception
from uuid import UUID

from compozy_prefect import faults
from compozy_prefect.compiler.builtins import AGENTS, family_of
from compozy_prefect.compiler.plan import Json, StepPlan
from compozy_prefect.errors import RunError
from compozy_prefect.flows import engine
from compozy_prefect.flows.activity import Activity
from compozy_prefect.flows.attempts import (
    Ask,
    Attempts,
    Instance,
    canceled,
    end_of,
    ended,
    pause_before,
    retryable,
)
from compozy_prefect.flows.calls import StepWatch
from compozy_prefect.flows.journal import Journal
from compozy_prefect.flows.ledger import Ledger
from compozy_prefect.flows.observer import Watched
from compozy_prefect.flows.pace import Pace
from compozy_prefect.runtime.calls import Watch, size, sized
from compozy_prefect.runtime.outcome import CANCELED, TIMED_OUT, TaskState
from compozy_prefect.runtime.redaction import Redactor
from compozy_prefect.runtime.scope import Scope


@dataclass(frozen=True, slots=True)
class StepRunner:
    """Runs the steps of one flow run, which owns their task runs."""

    flow_run: UUID
    redactor: Redactor
    journal: Journal
    log: engine.Log
    cancellation: engine.Cancellation
    pace: Pace
    activity: Activity
    watched: Watched
    ledger: Ledger
    ask: Ask | None = None  # a person about calls that may have happened; nobody without

    async def run(self, instance: Instance, scope: Scope, given: Mapping[str, Json]) -> TaskState:
        """Runs the step to its end, with all its attempts.

        `given` is what the transition to the step lays over its `with`. A step that completed in an
        earlier process does not run again: its kept result is read. Raises CancelledError when the
        run, or the fan-out around it, is cancelled.
        """
        with self.activity.work():
            return await self._run(instance, scope, given)

    async def _run(self, instance: Instance, scope: Scope, given: Mapping[str, Json]) -> TaskState:
        step = instance.step
        watch = partial(self._watch, instance, scope)
        attempts = Attempts(instance, scope, given, self.redactor, self.journal, watch, self.ask)
        row = self.row(instance, scope)
        kept = self.journal.get(instance.where)
        if kept is not None:
            row.completed("completed before", name="Cached")
            return attempts.counted(attempts.succeeded(kept))
        if instance.passed:
            return attempts.counted(self.ended_before(instance, row))
        log = row.log(self.log)
        delays = step.retry.delays()
        try:
            await faults.point("step.begun", instance.where)
            for number in range(1, step.retry.attempts + 1):
                row.running()
                try:
                    kept = await attempts.once(number, log)
                    row.performed()
                    await faults.point("step.performed", instance.where)
                    await self.journal.keep(instance.where, kept)
                    await faults.point("step.kept", instance.where)
                except (RunError, engine.StepTimeout) as fault:
                    last = number == step.retry.attempts
                    if last or attempts.is_final or not retryable(fault, step.retry):
                        return self._failed(instance, attempts, fault, row, log)
                    pause = pause_before(fault, delays[number - 1], step.retry)
                    log.warning(
                        "Attempt %d of %d failed: %s; the next one in %g s",
                        number,
                        step.retry.attempts,
                        fault,
                        pause,
                    )
                    row.again(pause, str(fault))
                    await faults.point("step.failed", instance.where)
                    await asyncio.sleep(pause)
                else:
                    row.completed(_sizes(step, kept))
                    return attempts.succeeded(kept)
        except asyncio.CancelledError as stop:
            reason = self.cancellation.reason or str(stop) or "cancelled"
            row.cancelled(reason)
            self.journal.note_end(instance.where, end_of(canceled(instance, reason)))
            raise
        except Exception as fault:  # of the engine: what the attempts raise was looked at
            log.error("%s", self.redactor.text("".join(format_exception(fault))))
            return self._failed(instance, attempts, fault, row, log)
        raise AssertionError("a step has at least one attempt")

    def _failed(
        self,
        instance: Instance,
        attempts: Attempts,
        fault: Exception,
        row: engine.Row,
        log: engine.Log,
    ) -> TaskState:
        state = attempts.failed(fault)
        assert state.error is not None
        log.error("%s", state.error.placed_message)
        row.failed(state.error.placed_message, timed_out=state.status == TIMED_OUT)
        self.journal.note_end(instance.where, end_of(state))
        return state

    def ended_before(self, instance: Instance, row: engine.Row) -> TaskState:
        """How a step that is passed over had ended."""
        state = ended(instance, self.journal.end(instance.where))
        message = state.error.placed_message if state.error else ""
        if state.status == CANCELED:
            row.cancelled(message)
        else:
            row.failed(message, timed_out=state.status == TIMED_OUT)
        return state

    def _watch(self, instance: Instance, scope: Scope, log: engine.Log) -> Watch:
        """Tells of the calls of a step; a model's are rows, too, if there may be more than one."""
        step = instance.step
        agent = scope.workflow.agents[step.agent.agent] if step.agent is not None else None
        shows = agent is not None and bool(agent.tools or agent.mcps)
        if step.tool is not None:
            shows = family_of(step.tool.tool) is AGENTS

        def row(key: str, name: str, kind: str) -> engine.Row:
            at = f"{instance.where}@{key}"
            after = (self.row_id(instance),)
            return engine.Row(self.pace, self.flow_run, at, name, f"{kind} call", after)

        def id_of(key: str) -> UUID:
            return engine.row_id(self.flow_run, f"{instance.where}@{key}")

        book = partial(self.ledger.add, instance.where)
        return StepWatch(step, log, self.redactor, self.watched, row, shows, id_of, book)

    def row_id(self, instance: Instance) -> UUID:
        return engine.row_id(self.flow_run, instance.where)

    def row(self, instance: Instance, scope: Scope) -> engine.Row:
        """The task run that shows a step, whether it is run here or evaluated in the flow run."""
        return engine.Row(
            self.pace,
            self.flow_run,
            instance.where,
            instance.id,
            f"{scope.workflow.id}/{instance.step.path}",
            instance.after,
        )


def _sizes(step: StepPlan, kept: Json) -> str | None:
    """Of a step that calls a tool: how much went in and came out."""
    if step.tool is None:
        return None
    return f"tool {step.tool.tool}: {sized((size(kept['input']), size(kept['output'])))}"
