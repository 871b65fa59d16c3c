"""What Prefect knows of executions → lists and stories of them, as data.

Nothing is kept for this: states, times and messages are Prefect's, the places in the files those
of the plan that the run began with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort

from compozy_prefect.compiler.plan import Json, Plan, StepPlan, WorkflowPlan, pointer
from compozy_prefect.errors import UsageError
from compozy_prefect.flows.claim import PAGE, TAG, subflows
from compozy_prefect.flows.connection import reached, ui_url
from compozy_prefect.flows.control import alive
from compozy_prefect.flows.executions import Executions
from compozy_prefect.flows.resume import input_of, known
from compozy_prefect.flows.wait import awaited
from compozy_prefect.runtime.outcome import rfc3339
from compozy_prefect.runtime.templates import nearest_place

_STATUS = {
    StateType.COMPLETED: "SUCCESS",
    StateType.FAILED: "FAILED",
    StateType.CRASHED: "FAILED",
    StateType.CANCELLED: "CANCELED",
    StateType.PAUSED: "PAUSED",
    StateType.RUNNING: "RUNNING",
    StateType.CANCELLING: "RUNNING",
    StateType.PENDING: "PENDING",
    StateType.SCHEDULED: "PENDING",
}
# What Prefect puts before the message of an exception.
_PREFIX = re.compile(r"^(Task|Flow) run encountered an exception:? ?(\w+(Error|Invalid|Failed): )?")
_PLACE = re.compile(r" \((?P<file>[^()]+):(?P<line>\d+):(?P<column>\d+)\)$")


_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of `compozy runs`. `alive`: whether its process lives, None if nobody can tell."""

    execution_id: str
    workflow_id: str
    status: str
    started: str | None
    duration_seconds: float
    name: str
    alive: bool | None

    def to_json(self) -> dict[str, Json]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Told:
    """A step in a story. `attempts` counts those that began; `error` has a message and a place."""

    id: str
    type: str
    status: str
    duration_seconds: float
    attempts: int
    error: dict[str, Json] | None

    def to_json(self) -> dict[str, Json]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Story:
    """One execution, so far. `pid` is the process that carries it, `waits_for` a signal's name."""

    run: Listed
    input: Json
    output: Json
    error: dict[str, Json] | None
    steps: list[Told]
    waits_for: str | None
    resumable: bool
    pid: int | None
    ui_url: str

    def to_json(self) -> dict[str, Json]:
        return {
            **self.run.to_json(),
            "input": self.input,
            "output": self.output,
            "error": self.error,
            "tasks": [step.to_json() for step in self.steps],
            "waits_for": self.waits_for,
            "resumable": self.resumable,
            "pid": self.pid,
            "ui_url": self.ui_url,
        }


async def runs(limit: int) -> list[Listed]:
    """The latest executions that were started with `compozy run`, the newest first."""
    ours = FlowRunFilter(tags=FlowRunFilterTags(all_=[TAG]))
    found: list[FlowRun] = []
    async with reached() as client:
        while len(found) < limit:
            page = await client.read_flow_runs(
                flow_run_filter=ours,
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=min(limit - len(found), PAGE),
                offset=len(found),
            )
            found += page
            if not page:
                break
        names = await _flow_names(client, found)
    return [_listed(one, names.get(one.flow_id, "")) for one in found]


async def story(id: str) -> Story:
    """All that is known of an execution. Raises UsageError when there is none."""
    executions = Executions.here()
    record = executions.find(id)
    plan = _plan(executions, id)
    workflow = plan.workflows.get(record.workflow) if plan and record else None
    async with reached() as client:
        flow_run = await known(client, id)
        names = await _flow_names(client, [flow_run])
        rows = await _rows(client, flow_run)
        output = await _output(flow_run.state)
    listed = _listed(flow_run, names.get(flow_run.flow_id, ""))
    over = listed.status in ("SUCCESS", "FAILED", "TIMED_OUT", "CANCELED")
    return Story(
        run=listed,
        input=input_of(workflow, flow_run) if workflow else dict(flow_run.parameters),
        output=output,
        error=_error(flow_run.state, None, plan) if listed.status != "SUCCESS" and over else None,
        steps=[_told(row, workflow, plan) for row in rows],
        waits_for=awaited(flow_run.state),
        resumable=plan is not None and listed.alive is False and listed.status != "SUCCESS",
        pid=executions.holder(id),
        ui_url=ui_url(flow_run),
    )


