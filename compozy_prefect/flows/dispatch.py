"""The outermost fan-out of a flow → batches for the workers of a cluster, and what they give.

A batch is a mapped task run. `flows.perform` runs it on the worker; here it is sent and waited for.
What a worker cannot do, and what is kept already, stays in the process of the flow.
"""

from __future__ import annotations

import asyncio
import bisect
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from prefect import Flow, Task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from compozy_prefect import __version__
from compozy_prefect.compiler.plan import Json, Plan
from compozy_prefect.errors import RunError
from compozy_prefect.flows.attempts import Instance
from compozy_prefect.flows.batches import PROCESSES, BatchId, Stops
from compozy_prefect.flows.cluster import Cluster
from compozy_prefect.flows.fanout import Ended
from compozy_prefect.flows.parcels import new_key, pack
from compozy_prefect.flows.perform import Perform
from compozy_prefect.flows.placement import divided, missing, share, why_here
from compozy_prefect.runtime.outcome import Failure, Taken
from compozy_prefect.runtime.scope import Opened
from compozy_prefect.runtime.wire import state_from_wire

if TYPE_CHECKING:
    from compozy_prefect.flows.containers import Row
    from compozy_prefect.flows.walk import Walk

_LEFT = 5.0  # seconds in which batches that were told to stop have to come back
_LOOK_EVERY = 30.0  # seconds between looks at whether there are workers


def _nothing() -> None: ...


# What Prefect sends along as the flow: that of the run may be in a module that workers have not.
_FLOW: Flow[[], None] = Flow(_nothing, name="compozy")


@dataclass
class Dispatcher:
    """Places the fan-outs of one execution on a cluster.

    `term` is that of this process, and `here` says why nothing can go elsewhere, if so.
    """

    plan: Plan
    cluster: Cluster
    term: int
    here: str = ""
    process: str = field(init=False)
    key: bytes = field(default_factory=new_key, init=False, repr=False)
    fans: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.process = f"{self.term}-{uuid4().hex[:12]}"

    async def __call__(
        self, walk: Walk, inside: Walk, instance: Instance, opened: Opened, rows: Sequence[Row]
    ) -> Dispatch | None:
        """What workers run of a fan-out; None when that is nothing."""
        step, scope, log = instance.step, walk.scope, walk.run.log
        services = scope.services.to_json()
        if services is None:
            why = "the run has a model client, a cassette or a clock of its own"
        else:
            why = self.here or why_here(self.plan, step, scope)
        if why:
            log.info("The steps of `%s` run in the process of the flow: %s", instance.id, why)
            return None
        groups = [] if instance.passed else missing(inside, step, rows)
        if not groups:
            return None
        room = await self.cluster.room()
        if not room.workers:
            log.warning("%s has no workers; the run waits for some", self.cluster)
        await scope.permit()
        if self.fans == 0:
            journal = walk.runner.journal
            await journal.keep(PROCESSES, [*(journal.get(PROCESSES) or []), self.process])
        self.fans += 1
        assert step.fan is not None
        sequential = step.collection is not None and step.collection.sequential
        batches = divided(groups, room, 1 if sequential else step.fan.max_workers)
        common = pack(self.key, self._common(walk, instance, opened, services))
        return Dispatch(self, inside, instance, rows, batches, common)

    def _common(
        self, walk: Walk, instance: Instance, opened: Opened, services: Json
    ) -> dict[str, Json]:
        """What all batches of a fan-out are told; see `flows.perform`."""
        runner = walk.runner
        return {
            "version": __version__,
            "plan": self.plan.dumps(),
            "workflow": walk.scope.workflow.id,
            "root": str(runner.journal.root),
            "term": self.term,
            "flow_run": str(runner.flow_run),
            "instance": [instance.step.path, instance.id, instance.where, instance.parent],
            "walk": [walk.prefix, walk.parent, walk.watched],
            "opened": [dict(opened.env), opened.given],
            "context": walk.scope.context.to_json(),
            "services": services,
            "secrets": runner.redactor.secrets,
        }


