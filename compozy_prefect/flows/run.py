"""A plan, a workflow and its input → one flow run in this process, and its result.

`run` is for code that has an event loop, `run_sync` for a command line: it owns the loop and the
signals. Both return when the server has everything about the run; where other runs go on in this
process, the last of them does that for all.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
from prefect import Flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from compozy_prefect import faults
from compozy_prefect.compiler.plan import Json, Plan
from compozy_prefect.errors import (
    InputInvalid,
    OutputInvalid,
)
from compozy_prefect.flows import flow_runs
from compozy_prefect.flows.build import workflow_of
from compozy_prefect.flows.claim import TAG, TEST_TAG
from compozy_prefect.flows.clients import place_of_results
from compozy_prefect.flows.connection import api_url, client_of, ui_url, unavailable
from compozy_prefect.flows.engine import Cancellation, handed_over
from compozy_prefect.flows.executions import NOWHERE, Executions, Origin, Record
from compozy_prefect.flows.interrupt import interruptible
from compozy_prefect.flows.listeners import AlreadyBegun, Listeners
from compozy_prefect.flows.observer import Observer, Watched
from compozy_prefect.flows.session import SESSION, Session
from compozy_prefect.runtime.inputs import check_input
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.mcp import sessions
from compozy_prefect.runtime.outcome import (
    FAILED,
    SUCCESS,
    Failure,
    Outcome,
    Taken,
    TaskState,
    plain,
)
from compozy_prefect.runtime.services import Services

_log = logging.getLogger(__name__)

SERVER_LOST = "SERVER_UNAVAILABLE"  # code of a run whose server went away


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended; `to_json` is the object that `compozy run --json` prints (design.md).

    `taken` are the ways that it took at the steps of the plan, with the workflows it has started.
    """

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
    taken: frozenset[Taken] = frozenset()

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


class Opened(NamedTuple):
    """A flow run that this process has, `input` with the defaults."""

    flow: Flow[..., Any]
    flow_run: FlowRun
    input: Json


# Gives a flow run to this process; what has to be let go of at the end goes on the stack.
Open = Callable[[PrefectClient, ExitStack], Awaitable[Opened]]


async def run(
    plan: Plan,
    workflow_id: str,
    input: Mapping[str, Json],
    *,
    services: Services,
    observer: Observer | None = None,
    cancellation: Cancellation | None = None,
    origin: Origin = NOWHERE,
    key: str = "",
    is_test: bool = False,
    taken: set[Taken] | None = None,
) -> RunResult:
    """Runs the workflow as a Prefect flow in this process.

    `origin` is where the environment comes from, for `resume`. Of all runs with the same `key`
    there is one: AlreadyBegun is raised when it is there. `is_test`: the run is one of many, is
    not listed and not resumed, and whoever runs them all calls `hand_over` at the end. `taken` gets
    the ways that it takes.

    A workflow that fails gives a result, no exception, and so does one whose server went away.
    Raises InputInvalid before anything starts when the input breaks the workflow's schema,
    UsageError for an unknown workflow, and ServerUnavailable when the Prefect server cannot be
    reached or refuses the run.
    """
    workflow = workflow_of(plan, workflow_id)
    given = _plain(input)
    checked = check_input(workflow, given)
    flow_runs.check_size(given)

    tape = services.cassette

    async def create(client: PrefectClient, held: ExitStack) -> Opened:
        announced = Record(
            key or str(uuid4()),
            workflow_id,
            plan.hash,
            offline=services.offline,
            mocks=services.mocks.data if services.mocks else None,
            cassette=_absolute(tape.path) if tape is not None else None,
            loose=tape is not None and not tape.is_strict,
            records=tape is not None and not tape.replays,
            root=_absolute(origin.root),
            env_file=_absolute(origin.env_file),
            keys_in_files=origin.keys_in_files,
            pid=os.getpid(),
        )
        executions = Executions.here()
        if not is_test:
            with _rather_than_none():
                executions.announce(announced, plan)
        tag = TEST_TAG if is_test else TAG
        flow, flow_run, new = await flow_runs.create(
            client, plan, workflow, given, checked, announced.id, tag=tag
        )
        if key and not new:
            raise AlreadyBegun(str(flow_run.id), announced.id)
        await faults.point("run.created")
        with _rather_than_none(partial(executions.forget, announced.id)):
            # First, as what has a record and no lease looks like a run whose process has died.
            held.enter_context(executions.lease(str(flow_run.id)))
            executions.adopt(announced.id, str(flow_run.id))
        await faults.point("run.recorded")
        return Opened(flow, flow_run, checked)

    session = Session(services, observer, cancellation or Cancellation())
    session.taken = session.taken if taken is None else taken
    return await carry(plan, workflow_id, create, session, origin, is_test=is_test)


