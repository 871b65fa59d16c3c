"""A task runner of Prefect with workers in other processes: Dask or Ray, started when it is needed.

What both have in common is Prefect's `TaskRunner`; what they have not is here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import cache, partial
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from prefect import Task
from prefect.context import FlowRunContext, SyncClientContext
from prefect.task_runners import TaskRunner

from compozy_prefect.compiler.plan import RunnerPlan
from compozy_prefect.errors import RunError
from compozy_prefect.flows.runners import DASK

_T = TypeVar("_T")

# Of a worker that is started here. They only wait for the event loop of their process, so that
# more of them than cores let a large fan-out come in smaller batches.
_THREADS = 4
_CONNECTING = 15  # seconds


class Room(NamedTuple):
    """What a cluster has at the moment: processes, and batches that run at the same time."""

    workers: int
    slots: int


class Cluster:
    """The workers of one execution; executions of a process that want the same share them."""

    def __init__(self, wanted: RunnerPlan) -> None:
        self._wanted = wanted
        self._entered: asyncio.Future[TaskRunner[Any]] | None = None

    def __str__(self) -> str:
        at = f" at {self._wanted.address}" if self._wanted.address else ""
        return f"the {self._wanted.type.capitalize()} cluster{at}"

    async def room(self) -> Room:
        """Raises RunError when the cluster cannot be started, or reached."""
        runner = await self._runner()
        return await in_thread(lambda: _room(self._wanted, runner))

    async def map(
        self, task: Task[..., Any], context: FlowRunContext, given: dict[str, Any]
    ) -> list[asyncio.Future[Any]]:
        """Maps the task over the values, as runs of tasks of the flow run of `context`."""
        runner = await self._runner()

        def submit() -> list[Any]:
            with context, SyncClientContext.get_or_create():
                return list(runner.map(task, given))

        return [in_thread(future.result) for future in await in_thread(submit)]

    async def close(self) -> None:
        """Ends what was started here, when no other execution needs it."""
        if self._entered is None:
            return
        with suppress(RunError):  # it was told when the cluster was needed
            await self._entered
            await in_thread(lambda: _leave(self._wanted), kept=True)

    async def _runner(self) -> TaskRunner[Any]:
        if self._entered is None or (self._entered.done() and self._entered.exception()):
            self._entered = in_thread(lambda: _enter(self._wanted), kept=True)
        # Whoever waits may be cancelled; the cluster is there to be closed all the same.
        return await asyncio.shield(self._entered)


# Of this process: a runner and how many executions use it. Ray has one cluster a process. Only the
# thread that is kept reads and writes it.
_HELD: dict[RunnerPlan, tuple[TaskRunner[Any], int]] = {}


def _enter(wanted: RunnerPlan) -> TaskRunner[Any]:
    runner, users = _HELD.get(wanted, (None, 0))
    if runner is None:
        try:
            runner = _started(wanted)
        except Exception as fault:
            raise _unavailable(wanted, fault) from fault
    _HELD[wanted] = runner, users + 1
    return runner


def _leave(wanted: RunnerPlan) -> None:
    runner, users = _HELD[wanted]
    if users > 1:
        _HELD[wanted] = runner, users - 1
        return
    del _HELD[wanted]
    runner.__exit__(None, None, None)


def _started(wanted: RunnerPlan) -> TaskRunner[Any]:
    workers = wanted.workers or os.cpu_count() or 1
    runner: TaskRunner[Any] = (_dask if wanted.type == DASK else _ray)(wanted, workers)
    runner.__enter__()
    try:
        _room(wanted, runner)  # Dask connects when it is asked for something
    except BaseException:
        runner.__exit__(None, None, None)
        raise
    return runner


def _dask(wanted: RunnerPlan, workers: int) -> Any:
    from prefect_dask import DaskTaskRunner

    if wanted.address:
        return DaskTaskRunner(address=wanted.address, client_kwargs={"timeout": _CONNECTING})
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": workers,
            "threads_per_worker": _THREADS,
            "dashboard_address": "127.0.0.1:0",
            # Others on this machine can reach the ports: without TLS they could run anything.
            "security": True,
            "silence_logs": logging.CRITICAL,
        }
    )


def _ray(wanted: RunnerPlan, workers: int) -> Any:
    from prefect_ray import RayTaskRunner

    # What workers print would mix with the result on stdout.
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if wanted.address == "auto":  # the runner of Prefect would start one
        return RayTaskRunner(init_kwargs={**options, "address": "auto"})
    if wanted.address:
        return RayTaskRunner(address=wanted.address, init_kwargs=options)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options |= {"num_cpus": workers, "include_dashboard": False}
    return RayTaskRunner(address="local", init_kwargs=options)


def _room(wanted: RunnerPlan, runner: Any) -> Room:
    if wanted.type == DASK:
        threads = runner.client.nthreads()
        return Room(len(threads), sum(threads.values()))
    import ray

    # A task has a core, and a process, of its own.
    cores = int(ray.cluster_resources().get("CPU", 0))
    return Room(cores, cores)


def _unavailable(wanted: RunnerPlan, fault: Exception) -> RunError:
    reason = str(fault) or type(fault).__name__
    name = wanted.type.capitalize()
    if wanted.address:
        message = f"the {name} cluster at {wanted.address} cannot be reached: {reason}"
    else:
        message = (
            f"no {name} cluster could be started on this machine: {reason}; a script that calls "
            "`run` has to do so under `if __name__ == '__main__':`, since workers import it"
        )
    return RunError(message, code="CLUSTER_UNAVAILABLE")


def in_thread(call: Callable[[], _T], *, kept: bool = False) -> asyncio.Future[_T]:
    """What `call` gives, from a thread of its own, for which nothing waits at the end.

    `kept`: from one that lives as long as the process, one call after another.
    """
    loop = asyncio.get_running_loop()
    promise: asyncio.Future[_T] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        if not promise.done():  # or whoever waited was cancelled
            settled()

    def run() -> None:
        try:
            settled = partial(promise.set_result, call())
        except BaseException as fault:
            settled = partial(promise.set_exception, fault)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, settled)

    in_context = partial(copy_context().run, run)
    if kept:
        _keeper().put(in_context)
    else:
        threading.Thread(target=in_context, daemon=True).start()
    return promise


@cache
def _keeper() -> SimpleQueue[Callable[[], None]]:
    """The calls of a thread that does not end: what Ray starts dies with the thread it is from."""
    calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def keep() -> None:
        while True:
            calls.get()()

    threading.Thread(target=keep, name="compozy-cluster", daemon=True).start()
    return calls
