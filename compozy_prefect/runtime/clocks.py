"""The times that run for a step and for the calls inside of it: they can be made to stand still."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Clocks:
    """The clocks of one step, of the calls that it makes, and of the tasks that it calls."""

    def __init__(self) -> None:
        self._running: list[asyncio.Timeout] = []
        self._left: dict[asyncio.Timeout, float | None] = {}
        self._stops = 0

    @contextmanager
    def running(self, clock: asyncio.Timeout) -> Iterator[None]:
        """`clock`, which has been entered, is one of them meanwhile."""
        self._running.append(clock)
        try:
            yield
        finally:
            self._running.remove(clock)
            self._left.pop(clock, None)

    @contextmanager
    def still(self) -> Iterator[None]:
        """None of them goes on meanwhile: a person is asked, who may take as long as it takes."""
        now = asyncio.get_running_loop().time
        self._stops += 1
        for clock in self._running:
            if clock not in self._left:
                ends = clock.when()
                self._left[clock] = None if ends is None else ends - now()
                clock.reschedule(None)
        try:
            yield
        finally:
            self._stops -= 1
            if not self._stops:
                for clock, left in self._left.items():
                    clock.reschedule(None if left is None else now() + left)
                self._left.clear()
