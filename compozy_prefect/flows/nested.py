"""A workflow that a step calls → a flow run of its own in the one around it (language.md §6.5).

It has its own parameters, journal, artifacts and result. A call that is made again, by another
attempt or a resumed run, goes on in the flow run that it had, where what was done is not done
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import PrefectClient

from compozy_prefect import faults
from compozy_prefect.compiler.plan import Json, Plan
from compozy_prefect.errors import UsageError
from compozy_prefect.flows import flow_runs, lease
from compozy_prefect.flows.build import workflow_of
from compozy_prefect.flows.claim import PART_TAG, claim
from compozy_prefect.flows.engine import Cancellation, tracking_task_run
from compozy_prefect.flows.session import SESSION, Session
from compozy_prefect.runtime.builtins import invalid
from compozy_prefect.runtime.inputs import check_input
from compozy_prefect.runtime.scope import Ran


@dataclass(frozen=True)
class Nested:
    """The calls of one flow run. `session` is its own, and `gate` is closed while it is held."""

    plan: Plan
    client: PrefectClient
    flow_run: UUID
    session: Session
    gate: asyncio.Event

    async def __call__(
        self, workflow_id: str, input: Mapping[str, Json], *, key: str, depth: int, first: str = ""
    ) -> Ran:
        try:
            workflow = workflow_of(self.plan, workflow_id)
            if first and first not in workflow.by_id:
                known = ", ".join(f"`{id}`" for id in workflow.by_id)
                raise UsageError(f"workflow `{workflow_id}` has no task `{first}`; it has: {known}")
            flow_runs.check_size(input)
        except UsageError as fault:
            raise invalid(str(fault)) from None
        checked = check_input(workflow, input)
        session = Session(
            self.session.services,
            cancellation=Cancellation(self.session.cancellation),
            start=self.session.start,
            pace=self.session.pace,
            first=first,
            depth=depth,
            gates=(*self.session.gates, self.gate),
            budgets=self.session.budgets,
            taken=self.session.taken,
            permit=self.session.permit,
        )
        parent = await tracking_task_run(self.client, self.flow_run, workflow_id, key)
        flow, flow_run, new = await flow_runs.create(
            self.client, self.plan, workflow, input, checked, key, parent, PART_TAG
        )
        await faults.point("call.created", key)
        if not new:
            flow_run = await claim(self.client, flow_run.id)
            session.term = await lease.begin(self.client, flow_run.id)
        token = SESSION.set(session)
        try:
            state = await flow_runs.finish(flow, flow_run)
        finally:
            SESSION.reset(token)
        if session.cancellation.is_from_outside:
            raise asyncio.CancelledError(session.cancellation.reason)
        return Ran(str(flow_run.id), session.outcome or flow_runs.outcome_of(state, checked))
