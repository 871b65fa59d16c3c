"""Steps that run at the same time: the strategies of language.md §3.3, over Prefect's task runner.

The outermost fan-out of a flow is mapped: each batch of steps is a mapped task run, whose function
hands the steps to the event loop of the flow and waits for them. A fan-out inside another one runs
in the batch that it stands in, since a batch that waited for further ones could wait for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError as FutureCancelled
from dataclasses import dataclass
from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.context import SyncClientContext
from prefect.states import Cancelled

from compozy_prefect.runtime.outcome import TaskState

BATCH = 500  # steps of a mapped task run

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


class FanOut:
    """The run of some units. `name` is shown, `limit` 0 for all at a time."""

    def __init__(
        self, units: Sequence[Unit], strategy: str, *, name: str, limit: int, sequential: bool
    ) -> None:
        self._units = units
        self._strategy = strategy
        self._name = name
        self._slots = asyncio.Semaphore(1 if sequential else limit or max(len(units), 1))
        self._states: list[TaskState | None] = [None] * len(units)
        self._ended = [asyncio.Event() for _ in units]
        self._news: asyncio.Queue[int] = asyncio.Queue()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._stop: str | None = None
        self.first: TaskState | None = None  # the unit that ended before all others

    async def run(self, *, mapped: bool) -> list[TaskState]:
        """The states of all units, in their order; of those not needed any more, too."""
        if not self._units:
            return []
        size = len(self._units) if any(unit.needs for unit in self._units) else BATCH
        batches = [
            range(at, min(at + size, len(self._units))) for at in range(0, len(self._units), size)
        ]
        work = self._map(batches) if mapped else self._inline(batches)
        body = asyncio.ensure_future(work)
        try:
            await self._decided(body)
            await body
        except asyncio.CancelledError as stop:
            self._end(str(stop) or "cancelled")
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
            if state.ok and self._strategy in _FIRST_SUCCESS:
                return self._end(f"lost the race to `{state.id}`")
            if not state.ok and self._strategy in _FIRST_FAILURE:
                return self._end(f"`{state.id}` failed")
            if self._strategy == "wait_first":
                return self._end(f"`{state.id}` ended first")

    def _end(self, reason: str) -> None:
        self._stop = reason
        for task in list(self._running.values()):
            task.cancel(reason)

    async def _inline(self, batches: list[range]) -> None:
        await asyncio.gather(*(self._batch(batch) for batch in batches))

    async def _map(self, batches: list[range]) -> None:
        loop = asyncio.get_running_loop()

        named = {self._title(batch, len(batches)): batch for batch in batches}

        def run(title: str) -> Any:
            waiting = asyncio.run_coroutine_threadsafe(self._batch(named[title]), loop)
            try:
                waiting.result()
            except FutureCancelled:
                return Cancelled(message=self._stop or "cancelled")
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

    async def _batch(self, batch: range) -> None:
        tasks = [asyncio.create_task(self._one(index)) for index in batch]
        await asyncio.gather(*tasks)

    async def _one(self, index: int) -> None:
        unit = self._units[index]
        task = asyncio.current_task()
        assert task is not None
        self._running[index] = task
        try:
            for needed in unit.needs:
                await self._ended[needed].wait()
            async with self._slots:
                state = unit.skip(self._stop) if self._stop is not None else await unit.run()
        except asyncio.CancelledError:
            if self._stop is None:
                raise
            state = unit.skip(self._stop)
        finally:
            self._running.pop(index, None)
        self._states[index] = state
        self.first = self.first or state
        self._ended[index].set()
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
