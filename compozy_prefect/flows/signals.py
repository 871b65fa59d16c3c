"""Signals: from a task to the workflows that listen, and from outside to a run that waits.

The first is an event, which starts runs (language.md §3.9); the second feeds a `wait` task of one
run (§3.8).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import UUID, uuid5

from prefect.client.orchestration import PrefectClient
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.input.run_input import keyset_from_base_key
from prefect.logging import get_run_logger

from compozy_prefect import faults
from compozy_prefect.compiler.plan import Json, Plan, TriggerPlan, WorkflowPlan
from compozy_prefect.compiler.starts import STARTS, quoted, signal_event
from compozy_prefect.errors import InputInvalid, RunError, UsageError
from compozy_prefect.flows import rows
from compozy_prefect.flows.journal import Journal
from compozy_prefect.flows.wait import base_key
from compozy_prefect.flows.worker import is_suspended, waits, wake
from compozy_prefect.runtime import schemas
from compozy_prefect.runtime.inputs import check_input
from compozy_prefect.runtime.scope import Scope

# Begins a run of a workflow, once for each key: the last argument.
Start = Callable[[str, dict[str, Json], str], Awaitable[None]]

_MOST = 100_000  # signals of one name in one run


@dataclass(frozen=True)
class Sender:
    """What `signal` tasks send: a run of the workflow that listens, and an event that tells of it.

    With `start` that run is begun in this process. Without, as under a worker, the event has the
    label by which it starts the deployment of that workflow (`compiler.starts`); never both.
    """

    plan: Plan
    run_id: UUID
    start: Start | None
    journal: Journal

    async def __call__(
        self, scope: Scope, where: str, name: str, payload: Mapping[str, Json]
    ) -> None:
        """Sends it once: a resumed run that does so again starts no other run.

        What was started in a process that died is carried on in the one that resumes the sender.
        """
        sent = self.journal.get(where) is not None
        await scope.permit()
        log, given, labels = get_run_logger(), dict(payload), dict[str, str]()
        listener = self._listener(name)
        if listener is None:
            log.warning("No workflow of the project listens to the signal '%s'", name)
        elif refused := _refused(*listener, given):
            log.warning("Signal '%s' does not start '%s': %s", name, listener[0].id, refused)
        elif self.start is not None:
            await self.start(listener[0].id, given, f"{self.run_id}/{where}")
        else:
            labels = {STARTS: quoted(self.plan.project.name)}
        if sent:
            return
        event, sender = signal_event(name), str(self.run_id)
        emit_event(
            event=event,
            resource={"prefect.resource.id": event, "compozy.execution": sender, **labels},
            payload={"name": name, "payload": given, "sender": sender},
            id=uuid5(self.run_id, where),  # the server drops what it has got before
        )
        await faults.point("signal.sent", where)
        await self.journal.keep(where, name)

    def _listener(self, name: str) -> tuple[WorkflowPlan, TriggerPlan] | None:
        """The workflow that listens to a signal: a project has one at most (§2.7)."""
        for workflow in self.plan.workflows.values():
            for trigger in workflow.triggers:
                if trigger.webhook is None and trigger.name == name:
                    return workflow, trigger
        return None


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
        if not await rows.add(client, execution, keys["response"], text):
            continue
        if is_suspended(flow_run.state) and keys["response"] in waits(flow_run):
            await wake(client, flow_run.id)
        return number
    raise RunError(f"the execution has too many signals `{name}`")
