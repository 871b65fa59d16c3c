"""A task that a tool calls → a step of its own in the run of the caller (language.md §6.5).

It is the same task, with its retries, its time-out and its schemas, beside the way of the run: it
sees what the tasks of the workflow have given so far, nothing follows it, and `.tasks` does not
show it. What it has done is kept under the place of the call, where a call that is made again finds
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from compozy_prefect.compiler.builtins import why_step_not_called
from compozy_prefect.compiler.plan import Json, StepPlan
from compozy_prefect.flows.engine import row_id
from compozy_prefect.flows.walk import Walk
from compozy_prefect.language.names import suggest
from compozy_prefect.runtime.budgets import Spend
from compozy_prefect.runtime.builtins import invalid
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.scope import RanTask, Within

_KNOWN = 20  # ids in a message


@dataclass(frozen=True)
class CalledTasks:
    """Calls tasks at the top of a workflow; `walk` is that through its own list."""

    walk: Walk

    async def __call__(
        self,
        task_id: str,
        given: Mapping[str, Json],
        *,
        caller: str,
        key: str,
        within: Within,
        spend: Spend,
    ) -> RanTask:
        step, walk = self._step(task_id), self.walk
        ledger = walk.run.ledger.inside(caller)
        run = replace(walk.run, states={}, visits={}, instances={}, ledger=ledger)
        inner = replace(
            walk,
            run=run,
            scope=replace(walk.scope, tasks=self, within=within),
            runner=replace(walk.runner, ledger=ledger),
            prefix=f"{caller}@{key}/",
            apart=True,
            watched=False,
        )
        try:
            state = await inner.called(step, given)
        except asyncio.CancelledError:  # the time is up, and there is no state that would tell
            spend(ledger.usage)
            raise
        taken = (one.usage for one in run.states.values() if one is not None)
        spend(sum((one for one in taken if one is not None), Usage()))
        execution = row_id(walk.runner.flow_run, f"{inner.prefix}{step.id}")
        return RanTask(str(execution), state)

    def _step(self, task_id: str) -> StepPlan:
        steps = self.walk.scope.workflow.by_id
        step = steps.get(task_id)
        if step is None:
            known = [one.id for one in steps.values() if not why_step_not_called(one)]
            hint = suggest(task_id, known, what="there are", limit=_KNOWN) or "there are none"
            raise invalid(f"there is no task `{task_id}` to call; {hint}", {"task": task_id})
        if why := why_step_not_called(step):
            raise invalid(f"the task `{task_id}` {why}, and cannot be called", {"task": task_id})
        return step
