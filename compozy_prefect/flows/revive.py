"""A deployed run that stands still → one that a worker takes up where it stood.

The supervisor does so by itself (`flows.supervise`), and `compozy resume` for whoever asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, WorkerStatus
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import Running, Scheduled

from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import UsageError
from compozy_prefect.flows import lease
from compozy_prefect.flows.claim import TAG
from compozy_prefect.flows.connection import reached, ui_url
from compozy_prefect.flows.wait import awaited, is_held
from compozy_prefect.flows.worker import BEAT, PATIENCE, REVIVED, TERM, is_suspended, wake

_LOOK_EVERY = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Rescheduled:
    """A deployed execution that goes on in a process of a worker.

    `pool` is the work pool from which a worker has to take it, None for a process that serves its
    deployment, and `workers` how many of that pool are there now. `message` says what was done.
    """

    execution_id: str
    ui_url: str
    message: str
    pool: str | None = None
    workers: int = 0
    status: str = "PENDING"

    def to_json(self) -> dict[str, Json]:
        """What `compozy run --detach` prints of a run, too."""
        return {"execution_id": self.execution_id, "ui_url": self.ui_url}


async def revive(client: PrefectClient, run: FlowRun, reason: str) -> bool:
    """Schedules the run; False when Prefect refuses, as it does for one that has succeeded.

    A process that has it in spite of all, and is only slow, loses it before.
    """
    term = run.labels.get(TERM)
    await lease.close(client, run.id, after=term if isinstance(term, int) else lease.FIRST)
    scheduled: State[None] = Scheduled(name="Resuming", message=reason)
    answer = await client.set_flow_run_state(run.id, scheduled)
    return answer.status == SetStateStatus.ACCEPT


async def resume(
    id: str, tell: Callable[[str], None], *, as_it_is: bool = True
) -> Rescheduled | None:
    """Has a deployed execution go on that stands still; None when there is no such one of ours.

    Raises UsageError when it has succeeded, when its process lives, when it is being cancelled, and
    when it is not to go on `as_it_is`: what answers in it is up to its worker.
    """
    async with reached() as client:
        try:
            run = await client.read_flow_run(UUID(id))
        except ObjectNotFound:
            return None
        if run.deployment_id is None or TAG not in run.tags:
            return None
        if not as_it_is:
            raise UsageError(
                f"execution {id} is run by a worker, whose environment says what answers agents "
                "and tools (COMPOZY_MOCKS, COMPOZY_OFFLINE)"
            )
        state = run.state
        assert state is not None
        message = f"execution {id} is scheduled again"
        if state.is_completed():
            raise UsageError(f"execution {id} is over: it succeeded")
        if state.is_cancelling():
            raise UsageError(f"execution {id} is being cancelled; `compozy show {id}` says more")
        if state.is_scheduled():
            message = f"execution {id} is scheduled already"
        elif is_suspended(state):
            await wake(client, run.id)
        elif not await _is_silent(client, run, tell):
            message = await _released(client, run)
        elif not await revive(client, run, "resumed on request"):
            raise UsageError(f"execution {id} has just ended; `compozy show {id}` says how")
        else:
            await client.update_flow_run_labels(run.id, {REVIVED: 0})  # somebody sees to it
        pool = run.work_pool_name
        return Rescheduled(id, ui_url(run), message, pool, await _workers(client, pool))


async def _is_silent(client: PrefectClient, run: FlowRun, tell: Callable[[str], None]) -> bool:
    """Whether the process of a run gives no sign of life, for as long as the supervisor waits.

    Of one that ended by itself nothing need be seen.
    """
    last = run.state
    if last is not None and last.is_final() and not last.is_crashed():
        return True
    tell(f"looking for {PATIENCE:g} s at most whether its process lives")
    mark, deadline = (run.state_id, run.labels.get(BEAT)), time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        await asyncio.sleep(_LOOK_EVERY)
        now = await client.read_flow_run(run.id)
        if (now.state_id, now.labels.get(BEAT)) != mark:
            return False
    return True


async def _released(client: PrefectClient, run: FlowRun) -> str:
    """Lets a run go on that somebody holds. Raises UsageError when a process just runs it."""
    state = (await client.read_flow_run(run.id)).state
    if state is not None and state.is_final():
        raise UsageError(f"execution {run.id} has just ended: {state.name}")
    if not is_held(state):
        more = f", and waits for the signal `{signal}`" if (signal := awaited(state)) else ""
        raise UsageError(f"execution {run.id} is running, in a process of a worker{more}")
    running: State[None] = Running(message="goes on")
    await client.set_flow_run_state(run.id, running, force=True)
    return f"execution {run.id} goes on in its process"


async def _workers(client: PrefectClient, pool: str | None) -> int:
    """How many workers poll the pool."""
    if pool is None:
        return 0
    with suppress(ObjectNotFound):
        found = await client.read_workers_for_work_pool(pool)
        return sum(one.status == WorkerStatus.ONLINE for one in found)
    return 0
