"""Whether a run does anything, or only waits for signals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Activity:
    """Counts what one execution does at the moment beside waiting for signals.

    Attempts count with the pauses between them, and so does a container whose time runs: a process
    that ends then would lose an effect, or the time that is left.
    """

    def __init__(self) -> None:
        self._busy = 0
        self._changed = time.monotonic()

    @contextmanager
    def work(self) -> Iterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self.touch()

    @contextmanager
    def rest(self) -> Iterator[None]:
        """What is at work waits for a person meanwhile, and loses nothing if the process ends."""
        self._busy -= 1
        self.touch()
        try:
            yield
        finally:
            self._busy += 1
            self.touch()

    def touch(self) -> None:
        """Something went on: a wait began, or a signal came."""
        self._changed = time.monotonic()

    @property
    def idle(self) -> bool:
        return self._busy == 0

    def idle_seconds(self) -> float:
        """How long the execution has only been waiting; 0 while it does anything."""
        return time.monotonic() - self._changed if self.idle else 0.0
