"""A step inside a fan-out → its state, without Prefect's engine (design.md, decision 4).

Each is a task run in the UI and has its own retries and kept result, at a fifth of what the engine
takes for one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import RunError
from compozy_prefect.flows import engine
from compozy_prefect.flows.attempts import Attempts, Instance, Leaf, retryable
from compozy_prefect.flows.journal import Journal
from compozy_prefect.runtime.attempt import Scope
from compozy_prefect.runtime.outcome import TaskState
from compozy_prefect.runtime.redaction import Redactor


@dataclass(frozen=True, slots=True)
class ItemRunner:
    """Runs the steps of fan-outs. `flow_run` owns their task runs."""

    flow_run: UUID
    redactor: Redactor
    journal: Journal
    log: logging.Logger | logging.LoggerAdapter[Any]

    @property
    def apart(self) -> Leaf:
        return self

    async def run(self, instance: Instance, scope: Scope, given: Mapping[str, Json]) -> TaskState:
        step = instance.step
        attempts = Attempts(instance, scope, given, self.redactor)
        row = engine.Row(
            self.flow_run, instance.where, instance.id, f"{scope.workflow.id}/{step.path}"
        )
        kept = self.journal.get(instance.where)
        if kept is not None:
            row.completed("completed before", name="Cached")
            return attempts.succeeded(kept)
        delays = step.retry.delays()
        try:
            for number in range(1, step.retry.attempts + 1):
                row.running()
                try:
                    kept = await attempts.once(number, self.log)
                    await self.journal.keep(instance.where, kept)
                except (RunError, engine.StepTimeout) as fault:
                    last = number == step.retry.attempts
                    if last or not retryable(fault, step.retry.non_retryable):
                        timed_out = isinstance(fault, engine.StepTimeout)
                        row.failed(str(fault), timed_out=timed_out)
                        return attempts.failed(fault)
                    row.again(delays[number - 1], str(fault))
                    await asyncio.sleep(delays[number - 1])
                else:
                    row.completed()
                    return attempts.succeeded(kept)
        except asyncio.CancelledError as stop:
            row.cancelled(str(stop) or "cancelled")
            raise
        raise AssertionError("a step has at least one attempt")
