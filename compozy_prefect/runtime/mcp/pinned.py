"""Connections of an MCP session to addresses that were looked at, as `tools.connections` for tools.

A name is looked up once for a session, and all its addresses are checked: one that answers
otherwise the next time leads nowhere else. The certificate is that of the name all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx2

_PATIENCE = 2.0  # seconds for an address when there is another one


class Pinned(httpx2.AsyncBaseTransport):
    """Requests to `host` by `inner`, to one of the `addresses`; there must be one.

    Through a proxy, too, which then looks up nothing.
    """

    def __init__(
        self, inner: httpx2.AsyncBaseTransport, host: str, addresses: Sequence[str]
    ) -> None:
        self._inner, self._host, self._addresses = inner, host, list(addresses)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises httpx2.ConnectError for another host, which a redirect may name."""
        if request.url.host != self._host:
            message = f"it leads to another host, {request.url.host}"
            raise httpx2.ConnectError(message, request=request)
        *others, last = self._addresses
        for address in others:
            try:
                return await self._inner.handle_async_request(_to(address, request, _PATIENCE))
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                self._addresses.remove(address)  # the next request need not wait for it again
                self._addresses.append(address)
        return await self._inner.handle_async_request(_to(last, request))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _to(address: str, request: httpx2.Request, patience: float | None = None) -> httpx2.Request:
    """The request as it was, its `Host` too, but connecting to an address."""
    extensions = {**request.extensions, "sni_hostname": request.url.host}
    if patience is not None:
        extensions["timeout"] = {**extensions.get("timeout", {}), "connect": patience}
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions=extensions,
    )
