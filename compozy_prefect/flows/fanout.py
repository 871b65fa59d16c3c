"""Steps that run at the same time: the strategies of language.md §3.3, over Prefect's task runner.

The outermost fan-out of a flow is mapped: each batch of steps is a mapped task run, whose function
hands the steps to the event loop of the flow and waits for them. A fan-out inside another one runs
in the batch that it stands in, since a batch that waited for further ones could wait for ever.

Batches may also run in other processes (`flows.dispatch`), where each is a fan-out like this one.
What decides a strategy decides it in any of its batches, so that none has to ask the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import CancelledError as FutureCancelled
from dataclasses import dataclass
from typing import Any, Protocol

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.context import SyncClientContext
from prefect.states import Cancelled

from compozy_prefect.runtime.outcome import TaskState

BATCH = 500  # steps of a mapped task run

# The clock of the machine may be set back, in which what ended first is to stay the first.
_STARTED = time.time() - time.monotonic()

_FIRST_FAILURE = {"fail_fast"}
_FIRST_SUCCESS = {"race", "wait_any"}


@dataclass(frozen=True, slots=True)
class Unit:
    """One step of a fan-out. `needs` are the positions of those that must have ended before it.

    `run` starts it, and `skip` gives its state when it is not started, or cancelled, and why.
    """

    run: Callable[[], Awaitable[TaskState]]
    skip: Callable[[str], TaskState]
    needs: tuple[int, ...] = ()


# Told of a unit by its position: how it ended, and when, in seconds since 1970.
Ended = Callable[[int, TaskState, float], None]


class Elsewhere(Protocol):
    """Runs some units of a fan-out in other processes."""

    @property
    def units(self) -> Collection[int]:
        """Their positions."""
        ...

    async def run(self, ended: Ended) -> None:
        """Tells how each has ended; of some it may not know after a `stop`."""
        ...

    def stop(self, reason: str) -> None:
        """Has the others end what has not ended."""
        ...


class FanOut:
    """The run of some units. `name` is shown, `limit` 0 for all at a time.

    `ended` has when each did that has ended, by its position, in seconds since 1970; `stopped` says
    why the others were not needed, if so.
    """

    def __init__(
        self, units: Sequence[Unit], strategy: str, *, name: str, limit: int, sequential: bool
    ) -> None:
        self._units = units
        self._strategy = strategy
        self._name = name
        self._slots = asyncio.Semaphore(1 if sequential else limit or max(len(units), 1))
        self._states: list[TaskState | None] = [None] * len(units)
        self._over = [asyncio.Event() for _ in units]
        self._news: asyncio.Queue[int] = asyncio.Queue()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._elsewhere: Elsewhere | None = None
        self.stopped: str | None = None
        self.ended: dict[int, float] = {}

    @property
    def first(self) -> TaskState | None:
        """How the unit ended that did before all others."""
        return self._states[min(self.ended, key=self.ended.__getitem__)] if self.ended else None

    async def run(self, *, mapped: bool, elsewhere: Elsewhere | None = None) -> list[TaskState]:
        """The states of all units, in their order; of those not needed any more, too."""
        if not self._units:
            return []
        work = self._shared(elsewhere) if elsewhere else self._map() if mapped else self._inline()
        body = asyncio.ensure_future(work)
        try:
            await self._decided(body)
            await body
        except asyncio.CancelledError as stop:
            self.end(str(stop) or "cancelled")
            await asyncio.wait([body])
            raise
        return [state for state in self._states if state is not None]

    def done(self) -> float:
        """The share of the units that have ended, between 0 and 1."""
        return sum(state is not None for state in self._states) / max(len(self._states), 1)

    async def _decided(self, body: asyncio.Future[None]) -> None:
        """Waits until the strategy has what it wants, and ends the rest."""
        for _ in self._units:
            news = asyncio.ensure_future(self._news.get())
            waited: list[asyncio.Future[Any]] = [news, body]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not news.done():
                news.cancel()
                return  # the body failed, and says why
            state = self._states[news.result()]
            assert state is not None
            if self.stopped is not None:
                return  # it was ended from outside
            if state.ok and self._strategy in _FIRST_SUCCESS:
                return self.end(f"lost the race to `{state.id}`")
            if not state.ok and self._strategy in _FIRST_FAILURE:
                return self.end(f"`{state.id}` failed")
            if self._strategy == "wait_first":
                return self.end(f"`{state.id}` ended first")

    def end(self, reason: str) -> None:
        """Cancels what has not ended; the first reason counts."""
        self.stopped = reason = self.stopped or reason
        for task in list(self._running.values()):
            task.cancel(reason)
        if self._elsewhere is not None:
            self._elsewhere.stop(reason)

    async def _inline(self) -> None:
        await self._batch(range(len(self._units)))

    async def _shared(self, elsewhere: Elsewhere) -> None:
        """Runs here what does not run elsewhere."""
        self._elsewhere = elsewhere
        here = [index for index in range(len(self._units)) if index not in elsewhere.units]
        near = asyncio.ensure_future(self._batch(here))
        try:
            await elsewhere.run(self._note)
        except Exception:
            self.end("the others failed")
            raise
        finally:
            await near
        for index in elsewhere.units:
            if self._states[index] is None:
                state = self._units[index].skip(self.stopped or "cancelled")
                self._note(index, state, _STARTED + time.monotonic())

    async def _map(self) -> None:
        loop = asyncio.get_running_loop()
        count = len(self._units)
        size = count if any(unit.needs for unit in self._units) else BATCH
        batches = [range(at, min(at + size, count)) for at in range(0, count, size)]
        named = {self._title(batch, len(batches)): batch for batch in batches}

        def run(title: str) -> Any:
            waiting = asyncio.run_coroutine_threadsafe(self._batch(named[title]), loop)
            try:
                waiting.result()
            except FutureCancelled:
                return Cancelled(message=self.stopped or "cancelled")
            return None

        task = Task(
            run,
            name=self._name,
            task_run_name="{title}",
            persist_result=False,
            cache_policy=NO_CACHE,
        )
        # Without a client in the context every mapped task run makes its own, with a TLS context.
        with SyncClientContext.get_or_create():
            futures = task.map(list(named))
            await asyncio.shield(asyncio.to_thread(lambda: [f.wait() for f in futures]))
        for future in futures:
            if future.state.is_failed() or future.state.is_crashed():
                await future.state.aresult()

    def _title(self, batch: range, count: int) -> str:
        steps = "" if count == 1 else f" {batch.start}-{batch.stop - 1}"
        return f"{self._name}: steps{steps}"

    async def _batch(self, batch: Sequence[int]) -> None:
        tasks = [asyncio.create_task(self._one(index)) for index in batch]
        await asyncio.gather(*tasks)

    async def _one(self, index: int) -> None:
        unit = self._units[index]
        task = asyncio.current_task()
        assert task is not None
        self._running[index] = task
        try:
            for needed in unit.needs:
                await self._over[needed].wait()
            async with self._slots:
                stop = self.stopped
                state = unit.skip(stop) if stop is not None else await unit.run()
        except asyncio.CancelledError:
            if self.stopped is None:
                raise
            state = unit.skip(self.stopped)
        finally:
            self._running.pop(index, None)
        self._note(index, state, _STARTED + time.monotonic())

    def _note(self, index: int, state: TaskState, when: float) -> None:
        self._states[index] = state
        self.ended[index] = when
        self._over[index].set()
        self._news.put_nowait(index)


def succeeded(states: Sequence[TaskState], strategy: str, first: TaskState | None) -> bool:
    """Whether a container whose steps ended like this has succeeded (language.md §3.3).

    `first` is the one that ended before all others, which decides under `wait_first`.
    """
    if strategy == "wait_first":
        return first is None or first.ok
    if strategy in ("best_effort", "race", "wait_any"):
        return any(state.ok for state in states) or not states
    return all(state.ok for state in states)
