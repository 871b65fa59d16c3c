"""A request that may be made again → its answer, and how often it was asked for (language.md §6.2).

Only what is idempotent is asked for again here. One layer repeats and no other: a step with a plan
of its own for attempts repeats its tool, and one without leaves alone what was repeated here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx

from compozy_prefect.compiler.plan import RetryPlan
from compozy_prefect.runtime.tools.client import Answer, Unreachable

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
ONCE = RetryPlan(attempts=1)


@dataclass
class Repeats:
    """The attempts of one call. `number` counts them; `within` bounds one, in seconds, 0 for not.

    `until` is when the whole call ends, on the clock of the event loop: no pause leads past it.
    """

    retry: RetryPlan
    within: float = 0.0
    until: float = float("inf")
    number: int = 0

    async def answer(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Raises what the last attempt does: Unreachable, TimeoutError, or what is final."""
        delays = self.retry.delays()
        while True:
            self.number += 1
            last = self.number >= self.retry.attempts
            pause = 0.0 if last else delays[self.number - 1]
            try:
                async with asyncio.timeout(self.within or None):
                    answer = await ask()
            except (Unreachable, TimeoutError) as fault:
                final = isinstance(fault, Unreachable) and not fault.again
                if last or final or not self._has_time(pause):
                    raise
            else:
                pause = max(pause, retry_after(answer.headers) or 0.0)
                if last or answer.status not in TRANSIENT or not self._has_time(pause):
                    return answer
            await asyncio.sleep(pause)

    def _has_time(self, pause: float) -> bool:
        ends = asyncio.get_running_loop().time() + pause
        return pause <= self.retry.maximum and ends < self.until


def retry_after(headers: httpx.Headers) -> float | None:
    """The seconds that a server wants to be left alone for; it says so, or until when."""
    told = headers.get("retry-after", "").strip()
    if told.isdecimal():
        return float(told[:9])
    if not told:
        return None
    try:
        when = parsedate_to_datetime(told)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, when.timestamp() - time.time())
