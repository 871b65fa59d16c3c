"""A step of the plan → its state, as one Prefect task run named like the step.

The attempts, the pauses between them, the persisted result and the states are Prefect's; what an
attempt does is `runtime.attempt`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid5

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from compozy_prefect.compiler.plan import Json, StepPlan
from compozy_prefect.errors import RunError
from compozy_prefect.flows import engine
from compozy_prefect.runtime.attempt import Attempt, Performed, Scope
from compozy_prefect.runtime.outcome import FAILED, SUCCESS, TIMED_OUT, Failure, TaskState, plain
from compozy_prefect.runtime.redaction import Redactor
from compozy_prefect.runtime.templates import nearest_place

_LONGEST = 100  # characters of an id in a file name; longer ones are cut and told apart by a hash


@dataclass(frozen=True, slots=True)
class StepRunner:
    """Runs the steps of one execution.

    `root` is the id of the root flow run, which names the persisted results: a failed subflow
    comes back under another id (prefect-recipes.md §2). `flow_run` owns the task runs. `fresh`:
    the root has never run before, so that there is no persisted result to look for.
    """

    root: UUID
    flow_run: UUID
    fresh: bool
    scope: Scope
    redactor: Redactor
    cancellation: engine.Cancellation

    async def run(
        self, step: StepPlan, given: Mapping[str, Json], *, visit: int, after: UUID | None
    ) -> tuple[TaskState, UUID]:
        """The state of `step`, and the id of its task run for the next step's `after`.

        `given` is what the transition to the step lays over its `with`; `visit` counts from 1 how
        often the run came here. A step that completed in an earlier process does not run again:
        its persisted result is read. Raises CancelledError when the run is cancelled.
        """
        where = step.path if visit == 1 else f"{step.path}#{visit}"
        task_run_id = uuid5(self.flow_run, where)
        attempts = _Attempts(self, step, given)
        task = _task(step, result_key(self.root, where), attempts)
        task.task_key = f"{self.scope.workflow.id}/{step.path}"
        task.refresh_cache = self.fresh
        started = time.monotonic()
        try:
            result = await engine.run_task(task, task_run_id, after, self.cancellation)
        except (RunError, engine.StepTimeout) as fault:
            state = TaskState(
                id=step.id,
                type=step.type,
                status=TIMED_OUT if isinstance(fault, engine.StepTimeout) else FAILED,
                input=attempts.input,
                error=self._placed(step, Failure.of(fault)),
                seconds=time.monotonic() - started,
            )
        else:
            done = Performed.from_json(result)
            state = TaskState(
                id=step.id,
                type=step.type,
                status=SUCCESS,
                input=done.input,
                output=done.output,
                usage=done.usage,
                seconds=time.monotonic() - started,
            )
        return state, task_run_id

    def _placed(self, step: StepPlan, failure: Failure) -> Failure:
        """The failure with the place of the step in the YAML, if it has none of its own."""
        place = nearest_place(self.scope.at(step), self.scope.spans)
        if place is None or "file" in failure.details:
            return failure
        file, line, column = place[:3]
        details = failure.details | {"file": file, "line": line, "column": column}
        return Failure(failure.message, failure.code, details)


def result_key(root: UUID, where: str) -> str:
    """The key of a persisted result: the root flow run and the full path of the step.

    Storage may be a file system, so each id becomes a harmless file name. Two steps never share
    a key, not even two with equal inputs, both of which must run.
    """
    return "/".join([str(root), *map(_file_name, where.split("/"))])


def _file_name(id: str) -> str:
    name = quote(id.encode("utf-8", "surrogatepass"), safe="")
    if not name.strip("."):
        name = name.replace(".", "%2E")
    if len(name) > _LONGEST:
        digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
        name = f"{name[:_LONGEST]}~{digest[:16]}"
    return name


def _task(step: StepPlan, key: str, attempt: Callable[[], Awaitable[Json]]) -> Task[Any, Any]:
    async def run(after: None = None) -> Json:
        return await attempt()

    def worth_retrying(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
        return _retryable(state.data, step.retry.non_retryable)

    return Task(
        run,
        name=step.id,
        # A function, since Prefect takes braces in a text for fields of a format.
        task_run_name=lambda: step.id,
        description=f"Task {step.path}, {step.type}",
        retries=max(step.retry.attempts, 1) - 1,
        retry_delay_seconds=step.retry.delays()[: engine.DELAYS],
        retry_condition_fn=worth_retrying,
        persist_result=True,
        result_serializer=engine.RESULTS,
        cache_key_fn=lambda context, parameters: key,
    )


def _retryable(error: object, non_retryable: tuple[str, ...]) -> bool:
    """Whether another attempt could help: not when data, templates or keys are wrong.

    `non_retryable_error_types` are compared with the type of the error and with its code.
    """
    if isinstance(error, RunError):
        names = {type(error).__name__, error.code, str(error.details.get("type", ""))}
        return error.retryable and names.isdisjoint(non_retryable)
    return {type(error).__name__, "TimeoutError", "TIMEOUT"}.isdisjoint(non_retryable)


class _Attempts:
    """Called once for each attempt of a step, it gives what Prefect persists.

    Whatever goes wrong leaves as a RunError or a StepTimeout without secrets. `input` is the
    rendered `with` of the last attempt.
    """

    def __init__(self, runner: StepRunner, step: StepPlan, given: Mapping[str, Json]) -> None:
        self.input: Json = None
        self._runner = runner
        self._step = step
        self._given = given

    async def __call__(self) -> Json:
        context = TaskRunContext.get()
        number = context.task_run.run_count if context else 1
        step, redactor, log = self._step, self._runner.redactor, get_run_logger()
        log.info("Started%s", f", attempt {number} of {step.retry.attempts}" if number > 1 else "")
        if step.sleep and number == 1:
            await asyncio.sleep(step.sleep)
        attempt = Attempt(self._runner.scope, step, self._given)
        clock = asyncio.timeout(step.timeout or None)
        try:
            async with clock:
                performed = await attempt.run()
            return redactor.json(performed.to_json())
        except RunError as fault:
            raise _clean(fault, redactor) from None
        except Exception as fault:
            if isinstance(fault, TimeoutError) and clock.expired():
                message = f"task `{step.id}` took longer than {step.timeout:g} s"
                raise engine.StepTimeout(message) from None
            # Nobody foresaw it: the failure is a sentence all the same, and the log has the rest.
            log.error("%s", redactor.text("".join(traceback.format_exception(fault))))
            failure = Failure.of(fault)
            raise _clean(RunError(failure.message, details=failure.details), redactor) from None
        finally:
            self.input = redactor.json(attempt.input)


def _clean(fault: RunError, redactor: Redactor) -> RunError:
    """The same failure without secrets, and without the exceptions that led to it."""
    return type(fault)(
        redactor.text(fault.message),
        code=fault.code,
        details=redactor.json(plain(fault.details)),
        retryable=fault.retryable,
    )