def _listed(flow_run: FlowRun, flow_name: str) -> Listed:
    id = str(flow_run.id)
    record = Executions.here().find(id)
    start = flow_run.start_time
    return Listed(
        id,
        record.workflow if record else flow_name,
        _status(flow_run.state),
        rfc3339(start) if isinstance(start, datetime) else None,
        round(flow_run.estimated_run_time.total_seconds(), 3),
        flow_run.name or "",
        alive(id),
    )


def _status(state: State[Any] | None) -> str:
    if state is None:
        return "PENDING"
    if state.name == "TimedOut":
        return "TIMED_OUT"
    if state.type == StateType.PAUSED and (awaited(state) or state.name == "Waiting"):
        return "WAITING"
    return _STATUS[state.type]


async def _flow_names(client: PrefectClient, found: list[FlowRun]) -> dict[Any, str]:
    ids = list({one.flow_id for one in found})
    out: dict[Any, str] = {}
    for at in range(0, len(ids), PAGE):
        wanted = FlowFilter(id=FlowFilterId(any_=ids[at : at + PAGE]))
        out |= {flow.id: flow.name for flow in await client.read_flows(flow_filter=wanted)}
    return out


async def _rows(client: PrefectClient, flow_run: FlowRun) -> list[TaskRun]:
    """The task runs that are steps, of the run and of its branches, in the order of their start."""
    ids = [flow_run.id, *(one.id for one in await subflows(client, flow_run.id))]
    found: list[TaskRun] = []
    more = True
    while more:
        page = await client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)),
            sort=TaskRunSort.EXPECTED_START_TIME_ASC,
            limit=PAGE,
            offset=len(found),
        )
        found += page
        more = len(page) == PAGE
    # Keys with a slash are ours, `workflow/step`: the batches of fan-outs have others.
    ours = [one for one in found if "/" in one.task_key]
    return sorted(ours, key=lambda one: one.start_time or one.expected_start_time or _NEVER)


def _told(row: TaskRun, workflow: WorkflowPlan | None, plan: Plan | None) -> Told:
    step = None
    if workflow is not None:
        step = workflow.all_steps.get(row.task_key.removeprefix(f"{workflow.id}/"))
    at = ""
    if workflow is not None and step is not None:
        at = pointer("workflows", workflow.id, *workflow.pointers[step.path])
    status = _status(row.state)
    failed = status in ("FAILED", "TIMED_OUT")
    return Told(
        row.name,
        step.type if isinstance(step, StepPlan) else "",
        status,
        round(row.estimated_run_time.total_seconds(), 3),
        row.run_count,
        _error(row.state, at, plan) if failed else None,
    )


def _error(state: State[Any] | None, at: str | None, plan: Plan | None) -> dict[str, Json]:
    """The message of a state, and where in the files that is which failed."""
    message = state.message if state is not None and state.message else "it failed"
    message = _PREFIX.sub("", message)
    told = _PLACE.search(message)
    if told is not None:
        place = (told["file"], int(told["line"]), int(told["column"]))
        message = message[: told.start()]
    else:  # it crashed, or the server closed it
        nearest = nearest_place(at, plan.spans) if plan is not None and at else None
        if nearest is None:
            return {"message": message}
        place = nearest[:3]
    return {"message": message, "file": place[0], "line": place[1], "column": place[2]}


async def _output(state: State[Any] | None) -> Json:
    """The result of a run that succeeded, as far as its storage can be read from here."""
    if state is None or not state.is_completed() or state.data is None:
        return None
    try:
        return await state.aresult(raise_on_failure=False)
    except Exception:  # whatever a storage raises
        return None


def _plan(executions: Executions, id: str) -> Plan | None:
    record = executions.find(id)
    try:
        return executions.plan_of(record) if record is not None else None
    except UsageError:
        return None
