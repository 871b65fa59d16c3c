"""The seam to those parts of Prefect that are no documented API; nothing else here touches them.

Written against Prefect 3.8.8 and held by tests/flows: a task run with an id of our choosing, a
cancelled one that shows as Cancelled, the hand-over of queued events and logs, and SIGTERM.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import getrandbits
from typing import Any, TypeVar, cast
from uuid import UUID, uuid5

from prefect import Task, flow_engine
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import (
    RunInput,
    State,
    StateDetails,
    StateType,
    TaskRun,
    TaskRunResult,
)
from prefect.events.worker import EventsWorker
from prefect.serializers import JSONSerializer
from prefect.states import Cancelled, Crashed
from prefect.task_engine import AsyncTaskRunEngine
from prefect.types._datetime import DateTime, now
from prefect.utilities.engine import emit_task_run_state_change_event

from compozy_prefect.errors import CompozyError

_T = TypeVar("_T")

# Prefect's own JSON decoder imports whatever class a `__class__` key names and builds it from the
# data beside it. Results hold what models and users wrote, so nothing is decoded but JSON.
RESULTS = JSONSerializer(object_decoder=None)

DELAYS = 50  # Prefect refuses a longer list of retry delays, and repeats the last of a shorter one


class StepTimeout(TimeoutError):
    """A step took longer than its `timeout`; Prefect shows a TimeoutError as state TimedOut."""

    def __repr__(self) -> str:
        return str(self)


class Cancellation:
    """The wish to end one run early, and the reason, which its states then show.

    Cancelling goes through asyncio: the coroutine handed to `guard` is cancelled.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._body: asyncio.Future[Any] | None = None

    def request(self, reason: str) -> None:
        """Ends the run; only the first request counts. Call it from the run's event loop."""
        if self.reason is None:
            self.reason = reason
            if self._body is not None:
                self._body.cancel()

    async def guard(self, body: Awaitable[_T]) -> _T | None:
        """The result of `body`; None when it was cancelled by `request`."""
        self._body = asyncio.ensure_future(body)
        if self.reason is not None:
            self._body.cancel()
        try:
            result: _T = await self._body
            return result
        except asyncio.CancelledError:
            if self.reason is None:
                raise
            return None
        finally:
            self._body = None


@dataclass
class _StepEngine(AsyncTaskRunEngine[Any, Any]):
    """Prefect's engine, in which a cancelled step is Cancelled rather than Crashed.

    Returning a `Cancelled` state from the task would not do: Prefect commits what a task returns
    under its key, and a resumed run would take the cancelled step for a finished one.
    """

    cancellation: Cancellation | None = None

    async def handle_crash(self, exc: BaseException) -> None:
        reason = self.cancellation.reason if self.cancellation else None
        if reason is None or not isinstance(exc, asyncio.CancelledError):
            await super().handle_crash(exc)
            return
        await self.set_state(Cancelled(message=reason), force=True)
        self._raised = exc


async def run_task(
    task: Task[Any, Any], task_run_id: UUID, after: UUID | None, cancellation: Cancellation
) -> Any:
    """The result of `task`, run as the task run `task_run_id`; raises what its last attempt raised.

    A fixed id keeps one row a step when a run is resumed. `after` is the task run before it, and
    draws the edge between the two in the UI; the task's function must take it as a parameter.
    This is `prefect.task_engine.run_task_async` with our engine in it.
    """
    edge: set[RunInput] = {TaskRunResult(id=after)} if after is not None else set()
    engine = _StepEngine(task=task, parameters={"after": None}, cancellation=cancellation)
    async with engine.start(task_run_id=task_run_id, dependencies={"after": edge}):
        while engine.is_running():
            await engine.wait_until_ready()
            async with (
                engine.asset_context(),
                engine.run_context(),
                engine.transaction_context() as transaction,
            ):
                await engine.call_task_fn(transaction)
    return await engine.result()


