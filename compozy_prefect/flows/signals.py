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

from compozy_prefect.compiler.plan import Json, Plan, StepPlan
from compozy_prefect.errors import RunError, UsageError
from compozy_prefect.flows.wait import base_key
from compozy_prefect.runtime import schemas
from compozy_prefect.runtime.attempt import Scope

Start = Callable[[str, dict[str, Json]], None]

EVENT = "compozy.signal"
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
        log = get_run_logger()
        emit_event(
            event=f"{EVENT}.{name}",
            resource={
                "prefect.resource.id": f"{EVENT}.{name}",
                "compozy.execution": str(self.run_id),
            },
            payload={"name": name, "payload": dict(payload), "sender": str(self.run_id)},
        )
        heard = False
        for workflow in self.plan.workflows.values():
            for trigger in workflow.triggers:
                if trigger.webhook is not None or trigger.name != name:
                    continue
                heard = True
                broken = schemas.violations(dict(payload), trigger.schema)
                if broken:
                    log.warning(
                        "Signal '%s' does not start '%s': %s", name, workflow.id, "; ".join(broken)
                    )
                elif self.start is not None:
                    self.start(workflow.id, dict(payload))
        if not heard:
            log.warning("No workflow of the project listens to the signal '%s'", name)


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
