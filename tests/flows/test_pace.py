"""Events reach the server in their order, no faster than it answers, and none stays behind."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import partial

import httpx

from compozy_prefect.flows.pace import BURST, Pace

WHERE: ContextVar[str] = ContextVar("where", default="outside")


class Server:
    """Notes what it was told before each of its answers."""

    def __init__(self, *, goes_away: bool = False, seconds: float = 0.0) -> None:
        self.heard: list[int] = []
        self.asked: list[int] = []
        self.goes_away, self.seconds = goes_away, seconds

    async def sent(self) -> None:
        pass

    async def ask(self) -> None:
        self.asked.append(len(self.heard))
        await asyncio.sleep(self.seconds)
        if self.goes_away:
            raise httpx.ConnectError("nobody")


async def test_few_are_told_at_once() -> None:
    server = Server()
    pace = Pace(server.sent, server.ask)
    for number in range(BURST):
        pace.tell(partial(server.heard.append, number))
    assert len(server.heard) == BURST


async def test_many_are_told_between_answers() -> None:
    server = Server(seconds=0.01)
    pace = Pace(server.sent, server.ask)
    for number in range(3 * BURST + 7):
        pace.tell(partial(server.heard.append, number))
    assert len(server.heard) == BURST
    await pace.told()
    assert server.heard == list(range(3 * BURST + 7))
    assert server.asked == [BURST, 2 * BURST, 3 * BURST]


async def test_a_server_that_is_gone_is_not_waited_for() -> None:
    server = Server(goes_away=True)
    pace = Pace(server.sent, server.ask)
    for number in range(5 * BURST):
        pace.tell(partial(server.heard.append, number))
    await pace.told()
    assert server.heard == list(range(5 * BURST))
    assert server.asked == [BURST]


async def test_each_is_told_where_it_happened() -> None:
    server, seen = Server(), list[str]()
    pace = Pace(server.sent, server.ask)

    async def happens(where: str) -> None:
        WHERE.set(where)
        for _ in range(BURST):
            pace.tell(lambda: seen.append(WHERE.get()))

    await asyncio.gather(happens("a"), happens("b"))
    await pace.told()
    assert seen == ["a"] * BURST + ["b"] * BURST
