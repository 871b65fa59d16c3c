"""Signals: from a task to the workflows that listen, and from outside to a run that waits.

The first is an event, which starts runs (language.md §3.9); the second feeds a `wait` task of one
run (§3.8).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.input.run_input import keyset_from_base_key
from prefect.logging import get_run_logger

from compozy_prefect.compiler.plan import Json, Plan, StepPlan, TriggerPlan, WorkflowPlan
from compozy_prefect.compiler.starts import STARTS, quoted, signal_event
from compozy_prefect.errors import InputInvalid, RunError, UsageError
from compozy_prefect.flows.wait import base_key
from compozy_prefect.runtime import schemas
from compozy_prefect.runtime.attempt import Scope
from compozy_prefect.runtime.inputs import check_input

Start = Callable[[str, dict[str, Json]], None]

_MOST = 100_000  # signals of one name in one run


@dataclass(frozen=True)
class Sender:
    """What `signal` tasks send: an event, and a run of each workflow that listens."""

    plan: Plan
    run_id: UUID
    start: Start | None

    async def __call__(
        self, scope: Scope, step: StepPlan, name: str, payload: Mapping[str, Json]
    ) -> None:
        log, given = get_run_logger(), dict(payload)
        listeners = self._listeners(name)
        for listener, trigger in listeners:
            if refused := _refused(listener, trigger, given):
                log.warning("Signal '%s' does not start '%s': %s", name, listener.id, refused)
            elif self.start is not None:
                self.start(listener.id, given)
            else:
                self._tell(name, given, {STARTS: quoted(self.plan.project.name)})
                return
        if not listeners:
            log.warning("No workflow of the project listens to the signal '%s'", name)
        self._tell(name, given, {})

    def _listeners(self, name: str) -> list[tuple[WorkflowPlan, TriggerPlan]]:
        """The workflow that listens to a signal: a project has one at most (§2.7)."""
        return [
            (workflow, trigger)
            for workflow in self.plan.workflows.values()
            for trigger in workflow.triggers
            if trigger.webhook is None and trigger.name == name
        ]

    def _tell(self, name: str, payload: dict[str, Json], labels: dict[str, str]) -> None:
        """The event of a signal. `labels` say whether it starts a deployment (`compiler.starts`)."""
        event, sender = signal_event(name), str(self.run_id)
        emit_event(
            event=event,
            resource={"prefect.resource.id": event, "compozy.execution": sender, **labels},
            payload={"name": name, "payload": payload, "sender": sender},
        )


def _refused(workflow: WorkflowPlan, trigger: TriggerPlan, payload: dict[str, Json]) -> str:
    """Why a payload starts no run of a workflow that listens; empty when it does."""
    if broken := schemas.violations(payload, trigger.schema):
        return "; ".join(broken)
    try:
        check_input(workflow, payload)
    except InputInvalid as fault:
        return fault.message
    return ""


async def deliver(client: PrefectClient, execution: UUID, name: str, payload: Json) -> int:
    """Gives a signal to a run that waits for it, or will; the number of the signal.

    Raises UsageError when there is no such run, or it is over.
    """
    try:
        flow_run = await client.read_flow_run(execution)
    except ObjectNotFound:
        raise UsageError(f"there is no execution {execution}") from None
    if flow_run.state is not None and flow_run.state.is_final():
        raise UsageError(f"the execution is over: {flow_run.state.name}")
    text = json.dumps(payload)
    for number in range(1, _MOST):
        keys = keyset_from_base_key(base_key(name, number))
        try:
            await client.create_flow_run_input(execution, keys["response"], text)
        except PrefectHTTPStatusError as fault:
            if fault.response.status_code != 409:
                raise
            continue
        return number
    raise RunError(f"the execution has too many signals `{name}`")
