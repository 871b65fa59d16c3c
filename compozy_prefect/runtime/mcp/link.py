"""What a session knows of its transport: whether it stands, why not, and what the server said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

from compozy_prefect.runtime.mcp.faults import Failed

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams

LARGEST = 10 << 20  # bytes of a message
_MOST_SAID = 4096  # bytes of what a process writes to stderr that are kept


class Link:
    """Of one session. `over` is set when it can carry nothing more, and `fault` is why.

    `trouble` is what one answer broke off with, which the SDK does not hand on.
    """

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.fault: Failed | None = None
        self.trouble: Failed | None = None
        self.on_sever: Callable[[], object] | None = None
        self._said = bytearray()

    def end(self, fault: Failed | None = None) -> None:
        if not self.over.is_set():
            self.fault = fault
            self.over.set()

    def sever(self, fault: Failed) -> None:
        """As `end`, for what the SDK does not notice: whoever waits for the start is woken."""
        self.end(fault)
        if self.on_sever is not None:
            self.on_sever()

    def hear(self, chunk: bytes) -> None:
        self._said += chunk
        del self._said[:-_MOST_SAID]

    @property
    def said(self) -> str:
        """The last lines that the process wrote to stderr."""
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        return "\n".join(lines[-5:])


class _Watched:
    """A stream of messages that tells when it has ended; otherwise as the SDK made it."""

    def __init__(self, inner: Any, link: Link) -> None:
        self._inner, self._link = inner, link

    @property
    def last_context(self) -> Any:
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> Any:
        return await self._inner.receive()

    async def aclose(self) -> None:
        await self._inner.aclose()

    def close(self) -> None:
        self._inner.close()

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._inner.__anext__()
        except StopAsyncIteration:
            self._link.end(Failed("exit", "it closed the connection"))
            raise

    async def __aenter__(self) -> _Watched:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *fault: Any) -> Literal[False]:
        await self._inner.__aexit__(*fault)
        return False


@asynccontextmanager
async def watched(
    transport: AbstractAsyncContextManager[TransportStreams], link: Link
) -> AsyncIterator[TransportStreams]:
    """The transport, whose end `link` is told of."""
    async with transport as (read, write):
        yield _Watched(read, link), write
