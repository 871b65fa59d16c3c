"""The connection to providers: requests of litellm → bytes on the wire, within bounds.

litellm's own clients read an answer of any size, follow redirects with the key in a header of the
provider's own, and send a request again by themselves when the connection broke. This transport
stands under litellm (`client=`) and does none of that, and it keeps what the server said: litellm
loses the status, the headers or the words of some refusals.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import httpx

from compozy_prefect.runtime.llm.faults import Fault

MEBI = 2**20
CONNECT = 10.0  # seconds until there is a connection
KEPT = 64 * 1024  # bytes of a refusal that are read, and of the end of an answer that are kept


@dataclass(frozen=True, slots=True)
class Limits:
    """What an answer may be: bytes of a whole one and of a stream, seconds of silence within.

    A stream is allowed more: each token comes in an envelope of some 300 bytes.
    """

    whole: int = 16 * MEBI
    stream: int = 64 * MEBI
    quiet: float = 60.0


LIMITS = Limits()


class WireFault(httpx.NetworkError):
    """A connection that failed. No `ConnectError`: litellm would send such a request again."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.what)
        self.fault = fault


@dataclass(slots=True)
class Exchange:
    """What one attempt got from the server: `status` None is no answer at all.

    `body` is what a refusal said, and the last bytes of what was no refusal. Whoever opens an
    exchange closes it: that frees the connection of a stream nobody reads on.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    _streams: list[_Bounded] = field(default_factory=list)

    async def close(self) -> None:
        for stream in self._streams:
            # What has become of the call is known by now, and no matter of its connection.
            with suppress(Exception):
                await stream.aclose()

    def answered(self, response: httpx.Response, stream: _Bounded) -> None:
        self.status, self.headers = response.status_code, response.headers
        self._streams.append(stream)


EXCHANGE: ContextVar[Exchange | None] = ContextVar("compozy_llm_exchange", default=None)


class Wire(httpx.AsyncBaseTransport):
    """One event loop's connections. `handler` is what litellm takes for `client=`."""

    def __init__(self, limits: Limits) -> None:
        from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler, get_ssl_configuration

        self._limits = limits
        verify = get_ssl_configuration()
        own = isinstance(verify, bool)
        inner = AsyncHTTPHandler.create_async_transport(
            ssl_context=None if own else verify, ssl_verify=verify if own else None
        )
        self._inner: httpx.AsyncBaseTransport = inner or httpx.AsyncHTTPTransport(verify=verify)
        # Redirects stay unfollowed: the key would go where the server points to.
        self.handler: Any = AsyncHTTPHandler(transport=self, follow_redirects=False)

    def lend(self) -> None:
        """To the handler that litellm keeps for OpenAI's responses.

        It takes some of OpenAI's models there, and does not hand on what `client=` said.
        """
        from litellm.llms.custom_httpx.http_handler import get_async_httpx_client
        from litellm.types.utils import LlmProviders

        theirs = get_async_httpx_client(LlmProviders.OPENAI, params={"ssl_verify": None})
        if theirs.client is not self.handler.client:
            theirs.client = self.handler.client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = EXCHANGE.get()
        if exchange is None:
            return await self._inner.handle_async_request(request)  # no call of ours
        # Compressed, a small answer could become a huge one.
        request.headers["accept-encoding"] = "identity"
        # The whole call has a time-out around it, so that only connecting needs one here.
        request.extensions["timeout"] = {"connect": CONNECT}
        try:
            response = await self._inner.handle_async_request(request)
        except httpx.TransportError as raised:
            raise WireFault(_unanswered(raised)) from raised
        stream = _Bounded(response, self._limits, exchange)
        exchange.answered(response, stream)
        headers = httpx.Headers(
            [
                (name, value)
                for name, value in response.headers.multi_items()
                if name not in ("content-encoding", "content-length")
            ]
        )
        if response.status_code < 300:
            return httpx.Response(response.status_code, headers=headers, stream=stream)
        exchange.body = await stream.head()
        return httpx.Response(response.status_code, headers=headers, content=exchange.body)

    async def close(self) -> None:
        await self._inner.aclose()

    async def aclose(self) -> None:
        """Nothing: litellm closes clients that it is done with, and the connections are shared."""


