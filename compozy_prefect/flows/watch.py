"""What the server says of the runs of this process, asked for all of them at once.

Nothing else tells an in-process run that somebody cancelled or paused it (prefect-facts.md §9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectHTTPStatusError

from compozy_prefect.flows import engine
from compozy_prefect.flows.wait import is_held
from compozy_prefect.flows.worker import WorkerProcess

WATCH_EVERY = 1.0  # seconds between two looks, and before the first: a short run is over by then
_PAGE = 200  # flow runs of one answer of the server, the most that it gives

Look = Callable[[FlowRun], Awaitable[None]]


class _Watch:
    """The runs that one client looks after."""

    def __init__(self, client: PrefectClient) -> None:
        self._ask = client.read_flow_runs
        self.looks: dict[UUID, list[Look]] = {}
        self._watching = asyncio.ensure_future(self._watch())

    def close(self) -> None:
        self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY)
            with suppress(httpx.HTTPError, PrefectHTTPStatusError):
                await self._look()

    async def _look(self) -> None:
        ids = list(self.looks)
        for start in range(0, len(ids), _PAGE):
            wanted = FlowRunFilterId(any_=ids[start : start + _PAGE])
            for flow_run in await self._ask(flow_run_filter=FlowRunFilter(id=wanted)):
                for look in list(self.looks.get(flow_run.id, ())):  # it may be over by now
                    await look(flow_run)


_WATCHES: dict[PrefectClient, _Watch] = {}


@contextmanager
def looked_after(client: PrefectClient, id: UUID, look: Look) -> Iterator[None]:
    """Calls `look` every now and then with the flow run as the server has it."""
    watch = _WATCHES.get(client)
    if watch is None:
        watch = _WATCHES[client] = _Watch(client)
    watch.looks.setdefault(id, []).append(look)
    try:
        yield
    finally:
        watch.looks[id].remove(look)
        if not watch.looks[id]:
            del watch.looks[id]
        if not watch.looks:
            del _WATCHES[client]
            watch.close()


async def look_at(
    cancellation: engine.Cancellation,
    gate: asyncio.Event,
    worker: WorkerProcess | None,
    flow_run: FlowRun,
) -> None:
    """Does what somebody asked the server for: to cancel the run, to hold it, or to go on."""
    state = flow_run.state
    if cancellation.reason is not None:
        return
    if state and state.type in (StateType.CANCELLING, StateType.CANCELLED):
        cancellation.request("cancelled on request")
    elif is_held(state) or (worker and not await worker.look(flow_run)):
        gate.clear()
    else:
        gate.set()
