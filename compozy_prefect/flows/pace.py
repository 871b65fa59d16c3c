"""Events, told to the server as fast as it takes them in.

What a fan-out of ten thousand steps has to say would keep the server from answering anybody for a
minute. It hears so much at a time, and more when it has answered a question.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context

import httpx
from prefect.exceptions import PrefectHTTPStatusError

BURST = 200  # events between two questions
_PATIENCE = 15.0  # seconds for an answer


class Pace:
    """The events of one execution, in their order. Nobody waits for a server that is gone.

    `sent` waits until those told so far have left the process, and `ask` for an answer; `burst` are
    the events between two questions.
    """

    def __init__(
        self,
        sent: Callable[[], Awaitable[None]],
        ask: Callable[[], Awaitable[object]],
        burst: int = BURST,
    ) -> None:
        self._sent, self._ask = sent, ask
        self._burst = self._left = burst
        self._held: deque[tuple[Context, Callable[[], None]]] = deque()
        self._telling: asyncio.Task[None] | None = None
        self._is_answered = True

    def tell(self, event: Callable[[], None]) -> None:
        """Calls `event`, now or in a while, in the context of this call."""
        if self._left and not self._held:
            self._left -= 1
            event()
        else:
            self._held.append((copy_context(), event))
        if not self._left and self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def told(self) -> None:
        """Returns when every event was told."""
        while self._telling is not None:
            await asyncio.wait([self._telling])

    async def _tell(self) -> None:
        while not self._left:
            await self._answer()
            self._left = self._burst
            while self._held and self._left:
                context, event = self._held.popleft()
                self._left -= 1
                context.run(event)
        self._telling = None

    async def _answer(self) -> None:
        """Waits for the server, and leaves others as much of its time as the answer took."""
        if not self._is_answered:
            return
        await self._sent()
        start = time.monotonic()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._ask()
        except (TimeoutError, httpx.HTTPError, PrefectHTTPStatusError):
            self._is_answered = False
            return
        await asyncio.sleep(time.monotonic() - start)
