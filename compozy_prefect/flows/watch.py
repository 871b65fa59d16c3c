"""A flow run on the server → whether its steps may begin, and whether it is to end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectHTTPStatusError

from compozy_prefect.flows.engine import Cancellation
from compozy_prefect.flows.wait import is_held
from compozy_prefect.flows.worker import WorkerProcess

WATCH_AFTER, WATCH_EVERY = 1.0, 1.0  # seconds between looks at whether the run was cancelled


@contextmanager
def watching(
    client: PrefectClient,
    flow_run_id: UUID,
    cancellation: Cancellation,
    gate: asyncio.Event,
    worker: WorkerProcess | None,
) -> Iterator[None]:
    """Looks now and then whether somebody asked the server to cancel the run, or to hold it.

    Nothing else tells an in-process run (prefect-facts.md §9). A short run ends before the first
    look.
    """

    async def watch() -> None:
        await asyncio.sleep(WATCH_AFTER)
        while cancellation.reason is None:
            with suppress(httpx.HTTPError, PrefectHTTPStatusError):
                flow_run = await client.read_flow_run(flow_run_id)
                state = flow_run.state
                if state and state.type in (StateType.CANCELLING, StateType.CANCELLED):
                    cancellation.request("cancelled on request")
                elif is_held(state) or (worker and not await worker.look(flow_run)):
                    gate.clear()
                else:
                    gate.set()
            await asyncio.sleep(WATCH_EVERY)

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watcher.cancel()
