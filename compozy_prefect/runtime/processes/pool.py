"""The processes of equal calls: each makes one call at a time, and is used again.

One pool serves all event loops of this process. A call that finds all processes busy waits a
moment, about as long as a new one takes to start, before it starts one: quick calls share few, slow
ones get more. What a call broke is replaced by the next that needs it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import NamedTuple, Protocol

from compozy_prefect.runtime.processes.watchdog import Watchdog
from compozy_prefect.runtime.processes.worker import CallFailed, Worker

MOST = 8  # processes of one pool
MOST_IDLE = 16  # processes that wait, in all pools
_PATIENCE = 0.025  # seconds
_AT_ONCE = max(1, min(os.cpu_count() or 1, MOST))  # of quick calls, which need processors


class Launch(Protocol):
    """How a process is started. Calls with equal ones may share it."""

    def start(self) -> Worker:
        """A new process. Blocks for some milliseconds. Raises CallFailed."""
        ...

    def __hash__(self) -> int: ...


class _Waiter(NamedTuple):
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Worker]


class Pool:
    """The processes of one `Launch`."""

    def __init__(self, launch: Launch, pools: Pools) -> None:
        self.idle: list[Worker] = []
        self.is_closed = False  # what comes in then, or is started, ends
        self._launch, self._pools = launch, pools
        self._count = 0
        self._is_starting = False
        self._given = 0.0  # when a call ended
        self._waiting: deque[_Waiter] = deque()

    async def take(self) -> Worker:
        """A process for one call, which `give` takes back. Raises CallFailed."""
        loop = asyncio.get_running_loop()
        with self._pools.lock:
            while self.idle:
                worker = self.idle.pop()
                if worker.is_alive:
                    self._pools.watchdog.wake()
                    return worker
                self._drop(worker)
            waiter = None
            if self._count or self._is_starting:
                waiter = _Waiter(loop, loop.create_future())
                if not self._waiting:
                    loop.call_later(_PATIENCE, self._look, loop)
                self._waiting.append(waiter)
            else:
                self._begin()
        if waiter is None:
            return await self._start()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled():
                self.give(waiter.future.result())  # it came together with the end
            raise

    def give(self, worker: Worker) -> None:
        with self._pools.lock:
            self._given = time.monotonic()
            if self.is_closed or not worker.is_fit():
                self._drop(worker)
                self._replace()
            elif not self._hand(worker):
                worker.rest()
                self.idle.append(worker)
        self._pools.trim()

    @property
    def is_empty(self) -> bool:
        return not (self._count or self._is_starting or self._waiting)

    def drop(self) -> Worker | None:
        """Takes the process that has waited longest out of the pool, under the lock."""
        if not self.idle:
            return None
        self._count -= 1
        return self.idle.pop(0)

    # Under the lock

    def _hand(self, worker: Worker) -> bool:
        while self._waiting:
            loop, future = self._waiting.popleft()
            if future.cancelled():
                continue
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(self._tell, future, worker)
                self._pools.watchdog.wake()
                return True
        return False

    def _replace(self) -> None:
        """Sees to it that those who wait get a process when none is left."""
        while self._waiting and not (self._count or self._is_starting):
            with suppress(RuntimeError):
                self._waiting[0].loop.call_soon_threadsafe(self._look, self._waiting[0].loop)
                return
            self._waiting.popleft()

    def _begin(self) -> None:
        self._count += 1
        self._is_starting = True

    def _drop(self, worker: Worker) -> None:
        self._count -= 1
        self._pools.end(worker)

    # In an event loop

    def _tell(self, future: asyncio.Future[Worker], worker: Worker) -> None:
        if future.done():
            self.give(worker)
        else:
            future.set_result(worker)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts a process for those who wait, when those there are take long."""
        with self._pools.lock:
            if not self._waiting:
                return
            stalled = time.monotonic() - self._given > _PATIENCE
            most = MOST if stalled else _AT_ONCE
            grows = not self._is_starting and self._count < most
            if grows:
                self._begin()
            loop.call_later(_PATIENCE, self._look, loop)
        if grows:
            task = loop.create_task(self._grow())
            self._pools.growing.add(task)
            task.add_done_callback(self._pools.growing.discard)

    async def _grow(self) -> None:
        try:
            self.give(await self._start())
        except CallFailed as fault:
            with self._pools.lock:
                waiting, self._waiting = self._waiting, deque()
            for waiter in waiting:
                with suppress(RuntimeError):
                    waiter.loop.call_soon_threadsafe(_refuse, waiter.future, fault)

    async def _start(self) -> Worker:
        starting = asyncio.ensure_future(asyncio.to_thread(self._launch.start))
        worker: Worker | None = None
        try:
            worker = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._unwanted)  # it starts all the same
            raise
        finally:
            with self._pools.lock:
                self._is_starting = False
                if worker is None:
                    self._count -= 1
                    self._replace()
        self._pools.watchdog.add(worker)
        if self.is_closed:
            self._pools.end(worker)
            raise CallFailed("exit", "its process was ended")
        return worker

    def _unwanted(self, starting: asyncio.Future[Worker]) -> None:
        if not starting.cancelled() and starting.exception() is None:
            self._pools.end(starting.result())


def _refuse(future: asyncio.Future[Worker], fault: CallFailed) -> None:
    if not future.done():
        future.set_exception(fault)


class Pools:
    """All pools of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.watchdog = Watchdog()
        self.growing: set[asyncio.Task[None]] = set()
        self._pools: dict[Launch, Pool] = {}

    def of(self, launch: Launch) -> Pool:
        with self.lock:
            pool = self._pools.pop(launch, None) or Pool(launch, self)
            self._pools[launch] = pool  # the one that was used last is the last
            return pool

    def trim(self) -> None:
        """Ends what waits beyond the bound, in pools that were used long ago."""
        with self.lock:
            idle = sum(len(pool.idle) for pool in self._pools.values())
            for pool in self._pools.values():
                while idle > MOST_IDLE and (worker := pool.drop()) is not None:
                    self.end(worker)
                    idle -= 1
            self._pools = {k: pool for k, pool in self._pools.items() if not pool.is_empty}

    def end(self, worker: Worker) -> None:
        """Ends a process that has left its pool; who waits for it is not the caller."""
        worker.kill("dropped")
        self.watchdog.remove(worker)
        threading.Thread(target=worker.close, name="tools-end", daemon=True).start()

    def close(self) -> None:
        """Ends all of them; for the end of this process."""
        with self.lock:
            for pool in self._pools.values():
                pool.is_closed = True
            self._pools.clear()
        left = self.watchdog.all
        for worker in left:
            worker.kill("closed")
        for worker in left:
            worker.close()
            self.watchdog.remove(worker)

    def forget(self) -> None:
        """In a child that was forked: the processes are the parent's."""
        for pool in self._pools.values():
            for worker in pool.idle:
                worker.forget()
        self.__init__()  # type: ignore[misc]


POOLS = Pools()
atexit.register(POOLS.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOLS.forget)
