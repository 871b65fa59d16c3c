"""Deployed runs whose process has died → runs that a worker takes up again.

Prefect leaves them Running for ever. A run says every few seconds, in its labels, that its process
lives (`flows.worker`). Whoever looks compares by a clock of its own how long nothing has changed,
so that clocks of different machines are no matter; and after a time in which the server did not
answer, everybody has the whole patience again. Of two supervisors one acts: a state of a run is
claimed by creating a row, which exists once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Crashed
from prefect.types._datetime import DateTime

from compozy_prefect.compiler.plan import Json
from compozy_prefect.flows import rows
from compozy_prefect.flows.claim import LEFT, PAGE, TAG
from compozy_prefect.flows.mend import MEND_EVERY, mend
from compozy_prefect.flows.revive import revive
from compozy_prefect.flows.wait import awaited, is_held, waits_for
from compozy_prefect.flows.worker import (
    BEAT,
    PATIENCE,
    REVIVED,
    UNTIL,
    is_suspended,
    suspended,
    waits,
    wake,
)

LOOK_EVERY = 2.0  # seconds between two looks: with PATIENCE, 25 s at most to find a death
# Seconds in which a worker has to start the process of a run that it took: images are pulled.
STARTING = 300.0
MOST = 5  # times that one run is revived, lest one that kills its process does so for ever
# Seconds for which a crash stands: a worker tells of one twice, and the second time, when its own
# process for the run is gone, would end a run that goes on by then.
CRASH_STANDS = 10.0
CRASHED_SINCE = timedelta(hours=1)  # how old a crash may be that a worker has told of
_ROW_EVERY = 10.0  # seconds between two looks for the signals of one suspended run

_WATCHED = [StateType.RUNNING, StateType.PENDING, StateType.PAUSED, StateType.CANCELLING]


@dataclass(frozen=True, slots=True)
class Did:
    """What a supervisor did about an execution, `silent` seconds after its last sign of life.

    `action` is one of revived, suspended, woken, cancelled, given up.
    """

    execution_id: str
    action: str
    reason: str
    silent: float

    def to_json(self) -> dict[str, Json]:
        return {
            "execution_id": self.execution_id,
            "action": self.action,
            "reason": self.reason,
            "silent_seconds": round(self.silent, 1),
        }


@dataclass(slots=True)
class _Seen:
    """A flow run as it was seen last, since when, and how often its state was claimed by others."""

    mark: tuple[Any, ...]
    since: float
    claims: int = 0
    looked: float = 0.0


@dataclass
class Supervisor:
    """Looks after the deployed runs of one server. Times are in seconds, `clock` is monotonic."""

    client: PrefectClient
    patience: float = PATIENCE
    most: int = MOST
    clock: Callable[[], float] = time.monotonic
    _seen: dict[UUID, _Seen] = field(default_factory=dict, init=False)
    _last: float = field(default=0.0, init=False)
    _mended: float = field(default=0.0, init=False)

    async def watch(self) -> AsyncIterator[Did]:
        """What it does, as it does it; without an end. A server that is away is waited for."""
        while True:
            try:
                async for did in self.look():
                    yield did
                if self.clock() - self._mended > MEND_EVERY:
                    self._mended = self.clock()
                    await mend(self.client)
            except (httpx.TransportError, PrefectHTTPStatusError):
                self._seen.clear()  # nobody could say that it lives
            await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> AsyncIterator[Did]:
        """One look at all runs. Raises what the client raises."""
        now = self.clock()
        if now - self._last > self.patience / 2:  # this process was asleep, and saw nothing
            self._seen.clear()
        self._last = now
        found = [*await self._runs(_WATCHED), *await self._runs([StateType.CRASHED])]
        self._seen = {id: self._seen[id] for id in {run.id for run in found} & self._seen.keys()}
        for run in found:
            with contextlib.suppress(ObjectNotFound):  # deleted meanwhile
                did = await self._about(run, now)
                if did is not None:
                    yield did

    async def _runs(self, types: list[StateType]) -> list[FlowRun]:
        """The deployed runs of ours in these states; of those that ended, the latest."""
        flow_runs = FlowRunFilter(
            tags=FlowRunFilterTags(all_=[TAG]),
            deployment_id=FlowRunFilterDeploymentId(is_null_=False),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types)),
        )
        if types == [StateType.CRASHED]:
            since = cast(DateTime, datetime.now(UTC) - CRASHED_SINCE)
            flow_runs.end_time = FlowRunFilterEndTime(after_=since)
        found: list[FlowRun] = []
        while True:
            page = await self.client.read_flow_runs(
                flow_run_filter=flow_runs,
                sort=FlowRunSort.ID_DESC,
                limit=PAGE,
                offset=len(found),
            )
            found += page
            if len(page) < PAGE:
                return found

    async def _about(self, run: FlowRun, now: float) -> Did | None:
        state = run.state
        if state is None:
            return None
        mark = (state.id, run.labels.get(BEAT))
        seen = self._seen.get(run.id)
        if seen is None or seen.mark != mark:
            seen = self._seen[run.id] = _Seen(mark, now)
        silent = now - seen.since
        if seen.claims and silent < self.patience:
            return None  # another supervisor acts on it
        if state.is_crashed():
            # Its worker has seen the process die, and said so. What never ran would not now.
            if run.run_count == 0 or _revived(run) >= self.most or silent < CRASH_STANDS:
                return None
            if not await self._claimed(run, seen):
                return None
            return await self._revive(run, silent, state.message or "it crashed")
        if is_suspended(state):
            return await self._suspended(run, seen, now)
        if silent < (STARTING if state.is_pending() else self.patience):
            return None
        if not await self._claimed(run, seen):
            return None
        return await self._dead(run, state, silent)

    async def _dead(self, run: FlowRun, state: State[Any], silent: float) -> Did | None:
        """Nobody carries the run, and the claim is ours."""
        current = await self.client.read_flow_run(run.id)
        if current.state_id != run.state_id or current.labels.get(BEAT) != run.labels.get(BEAT):
            return None  # it lives after all
        if state.is_cancelling():
            over: State[Any] = Cancelled(message="cancelled on request")
            await self.client.set_flow_run_state(run.id, over, force=True)
            return Did(str(run.id), "cancelled", f"{LEFT}, and somebody cancelled it", silent)
        keys, signal = state.state_details.run_input_keyset, awaited(state)
        if is_held(state) or (keys and dict(keys)["response"] in waits(run)):
            # What waits for a signal needs no process until that comes: as if it had left.
            left = suspended(waits_for(signal) if signal else "held", keys and dict(keys))
            await self.client.set_flow_run_state(run.id, left, force=True)
            return Did(str(run.id), "suspended", f"{LEFT}; it goes on when it is resumed", silent)
        return await self._revive(run, silent, LEFT)

    async def _revive(self, run: FlowRun, silent: float, reason: str) -> Did | None:
        count = _revived(run) + 1
        if count > self.most:
            message = f"{LEFT}, {self.most} times; it is not started again"
            crashed: State[Any] = Crashed(message=message)
            await self.client.set_flow_run_state(run.id, crashed, force=True)
            return Did(str(run.id), "given up", message, silent)
        await self.client.update_flow_run_labels(run.id, {REVIVED: count})
        revived = await revive(self.client, run, reason)
        return Did(str(run.id), "revived", reason, silent) if revived else None

    async def _suspended(self, run: FlowRun, seen: _Seen, now: float) -> Did | None:
        """Wakes a run that waits without a process, when its time is up or its signal is there.

        Our own commands, and the button, wake it themselves; a row may come from anywhere.
        """
        until = run.labels.get(UNTIL)
        if isinstance(until, (int, float)) and 0 < until <= time.time():
            await wake(self.client, run.id)
            return Did(str(run.id), "woken", "the time to wait is over", 0.0)
        if now - seen.looked < _ROW_EVERY:
            return None
        seen.looked = now
        for key in waits(run):
            if await rows.value(self.client, run.id, key) is not None:
                await wake(self.client, run.id)
                return Did(str(run.id), "woken", "a signal came", 0.0)
        return None

    async def _claimed(self, run: FlowRun, seen: _Seen) -> bool:
        """Whether this supervisor is the one that acts on the state that the run is in.

        One that has claimed and died itself leaves the next number to others.
        """
        key = f"compozy-claim-{run.state_id}-{seen.claims + 1}"
        if await rows.add(self.client, run.id, key, "{}"):
            return True
        seen.claims += 1
        seen.since = self.clock()
        return False


def _revived(run: FlowRun) -> int:
    count = run.labels.get(REVIVED)
    return count if isinstance(count, int) else 0
