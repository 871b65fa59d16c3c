"""What a router chose → a flow run of its own in the one it stands in (design.md, decision 5)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.context import FlowRunContext
from prefect.exceptions import CancelledRun
from prefect.states import Cancelled, Completed, Failed

from compozy_prefect.flows.attempts import Leaf
from compozy_prefect.flows.engine import RESULTS, Cancellation
from compozy_prefect.flows.walk import Ended

_REFUSED = re.compile(r"[/%&><{}]")  # in the names of flows


@dataclass(frozen=True)
class Branches:
    """Starts the branches of one execution. `leaf` gives what runs the steps of a flow run."""

    workflow: str
    leaf: Callable[[UUID], Leaf]
    cancellation: Cancellation

    async def __call__(
        self, name: str, where: str, body: Callable[[Leaf], Awaitable[Ended]]
    ) -> Ended:
        """Runs `body` in a flow run called `name`; cancelling the one around it cancels it."""
        ended: list[Ended] = []

        async def branch() -> Any:
            context = FlowRunContext.get()
            assert context is not None
            assert context.flow_run is not None
            try:
                ended.append(await body(self.leaf(context.flow_run.id)))
            except asyncio.CancelledError:
                if self.cancellation.reason is None:
                    raise
                return Cancelled(message=self.cancellation.reason)
            state = ended[0].state
            if state.ok:
                return Completed()
            return Failed(message=state.error.message if state.error else "it failed")

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
            await flow(return_state=True)
        if not ended:
            raise asyncio.CancelledError(self.cancellation.reason or "cancelled")
        return ended[0]
