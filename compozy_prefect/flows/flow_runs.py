"""A workflow and its input → a flow run on the server, run to its end in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import TerminationSignal
from prefect.states import Pending

from compozy_prefect.compiler import types
from compozy_prefect.compiler.plan import Json, Plan, WorkflowPlan
from compozy_prefect.errors import RunError, UsageError
from compozy_prefect.flows.build import build_flow, run_name
from compozy_prefect.flows.claim import TAG
from compozy_prefect.flows.engine import create_flow_run, run_to_end
from compozy_prefect.runtime.outcome import CANCELED, CANCELED_CODE, FAILED, Failure, Outcome

_LARGEST_INPUT = 512 * 1024  # bytes, `server.api.max_parameter_size`


def check_size(given: Mapping[str, Json]) -> None:
    """Raises UsageError for an input that the server would refuse."""
    if len(json.dumps(given).encode()) > _LARGEST_INPUT:
        raise UsageError(
            f"the input is larger than {_LARGEST_INPUT // 1024} KiB, the most that Prefect stores "
            "with a run; give large data by reference, as a path or a URL"
        )


async def create(
    client: PrefectClient,
    plan: Plan,
    workflow: WorkflowPlan,
    given: Mapping[str, Json],
    checked: Mapping[str, Json],
    key: str,
    parent: UUID | None = None,
    tag: str = TAG,
) -> tuple[Flow[..., Any], FlowRun, bool]:
    """The flow, a flow run of it on the server, and whether it is a new one.

    Created here, with its name and its whole input, the run needs no renaming, and keeps the keys
    that the schema allows without listing them. Of all runs with the same `key` there is one.
    `parent` is the task run that stands for it in the flow run around it.
    """
    flow = build_flow(plan, workflow.id)
    flow.flow_run_name = None
    stored = dict(given)
    if types.single(workflow.input_schema):
        stored = {types.parameters(workflow.input_schema)[0].name: stored}
    name = run_name(workflow.id, checked)
    flow_run, new = await create_flow_run(
        client, flow, name=name, parameters=stored, tags=[tag], key=key, parent=parent
    )
    return flow, flow_run, new


async def finish(flow: Flow[..., Any], flow_run: FlowRun) -> State[Any]:
    """Runs the flow run to its final state."""
    names = flow.parameters.properties
    # Keys that the schema allows without listing them are no parameters of the flow.
    parameters = {name: value for name, value in flow_run.parameters.items() if name in names}
    try:
        return await run_to_end(flow, flow_run, parameters)
    except TerminationSignal:
        return flow_run.state or Pending()


def outcome_of(state: State[Any], checked: Json) -> Outcome:
    """The outcome of a run whose body did not get to say it."""
    message = state.message or f"the run ended in state {state.name}"
    if state.is_cancelled() or state.is_cancelling():
        return Outcome(CANCELED, checked, None, Failure(message, CANCELED_CODE))
    return Outcome(FAILED, checked, None, Failure(message, RunError.code))
