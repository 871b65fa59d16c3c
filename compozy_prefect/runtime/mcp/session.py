"""One session with an MCP server: opened, asked for its tools, and then shared by all calls.

The SDK's client is entered and left by one task of its own, which outlives the calls: a task has to
leave the cancel scopes that it has entered. Calls are made by whoever makes them, and one that is
cancelled cancels the request on the server.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from compozy_prefect import __version__
from compozy_prefect.compiler.lock import Listing, Prompts, Resources, Tools, difference, of_kind
from compozy_prefect.runtime.mcp import listings
from compozy_prefect.runtime.mcp.connection import Connection
from compozy_prefect.runtime.mcp.faults import Changed, Failed, explained, single
from compozy_prefect.runtime.mcp.link import Link, watched

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult, GetPromptResult, ReadResourceResult


_T = TypeVar("_T")
_Kind = Literal["prompts", "resources"]


class Heard(Protocol):
    """Hears how far a call is."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None: ...


_KEY = "idempotencyKey"  # in the `_meta` of a call
_MOST_SAID = 500  # characters of what a process said before it was ready
_PATIENCE = 3.0  # seconds for a sign of life from a server that let a call time out
_LOOK = 10.0  # seconds between two looks at whether anybody still wants it

# The versions of the protocol that begin without a handshake; the others are agreed on in it.
_MODERN = ("2026-07-28",)


