"""The seam to those parts of Prefect that are no documented API; nothing else here touches them.

Written against Prefect 3.8.8 and held by tests/flows: flow runs with a key of our own, task
runs that the server is told of by events, their log lines, the hand-over of queued events and
logs, and SIGTERM.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from random import getrandbits
from typing import Any, TypeVar, cast
from uuid import UUID, uuid5

import httpx
from prefect import Flow, Task, flow_engine
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import FlowRunCreate
from prefect.client.schemas.objects import (
    FlowRun,
    FlowRunPolicy,
    State,
    StateDetails,
    StateType,
    TaskRun,
    TaskRunResult,
)
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging.handlers import APILogHandler
from prefect.logging.loggers import PrefectLogAdapter
from prefect.serializers import JSONSerializer
from prefect.states import Crashed, Running, to_state_create
from prefect.types._datetime import DateTime, now
from prefect.utilities.engine import emit_task_run_state_change_event

from compozy_prefect.errors import CompozyError
from compozy_prefect.flows.clients import flow_id
from compozy_prefect.flows.pace import Pace

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

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
    parent: UUID | None = None,
) -> tuple[FlowRun, bool]:
    """The flow run with this idempotency key, Running, and whether it was created by this call.

    `parent` is the task run that stands for it in another flow run.

    The client's own method takes no key: a request that it makes again, since the answer was lost,
    then makes another run. Running from the start, since nothing has to happen before: that spares
    the server a change of state.
    """
    state: State[Any] = Running()

    async def ask(flow_id: UUID) -> httpx.Response:
        create = FlowRunCreate(
            flow_id=flow_id,
            flow_version=flow.version,
            name=name,
            parameters=parameters,
            tags=tags,
            idempotency_key=key,
            parent_task_run_id=parent,
            state=to_state_create(state),
            empirical_policy=FlowRunPolicy(retries=0, retry_delay=0),
        )
        body = create.model_dump(mode="json", exclude_unset=True)
        return await client.request("POST", "/flow_runs/", json=body)

    id, remembered = await flow_id(client, flow.name)
    try:
        answer = await ask(id)
    except PrefectHTTPStatusError:
        if not remembered:
            raise
        answer = await ask((await flow_id(client, flow.name, anew=True))[0])
    flow_run = FlowRun.model_validate(answer.json())
    flow_run.parameters = parameters
    return flow_run, answer.status_code == httpx.codes.CREATED


async def tracking_task_run(client: PrefectClient, flow_run: UUID, name: str, key: str) -> UUID:
    """The task run that stands for an inner flow run, one for each key.

    The server keeps its state in step with that of the inner flow run.
    """
    task: Task[[], None] = Task(_nothing, name=name)
    run = await client.create_task_run(
        task, flow_run, dynamic_key=key, id=row_id(flow_run, f"{key}@run"), name=name
    )
    return run.id


def _nothing() -> None: ...


class _Engine(flow_engine.AsyncFlowRunEngine[..., Any]):
    """Runs a flow run that was created, or claimed, with all that the server has to know of it.

    Prefect's own changes a flow run that it is given first, in a request for each of its policy,
    its version and its state.
    """

    def __init__(self, flow: Flow[..., Any], flow_run: FlowRun, parameters: dict[str, Any]) -> None:
        super().__init__(flow=flow, parameters=parameters)
        self._given = flow_run

    async def create_flow_run(self, client: PrefectClient) -> FlowRun:
        return self._given

    async def set_state(self, state: State[Any], force: bool = False) -> State[Any]:
        if state.is_running() and self.state.is_running():
            return self.state
        return await super().set_state(state, force)


async def run_to_end(
    flow: Flow[..., Any], flow_run: FlowRun, parameters: dict[str, Any]
) -> State[Any]:
    """The state in which the flow run ends, as from Prefect's `run_flow_async`."""
    engine = _Engine(flow, flow_run, parameters)
    async with engine.start():
        while engine.is_running():
            async with engine.run_context():
                await engine.call_flow_fn()  # type: ignore[unused-coroutine]
    return engine.state


class StepTimeout(TimeoutError):
    """A step took longer than its `timeout`; Prefect shows a TimeoutError as state TimedOut."""

    def __repr__(self) -> str:
        return str(self)


class Cancellation:
    """The wish to end one run early, and the reason, which its states then show.

    Cancelling goes through asyncio: the coroutine handed to `guard` is cancelled. A run inside
    another one, whose wish is `outer`, is also cancelled by whoever cancels the step that it is.
    """

    def __init__(self, outer: Cancellation | None = None) -> None:
        self.reason: str | None = None
        self.is_from_outside = False
        self._outer = outer
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
        except asyncio.CancelledError as stop:
            if self.reason is None and self._outer is not None:
                self.reason = self._outer.reason or str(stop) or "cancelled"
                self.is_from_outside = True
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


class _OneWrite(httpx.AsyncBaseTransport):
    """A transport that has one request on its way that may change something."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner, self._lock = inner, asyncio.Lock()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return await self._inner.handle_async_request(request)
        async with self._lock:
            return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def one_write_at_a_time(client: PrefectClient) -> None:
    """Lets the runs that share a client wait for each other's requests, rather than fail.

    On SQLite a transaction that has read cannot write once another one has: the server says 503,
    and Prefect's client tries again after 2, 4, 8 s and so on. Of 40 small runs, 4 at a time on a
    busy machine, the slowest took a minute; like this it took 7 s, and all of them 41 s, not 71.
    """
    client._client._transport = _OneWrite(client._client._transport)


def leave_task() -> None:
    """What is told from here on belongs to the flow run, not to the task run that calls this."""
    TaskRunContext.__var__.set(None)  # type: ignore[arg-type]


async def events_sent() -> None:
    """Waits until the events that were emitted so far have left this process."""
    await asyncio.to_thread(EventsWorker.instance().wait_until_empty)


_carried = 0  # runs of this process, in whichever of its threads
_carrying = threading.Lock()


@asynccontextmanager
async def handed_over(seconds: float = 10.0) -> AsyncIterator[None]:
    """Around a run of this process: see `hand_over`, which the end of the last of them waits for.

    It stops the queues that they all use: each run would cut the others off.
    """
    global _carried
    with _carrying:
        _carried += 1
    try:
        yield
    finally:
        with _carrying:
            _carried -= 1
            is_last = not _carried
        if is_last and not await hand_over(seconds):
            _log.warning("the Prefect server did not take everything that this run had to tell it")


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


class _WordsOfSteps(APILogHandler):
    """Gives what a step warns of to the log of the run that it is in."""

    def emit(self, record: logging.LogRecord) -> None:
        if FlowRunContext.get() is not None:
            super().emit(record)


logging.getLogger("compozy_prefect.runtime").addHandler(_WordsOfSteps(logging.WARNING))
