"""The seam to those parts of Prefect that are no documented API; nothing else here touches them.

Written against Prefect 3.8.8 and held by tests/flows: flow runs with a key of our own, task
runs that the server is told of by events, their log lines, the hand-over of queued events and
logs, and SIGTERM.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from random import getrandbits
from typing import Any, TypeVar, cast
from uuid import UUID, uuid5

import httpx
from prefect import Flow, flow_engine
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import FlowRunCreate
from prefect.client.schemas.objects import (
    FlowRun,
    State,
    StateDetails,
    StateType,
    TaskRun,
    TaskRunResult,
)
from prefect.context import TaskRunContext
from prefect.events.worker import EventsWorker
from prefect.logging.loggers import PrefectLogAdapter
from prefect.serializers import JSONSerializer
from prefect.states import Crashed, Pending, to_state_create
from prefect.types._datetime import DateTime, now
from prefect.utilities.engine import emit_task_run_state_change_event

from compozy_prefect.errors import CompozyError
from compozy_prefect.flows.pace import Pace

_T = TypeVar("_T")

# Prefect's own JSON decoder imports whatever class a `__class__` key names and builds it from the
# data beside it. Results hold what models and users wrote, so nothing is decoded but JSON.
RESULTS = JSONSerializer(object_decoder=None)

_TOLD_AFTER = 0.1  # seconds after which the server is told that a step runs

Log = logging.Logger | logging.LoggerAdapter[Any]


async def create_flow_run(
    client: PrefectClient,
    flow: Flow[..., Any],
    *,
    name: str,
    parameters: dict[str, Any],
    tags: list[str],
    key: str,
) -> tuple[FlowRun, bool]:
    """The flow run with this idempotency key, Pending, and whether it was created by this call.

    The client's own method takes no key: a request that it makes again, since the answer was lost,
    then makes another run.
    """
    create = FlowRunCreate(
        flow_id=await client.create_flow_from_name(flow.name),
        flow_version=flow.version,
        name=name,
        parameters=parameters,
        tags=tags,
        idempotency_key=key,
        state=to_state_create(Pending()),
    )
    body = create.model_dump(mode="json", exclude_unset=True)
    answer = await client.request("POST", "/flow_runs/", json=body)
    flow_run = FlowRun.model_validate(answer.json())
    flow_run.parameters = parameters
    return flow_run, answer.status_code == httpx.codes.CREATED


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


def row_id(flow_run: UUID, where: str) -> UUID:
    """The id of the task run that shows the step at `where` in a flow run."""
    return uuid5(flow_run, where)


class Row:
    """A task run that the server is told of by events alone, as Prefect's engine does.

    The id is fixed by the flow run and the path, so that a resumed run shows each step once.
    `after` are the task runs before it, and draw the edges in the UI. That a step runs is told
    when it has run for a moment: of most steps the server hears once, which halves what it has to
    do for a large fan-out.
    """

    def __init__(
        self,
        pace: Pace,
        flow_run: UUID,
        where: str,
        name: str,
        task_key: str,
        after: Iterable[UUID] = (),
    ) -> None:
        self._pace = pace
        self.id = row_id(flow_run, where)
        edges = [TaskRunResult(id=id) for id in after]
        self._run = TaskRun(
            id=self.id,
            flow_run_id=flow_run,
            name=name,
            task_key=task_key,
            dynamic_key=where,
            task_inputs={"after": list(edges)} if edges else {},
        )
        self._told: State[Any] | None = None
        self._event: Any = None
        self._telling: asyncio.TimerHandle | None = None

    def log(self, log: Log) -> Log:
        """The log of the flow run, whose lines then belong to this task run."""
        if not isinstance(log, PrefectLogAdapter):
            return log
        return PrefectLogAdapter(
            log.logger, extra={**(log.extra or {}), "task_run_id": str(self.id)}
        )

    def running(self) -> None:
        state, run = _state(StateType.RUNNING, "Running"), self._run
        run.run_count += 1
        run.start_time = run.start_time or cast(DateTime, state.timestamp)
        loop = asyncio.get_running_loop()
        self._telling = loop.call_later(_TOLD_AFTER, self._tell, state)

    def performed(self) -> None:
        """What the step does is done: that it runs need not be told any more."""
        if self._telling is not None:
            self._telling.cancel()

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
        self.performed()
        self._tell(_state(kind, name, message, details))

    def _tell(self, state: State[Any]) -> None:
        run, before = self._run, self._told
        state.state_details.task_run_id = run.id
        state.state_details.flow_run_id = run.flow_run_id
        # The server orders states by their time, and drops one that is not later.
        if before is not None and state.timestamp <= before.timestamp:
            state.timestamp = before.timestamp + timedelta(microseconds=1)
        if state.is_final():
            run.end_time = cast(DateTime, state.timestamp)
            start = run.start_time or run.end_time
            # By numbers: the difference of Prefect's datetimes takes ten times as long.
            seconds = run.end_time.timestamp() - start.timestamp()
            run.total_run_time = timedelta(seconds=max(seconds, 0.0))
        run.state, run.state_id, run.state_type, run.state_name = (
            state,
            state.id,
            state.type,
            state.name,
        )
        self._told = state
        # As it is now: it may be told later.
        self._pace.tell(partial(self._emit, run.model_copy(), before, state))

    def _emit(self, run: TaskRun, before: State[Any] | None, state: State[Any]) -> None:
        self._event = emit_task_run_state_change_event(
            task_run=run, initial_state=before, validated_state=state, follows=self._event
        )


def _state(
    kind: StateType, name: str, message: str | None = None, details: StateDetails | None = None
) -> State[Any]:
    # An id of our own: Prefect asks the system for randomness twice a state.
    return State(
        id=UUID(int=getrandbits(128), version=4),
        type=kind,
        name=name,
        message=message,
        state_details=details or StateDetails(),
    )


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


def leave_task() -> None:
    """What is told from here on belongs to the flow run, not to the task run that calls this."""
    TaskRunContext.__var__.set(None)  # type: ignore[arg-type]


async def events_sent() -> None:
    """Waits until the events that were emitted so far have left this process."""
    await asyncio.to_thread(EventsWorker.instance().wait_until_empty)


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
