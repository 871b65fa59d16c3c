"""A plan, a workflow and its input → one flow run in this process, and its result.

`run` is for code that has an event loop, `run_sync` for a command line: it owns the loop and the
signals. Both return when the server has everything about the run.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any

import httpx
from prefect import Flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import AsyncClientContext
from prefect.exceptions import PrefectHTTPStatusError, TerminationSignal
from prefect.flow_engine import run_flow_async
from prefect.settings import get_current_settings
from prefect.states import Pending

from compozy_prefect.compiler import types
from compozy_prefect.compiler.plan import Json, Plan, WorkflowPlan
from compozy_prefect.errors import (
    CompozyError,
    InputInvalid,
    OutputInvalid,
    RunError,
    ServerUnavailable,
    UsageError,
)
from compozy_prefect.flows.build import build_flow, run_name, workflow_of
from compozy_prefect.flows.engine import Cancellation, hand_over, own_signals
from compozy_prefect.flows.execute import SESSION, Session
from compozy_prefect.flows.observer import Observer, Watched
from compozy_prefect.runtime.inputs import check_input
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import (
    CANCELED,
    CANCELED_CODE,
    FAILED,
    Failure,
    Outcome,
    TaskState,
    plain,
)
from compozy_prefect.runtime.services import Services

_log = logging.getLogger(__name__)

SERVER_LOST = "SERVER_UNAVAILABLE"  # code of a run whose server went away
INTERRUPTED = "interrupted"
INTERRUPTED_CODE = 130  # exit code, design.md
# Seconds in which a second signal says nothing new: a terminal signals the whole group, and a
# parent in it, such as `make` or `timeout`, hands the signal on.
SAME_WISH = 1.0
_LARGEST_INPUT = 512 * 1024  # bytes, `server.api.max_parameter_size`


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended; `to_json` is the object that `compozy run --json` prints (design.md)."""

    execution_id: str
    workflow_id: str
    status: str
    input: Json
    output: Json
    error: Failure | None
    tasks: dict[str, TaskState]
    usage: Usage
    duration_seconds: float
    ui_url: str

    def to_json(self) -> dict[str, Json]:
        return {
            "execution_id": self.execution_id,
            "workflow_id": self.workflow_id,
            "status": self.status,
            "input": self.input,
            "output": self.output,
            "error": self.error and self.error.to_json(),
            "tasks": {key: state.to_json() for key, state in self.tasks.items()},
            "usage": self.usage.to_json(),
            "duration_seconds": round(self.duration_seconds, 3),
            "ui_url": self.ui_url,
        }


async def run(
    plan: Plan,
    workflow_id: str,
    input: Mapping[str, Json],
    *,
    services: Services,
    observer: Observer | None = None,
    cancellation: Cancellation | None = None,
) -> RunResult:
    """Runs the workflow as a Prefect flow in this process.

    A workflow that fails gives a result, no exception, and so does one whose server went away.
    Raises InputInvalid before anything starts when the input breaks the workflow's schema,
    UsageError for an unknown workflow, and ServerUnavailable when the Prefect server cannot be
    reached or refuses the run.
    """
    workflow = workflow_of(plan, workflow_id)
    given = _plain(input)
    checked = check_input(workflow, given)
    if len(json.dumps(given).encode()) > _LARGEST_INPUT:
        raise UsageError(
            f"the input is larger than {_LARGEST_INPUT // 1024} KiB, the most that Prefect stores "
            "with a run; give large data by reference, as a path or a URL"
        )
    session = Session(services, observer, cancellation or Cancellation())
    listeners = _Listeners(plan, services)
    session.start = listeners.start
    watched = Watched(observer)
    started = time.monotonic()
    api_url = _api_url()
    token = SESSION.set(session)
    flow_run = None
    try:
        async with AsyncExitStack() as stack:
            client = await _client(stack, api_url)
            flow, flow_run = await _created(client, plan, workflow, given, checked)
            watched.tell("run_started", str(flow_run.id), ui_url(flow_run))
            outcome = _outcome_of(await _finished(flow, flow_run), checked)
            await listeners.ended()
    except (httpx.TransportError, PrefectHTTPStatusError) as fault:
        lost = _unavailable(api_url, fault)
        if flow_run is None:
            raise lost from None
        outcome = Outcome(FAILED, checked, None, Failure(str(lost), SERVER_LOST))
        if session.outcome is not None:
            # The tasks have run, but nobody will find that in Prefect.
            session.outcome = replace(outcome, tasks=session.outcome.tasks)
    finally:
        SESSION.reset(token)
        if not await hand_over():
            _log.warning("the Prefect server did not take everything that this run had to tell it")
    outcome = session.outcome or outcome
    result = RunResult(
        execution_id=str(flow_run.id),
        workflow_id=workflow_id,
        status=outcome.status,
        input=outcome.input,
        output=outcome.output,
        error=outcome.error,
        tasks=outcome.tasks,
        usage=outcome.usage,
        duration_seconds=time.monotonic() - started,
        ui_url=ui_url(flow_run),
    )
    watched.tell("run_finished", result)
    return result