class Session:
    """`wanted` says whether it is to stay open while nobody calls; `tools` are all it lists.

    `new` are the names of those that `compozy.lock` does not hold, if it holds the server.
    """

    def __init__(self, connection: Connection, wanted: Callable[[float], bool]) -> None:
        self.connection, self.link = connection, Link()
        self.tools: Tools = ()
        self._listed: dict[_Kind, Prompts | Resources] = {}
        self.new: tuple[str, ...] = ()
        self.calls = 0
        self.used = time.monotonic()
        self._wanted = wanted
        self._stale = self._suspected = False
        self._client: Client | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # In a context of its own: the one of the first caller ends before the session does.
        self.task = asyncio.get_running_loop().create_task(
            self._run(), name=f"mcp {connection.id}", context=contextvars.Context()
        )

    @property
    def is_open(self) -> bool:
        """Whether it can take calls, or soon will."""
        return not self.link.over.is_set() and not self.task.done()

    @property
    def is_ready(self) -> bool:
        """Whether it takes calls now."""
        return self._client is not None and not self.link.over.is_set()

    async def ready(self) -> None:
        """Raises Failed when it could not be opened, and Changed."""
        await asyncio.shield(self._opened)

    def end(self) -> None:
        """Lets it end. Calls that are under way fail."""
        self.link.end()

    async def _run(self) -> None:
        seconds = self.connection.server.start_timeout
        try:
            await asyncio.to_thread(import_module, "mcp")  # half a second, the first time
            client = self._made()
            try:
                async with asyncio.timeout(seconds):
                    await self._begin(client)
                self._opened.set_result(None)
                await self._stay()
            finally:
                await client.__aexit__(None, None, None)
        except TimeoutError:
            self._fail(Failed("timeout", f"it was not ready within {seconds:g} s"))
        except asyncio.CancelledError:
            self._fail(Failed("exit", "its session was ended"))
            raise
        except (Exception, BaseExceptionGroup) as fault:
            self._fail(explained(single(fault), self.link, "refused"))
        finally:
            self.link.end()

    async def _begin(self, client: Client) -> None:
        entering = asyncio.current_task()
        assert entering is not None
        self.link.on_sever = entering.cancel
        try:
            await client.__aenter__()
            self._take(await listings.tools(client))
        except asyncio.CancelledError:
            if self.link.fault is None or entering.uncancel() > 0:
                raise  # somebody else ends it
            raise self.link.fault from None
        finally:
            self.link.on_sever = None
        self._client = client

    async def _stay(self) -> None:
        while not self.link.over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self.link.over.wait()
            if not self.calls and not self._wanted(self.used):
                self.link.end()

    def _made(self) -> Client:
        from mcp import Client
        from mcp.types import Implementation

        if self.connection.transport == "stdio":
            from compozy_prefect.runtime.mcp.stdio import stdio as transport
        else:
            from compozy_prefect.runtime.mcp.http import http as transport

        for name in ("mcp", "client", "httpx2"):
            _quiet(logging.getLogger(name))
        proto = self.connection.server.proto
        return Client(
            watched(transport(self.connection, self.link), self.link),
            mode=proto if proto in _MODERN else "legacy",
            client_info=Implementation(name="compozy", version=__version__),
            message_handler=self._message,
            cache=None,
        )

    def _fail(self, fault: Failed) -> None:
        said = self.link.said
        if said and not self._opened.done() and fault.kind in ("exit", "timeout"):
            fault = Failed(fault.kind, f"{fault.message}; it said: {said[-_MOST_SAID:]}")
        self.link.end(fault)
        if not self._opened.done():
            self._opened.set_exception(fault)
            self._opened.exception()  # whoever waits raises it; nobody may

    def _take(self, tools: Tools) -> None:
        """Raises Changed when agents were offered something else."""
        self.tools, self._stale = tools, False
        server = self.connection.server
        if not server.is_locked:
            return
        found = difference(
            Listing(tuple(tool for tool in server.tools if server.has(tool.name))),
            Listing(tuple(tool for tool in tools if server.has(tool.name))),
        )
        if found.breaks:
            raise Changed("tools", found.lines)
        self.new = found.new

    async def _message(self, message: Any) -> None:
        from mcp.types import (
            PromptListChangedNotification,
            ResourceListChangedNotification,
            ToolListChangedNotification,
        )

        if isinstance(message, ToolListChangedNotification):
            self._stale = True
        elif isinstance(message, PromptListChangedNotification):
            self._listed.pop("prompts", None)
        elif isinstance(message, ResourceListChangedNotification):
            self._listed.pop("resources", None)

    async def call(
        self, tool: str, arguments: dict[str, Any], heard: Heard | None, key: str = ""
    ) -> CallToolResult:
        """What the server answers; with a `key` it is told which call this is, made again or not.

        Raises Failed, and Changed when its tools have changed since.
        """
        meta: Any = {_KEY: key} if key else None

        async def made(client: Client) -> CallToolResult:
            if self._stale:
                self._take(await listings.tools(client))
            return await client.call_tool(tool, arguments, progress_callback=heard, meta=meta)

        return await self._answered(made)

    async def resource(self, uri: str) -> ReadResourceResult:
        """What the server gives. Raises Failed, and Changed if the lock has it otherwise."""

        async def made(client: Client) -> ReadResourceResult:
            await self._same(client, "resources", uri)
            return await client.read_resource(uri)

        return await self._answered(made)

    async def prompt(self, name: str, arguments: dict[str, str]) -> GetPromptResult:
        """What the server gives. Raises Failed, and Changed if the lock has it otherwise."""

        async def made(client: Client) -> GetPromptResult:
            await self._same(client, "prompts", name)
            return await client.get_prompt(name, arguments)

        return await self._answered(made)

    async def listing(self) -> Listing:
        """All that the server lists, whatever the lock says. Raises Failed."""

        async def made(client: Client) -> Listing:
            return Listing(
                self.tools, await listings.prompts(client), await listings.resources(client)
            )

        return await self._answered(made)

    async def _same(self, client: Client, kind: _Kind, name: str) -> None:
        """Raises Changed where the lock has it otherwise than the server, which is asked once."""
        server = self.connection.server
        known: Prompts | Resources = getattr(server, kind) or ()
        locked = [one for one in known if one.name == name]
        if not locked:
            return
        if kind not in self._listed:
            self._listed[kind] = await getattr(listings, kind)(client)
        found = [one for one in self._listed[kind] if one.name == name]
        different = of_kind(kind.removesuffix("s"), locked, found)
        if different.breaks:
            raise Changed(kind, different.lines)

    async def _answered(self, request: Callable[[Client], Awaitable[_T]]) -> _T:
        """What the request gives within the time-out of the server. Raises Failed."""
        seconds = self.connection.server.timeout
        client = self._client
        if client is None or not self.is_open:
            raise Failed("gone", "its session has ended")
        self.calls += 1
        try:
            async with asyncio.timeout(seconds) as clock:
                return await request(client)
        except TimeoutError:
            if clock.expired():
                self._suspect()
            raise Failed("timeout", f"it did not answer within {seconds:g} s") from None
        except Changed:
            self.link.end()
            raise
        except Exception as fault:
            if not self.link.over.is_set():
                await asyncio.sleep(0)  # what ended the connection may be about to be known
            raise explained(single(fault), self.link, "exit") from None
        finally:
            self.calls -= 1
            self.used = time.monotonic()

    def _suspect(self) -> None:
        """A call has timed out: a server that does not answer at all is given up."""
        if not self._suspected:
            self._suspected = True
            # Kept, since the loop alone would let go of it.
            self._probing = asyncio.get_running_loop().create_task(
                self._probe(), context=contextvars.Context()
            )

    async def _probe(self) -> None:
        assert self._client is not None
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._client.session.list_tools()
            self._suspected = False
        except Exception:
            self.link.end(Failed("exit", "it does not answer any more"))


def _quiet(logger: logging.Logger) -> None:
    """What fails is told by who made the call; the SDK would write tracebacks to stderr."""
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
