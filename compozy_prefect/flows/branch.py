"""What a router chose → a flow run of its own in the one it stands in (design.md, decision 5)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from prefect import Flow
from prefect.client.orchestration import PrefectClient
from prefect.context import FlowRunContext
from prefect.exceptions import CancelledRun
from prefect.flow_engine import run_flow_async
from prefect.states import Cancelled, Completed, Failed

from compozy_prefect import faults
from compozy_prefect.flows.claim import claim
from compozy_prefect.flows.engine import RESULTS, Cancellation
from compozy_prefect.flows.journal import Journal
from compozy_prefect.flows.steps import StepRunner
from compozy_prefect.flows.walk import Ended
from compozy_prefect.runtime.outcome import Failure

_REFUSED = re.compile(r"[/%&><{}]")  # in the names of flows


@dataclass(frozen=True)
class Branches:
    """Starts the branches of one execution. `runner` gives what runs the steps of a flow run."""

    workflow: str
    runner: Callable[[UUID], StepRunner]
    cancellation: Cancellation
    client: PrefectClient
    journal: Journal

    async def __call__(
        self, name: str, where: str, body: Callable[[StepRunner], Awaitable[Ended]]
    ) -> Ended:
        """Runs `body` in a flow run called `name`; cancelling the one around it cancels it.

        A resumed run goes through a branch again in the flow run that it had, however that
        ended: what the steps gave is read, and what follows needs it.
        """
        ended: list[Ended] = []
        failed: list[Exception] = []
        known = f"{where}@branch"
        before = self.journal.get(known)

        async def branch() -> Any:
            context = FlowRunContext.get()
            assert context is not None
            assert context.flow_run is not None
            try:
                await faults.point("branch.begun", where)
                if before is None:
                    await self.journal.keep(known, str(context.flow_run.id))
                ended.append(await body(self.runner(context.flow_run.id)))
            except Exception as fault:
                failed.append(fault)
                return Failed(message=Failure.of(fault).placed_message)
            except asyncio.CancelledError:
                if self.cancellation.reason is None:
                    raise
                return Cancelled(message=self.cancellation.reason)
            state = ended[0].state
            if state.ok:
                return Completed()
            return Failed(message=state.error.placed_message if state.error else "it failed")

        # Prefect finds a flow run that was begun and not yet noted by the name of the function and
        # the number of the call; the name has the place, so that the order of calls is no matter.
        branch.__qualname__ = f"branch-{uuid5(NAMESPACE_OID, where)}"
        flow: Flow[[], Any] = Flow(
            branch,
            name=_REFUSED.sub("-", f"{self.workflow} {name}"),
            flow_run_name=lambda: name,
            validate_parameters=False,
            # Every step of it is kept by itself, so that a resumed run takes the same way again.
            persist_result=False,
            result_serializer=RESULTS,
        )
        with suppress(CancelledRun):
            if before is None:
                await flow(return_state=True)
            else:
                flow_run = await claim(self.client, UUID(before))
                await run_flow_async(flow, flow_run=flow_run, parameters={}, return_type="state")
        if failed:
            raise failed[0]
        if not ended:
            raise asyncio.CancelledError(self.cancellation.reason or "cancelled")
        return ended[0]
