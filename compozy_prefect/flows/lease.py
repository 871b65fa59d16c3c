"""Who has an execution: processes come in; one at a time may write its journal and begin effects.

A process that is silent need not be dead: it may be stopped, swapped out or cut off from the
server, and go on at any moment. So an execution is had in terms, numbered from 1, and a row of the
flow run's input begins each: it exists once, whatever two processes try, and the server's order is
everybody's. The process of a term asks whether there is a later one. The answer is good for
`LEASE` seconds from when it was asked, which a process measures by its own clock. Whoever takes the
execution over waits as long from when its term began, unless the other has said that it left.

The execution of a local run is held by the lock of its file besides (`flows.executions`), which the
kernel frees with the process: its terms only keep two journals apart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRunInput
from prefect.exceptions import PrefectHTTPStatusError

from compozy_prefect.flows import rows

_log = logging.getLogger(__name__)

FIRST = 1  # the term of the process that created a local run, which needs no row
LEASE = 10.0  # seconds for which it is good to have asked
_MARGIN = 1.0  # seconds that something may take to begin
_ASK_EVERY = 1.0  # seconds between two questions to a server that does not answer

PROCESS, CLOSED, LEFT = "process", "closed", "left"  # who begins a term


async def begin(client: PrefectClient, flow_run: UUID, *, after: int = FIRST) -> int:
    """Takes the execution over; the number of the term.

    `after` is a term that is known to be there, and only saves questions.
    """
    return await _begin(client, flow_run, PROCESS, after)


async def overlap(client: PrefectClient, flow_run: UUID, number: int) -> float:
    """The seconds from when this term began in which the process before may still begin something.

    It was told by the row after its own, which may be older than ours. Both times are the server's.
    """
    own = later = await rows.read(client, flow_run, key(number))
    for before in range(number - 1, FIRST, -1):
        row = await rows.read(client, flow_run, key(before))
        if row is None or row.value == LEFT:
            return 0.0
        if row.value == PROCESS:
            return LEASE - _seconds_between(later, own)
        later = row
    return 0.0


async def close(client: PrefectClient, flow_run: UUID, *, after: int = FIRST) -> None:
    """Ends the term of whatever process has the execution, for one that is yet to start."""
    await _begin(client, flow_run, CLOSED, after)


async def leave(client: PrefectClient, flow_run: UUID, number: int) -> None:
    """Says that the process of this term begins nothing any more: nobody need wait for it."""
    await rows.add(client, flow_run, key(number + 1), LEFT)  # unless the next one has begun


def key(number: int) -> str:
    """The key of the row that begins a term."""
    return f"compozy-term-{number:06}"


def clock() -> float:
    """Seconds, also those in which the machine slept, where the system counts them."""
    name = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(name)


class Lease:
    """The term of this process, as long as it may act in it.

    `lost` is called when there is a later one, and does not come back.
    """

    def __init__(
        self,
        client: PrefectClient,
        flow_run: UUID,
        number: int,
        lost: Callable[[], Awaitable[None]],
    ) -> None:
        self.number = number
        self._client, self._flow_run, self._lost = client, flow_run, lost
        self._asked = clock() - LEASE
        self._is_over = False

    async def permit(self) -> None:
        """Returns when this process may begin something: at once, if it has asked just now.

        A server that does not answer is waited for: another process may have the execution.
        """
        told = False
        while not self._is_fresh():
            try:
                await self._ask()
            except (httpx.TransportError, PrefectHTTPStatusError) as fault:
                if not told:
                    _log.warning("no step begins before the Prefect server answers: %s", fault)
                told = True
                await asyncio.sleep(_ASK_EVERY)
        if self._is_over:
            await asyncio.Event().wait()  # the process is about to end

    async def holds(self) -> bool:
        """Whether the execution is ours for sure. Waits for no server that does not answer."""
        with suppress(httpx.TransportError, PrefectHTTPStatusError):
            if not self._is_fresh():
                await self._ask()
        return self._is_fresh() and not self._is_over

    def _is_fresh(self) -> bool:
        return self._is_over or clock() - self._asked <= LEASE - _MARGIN

    async def _ask(self) -> None:
        asked = clock()
        if await rows.value(self._client, self._flow_run, key(self.number + 1)) is not None:
            self._is_over = True
            await self._lost()
        self.renew(asked)

    def renew(self, asked: float) -> None:
        """Somebody has asked at that time, by `clock`, and there was no later term."""
        self._asked = max(self._asked, asked)

    def end(self) -> None:
        """Lets nothing begin any more."""
        self._is_over = True


async def _begin(client: PrefectClient, flow_run: UUID, by: str, after: int) -> int:
    """Begins the next term; its number. There is a row for every term after the first."""
    number = after + 1
    while not await rows.add(client, flow_run, key(number), by):
        number += 1
    return number


def _seconds_between(one: FlowRunInput | None, other: FlowRunInput | None) -> float:
    if one is None or other is None or one.created is None or other.created is None:
        return 0.0
    return min(max((other.created - one.created).total_seconds(), 0.0), LEASE)