class _Bounded(httpx.AsyncByteStream):
    """The body of an answer, unpacked, no larger and no slower than the limits."""

    def __init__(self, response: httpx.Response, limits: Limits, exchange: Exchange) -> None:
        self._response = response
        self._exchange = exchange
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        self._streamed = kind in ("text/event-stream", "application/x-ndjson")
        self._most = limits.stream if self._streamed else limits.whole
        self._quiet = limits.quiet

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = self._response.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._most:
            raise WireFault(_too_large(self._most))
        size = 0
        line: list[bytes] = []  # one that has not come to its end
        async for chunk in self._unpacked():
            size += len(chunk)
            if size > self._most:
                raise WireFault(_too_large(self._most))
            self._exchange.body = (self._exchange.body + chunk)[-KEPT:]
            if not self._streamed:
                yield chunk
                continue
            end = chunk.rfind(b"\n") + 1
            if end:
                yield _checked(b"".join((*line, chunk[:end])))
                line.clear()
            line.append(chunk[end:])
        if line:
            yield _checked(b"".join(line))

    async def head(self) -> bytes:
        """The first bytes, as many as are there; whatever breaks afterwards is no matter."""
        out = bytearray()
        with suppress(WireFault):
            async for chunk in self:
                out += chunk
                if len(out) >= KEPT:
                    break
        await self.aclose()
        return bytes(out[:KEPT])

    async def aclose(self) -> None:
        await self._response.aclose()

    async def _unpacked(self) -> AsyncIterator[bytes]:
        coding = self._response.headers.get("content-encoding", "identity").lower()
        if coding == "identity":
            async for chunk in self._chunks():
                yield chunk
            return
        if coding not in ("gzip", "deflate"):
            raise WireFault(Fault("INVALID_RESPONSE", "its answer is packed in a way of its own"))
        unpack = zlib.decompressobj(wbits=47)  # gzip or zlib, whichever it is
        try:
            async for chunk in self._chunks():
                while chunk:
                    yield unpack.decompress(chunk, MEBI)
                    chunk = unpack.unconsumed_tail
        except zlib.error as raised:
            fault = Fault("INVALID_RESPONSE", f"its answer cannot be unpacked: {raised}")
            raise WireFault(fault) from None

    async def _chunks(self) -> AsyncIterator[bytes]:
        assert isinstance(self._response.stream, httpx.AsyncByteStream)
        chunks = aiter(self._response.stream)
        quiet = None  # how long it thinks is for the time-out of the call to say
        while True:
            try:
                async with asyncio.timeout(quiet):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                fault = Fault("TIMEOUT", f"it fell silent for {self._quiet:g} s while it answered")
                raise WireFault(fault) from None
            except (httpx.TransportError, httpx.StreamError) as raised:
                fault = Fault("CONNECTION_RESET", "the connection broke while it answered")
                raise WireFault(fault) from raised
            quiet = self._quiet
            yield chunk
            # Bytes that are there already are read without a turn of the loop, and a server that
            # is fast enough would keep it from all else, time-outs included.
            await asyncio.sleep(0)


_ESCAPES = (
    (b"[DONE]", b"[\\u0044ONE]"),
    ("\u0085".encode(), b"\\u0085"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)


def _checked(lines: bytes) -> bytes:
    """Lines of a stream that litellm reads as they are meant.

    It passes over what is no JSON, takes a piece in which a model says `[DONE]` for the end, and
    begins a line at characters of Unicode that end none here.
    """
    out = []
    for line in lines.splitlines(keepends=True):
        data = line.strip().removeprefix(b"data:").strip()
        if data.startswith(b"{"):
            try:
                json.loads(data)
            except (ValueError, RecursionError):
                fault = Fault("INVALID_RESPONSE", "a piece of its stream is no JSON")
                raise WireFault(fault) from None
            for said, escaped in _ESCAPES:
                line = line.replace(said, escaped)
        out.append(line)
    return b"".join(out)


def _unanswered(raised: httpx.TransportError) -> Fault:
    if isinstance(raised, httpx.ConnectTimeout):
        return Fault("CONNECTION_REFUSED", f"no connection could be made in {CONNECT:g} s")
    # aiohttp's name for what httpx knows as `ConnectError`; the latter is made of resets, too.
    causes = {base.__name__ for base in type(raised.__cause__).__mro__}
    if isinstance(raised, httpx.ConnectError) and (
        "ClientConnectorError" in causes or "ClientOSError" not in causes
    ):
        return Fault("CONNECTION_REFUSED", "no connection could be made")
    if isinstance(raised, httpx.TimeoutException):
        return Fault("TIMEOUT", "it did not answer in time")
    return Fault("CONNECTION_RESET", "the connection broke")


def _too_large(most: int) -> Fault:
    return Fault("TOO_LARGE", f"its answer is larger than {most / MEBI:g} MiB")


@dataclass(slots=True)
class _Lines:
    """The wires of one event loop, and what closes them when it ends."""

    wires: dict[Limits, Wire] = field(default_factory=dict)
    closing: AsyncGenerator[None, None] | None = None

    async def close(self) -> None:
        while self.wires:
            await self.wires.popitem()[1].close()


_lines: dict[asyncio.AbstractEventLoop, _Lines] = {}


async def wire(limits: Limits) -> Wire:
    """The wire of the running loop. Its connections are kept until the loop ends."""
    loop = asyncio.get_running_loop()
    lines = _lines.get(loop)
    if lines is None:
        for other in list(_lines):
            if other.is_closed():
                del _lines[other]
        lines = _lines[loop] = _Lines()
        # A loop closes the generators that were begun in it before it ends, which is the only
        # moment at which its connections can be closed in order.
        lines.closing = _until_the_end(loop, lines)
        await anext(lines.closing)
    if limits not in lines.wires:
        lines.wires[limits] = Wire(limits)
    return lines.wires[limits]


async def _until_the_end(
    loop: asyncio.AbstractEventLoop, lines: _Lines
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        _lines.pop(loop, None)
        await lines.close()