class Row:
    """A task run that the server is told of by events alone, as Prefect's engine does.

    A container, and each step of a fan-out, is one: they show like any other task run, at a fifth
    of the cost (prefect-facts.md §3c). The id is fixed by the flow run and the path, so that a
    resumed run shows each step once.
    """

    def __init__(self, flow_run: UUID, where: str, name: str, task_key: str) -> None:
        self.id = uuid5(flow_run, where)
        self._run = TaskRun(
            id=self.id, flow_run_id=flow_run, name=name, task_key=task_key, dynamic_key=where
        )
        self._state: State[Any] | None = None
        self._event: Any = None

    def _set(self, state: State[Any]) -> None:
        run, before = self._run, self._state
        state.state_details.task_run_id = run.id
        state.state_details.flow_run_id = run.flow_run_id
        # The server orders states by their time, and drops one that is not later.
        if before is not None and state.timestamp <= before.timestamp:
            state.timestamp = before.timestamp + timedelta(microseconds=1)
        if state.is_running():
            run.run_count += 1
            run.start_time = run.start_time or cast(DateTime, state.timestamp)
        if state.is_final():
            run.end_time = cast(DateTime, state.timestamp)
            run.total_run_time = state.timestamp - (run.start_time or state.timestamp)
        run.state, run.state_id, run.state_type, run.state_name = (
            state,
            state.id,
            state.type,
            state.name,
        )
        self._event = emit_task_run_state_change_event(
            task_run=run, initial_state=before, validated_state=state, follows=self._event
        )
        self._state = state

    def running(self) -> None:
        self._to(StateType.RUNNING, "Running")

    def waiting(self, message: str) -> None:
        self._to(StateType.PAUSED, "Waiting", message)

    def again(self, seconds: float, message: str) -> None:
        scheduled = cast(DateTime, now("UTC") + timedelta(seconds=seconds))
        details = StateDetails(scheduled_time=scheduled)
        self._to(StateType.SCHEDULED, "AwaitingRetry", message, details)

    def completed(self, message: str | None = None, name: str = "Completed") -> None:
        self._to(StateType.COMPLETED, name, message)

    def failed(self, message: str, *, timed_out: bool = False) -> None:
        self._to(StateType.FAILED, "TimedOut" if timed_out else "Failed", message)

    def cancelled(self, message: str) -> None:
        self._to(StateType.CANCELLED, "Cancelled", message)

    def _to(
        self,
        kind: StateType,
        name: str,
        message: str | None = None,
        details: StateDetails | None = None,
    ) -> None:
        # An id of our own: Prefect asks the system for randomness twice a state.
        state: State[Any] = State(
            id=UUID(int=getrandbits(128), version=4),
            type=kind,
            name=name,
            message=message,
            state_details=details or StateDetails(),
        )
        self._set(state)


def abandon(task_run: TaskRun, message: str, at: datetime) -> None:
    """Tells the server that nobody runs a task run any more: it is Crashed, since `at`.

    Call it in the flow run that owns the task run.
    """
    state: State[Any] = Crashed(message=message, timestamp=at)
    state.state_details.task_run_id = task_run.id
    state.state_details.flow_run_id = task_run.flow_run_id
    task_run.end_time = cast(DateTime, at)
    before, task_run.state = task_run.state, state
    emit_task_run_state_change_event(task_run=task_run, initial_state=before, validated_state=state)


async def hand_over(seconds: float = 10.0) -> bool:
    """Waits until the server has every event and log line of this process; False when it has not.

    Task runs reach the server as events, queued behind a websocket; without this, a process that
    ends at once leaves runs that never finished. Queues of all kinds are drained in one call, the
    log queue too: they share one registry. New events start new queues.
    """
    drained = await EventsWorker.drain_all(timeout=seconds, at_exit=False)  # type: ignore[misc]
    return not drained or not drained[1]


@contextmanager
def own_signals() -> Iterator[None]:
    """For a caller that handles SIGTERM itself: keeps Prefect's engine from taking it.

    The engine's handler raises from whatever callback of the event loop is running. Before the
    body of the flow has begun that tears down the loop, or leaves a client that waits for ever.
    """
    taken = vars(flow_engine)["capture_sigterm"]
    vars(flow_engine)["capture_sigterm"] = nullcontext
    try:
        yield
    finally:
        vars(flow_engine)["capture_sigterm"] = taken


def stop_retrying(client: PrefectClient) -> None:
    """Lets requests to a server that is gone fail at once.

    A client that was connected before goes on trying for a minute, and Prefect's engine proposes
    the final state twice: somebody would look at nothing for two minutes.
    """
    # With the flag off a refused connection is final; without it, in another version, we wait.
    if hasattr(client._client, "_has_connected"):
        client._client._has_connected = False


class _OwnErrors(logging.Filter):
    """Takes the traceback from a log record about one of our errors: its message says it all."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, (CompozyError, StepTimeout)):
            record.exc_info = record.exc_text = None
        return True


for _name in ("prefect.task_runs", "prefect.flow_runs", "prefect.engine"):
    logging.getLogger(_name).addFilter(_OwnErrors())
