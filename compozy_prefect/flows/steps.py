"""A step of the plan → its state, as one Prefect task run named like the step.

The attempts, the pauses between them, the persisted result and the states are Prefect's; what an
attempt does is `runtime.attempt`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid5

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from compozy_prefect.compiler.plan import Json, StepPlan
from compozy_prefect.errors import RunError
from compozy_prefect.flows import engine
from compozy_prefect.flows.attempts import Attempts, Instance, Leaf, result_key, retryable
from compozy_prefect.flows.items import ItemRunner
from compozy_prefect.runtime.attempt import Scope
from compozy_prefect.runtime.outcome import TaskState
from compozy_prefect.runtime.redaction import Redactor


@dataclass(slots=True)
class StepRunner:
    """Runs the steps that follow one another in one flow run, each as a task run of its own.

    `root` is the id of the root flow run, which names the persisted results: a failed subflow
    comes back under another id (prefect-recipes.md §2). `flow_run` owns the task runs. `fresh`:
    the root has never run before, so that there is no persisted result to look for.
    """

    root: UUID
    flow_run: UUID
    fresh: bool
    redactor: Redactor
    cancellation: engine.Cancellation
    items: ItemRunner
    last: UUID | None = field(default=None, init=False)  # the task run that the next one follows

    @property
    def apart(self) -> Leaf:
        return replace(self.items, flow_run=self.flow_run)

    async def run(self, instance: Instance, scope: Scope, given: Mapping[str, Json]) -> TaskState:
        attempts = Attempts(instance, scope, given, self.redactor)

        async def attempt() -> Json:
            context, log = TaskRunContext.get(), get_run_logger()
            number = context.task_run.run_count if context else 1
            of = f", attempt {number} of {instance.step.retry.attempts}" if number > 1 else ""
            log.info("Started%s", of)
            return await attempts.once(number, log)

        task_run_id = uuid5(self.flow_run, instance.where)
        task = _task(instance, result_key(self.root, instance.where), attempt)
        task.task_key = f"{scope.workflow.id}/{instance.step.path}"
        task.refresh_cache = self.fresh
        after, self.last = self.last, task_run_id
        try:
            kept = await engine.run_task(task, task_run_id, after, self.cancellation)
        except (RunError, engine.StepTimeout) as fault:
            return attempts.failed(fault)
        return attempts.succeeded(kept)


def _task(instance: Instance, key: str, attempt: Callable[[], Awaitable[Json]]) -> Task[Any, Any]:
    step: StepPlan = instance.step

    async def run(after: None = None) -> Json:
        return await attempt()

    def worth_retrying(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
        return retryable(state.data, step.retry.non_retryable)

    return Task(
        run,
        name=instance.id,
        # A function, since Prefect takes braces in a text for fields of a format.
        task_run_name=lambda: instance.id,
        description=f"Task {step.path}, {step.type}",
        retries=max(step.retry.attempts, 1) - 1,
        retry_delay_seconds=step.retry.delays()[: engine.DELAYS],
        retry_condition_fn=worth_retrying,
        persist_result=True,
        result_serializer=engine.RESULTS,
        cache_key_fn=lambda context, parameters: key,
    )
