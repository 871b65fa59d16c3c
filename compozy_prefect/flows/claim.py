"""A flow run that another process has left → one that this process may run, once.

Of several that claim a run one wins (prefect-recipes.md §2), and what the other process left
Running gets an end.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort
from prefect.context import FlowRunContext
from prefect.states import Crashed, Pending, Scheduled

from compozy_prefect.errors import UsageError
from compozy_prefect.flows import engine

LEFT = "the process that ran it has ended"
TAG = "compozy"  # on every flow run of ours that is no part of another one …
TEST_TAG = "compozy-test"  # … but those of `compozy test`, which `compozy runs` leaves out
PART_TAG = "compozy-part"  # on the run of a workflow that another one calls
PAGE = 200  # rows of one answer of the server, the most that it gives
OPEN = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED, StateType.PAUSED]


async def claim(client: PrefectClient, id: UUID) -> FlowRun:
    """The flow run, Pending and ours. Raises UsageError when somebody else has claimed it."""
    # In the past, since the clock of the server may be behind ours.
    before = datetime.now(UTC) - timedelta(hours=1)
    scheduled: State[Any] = Scheduled(name="Resuming", scheduled_time=before)
    pending: State[Any] = Pending(name="Resuming")
    await client.set_flow_run_state(id, scheduled, force=True)
    answer = await client.set_flow_run_state(id, pending)
    if answer.status != SetStateStatus.ACCEPT:
        raise UsageError(f"execution {id} is being resumed by another process")
    return await client.read_flow_run(id)


async def subflows(client: PrefectClient, root: UUID) -> list[FlowRun]:
    """The flow runs in a flow run, also those further in, in the order in which they began."""
    found: list[FlowRun] = []
    around = [root]
    while around:
        parents = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=around))
        inner: list[FlowRun] = []
        more = True
        while more:
            page = await client.read_flow_runs(
                flow_run_filter=parents,
                sort=FlowRunSort.START_TIME_ASC,
                limit=PAGE,
                offset=len(inner),
            )
            inner += page
            more = len(page) == PAGE
        found += inner
        around = [one.id for one in inner]
    return found


async def settle(client: PrefectClient, flow_run: FlowRun, since: datetime) -> None:
    """Ends the rows that were open before `since`, when the run was claimed, and still are.

    Most steps ran again, under the same ids, and have newer states. An end is dated back to
    `since`: where the server has yet to hear of a newer state, that one counts. Call it in the
    flow run.
    """
    context = FlowRunContext.get()
    assert context is not None
    inner = await subflows(client, flow_run.id)
    for one in [flow_run, *inner]:
        tracked = {run.parent_task_run_id for run in inner}
        # The server takes the flow run of a task run from where its events come from.
        with context.model_copy(update={"flow_run": one}):
            await _settle_steps(client, one.id, since, tracked)
    for one in inner:
        state = one.state
        if state is not None and state.type in OPEN:
            await client.set_flow_run_state(one.id, Crashed(message=LEFT), force=True)


async def _settle_steps(
    client: PrefectClient, flow_run: UUID, since: datetime, tracked: set[UUID | None]
) -> None:
    offset = 0
    while True:
        page = await client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])),
            task_run_filter=TaskRunFilter(
                state=TaskRunFilterState(type=TaskRunFilterStateType(any_=OPEN))
            ),
            sort=TaskRunSort.EXPECTED_START_TIME_ASC,
            limit=PAGE,
            offset=offset,
        )
        for run in page:
            before = run.state.timestamp if run.state else None
            if run.id not in tracked and (before is None or before < since):
                engine.abandon(run, LEFT, since)
        if len(page) < PAGE:
            return
        offset += PAGE
