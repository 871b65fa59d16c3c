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
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

WATCH_EVERY = 1.0  # seconds between two looks, and before the first: a short run is over by then
_PAGE = 200  # flow runs of one answer of the server, the most that it gives

Look = Callable[[FlowRun], Awaitable[None]]


class _Watch:
    """The runs that one client looks after."""

    def __init__(self, client: PrefectClient) -> None:
        self._ask = client.read_flow_runs
        self.looks: dict[UUID, Look] = {}
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
                look = self.looks.get(flow_run.id)
                if look is not None:  # it may be over by now
                    await look(flow_run)


_WATCHES: dict[PrefectClient, _Watch] = {}


@contextmanager
def looked_after(client: PrefectClient, id: UUID, look: Look) -> Iterator[None]:
    """Calls `look` every now and then with the flow run as the server has it."""
    watch = _WATCHES.get(client)
    if watch is None:
        watch = _WATCHES[client] = _Watch(client)
    watch.looks[id] = look
    try:
        yield
    finally:
        del watch.looks[id]
        if not watch.looks:
            del _WATCHES[client]
            watch.close()
