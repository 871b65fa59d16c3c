"""The runs that the signals of a run start, in the same process (language.md §3.9)."""

from __future__ import annotations

import asyncio
import logging
from contextvars import copy_context
from typing import Any, Protocol

from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import CompozyError, UsageError
from compozy_prefect.flows.executions import Executions
from compozy_prefect.flows.observer import Observer
from compozy_prefect.runtime.services import Services

_log = logging.getLogger(__name__)


class AlreadyBegun(UsageError):
    """There is a run with this key already."""

    def __init__(self, execution: str, key: str) -> None:
        super().__init__(f"execution {execution} has begun already")
        self.execution, self.key = execution, key


class Begin(Protocol):
    """Runs a workflow of the plan to its end, as `flows.run` does. Raises AlreadyBegun."""

    async def __call__(
        self, workflow_id: str, input: dict[str, Json], *, observer: Observer, key: str
    ) -> Any: ...


class Listeners:
    """The runs that were started by signals: independent of the run that sent them."""

    def __init__(self, begin: Begin, services: Services) -> None:
        self._begin, self._services = begin, services
        # Outside of the flow run, so that what is started here is no part of it.
        self._context = copy_context()
        self._runs: set[asyncio.Task[None]] = set()

    async def start(self, workflow_id: str, payload: dict[str, Json], key: str) -> None:
        """Returns when Prefect has the run, which can be resumed then. One `key`, one run.

        A run that was started before, by a process that died with it, is carried on.
        """
        begun = _Begun()
        body = self._run(workflow_id, payload, key, begun)
        context = self._context.copy()
        task = asyncio.get_running_loop().create_task(body, context=context)
        self._runs.add(task)
        task.add_done_callback(begun.set)
        await begun.wait()

    async def _run(
        self, workflow_id: str, payload: dict[str, Json], key: str, begun: Observer
    ) -> None:
        try:
            try:
                await self._begin(workflow_id, payload, observer=begun, key=key)
            except AlreadyBegun as known:
                await self._carry_on(known, begun)
        except CompozyError as fault:
            _log.warning("the signal did not start '%s': %s", workflow_id, fault)

    async def _carry_on(self, known: AlreadyBegun, begun: Observer) -> None:
        from compozy_prefect.flows.resume import is_over, resume  # which needs `flows.run`

        executions = Executions.here()
        id = known.execution
        record = executions.find(id) or executions.adopt(known.key, id)
        if record is None or executions.holder(id) is not None or await is_over(id):
            return
        await resume(record, executions.plan_of(record), services=self._services, observer=begun)

    async def ended(self) -> None:
        while self._runs:
            done, self._runs = self._runs, set()
            await asyncio.gather(*done)


class _Begun:
    """An observer that waits until a run has begun."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self, _: object) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()

    def run_started(self, execution_id: str, ui_url: str) -> None:
        self._event.set()

    def step_started(self, *_: object) -> None: ...

    def step_finished(self, *_: object) -> None: ...

    def run_finished(self, *_: object) -> None: ...
