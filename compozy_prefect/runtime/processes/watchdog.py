"""What a process of tools takes, measured from outside: memory and processor time.

A thread of its own looks every 20 ms while tools run: an event loop that is busy would look late,
and bounds within the engine miss what lies outside of its heap.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from typing import Protocol

BUSY_SECONDS = 0.02
IDLE_SECONDS = 1.0
LIFE_SECONDS = 3600
"""Seconds of processor time that a process may take in all: a bound that it cannot lift."""

_LINUX = sys.platform == "linux"
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Watched(Protocol):
    pid: int
    memory_limit: int
    processor_end: float

    def kill(self, why: str) -> None: ...

    def close(self) -> None: ...

    def look(self, now: float) -> bool:
        """Ends it if it is idle for long; whether it is busy."""
        ...


def memory(pid: int) -> int:
    """Bytes in memory; 0 where nothing is known, such as of a process that is over."""
    if not _LINUX:
        return 0
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def processor_seconds(pid: int) -> float:
    """Of all threads; 0 where nothing is known."""
    if not _LINUX:
        return 0.0
    try:
        return time.clock_gettime((~pid << 3) | 2)  # the clock of another process
    except OSError:
        return 0.0


def bound(pid: int, *, data: int) -> None:
    """For what grows faster than it is looked at, and for a process whose parent is gone."""
    for name, amount in (("DATA", data), ("CPU", LIFE_SECONDS), ("CORE", 0)):
        _set(pid, name, amount, amount)


def bound_processor(pid: int, end: float) -> None:
    """The kernel ends the process at `end`, in seconds that it has taken, or a second later."""
    _set(pid, "CPU", min(int(end) + 1, LIFE_SECONDS), LIFE_SECONDS)


def _set(pid: int, name: str, soft: int, hard: int) -> None:
    if _LINUX:
        import resource

        with suppress(OSError, ValueError):
            resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"), (soft, hard))


class Watchdog:
    """Looks after the processes it was given, until they are taken away."""

    def __init__(self) -> None:
        self._all: dict[int, Watched] = {}
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, one: Watched) -> None:
        with self._lock:
            self._all[one.pid] = one
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="tools", daemon=True)
                self._thread.start()
        self._awake.set()

    def remove(self, one: Watched) -> None:
        with self._lock:
            self._all.pop(one.pid, None)

    @property
    def all(self) -> list[Watched]:
        with self._lock:
            return [*self._all.values()]

    def wake(self) -> None:
        """A tool begins."""
        if not self._awake.is_set():
            self._awake.set()

    def _run(self) -> None:
        while True:
            self._awake.clear()
            with self._lock:
                watched = [*self._all.values()]
                if not watched:
                    self._thread = None
                    return
            now, busy = time.monotonic(), False
            for one in watched:
                busy |= one.look(now)
                if memory(one.pid) > one.memory_limit:
                    one.kill("memory")
                elif processor_seconds(one.pid) > one.processor_end:
                    one.kill("cpu")
            if busy:
                time.sleep(BUSY_SECONDS)
            else:
                self._awake.wait(IDLE_SECONDS)
