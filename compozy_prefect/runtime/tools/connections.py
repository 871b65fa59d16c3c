"""The connections of an event loop, each to an address that was looked at (service.md §12.1).

A name is looked up once for a connection, all its addresses are checked, and the connection goes to
one of them: a name that answers otherwise the next time leads nowhere else. Proxies of the
environment are not used, since what they connect to cannot be checked.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Iterable
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import httpcore
import httpx

from compozy_prefect.runtime.tools import hosts

_CONNECTIONS = 100
_IDLE = 20
_IDLE_SECONDS = 5.0
_PATIENCE = 2.0  # seconds for an address when there is another one


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to an address that was looked at; `is_open` takes any."""

    def __init__(self, is_open: bool) -> None:
        self._is_open = is_open
        self._under = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - of the interface; none is given here
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = await hosts.addresses(host, port)
        if not self._is_open:
            for address in found:
                kind = hosts.kind_of(address)
                if kind is not None:
                    raise hosts.NotPublic(address, kind)
        fault: Exception = OSError("it has no address")
        for number, address in enumerate(found, 1):
            within = timeout if number == len(found) else min(timeout or _PATIENCE, _PATIENCE)
            try:
                return await self._under.connect_tcp(
                    address, port, within, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                fault = failed
        raise fault

    async def sleep(self, seconds: float) -> None:
        await self._under.sleep(seconds)


class Pools:
    """The connections of one event loop.

    Those to any address are kept apart from those to public ones: a call that may go to public
    ones only must not find the connection of another one.
    """

    def __init__(self) -> None:
        self._pools: dict[tuple[bool, bool], httpcore.AsyncConnectionPool] = {}
        self._closing = self._open_until_the_end()

    async def start(self) -> None:
        await anext(self._closing)

    def of(self, *, is_open: bool, is_tls: bool) -> httpcore.AsyncConnectionPool:
        pool = self._pools.get((is_open, is_tls))
        if pool is None:
            pool = self._pools[is_open, is_tls] = httpcore.AsyncConnectionPool(
                ssl_context=_tls() if is_tls else None,
                max_connections=_CONNECTIONS,
                max_keepalive_connections=_IDLE,
                keepalive_expiry=_IDLE_SECONDS,
                network_backend=_Pinned(is_open),
            )
        return pool

    async def _open_until_the_end(self) -> AsyncGenerator[None, None]:
        """`asyncio.run` closes the generators of its loop, and so what is open here."""
        try:
            yield
        finally:
            _OF_LOOP.pop(asyncio.get_running_loop(), None)
            for pool in self._pools.values():
                await pool.aclose()


_OF_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, Pools] = WeakKeyDictionary()


async def pools() -> Pools:
    """Those of the event loop that runs."""
    loop = asyncio.get_running_loop()
    found = _OF_LOOP.get(loop)
    if found is None:
        found = _OF_LOOP[loop] = Pools()
        await found.start()
    return found


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()
