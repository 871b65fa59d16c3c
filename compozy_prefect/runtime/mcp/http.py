"""A server over HTTP: SSE, or streamable HTTP, by the SDK on connections that have bounds.

Left to itself the SDK reads what comes however long it is, and a request that gets no answer takes
the whole session down, or waits for ever. Here it is answered with an error of its own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from compozy_prefect.runtime.mcp.connection import Connection
from compozy_prefect.runtime.mcp.faults import UNREACHED, Failed
from compozy_prefect.runtime.mcp.link import LARGEST, Link
from compozy_prefect.runtime.mcp.pinned import Pinned
from compozy_prefect.runtime.tools import hosts

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

_CONNECT = 10.0  # seconds
_MOST_EVENT = 1 << 20  # bytes: what the SDK takes of an event over SSE


@asynccontextmanager
async def http(connection: Connection, link: Link) -> AsyncIterator[TransportStreams]:
    """The session's streams. Raises Failed when the address is none to go to."""
    from mcp.client.sse import sse_client
    from mcp.client.streamable_http import streamable_http_client

    wire = _Wire(connection, link, await _addresses(connection))
    # Calls have a time-out around them, and a stream of events may be silent for long.
    options: dict[str, Any] = {
        "headers": dict(connection.headers),
        "timeout": httpx2.Timeout(None, connect=_CONNECT),
        "transport": wire,
    }
    if connection.transport == "sse":

        def made(*_: Any, **__: Any) -> httpx2.AsyncClient:
            return httpx2.AsyncClient(**options)

        async with sse_client(connection.url, httpx_client_factory=made) as streams:
            yield streams
    else:
        async with (
            httpx2.AsyncClient(**options) as client,
            streamable_http_client(
                connection.url, http_client=client, max_sse_event_size=LARGEST
            ) as streams,
        ):
            yield streams


async def _addresses(connection: Connection) -> list[str]:
    """Those that may be connected to, none for any: the system looks the name up.

    A host that comes out of a template must be a public one, as for tools over HTTP.
    """
    try:
        url = httpx2.URL(connection.url)  # read as it is connected to
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise Failed("start", f"`{connection.shown}` is no http address")
    if not connection.is_public:
        return []
    try:
        found = await hosts.addresses(url.host, url.port)
    except OSError as fault:
        raise Failed("refused", f"the host {url.host} is not known: {fault.strerror}") from None
    for address in found:
        if not hosts.is_public(address):
            raise Failed(
                "start",
                f"the host {url.host} is in a private network ({address}); "
                "a host that comes out of a template must be public: write it into `url`",
            )
    return found


class _Wire(httpx2.AsyncBaseTransport):
    """The connections of one session."""

    def __init__(self, connection: Connection, link: Link, addresses: Sequence[str]) -> None:
        parts = urlsplit(connection.url)
        proxy = getproxies().get(parts.scheme)
        if proxy is not None and proxy_bypass(parts.netloc):
            proxy = None
        inner = httpx2.AsyncHTTPTransport(proxy=proxy)
        self._inner: httpx2.AsyncBaseTransport = inner
        if addresses:
            self._inner = Pinned(inner, httpx2.URL(connection.url).host, addresses)
        self._is_sse = connection.transport == "sse"
        self._link = link

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        # Compressed, a small answer could become a huge one.
        request.headers["accept-encoding"] = "identity"
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError as fault:
            why = str(fault) or type(fault).__name__
            unsent = isinstance(fault, httpx2.ConnectError | httpx2.ConnectTimeout)
            return self._unreached(request, why[:1].lower() + why[1:], "gone" if unsent else "exit")
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            return self._unreached(request, "it answers with compressed data, unasked", "start")
        status = response.status_code
        if status >= 400 and status != 404 and not _is_json(response):
            await response.aclose()
            kind = "refused" if status >= 500 or status in (408, 429) else "start"
            why = f"it answers {status} {response.reason_phrase}".strip()
            return self._unreached(request, why, kind)
        response.stream = _Bounded(response, self._link, self._is_sse)
        return response

    def _unreached(
        self, request: httpx2.Request, why: str, kind: str = "refused"
    ) -> httpx2.Response:
        """An error that is the answer to one request, where it can be told."""
        if self._is_sse:
            self._link.sever(Failed(kind, why))
        if self._is_sse or request.method != "POST":
            raise httpx2.ConnectError(why, request=request)
        error = {"code": UNREACHED, "message": why, "data": kind}
        body = {"jsonrpc": "2.0", "id": None, "error": error}
        headers = {"content-type": "application/json"}
        return httpx2.Response(502, headers=headers, content=json.dumps(body), request=request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _is_json(response: httpx2.Response) -> bool:
    return "json" in response.headers.get("content-type", "")


class _Bounded(httpx2.AsyncByteStream):
    """A body that fails when it is too long; one of events, when a line is."""

    def __init__(self, response: httpx2.Response, link: Link, is_sse: bool) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        self._inner, self._link, self._is_sse = response.stream, link, is_sse
        kind = response.headers.get("content-type", "")
        self._is_events = kind.startswith("text/event-stream")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, most = 0, _MOST_EVENT if self._is_sse else LARGEST
        try:
            async for chunk in self._inner:
                end = chunk.rfind(b"\n") + 1 if self._is_events else 0
                size = len(chunk) - end + (0 if end else size)
                if size > most:
                    self._broken(Failed("output", f"its answer is larger than {most >> 20} MiB"))
                yield chunk
        except httpx2.TransportError as fault:
            said = str(fault) or type(fault).__name__
            self._broken(Failed("exit", f"the connection broke before it had answered: {said}"))

    def _broken(self, fault: Failed) -> NoReturn:
        """An error that is no transport's: those end the session for all other calls."""
        self._link.trouble = fault
        if self._is_sse:
            self._link.sever(fault)
        raise httpx2.StreamError(fault.message)

    async def aclose(self) -> None:
        await self._inner.aclose()