def run_sync(
    plan: Plan,
    workflow_id: str,
    input: Mapping[str, Json],
    *,
    services: Services,
    observer: Observer | None = None,
) -> RunResult:
    """`run` for a process that has no event loop; raises what `run` raises.

    The first Ctrl-C or SIGTERM cancels the run, which then has the status CANCELED; another, a
    moment later, ends the process at once.
    """
    cancellation = Cancellation()
    first = 0.0

    async def main() -> RunResult:
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            nonlocal first
            if cancellation.reason is None:
                first = time.monotonic()
                cancellation.request(INTERRUPTED)
            elif time.monotonic() - first > SAME_WISH:
                sys.stderr.write(
                    "interrupted again; Prefect may go on to show the run as running\n"
                )
                sys.stderr.flush()
                os._exit(INTERRUPTED_CODE)

        with own_signals(), _handled(loop, interrupt):
            return await run(
                plan,
                workflow_id,
                input,
                services=services,
                observer=observer,
                cancellation=cancellation,
            )

    return asyncio.run(main())


def ui_url(flow_run: FlowRun) -> str:
    """Where the Prefect UI shows a run: the UI's own URL, or the API's without `/api`."""
    base = str(get_current_settings().ui_url or "") or _api_url().removesuffix("/api")
    return f"{base.rstrip('/')}/runs/flow-run/{flow_run.id}"


def _plain(input: Mapping[str, Json]) -> dict[str, Json]:
    """The input as JSON: a caller in Python may hand over dates and tuples."""
    try:
        return dict(plain(input))
    except OutputInvalid as fault:
        raise InputInvalid(f"the input is no JSON: {fault.message}") from None


class _Listeners:
    """The runs that the signals of a run start: independent of it, in the same process (§3.9)."""

    def __init__(self, plan: Plan, services: Services) -> None:
        self._plan, self._services = plan, services
        # Outside of the flow run, so that what is started here is no part of it.
        self._context = copy_context()
        self._runs: set[asyncio.Task[None]] = set()

    def start(self, workflow_id: str, payload: dict[str, Json]) -> None:
        body = self._run(workflow_id, payload)
        context = self._context.copy()
        task = asyncio.get_running_loop().create_task(body, context=context)
        self._runs.add(task)

    async def _run(self, workflow_id: str, payload: dict[str, Json]) -> None:
        try:
            await run(self._plan, workflow_id, payload, services=self._services)
        except CompozyError as fault:
            _log.warning("the signal did not start '%s': %s", workflow_id, fault)

    async def ended(self) -> None:
        while self._runs:
            done, self._runs = self._runs, set()
            await asyncio.gather(*done)


async def _client(stack: AsyncExitStack, api_url: str) -> PrefectClient:
    """The one client of the run, which Prefect's engine finds and shares."""
    try:
        return (await stack.enter_async_context(AsyncClientContext.get_or_create())).client
    except RuntimeError as fault:
        # Prefect's own sentence, when nothing listens or the server is of another version.
        raise _unavailable(api_url, fault) from None


async def _created(
    client: PrefectClient,
    plan: Plan,
    workflow: WorkflowPlan,
    given: dict[str, Json],
    checked: dict[str, Json],
) -> tuple[Flow[..., Any], FlowRun]:
    """The flow, and a flow run of it on the server.

    Created here, with its name and its whole input, the run needs no renaming, and keeps the keys
    that the schema allows without listing them.
    """
    flow = build_flow(plan, workflow.id)
    flow.flow_run_name = None
    stored = given
    if types.single(workflow.input_schema):
        stored = {types.parameters(workflow.input_schema)[0].name: given}
    name = run_name(workflow.id, checked)
    return flow, await client.create_flow_run(flow, name=name, parameters=stored, state=Pending())


async def _finished(flow: Flow[..., Any], flow_run: FlowRun) -> State[Any]:
    """Runs the flow run to its final state."""
    names = flow.parameters.properties
    parameters = {name: value for name, value in flow_run.parameters.items() if name in names}
    try:
        state = await run_flow_async(
            flow, flow_run=flow_run, parameters=parameters, return_type="state"
        )
    except TerminationSignal:
        return flow_run.state or Pending()
    assert isinstance(state, State)
    return state


def _outcome_of(state: State[Any], checked: Json) -> Outcome:
    """The outcome of a run whose body did not get to say it."""
    message = state.message or f"the run ended in state {state.name}"
    if state.is_cancelled() or state.is_cancelling():
        return Outcome(CANCELED, checked, None, Failure(message, CANCELED_CODE))
    return Outcome(FAILED, checked, None, Failure(message, RunError.code))


def _api_url() -> str:
    url = get_current_settings().api.url
    if not url:
        raise ServerUnavailable(
            "no Prefect server is configured; run `compozy prefect start`, or set PREFECT_API_URL"
        )
    return url.rstrip("/")


def _unavailable(api_url: str, fault: Exception) -> ServerUnavailable:
    if isinstance(fault, PrefectHTTPStatusError):
        reason = f"answered {fault.response.status_code}: {fault.response.text[:300]}"
    elif isinstance(fault, RuntimeError) and not isinstance(fault.__cause__, httpx.TransportError):
        reason = f"cannot be used: {fault}"
    else:
        reason = f"does not answer ({str(fault.__cause__ or fault) or type(fault).__name__})"
    return ServerUnavailable(
        f"the Prefect server at {api_url} {reason}; see whether it runs with "
        "`compozy prefect status`, or change PREFECT_API_URL"
    )


@contextmanager
def _handled(loop: asyncio.AbstractEventLoop, interrupt: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `interrupt`; what handled them before does so again afterwards."""
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        previous = signal.getsignal(number)
        try:
            loop.add_signal_handler(number, interrupt)
        except (NotImplementedError, RuntimeError, ValueError):
            continue  # Windows, or not the main thread
        before[number] = previous
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
