"""Cases → how they ended: each a flow run on the Prefect server, several at a time.

The only module here that knows Prefect. All runs are in this process and share a client.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.exceptions import PrefectHTTPStatusError

from compozy_prefect.compiler.compile import CompiledProject
from compozy_prefect.compiler.plan import Json, Plan
from compozy_prefect.errors import CompozyError, InputInvalid, UsageError
from compozy_prefect.flows.connection import reached
from compozy_prefect.flows.engine import Cancellation, handed_over, one_write_at_a_time
from compozy_prefect.flows.interrupt import INTERRUPTED
from compozy_prefect.flows.local import refuse
from compozy_prefect.flows.run import SERVER_LOST, RunResult, run
from compozy_prefect.flows.signals import deliver
from compozy_prefect.flows.wait import awaited
from compozy_prefect.runtime.cassette import Cassette
from compozy_prefect.runtime.memory.store import InProcess
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.outcome import CANCELED, FAILED, Failure, Taken, TaskState
from compozy_prefect.runtime.services import Services
from compozy_prefect.testing.cases import Case, Finished
from compozy_prefect.testing.judge import judge

_GRACE = 15.0  # seconds in which a run that took too long has to end …
_ASKED = 5.0  # … and the server to say what it waits for
_HAND_OVER = 30.0  # seconds that the server may take to hear of all runs

Tell = Callable[[Finished], None]


def services_of(case: Case, env: Mapping[str, str], root: Path) -> Services:
    """What answers a case: its mocks, behind them its cassette, or else the offline model.

    `env` is the environment of the project, `root` its folder; conversations begin
    empty, so that no case sees those of another.
    """
    mocks = None if case.mocks is None else Mocks.from_mapping(case.mocks, source=case.file)
    cassette = None if case.cassette is None else Cassette.replay(case.cassette)
    services = Services.create(
        offline=case.offline and cassette is None,
        mocks=mocks,
        env={**env, **case.env},
        cassette=cassette,
        root=root,
    )
    return replace(services, in_memory=InProcess())


async def run_all(
    project: CompiledProject,
    cases: Sequence[Case],
    *,
    jobs: int,
    stop_early: bool,
    tell: Tell,
    cancellation: Cancellation,
) -> list[Finished]:
    """How the cases ended, in their order; those that were not begun are skipped.

    `tell` hears of each in that order, as soon as it may. `stop_early`: begins no further case
    after one that did not pass. Raises ServerUnavailable when there is no server.
    """
    async with handed_over(_HAND_OVER), reached() as client:
        one_write_at_a_time(client)
        together = _Together(project, cases, client, jobs, stop_early, tell)
        await cancellation.guard(together.run())
    return together.finished()


@dataclass
class _Together:
    """The runs of one call. `ended` has how the cases ended, by their position."""

    project: CompiledProject
    cases: Sequence[Case]
    client: PrefectClient
    jobs: int
    stop_early: bool
    tell: Tell
    ended: dict[int, Finished] = field(default_factory=dict)
    told: int = 0
    why_not: str = ""  # no further case is begun
    running: list[_One] = field(default_factory=list)

    async def run(self) -> None:
        queue = iter(range(len(self.cases)))
        workers = [asyncio.create_task(self._work(queue)) for _ in range(self.jobs)]
        try:
            await asyncio.wait(workers)
        except asyncio.CancelledError:
            self.why_not = INTERRUPTED
            for one in self.running:
                one.cancellation.request(INTERRUPTED)
            await asyncio.wait(workers, timeout=_GRACE)
            raise
        for worker in workers:
            worker.result()

    async def _work(self, queue: Iterator[int]) -> None:
        env = {**os.environ, **self.project.env}
        for index in queue:
            case = self.cases[index]
            why_not = self.why_not or case.skip
            if why_not:
                self._end(index, Finished(case, "skipped", message=why_not))
                continue
            one = _One(self.project.plan, case, self.client, env, self.project.root)
            self.running.append(one)
            finished = await one.run()
            self.running.remove(one)
            self._end(index, finished)
            if self.stop_early and finished.status != "passed" and not self.why_not:
                self.why_not = f"not begun, as `{case.name}` did not pass"

    def _end(self, index: int, finished: Finished) -> None:
        self.ended[index] = finished
        while self.told in self.ended:
            self.tell(self.ended[self.told])
            self.told += 1

    def finished(self) -> list[Finished]:
        """How all cases ended, also those that an interruption kept from being begun."""
        for index, case in enumerate(self.cases):
            if index not in self.ended:
                self._end(index, Finished(case, "skipped", message=self.why_not))
        return [self.ended[index] for index in range(len(self.cases))]


@dataclass(eq=False)
class _One:
    """One case while it runs; observes its run, and gives it its signals."""

    plan: Plan
    case: Case
    client: PrefectClient
    env: Mapping[str, str]
    root: Path
    cancellation: Cancellation = field(default_factory=Cancellation)
    execution_id: str | None = None
    ui_url: str | None = None
    giving: asyncio.Task[None] | None = None

    async def run(self) -> Finished:
        started = time.monotonic()
        finished = await self._run()
        return replace(
            finished,
            seconds=time.monotonic() - started,
            execution_id=self.execution_id,
            ui_url=self.ui_url,
        )

    async def _run(self) -> Finished:
        case = self.case
        try:
            services = services_of(case, self.env, self.root)
            workflow = self.plan.workflows[case.workflow]
            refuse(
                workflow,
                case.input,
                services.env,
                offline=case.offline or case.cassette is not None,
                mocks=services.mocks,
            )
            result, late = await self._in_time(services)
        except InputInvalid as fault:
            # A test may be about the input that a workflow refuses.
            return self._judged(FAILED, None, Failure.of(fault), {}, frozenset())
        except CompozyError as fault:
            return Finished(case, "error", message=str(fault))
        if result is None:
            return Finished(case, "error", message=f"{late}, and it did not end when asked to")
        if late:
            return Finished(case, "failed", message=late, taken=result.taken)
        if result.status == CANCELED and self.cancellation.reason == INTERRUPTED:
            return Finished(case, "skipped", message=INTERRUPTED)
        if result.error is not None and result.error.code == SERVER_LOST:
            return Finished(case, "error", message=result.error.message)
        return self._judged(result.status, result.output, result.error, result.tasks, result.taken)

    def _judged(
        self,
        status: str,
        output: Json,
        failure: Failure | None,
        tasks: Mapping[str, TaskState],
        taken: frozenset[Taken],
    ) -> Finished:
        error = failure and failure.to_json()
        found = judge(self.case, status, output, error, tasks)
        return Finished(
            self.case,
            "failed" if found else "passed",
            differences=found,
            failure=failure,
            taken=taken,
        )

    # Time

    async def _in_time(self, services: Services) -> tuple[RunResult | None, str]:
        """The result, and why it was not there in time; None when the run could not be ended."""
        case = self.case
        body = asyncio.create_task(
            run(
                self.plan,
                case.workflow,
                case.input,
                services=services,
                observer=self,
                cancellation=self.cancellation,
                is_test=True,
            )
        )
        late = ""
        done, _ = await asyncio.wait({body}, timeout=case.timeout)
        if not done:
            late = f"it took longer than {case.timeout:g} s"
            waits = await self._waits()
            self.cancellation.request(late)
            done, _ = await asyncio.wait({body}, timeout=_GRACE)
            late += waits or (_where(body.result()) if done else "")
        if self.giving is not None:
            self.giving.cancel()
        if not done:
            body.cancel()
            return None, late
        return body.result(), late

    async def _waits(self) -> str:
        """What the run waits for, as a part of a sentence; empty when for nothing."""
        if self.execution_id is None:
            return " before it had begun: the Prefect server is busy"
        state = None
        with suppress(TimeoutError, httpx.HTTPError, PrefectHTTPStatusError):
            async with asyncio.timeout(_ASKED):
                state = (await self.client.read_flow_run(UUID(self.execution_id))).state
        name = awaited(state)
        if name is None:
            return ""
        given = [one for one, _ in self.case.signals]
        if name in given:
            return f": it waits for another signal `{name}` than the {given.count(name)} given"
        return f": it waits for the signal `{name}`, which `signals` does not give"

    # The observer of the run

    def run_started(self, execution_id: str, ui_url: str) -> None:
        self.execution_id, self.ui_url = execution_id, ui_url
        if self.case.signals:
            self.giving = asyncio.get_running_loop().create_task(self._give(UUID(execution_id)))

    async def _give(self, execution: UUID) -> None:
        """Gives the signals, each kept until a task waits for it; a run that is over needs none."""
        with suppress(UsageError, httpx.HTTPError, PrefectHTTPStatusError):
            for name, payload in self.case.signals:
                await deliver(self.client, execution, name, payload)

    def step_started(self, *_: object) -> None: ...

    def step_finished(self, *_: object) -> None: ...

    def run_finished(self, *_: object) -> None: ...


def _where(result: RunResult) -> str:
    """Which tasks were running when the time was up, as a part of a sentence."""
    ended = [key for key, state in result.tasks.items() if state.status == CANCELED]
    # Containers stand before what is in them.
    return f", in `{ended[-1]}`" if ended else ""
