"""An execution whose process has ended → the same flow run, run on from where it stood.

The plan is the one that the run began with, and steps whose results are kept do not run again.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from compozy_prefect import faults
from compozy_prefect.compiler import types
from compozy_prefect.compiler.plan import Json, Plan, WorkflowPlan
from compozy_prefect.errors import InputInvalid, UsageError
from compozy_prefect.flows import lease
from compozy_prefect.flows.build import build_flow
from compozy_prefect.flows.claim import claim
from compozy_prefect.flows.connection import reached
from compozy_prefect.flows.engine import Cancellation
from compozy_prefect.flows.executions import Executions, Record
from compozy_prefect.flows.interrupt import interruptible
from compozy_prefect.flows.observer import Observer
from compozy_prefect.flows.run import Opened, RunResult, carry
from compozy_prefect.flows.session import Session
from compozy_prefect.runtime.inputs import check_input
from compozy_prefect.runtime.services import Services


async def resume(
    record: Record,
    plan: Plan,
    *,
    services: Services,
    observer: Observer | None = None,
    cancellation: Cancellation | None = None,
) -> RunResult:
    """Runs the execution on to its end; the result is that of the whole run.

    Raises UsageError when a process has the run, when it has succeeded, and when the server does
    not know it, and ServerUnavailable as `run` does.
    """
    workflow = plan.workflows[record.workflow]
    executions = Executions.here()
    session = Session(services, observer, cancellation or Cancellation())

    async def open(client: PrefectClient, held: ExitStack) -> Opened:
        held.enter_context(executions.lease(record.id))
        flow_run = await known(client, record.id)
        if flow_run.state is not None and flow_run.state.is_completed() and record.done:
            raise UsageError(f"execution {record.id} is over: it succeeded")
        mocks = services.mocks.data if services.mocks else None
        executions.carried_on(replace(record, offline=services.offline, mocks=mocks))
        flow_run = await claim(client, flow_run.id)
        session.claimed = datetime.now(UTC)
        session.term = await lease.begin(client, flow_run.id)
        await faults.point("run.claimed")
        flow = build_flow(plan, workflow.id)
        flow.flow_run_name = None
        return Opened(flow, flow_run, input_of(workflow, flow_run))

    return await carry(plan, workflow.id, open, session, record.origin)


def resume_sync(
    record: Record, plan: Plan, *, services: Services, observer: Observer | None = None
) -> RunResult:
    """`resume` for a process that has no event loop; signals as with `run_sync`."""
    return interruptible(
        lambda cancellation: resume(
            record, plan, services=services, observer=observer, cancellation=cancellation
        )
    )


async def adopted(id: str) -> Record | None:
    """The record of a run whose process died before it had written it; None without one."""
    async with reached() as client:
        flow_run = await known(client, id)
    return Executions.here().adopt(flow_run.idempotency_key or "", id)


async def is_over(id: str) -> bool:
    async with reached() as client:
        state = (await known(client, id)).state
    return state is not None and state.is_final()


async def known(client: PrefectClient, id: str) -> FlowRun:
    """The flow run of an execution. Raises UsageError when the server has none."""
    try:
        return await client.read_flow_run(UUID(id))
    except ObjectNotFound:
        raise UsageError(
            f"the Prefect server at {str(client.api_url).rstrip('/')} knows no execution {id}"
        ) from None


def input_of(workflow: WorkflowPlan, flow_run: FlowRun) -> Json:
    """The input of the workflow, with its defaults, from the parameters of its flow run."""
    given: dict[str, Any] = dict(flow_run.parameters)
    if types.single(workflow.input_schema):
        given = given.get(types.parameters(workflow.input_schema)[0].name) or {}
    with suppress(InputInvalid):
        return check_input(workflow, given)
    return given
