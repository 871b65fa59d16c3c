"""The Prefect clients of an event loop, which all runs in it share.

A client for each run is a TLS context, a token and connections of its own, and some of them at
once keep more connections of the server's database busy than it has. What the server says the same
to every run is asked once, too. Parts of Prefect that are no documented API, as in `flows.engine`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from prefect.client.orchestration import PrefectClient
from prefect.context import AsyncClientContext, SyncClientContext
from prefect.filesystems import WritableFileSystem
from prefect.results import aget_default_result_storage
from prefect.settings import get_current_settings

_C = TypeVar("_C", AsyncClientContext, SyncClientContext)


@dataclass
class _Shared:
    """The clients for one server, open while somebody uses them."""

    users: int = 0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    opened: AsyncExitStack = field(default_factory=AsyncExitStack)
    context: AsyncClientContext | None = None
    sync: SyncClientContext | None = None
    storage: WritableFileSystem | None = None
    flows: dict[str, UUID] = field(default_factory=dict)

    async def open(self) -> AsyncClientContext:
        async with self.asking:
            if self.context is None:
                context = AsyncClientContext()
                client = await self.opened.enter_async_context(context.client)
                if get_current_settings().client.server_version_check_enabled:
                    await client.raise_for_api_version_mismatch_once()
                self.context = context
                _OURS[client] = self
                self.opened.callback(_OURS.pop, client)
        return self.context


_SHARED: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Shared]] = WeakKeyDictionary()
_OURS: dict[PrefectClient, _Shared] = {}


@asynccontextmanager
async def shared_client(server: str) -> AsyncIterator[PrefectClient]:
    """The client for the API at that URL, which Prefect's engine finds in here, too.

    Inside of a flow, or where somebody has opened one, it is that. Raises RuntimeError, with
    Prefect's own sentence, when the server cannot be used.
    """
    loop, around = asyncio.get_running_loop(), AsyncClientContext.get()
    if around is not None and around.client.loop is loop:
        yield around.client
        return
    of_loop = _SHARED.setdefault(loop, {})
    shared = of_loop.setdefault(server, _Shared())
    shared.users += 1
    try:
        context = await shared.open()
        with ExitStack() as found:
            _find(context, found)
            yield context.client
    finally:
        shared.users -= 1
        if not shared.users:
            del of_loop[server]
            await shared.opened.aclose()


async def place_of_results(client: PrefectClient, found: ExitStack) -> WritableFileSystem | None:
    """Where results go, as the settings or the server have it; None leaves it to Prefect.

    Prefect would ask that for every run, and hold up the event loop meanwhile. Until `found` ends,
    it finds the other client that it makes where it is told.
    """
    shared = _OURS.get(client)
    if shared is None:
        return None
    async with shared.asking:
        if shared.storage is None:
            shared.storage = await aget_default_result_storage()
        if shared.sync is None:
            shared.sync = SyncClientContext()
            shared.opened.enter_context(shared.sync.client)
    _find(shared.sync, found)
    return shared.storage


async def flow_id(client: PrefectClient, name: str, *, anew: bool = False) -> tuple[UUID, bool]:
    """The id of the flow with that name, made when there is none, and whether it is from memory.

    `anew` is for one that is not there any more.
    """
    shared = _OURS.get(client) or _Shared()
    async with shared.asking:
        if not anew and name in shared.flows:
            return shared.flows[name], True
        id = shared.flows[name] = await client.create_flow_from_name(name)
        return id, False


def _find(context: _C, found: ExitStack) -> None:
    """Prefect finds the client, in this task, until `found` ends.

    Entering the context itself is for one task alone: it is left where it was entered.
    """
    variable: ContextVar[Any] = type(context).__var__
    found.callback(variable.reset, variable.set(context))
