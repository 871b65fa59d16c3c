"""Steps that Prefect shows as running in executions that are over → Crashed, with a sentence.

How they ended is lost: a server that was killed had not written it, and the process that told it is
gone; or the process was killed, and nobody has resumed the execution, but cancelled it.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, State, TaskRun
from prefect.client.schemas.sorting import TaskRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Crashed
from prefect.types._datetime import DateTime

from compozy_prefect.flows.claim import OPEN, PAGE, TAG

_log = logging.getLogger(__name__)

MEND_EVERY = 60.0  # seconds
LATE = timedelta(seconds=120)  # how late a process may still tell how its steps ended
LOST = "how it ended was lost: the Prefect server was killed, or the process that ran it"


async def mend(client: PrefectClient, *, late: timedelta = LATE) -> int:
    """Closes the task runs of our executions that ended longer ago than `late`; how many."""
    over = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(TERMINAL_STATES))),
        end_time=FlowRunFilterEndTime(before_=cast(DateTime, datetime.now(UTC) - late)),
    )
    left = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=OPEN)))
    ours: dict[UUID, bool] = {}
    found: list[TaskRun] = []
    while True:
        page = await client.read_task_runs(
            flow_run_filter=over,
            task_run_filter=left,
            sort=TaskRunSort.EXPECTED_START_TIME_ASC,
            limit=PAGE,
            offset=len(found),
        )
        found += page
        if len(page) < PAGE:
            break
    closed = 0
    for run in found:
        if run.flow_run_id is not None and await _is_ours(client, run.flow_run_id, ours):
            crashed: State[None] = Crashed(message=LOST)
            await client.set_task_run_state(run.id, crashed, force=True)
            closed += 1
    return closed


async def mend_for_ever(api: str) -> None:
    """Does so every minute at the server with this URL, whatever becomes of one time."""
    while True:
        await asyncio.sleep(MEND_EVERY)
        try:
            async with PrefectClient(api) as client:
                await mend(client)
        except (httpx.HTTPError, PrefectHTTPStatusError, ObjectNotFound) as fault:
            _log.warning("nothing was mended: %s", fault)


async def _is_ours(client: PrefectClient, id: UUID, known: dict[UUID, bool]) -> bool:
    """Whether a flow run is an execution, or a branch in one, which has no tag of its own."""
    if id not in known:
        run = await client.read_flow_run(id)
        known[id] = TAG in run.tags
        if not known[id] and run.parent_task_run_id is not None:
            around = (await client.read_task_run(run.parent_task_run_id)).flow_run_id
            known[id] = around is not None and await _is_ours(client, around, known)
    return known[id]
