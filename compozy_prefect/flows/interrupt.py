"""Ctrl-C and SIGTERM → the end of a run, in a process that has no event loop of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from compozy_prefect.flows.engine import Cancellation, own_signals

_T = TypeVar("_T")

INTERRUPTED = "interrupted"
INTERRUPTED_CODE = 130  # exit code, design.md
# Seconds in which a second signal says nothing new: a terminal signals the whole group, and a
# parent in it, such as `make` or `timeout`, hands the signal on.
SAME_WISH = 1.0


def interruptible(work: Callable[[Cancellation], Awaitable[_T]]) -> _T:
    """Runs `work` in an event loop of its own.

    The first Ctrl-C or SIGTERM cancels the run, which then has the status CANCELED; another, a
    moment later, ends the process at once.
    """
    cancellation = Cancellation()
    first = 0.0

    async def main() -> _T:
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            nonlocal first
            if cancellation.reason is None:
                first = time.monotonic()
                cancellation.request(INTERRUPTED)
            elif time.monotonic() - first > SAME_WISH:
                sys.stderr.write(
                    "interrupted again; Prefect may go on to show the run as running\n"
                )
                sys.stderr.flush()
                os._exit(INTERRUPTED_CODE)

        with own_signals(), _handled(loop, interrupt):
            return await work(cancellation)

    return asyncio.run(main())


@contextmanager
def _handled(loop: asyncio.AbstractEventLoop, interrupt: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `interrupt`; what handled them before does so again afterwards."""
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        previous = signal.getsignal(number)
        try:
            loop.add_signal_handler(number, interrupt)
        except (NotImplementedError, RuntimeError, ValueError):
            continue  # Windows, or not the main thread
        before[number] = previous
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