async def carry(
    plan: Plan,
    workflow_id: str,
    open: Open,
    session: Session,
    origin: Origin,
    *,
    is_test: bool = False,
) -> RunResult:
    """Runs the flow run that `open` gives to its end, whoever began it."""
    services = session.services
    begin = partial(
        run, plan, services=services, origin=origin, is_test=is_test, taken=session.taken
    )
    listeners = Listeners(begin, services)
    session.start = listeners.start
    watched = Watched(session.observer)
    started = time.monotonic()
    server = api_url()
    token = SESSION.set(session)
    opened: Opened | None = None
    with ExitStack() as held:
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(handed_over())
                await stack.enter_async_context(sessions.held())
                client = await client_of(stack, server)
                place = await place_of_results(client, stack.enter_context(ExitStack()))
                opened = await open(client, held)
                opened.flow.result_storage = place
                watched.tell("run_started", str(opened.flow_run.id), ui_url(opened.flow_run))
                try:
                    state = await flow_runs.finish(opened.flow, opened.flow_run)
                finally:
                    if session.pace is not None:
                        await session.pace.told()
                outcome = flow_runs.outcome_of(state, opened.input)
                await faults.point("run.told")
                await listeners.ended()
        except (httpx.TransportError, PrefectHTTPStatusError) as fault:
            lost = unavailable(server, fault)
            if opened is None:
                raise lost from None
            outcome = Outcome(FAILED, opened.input, None, Failure(str(lost), SERVER_LOST))
            if session.outcome is not None:
                # The tasks have run, but nobody will find that in Prefect.
                session.outcome = replace(outcome, tasks=session.outcome.tasks)
        finally:
            SESSION.reset(token)
        outcome = session.outcome or outcome
        id = str(opened.flow_run.id)
        if outcome.status == SUCCESS:
            with suppress(OSError):
                Executions.here().succeeded(id)
    result = RunResult(
        execution_id=id,
        workflow_id=workflow_id,
        status=outcome.status,
        input=outcome.input,
        output=outcome.output,
        error=outcome.error,
        tasks=outcome.tasks,
        usage=outcome.usage,
        duration_seconds=time.monotonic() - started,
        ui_url=ui_url(opened.flow_run),
        taken=frozenset(session.taken),
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
    origin: Origin = NOWHERE,
) -> RunResult:
    """`run` for a process that has no event loop; raises what `run` raises."""
    return interruptible(
        lambda cancellation: run(
            plan,
            workflow_id,
            input,
            services=services,
            observer=observer,
            cancellation=cancellation,
            origin=origin,
        )
    )


def _plain(input: Mapping[str, Json]) -> dict[str, Json]:
    """The input as JSON: a caller in Python may hand over dates and tuples."""
    try:
        return dict(plain(input))
    except OutputInvalid as fault:
        raise InputInvalid(f"the input is no JSON: {fault.message}") from None


def _absolute(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path.absolute())


@contextmanager
def _rather_than_none(otherwise: Callable[[], None] = lambda: None) -> Iterator[None]:
    """A run that cannot be resumed is better than none."""
    try:
        yield
    except OSError as fault:
        _log.warning("this run cannot be resumed: %s", fault)
        otherwise()
