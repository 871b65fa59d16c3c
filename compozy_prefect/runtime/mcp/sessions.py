"""The sessions of this process: one for equal connections, in each event loop that makes calls.

A session is opened by the first call that needs it, shared by all others, and stays open as long
as anybody holds the sessions of the loop, which a run does from its beginning to its end. A server
that has died is started again by the next call, after a pause that grows.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from compozy_prefect.compiler.lock import Listing, Tools
from compozy_prefect.runtime.mcp.connection import Connection
from compozy_prefect.runtime.mcp.faults import Failed

if TYPE_CHECKING:
    from mcp.types import CallToolResult, GetPromptResult, ReadResourceResult

    from compozy_prefect.runtime.mcp.session import Heard, Session

_ATTEMPTS = 3  # to open a session, for one call
_FIRST, _LONGEST = 0.2, 10.0  # seconds of the pauses between them
_LINGER = 30.0  # seconds without a call after which nobody's session ends
_LOOK = 0.02  # seconds between two looks at whether there is room
_CLOSING = 6.0  # seconds that all sessions get to end
_AGAIN = ("refused", "exit", "gone")

_T = TypeVar("_T")

Told = Callable[[str], None]


@dataclass(eq=False)
class _Entry:
    """What is known of a connection: its session, and how often it has failed in a row."""

    connection: Connection
    session: Session | None = None
    failures: int = 0
    failed_at: float = 0.0
    was_open: bool = False
    users: int = 0

    def pause(self) -> float:
        """Seconds until it may be tried again; after one failure at once."""
        if self.failures < 2:
            return 0.0
        pause = min(_FIRST * 2.0 ** min(self.failures - 2, 16), _LONGEST)
        return max(0.0, self.failed_at + pause - time.monotonic())

    def failed(self) -> None:
        self.failures += 1
        self.failed_at = time.monotonic()


class Sessions:
    """Those of one event loop."""

    def __init__(self) -> None:
        self.holders = 0
        self._entries: dict[Connection, _Entry] = {}
        self._running: set[asyncio.Task[None]] = set()  # also of those that were lost

    async def tools(self, connection: Connection, tell: Told) -> Tools:
        """All tools that the server lists, whatever the filter says. Raises Failed."""
        with self._used(connection) as entry:
            return (await self._session(entry, tell)).tools

    async def listing(self, connection: Connection, tell: Told) -> Listing:
        """All that the server lists. Raises Failed."""
        return await self._asked(connection, lambda session: session.listing(), tell)

    async def call(
        self,
        connection: Connection,
        tool: str,
        arguments: dict[str, Any],
        heard: Heard | None,
        tell: Told,
        key: str = "",
    ) -> CallToolResult:
        """Raises Failed."""
        return await self._asked(
            connection, lambda session: session.call(tool, arguments, heard, key), tell
        )

    async def resource(self, connection: Connection, uri: str, tell: Told) -> ReadResourceResult:
        """Raises Failed."""
        return await self._asked(connection, lambda session: session.resource(uri), tell)

    async def prompt(
        self, connection: Connection, name: str, arguments: dict[str, str], tell: Told
    ) -> GetPromptResult:
        """Raises Failed."""
        return await self._asked(connection, lambda session: session.prompt(name, arguments), tell)

    async def _asked(
        self, connection: Connection, ask: Callable[[Session], Awaitable[_T]], tell: Told
    ) -> _T:
        """What an open session answers. Raises Failed."""
        with self._used(connection) as entry:
            again = True
            while True:
                session = await self._session(entry, tell)
                try:
                    result = await ask(session)
                except Failed as fault:
                    if not session.is_open:
                        self._lost(entry, session)
                    # What the server says that it has not begun may be asked once more.
                    if fault.kind != "gone" or not again:
                        raise
                    again = False
                else:
                    entry.failures = 0
                    return result

    @contextmanager
    def _used(self, connection: Connection) -> Iterator[_Entry]:
        entry = self._entry(connection)
        entry.users += 1
        try:
            yield entry
        finally:
            entry.users -= 1

    def _entry(self, connection: Connection) -> _Entry:
        found = self._entries.get(connection)
        if found is None:
            found = self._entries[connection] = _Entry(connection)
        return found

    async def _session(self, entry: _Entry, tell: Told) -> Session:
        session, attempt = entry.session, 1
        if session is not None and session.is_ready:
            return session
        while True:
            try:
                return await self._opened(entry, tell)
            except Failed as fault:
                if fault.kind not in _AGAIN or attempt == _ATTEMPTS:
                    raise
                attempt += 1

    async def _opened(self, entry: _Entry, tell: Told) -> Session:
        """An open session: a new one, unless another call was quicker."""
        while entry.session is None or not entry.session.is_open:
            pause = entry.pause()
            if pause:
                await asyncio.sleep(pause)
            elif await self._has_room(entry):
                self._start(entry, tell)
        session = entry.session
        try:
            await session.ready()
        except Failed:
            self._lost(entry, session)
            raise
        if session.new and not entry.was_open:
            id, names = entry.connection.id, ", ".join(session.new)
            tell(f"MCP server `{id}` has tools that compozy.lock does not: {names}")
        entry.was_open = True
        return session

    def _lost(self, entry: _Entry, session: Session) -> None:
        if entry.session is session:  # the first to hear of it counts it
            entry.session = None
            entry.failed()

    def _start(self, entry: _Entry, tell: Told) -> None:
        from compozy_prefect.runtime.mcp.session import Session

        connection = entry.connection
        if connection.transport == "stdio":
            again = " again" if entry.was_open or entry.failures else ""
            tell(f"MCP server `{connection.id}` is started{again}: {connection.shown}")
        entry.session = Session(connection, self._wants)
        self._running.add(entry.session.task)
        entry.session.task.add_done_callback(self._running.discard)

    def _wants(self, used: float) -> bool:
        return self.holders > 0 or time.monotonic() - used < _LINGER

    async def _has_room(self, entry: _Entry) -> bool:
        """`max_sessions` of one server: of several, the one unused for longest makes room."""
        most = entry.connection.server.max_sessions
        if most:
            others = [
                other
                for other in self._entries.values()
                if other is not entry
                and other.connection.id == entry.connection.id
                and other.session is not None
                and not other.session.task.done()
            ]
            if len(others) >= most:
                idle = [one.session for one in others if one.session and not one.users]
                if idle:
                    min(idle, key=lambda one: one.used).end()
                await asyncio.sleep(_LOOK)
                return False
        return True

    async def close(self) -> None:
        """Ends all sessions and waits for their processes to be gone."""
        for entry in self._entries.values():
            if entry.session is not None:
                entry.session.end()
        self._entries.clear()
        if self._running:
            _, left = await asyncio.wait(self._running, timeout=_CLOSING)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=_CLOSING)


_SESSIONS: WeakKeyDictionary[asyncio.AbstractEventLoop, Sessions] = WeakKeyDictionary()


def here() -> Sessions:
    """The sessions of the event loop that runs."""
    return _SESSIONS.setdefault(asyncio.get_running_loop(), Sessions())


def warm() -> None:
    """Begins to import the SDK, half a second, while the caller has something else to do."""
    if "mcp" not in sys.modules:
        imports = partial(importlib.import_module, "mcp")
        threading.Thread(target=imports, name="compozy-mcp", daemon=True).start()


@asynccontextmanager
async def held() -> AsyncIterator[Sessions]:
    """Keeps sessions open; the last one who lets go of them ends them."""
    sessions = here()
    sessions.holders += 1
    try:
        yield sessions
    finally:
        sessions.holders -= 1
        if not sessions.holders:
            await sessions.close()
