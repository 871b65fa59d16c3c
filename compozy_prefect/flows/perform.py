"""A batch of steps, on a worker of a cluster → how they ended (design.md, decision 4).

The steps run as in the process of the flow, with the same code: the walk through them is built
anew from what the batch brings, they are shown by events from here, and what they gave is in a
journal of the batch before it is told. All batches of a process share one event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.context import FlowRunContext
from prefect.logging.loggers import flow_run_logger
from prefect.settings import get_current_settings

from compozy_prefect import __version__
from compozy_prefect.compiler.plan import Json, Plan, StepPlan, loads
from compozy_prefect.errors import RunError
from compozy_prefect.flows import engine, lease
from compozy_prefect.flows.activity import Activity
from compozy_prefect.flows.attempts import Instance
from compozy_prefect.flows.batches import BatchId, Stops, begun, over
from compozy_prefect.flows.containers import Row, fan_out, in_item
from compozy_prefect.flows.events import keep_events
from compozy_prefect.flows.fanout import FanOut
from compozy_prefect.flows.journal import Journal
from compozy_prefect.flows.ledger import Ledger
from compozy_prefect.flows.limits import SharedLimits
from compozy_prefect.flows.observer import Watched
from compozy_prefect.flows.pace import BURST, Pace
from compozy_prefect.flows.parcels import unpack
from compozy_prefect.flows.steps import StepRunner
from compozy_prefect.flows.walk import Run, Walk
from compozy_prefect.flows.watch import look_at, looked_after
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.outcome import Failure
from compozy_prefect.runtime.redaction import Redactor
from compozy_prefect.runtime.scope import Opened, Permit, Scope
from compozy_prefect.runtime.services import Services
from compozy_prefect.runtime.wire import state_to_wire

_log = logging.getLogger(__name__)

_LISTEN_EVERY = 0.25  # seconds between looks at whether the batch should end
_SMALLEST_BURST = 20  # events
_LOST = "another process has the run now"


@dataclass(frozen=True)
class Perform:
    """What Prefect maps over batches.

    The key opens them. It is none of the arguments, which Ray may keep in files.
    """

    key: bytes = field(repr=False)

    def __call__(self, title: str, common: bytes, own: bytes) -> str:
        """How the steps ended, as JSON, or an `error`: why they could not be run.

        `common` is what all batches of the fan-out are told, `own` what this one is; `title` names
        the task run.
        """
        work = _perform(unpack(self.key, common), unpack(self.key, own))
        try:
            return json.dumps(asyncio.run_coroutine_threadsafe(work, _loop()).result())
        except RunError as fault:
            error = {"message": fault.message, "code": fault.code, "details": fault.details}
            return json.dumps({"error": error | {"retryable": fault.retryable}})


async def _perform(common: Json, batch: Json) -> Json:
    if common["version"] != __version__:
        raise RunError(
            f"the worker has compozy-prefect {__version__}, and the run {common['version']}; "
            "they have to be the same",
            code="WORKER_FAILED",
            retryable=False,
        )
    engine.leave_task()
    keep_events()
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    client = await _client()
    id, root = BatchId(*batch["batch"]), UUID(common["root"])
    store = context.result_store.model_copy(update={"serializer": engine.RESULTS})
    await _see(Journal(store, root, common["term"]))
    heard = _Heard()
    permit = _permit(client, root, common["term"], heard)
    journal = await begun(client, store, root, id, permit)
    journal.adopt(batch["kept"])

    # So many batches tell the server what one process would.
    burst = max(BURST // batch["batches"], _SMALLEST_BURST)
    pace = Pace(engine.events_sent, partial(client.read_flow_run, root), burst)
    redactor = Redactor(common["secrets"])
    events, gate = _Events(), asyncio.Event()
    watched, ledger = Watched(events), Ledger()
    runner = StepRunner(
        UUID(common["flow_run"]),
        redactor,
        journal,
        flow_run_logger(context.flow_run, context.flow),
        heard,
        pace,
        Activity(),
        watched,
        ledger,
    )
    run = Run(
        watched=watched,
        cancellation=heard,
        redactor=redactor,
        log=runner.log,
        branch=_not_here,
        wait=_not_here,
        send=_not_here,
        gates=(gate,),
        progress=_not_here,
        ledger=ledger,
    )
    gate.set()
    work = heard.work = _fan_out(common, batch, run, runner, permit)
    stops = Stops(journal.store, root)
    with looked_after(client, root, partial(look_at, heard, gate, None)):
        listening = asyncio.ensure_future(_listen(stops, id, heard))
        try:
            await work.run(mapped=False)
        finally:
            listening.cancel()
    if work.stopped is not None and heard.reason is None and not heard.is_over:
        await stops.ask(id.of_fan, work.stopped)  # sooner than the process of the flow would
    if heard.is_lost:
        raise _lost()
    await over(journal)
    await pace.told()
    await engine.hand_over()
    states = [(path, state_to_wire(state)) for path, state in run.states.items() if state]
    return {
        "states": states,
        "taken": sorted(run.taken),
        "ended": [*work.ended.items()],
        "events": events.told,
        "calls": ledger.to_json(),
        "cancelled": heard.reason,
    }


def _fan_out(common: Json, batch: Json, run: Run, runner: StepRunner, permit: Permit) -> FanOut:
    """The steps of the batch, seen from where they stand in the workflow."""
    plan = _plan(common["plan"])
    workflow = plan.workflows[common["workflow"]]
    context = RunContext.from_json(plan, workflow, common["context"])
    # Its own limits of models are of one process, and there are several.
    services = Services.from_json(common["services"], SharedLimits())
    scope = Scope(workflow, plan.spans, context, services, permit=permit)
    path, name, where, parent = common["instance"]
    step = workflow.all_steps[path]
    instance = Instance(step, name, where, parent)
    env, given = common["opened"]
    opened = Opened(env, scope.environment(env), given)
    prefix, above, watched = common["walk"]
    walk = Walk(run, scope, runner, prefix, above, apart=True, watched=watched)
    inside = walk.inside(instance, opened)
    rows: list[Row] = []
    for variables, steps in batch["rows"]:
        of = inside if variables is None else in_item(inside, opened, variables)
        children = [step.steps[place] for place, _ in steps]
        rows.append(Row(of, children, [id for _, id in steps], variables))
    return fan_out(inside, instance, rows, batch["limit"])


class _Heard(engine.Cancellation):
    """What a batch has heard of its end.

    `request` is about the whole run, and `reason` why that ends; `over` about the fan-out alone.
    """

    work: FanOut | None = None
    is_over = False
    is_lost = False

    def request(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
            if self.work is not None:
                self.work.end(reason)

    def over(self, reason: str) -> None:
        self.is_over = True
        if self.work is not None:
            self.work.end(reason)


def _permit(client: PrefectClient, root: UUID, term: int, heard: _Heard) -> Permit:
    """The permit of the process that has sent the batch, as long as that has the run.

    Raises RunError when it has not any more: unlike the process of a flow, that of a worker lives.
    """

    async def lost() -> None:
        heard.is_lost = True
        heard.request(_LOST)
        raise _lost()

    held = lease.Lease(client, root, term, lost)

    async def permit() -> None:
        if heard.is_lost:
            raise _lost()
        await held.permit()

    return permit


def _lost() -> RunError:
    return RunError(_LOST, code="WORKER_FAILED", retryable=False)


async def _listen(stops: Stops, id: BatchId, heard: _Heard) -> None:
    """Ends the batch when its fan-out is over, or another process has the run."""
    while heard.reason is None and not heard.is_over:
        with suppress(Exception):  # of whatever storage it is; the next look may succeed
            if reason := await stops.asked(id.process):
                heard.request(reason)
            elif reason := await stops.asked(id.of_fan):
                heard.over(reason)
        await asyncio.sleep(_LISTEN_EVERY)


class _Events:
    """What an observer would be told here; the process of the flow tells it."""

    def __init__(self) -> None:
        self.told: list[list[Json]] = []

    def run_started(self, execution_id: str, ui_url: str) -> None: ...

    def step_started(self, step: StepPlan) -> None:
        self.told.append(["step_started", step.path])

    def step_finished(
        self, step: StepPlan, status: str, seconds: float, error: Failure | None
    ) -> None:
        told = ["step_finished", step.path, status, seconds, error and error.to_json()]
        self.told.append(told)

    def run_finished(self, result: Any) -> None: ...


def _not_here(*_: Any, **__: Any) -> Any:
    """Steps that need the process of the flow are not sent: `flows.placement` sees to it."""
    raise RunError("this step cannot run on a worker", code="UNSUPPORTED", retryable=False)


async def _see(journal: Journal) -> None:
    """Raises RunError when what the flow keeps cannot be seen from here: nor would it see this."""
    if not await journal.exists():
        raise RunError(
            f"the worker on {socket.gethostname()} cannot see the result storage of the run; set "
            "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK to one that all of them share",
            code="STORAGE_NOT_SHARED",
            retryable=False,
        )


# --- the process ----------------------------------------------------------------------------------


@lru_cache(4)
def _plan(text: str) -> Plan:
    return loads(text)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of this process, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="compozy", daemon=True).start()
    return loop


_clients: dict[str, PrefectClient] = {}


async def _client() -> PrefectClient:
    """A client of the server of the run, which this process keeps: making one takes long."""
    api = get_current_settings().api
    secrets = [one and one.get_secret_value() for one in (api.key, api.auth_string)]
    known = json.dumps([str(api.url), *secrets])
    if known not in _clients:
        client = get_client()
        await client.__aenter__()
        _clients[known] = client
    return _clients[known]