class Dispatch:
    """One fan-out. `batches` are the positions of the steps of each, `common` a parcel for all."""

    def __init__(
        self,
        by: Dispatcher,
        inside: Walk,
        instance: Instance,
        rows: Sequence[Row],
        batches: list[list[int]],
        common: bytes,
    ) -> None:
        self.units = frozenset(position for batch in batches for position in batch)
        self._by, self._inside, self._instance = by, inside, instance
        self._batches, self._common = batches, common
        # Of each position: its row, and its place in that.
        self._places = [(row, n) for row in rows for n in range(len(row.steps))]
        self._fan = by.fans
        self._stopping = asyncio.Event()
        self._reason = ""

    def stop(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._stopping.set()

    async def run(self, ended: Ended) -> None:
        """Raises RunError when a batch could not be run."""
        inside = self._inside
        for position in range(len(self._places)):  # in their order, whichever ends first
            inside.run.states.setdefault(self._path(position), None)
        failed: RunError | None = None
        with inside.runner.activity.work():
            sent = await self._send()
            telling = asyncio.ensure_future(self._tell())
            try:
                async for batch, answer in self._answers(sent):
                    try:
                        self._take(batch, _read(answer), ended)
                    except RunError as fault:
                        failed = failed or fault
                        self.stop(f"`{self._instance.id}` failed")
            finally:
                telling.cancel()
        if failed is not None:
            raise failed

    # --- there ----------------------------------------------------------------------------------

    async def _send(self) -> dict[asyncio.Future[str], list[int]]:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        journal, name = self._inside.runner.journal, self._instance.id
        bare = context.model_copy(
            update={
                "flow": _FLOW,
                "parameters": {},
                "flow_run": context.flow_run.model_copy(update={"parameters": {}}),
                "result_store": journal.store,
            }
        )
        task = Task(
            Perform(self._by.key),
            name=name,
            task_run_name="{title}",
            persist_result=False,
            cache_policy=NO_CACHE,
        )
        notes = sorted(journal.notes().items())
        futures = await self._by.cluster.map(
            task,
            bare,
            {
                "title": [f"{name}: {self._steps(batch)}" for batch in self._batches],
                "common": self._common,
                "own": [self._own(number, notes) for number in range(len(self._batches))],
            },
        )
        return dict(zip(futures, self._batches, strict=True))

    def _own(self, number: int, notes: list[tuple[str, Json]]) -> bytes:
        """What one batch is told: its rows, how many at a time, and what is kept of its steps."""
        step, batch = self._instance.step, self._batches[number]
        assert step.fan is not None
        places = {child.id: n for n, child in enumerate(step.steps)}
        rows: list[tuple[Json, list[tuple[int, str]]]] = []
        kept: dict[str, Json] = {}
        last = None
        for position in batch:
            row, n = self._places[position]
            if row is not last:
                rows.append((row.variables, []))
                last = row
            rows[-1][1].append((places[row.steps[n].id], row.ids[n]))
            kept |= _beginning_with(notes, self._path(position))
        return pack(
            self._by.key,
            {
                "batch": BatchId(self._by.process, self._fan, number),
                "batches": len(self._batches),
                "rows": rows,
                "limit": share(step.fan.max_workers, number, len(self._batches)),
                "kept": kept,
            },
        )

    def _steps(self, batch: list[int]) -> str:
        return "steps" if len(self._batches) == 1 else f"steps {batch[0]}-{batch[-1]}"

    def _path(self, position: int) -> str:
        row, n = self._places[position]
        return self._inside.prefix + row.ids[n]

    # --- and back -------------------------------------------------------------------------------

    async def _answers(
        self, sent: dict[asyncio.Future[str], list[int]]
    ) -> AsyncIterator[tuple[list[int], asyncio.Future[str]]]:
        """The batches with what came of them, as they end; after a stop perhaps not all."""
        waiting, clock, log = dict(sent), asyncio.get_running_loop().time, self._inside.run.log
        stopping = asyncio.ensure_future(self._stopping.wait())
        deadline = float("inf")
        lonely = False
        while waiting and clock() < deadline:
            if stopping.done() and deadline == float("inf"):
                deadline = clock() + _LEFT
            asked: set[asyncio.Future[Any]] = {*waiting}
            if not stopping.done():
                asked.add(stopping)
            patience = min(_LOOK_EVERY, deadline - clock())
            done, _ = await asyncio.wait(
                asked, timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            if not done and not lonely and not stopping.done():
                lonely = not (await self._by.cluster.room()).workers
                if lonely:
                    log.warning("%s has no workers; the run waits for some", self._by.cluster)
            for one in [one for one in waiting if one in done]:
                yield waiting.pop(one), one
        stopping.cancel()
        for one in waiting:
            one.cancel()
        if waiting:
            log.warning("%d batches did not end in %g s after a stop", len(waiting), _LEFT)

    def _take(self, batch: list[int], answer: Json, ended: Ended) -> None:
        run = self._inside.run
        if answer["cancelled"]:  # the worker has heard of it before this process
            run.cancellation.request(answer["cancelled"])
        for path, state in answer["states"]:
            run.states[path] = state_from_wire(state)
        run.taken |= {Taken(*one) for one in answer["taken"]}
        run.ledger.take(answer["calls"])
        steps = self._inside.scope.workflow.all_steps
        for event, path, *values in answer["events"]:
            if event == "step_finished":
                values[-1] = values[-1] and Failure(**values[-1])
            run.watched.tell(event, steps[path], *values)
        for number, when in answer["ended"]:
            row, n = self._places[batch[number]]
            state = run.states[self._path(batch[number])]
            assert state is not None
            if row.variables is None:
                self._inside.scope.context.record(state, row.steps[n].id)
            ended(batch[number], state, when)

    async def _tell(self) -> None:
        """Has the batches hear of a stop."""
        await self._stopping.wait()
        journal = self._inside.runner.journal
        whom = BatchId(self._by.process, self._fan, 0).of_fan
        try:
            await Stops(journal.store, journal.root).ask(whom, self._reason)
        except Exception as fault:  # of whatever storage it is
            self._inside.run.log.warning("The workers were not told to stop: %s", fault)


def _beginning_with(notes: list[tuple[str, Json]], path: str) -> Iterator[tuple[str, Json]]:
    """The notes under a path. Those of a longer one that begins like it are among them."""
    for at in range(bisect.bisect_left(notes, (path,)), len(notes)):
        if not notes[at][0].startswith(path):
            return
        yield notes[at]


def _read(answer: asyncio.Future[str]) -> Json:
    """What a batch gave. Raises RunError, which says why there is nothing."""
    try:
        content = json.loads(answer.result())
    except Exception as fault:  # of the cluster, of Prefect's engine, or ours on the worker
        raise RunError(
            f"the steps could not be run on a worker: {type(fault).__name__}: {fault}; "
            f"workers need compozy-prefect {__version__} and the packages of this process",
            code="WORKER_FAILED",
        ) from fault
    if "error" in content:
        raise RunError(**content["error"])
    return content
