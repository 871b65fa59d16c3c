"""A run in a process that a worker started: its sign of life, and how it leaves the process.

The sign of life are labels of the flow run on the server, so that a supervisor on any machine sees
them. Prefect's own heartbeats are events, 30 s apart at the least, that a busy server takes in
late; a label is there when the request is answered, and comes with the flow run. That it lives does
not say that the run is still its own: that is what `flows.lease` is for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import PrefectClient, SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import Abort, Pause, PrefectHTTPStatusError
from prefect.states import Running, Scheduled, Suspended
from prefect.utilities.engine import propose_state

from compozy_prefect.errors import RunError
from compozy_prefect.flows import lease, rows
from compozy_prefect.flows.activity import Activity
from compozy_prefect.flows.engine import Cancellation, hand_over
from compozy_prefect.flows.journal import Journal
from compozy_prefect.flows.lease import Lease
from compozy_prefect.flows.pace import Pace

_log = logging.getLogger(__name__)

BEAT_EVERY = 5.0  # seconds between two signs of life
PATIENCE = 4 * BEAT_EVERY  # seconds without a sign of life after which a process is dead
FIRST_BEAT = 1.0  # seconds; a run that is over by then needs none
# The labels of a flow run: the term of the process that has it, the number of its sign of life, the
# keys of the signals that it waits for, until when (seconds since 1970), whether its journal has
# anything, and how often it was revived.
TERM, BEAT = "compozy.term", "compozy.beat"
KEPT = "compozy.kept"
WAITS, UNTIL = "compozy.waits", "compozy.until"
REVIVED = "compozy.revived"

LOST = "another process has the run"
SUSPEND_AFTER = 60.0  # seconds for which a run only waits, before it leaves its process
SETTING = "COMPOZY_SUSPEND_AFTER"


def suspend_after() -> float:
    """The seconds from the environment; infinite for 0, and as usual for what is no number."""
    try:
        given = float(os.environ.get(SETTING, "") or SUSPEND_AFTER)
    except ValueError:
        _log.warning("%s is %r; it must be seconds", SETTING, os.environ[SETTING])
        return SUSPEND_AFTER
    return given if given > 0 else float("inf")


def is_suspended(state: State[Any] | None) -> bool:
    """Whether a flow run in this state has no process, and gets one when it is resumed."""
    return state is not None and state.is_paused() and bool(state.state_details.pause_reschedule)


def waits(flow_run: FlowRun) -> list[str]:
    """The keys of the signals for which a flow run waits, as far as it has said so."""
    text = flow_run.labels.get(WAITS)
    with suppress(ValueError, TypeError):
        return [str(key) for key in json.loads(str(text))]
    return []


async def wake(client: PrefectClient, id: UUID) -> None:
    """Has a suspended flow run go on in a process of a worker; nothing when it does already."""
    answer = await client.resume_flow_run(id)
    if answer.status == SetStateStatus.REJECT:
        # The form wants to be filled in, by those who press the button; the signal is there.
        state: State[Any] = Scheduled(name="Resuming")
        await client.set_flow_run_state(id, state)


class Beats:
    """Says every few seconds that this process has the flow run, from a thread of its own.

    From a thread, since a step may keep the event loop busy, which is no death. It asks for a later
    term besides, and calls `lost` when there is one.
    """

    def __init__(
        self,
        flow_run: UUID,
        lease: Lease,
        waits: Mapping[str, float | None],
        lost: Callable[[], None],
    ) -> None:
        self._flow_run, self._lease, self._waits, self._lost = flow_run, lease, waits, lost
        self.journal: Journal | None = None
        self._number = 0
        self._over = False
        self._next = threading.Event()
        context = copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._beat,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def soon(self) -> None:
        """Says at once what the run waits for."""
        self._next.set()

    def stop(self) -> None:
        self._over = True
        self._next.set()

    def join(self) -> None:
        self.stop()
        self._thread.join(BEAT_EVERY)

    def labels(self) -> dict[str, Any]:
        self._number += 1
        waits = dict(self._waits)
        ends = [end for end in waits.values() if end is not None]
        kept = {KEPT: True} if self.journal is not None and self.journal.groups else {}
        return kept | {
            TERM: self._lease.number,
            BEAT: f"{self._lease.number}-{self._number}",
            WAITS: json.dumps(list(waits)),
            UNTIL: min(ends, default=0.0),
        }

    def _beat(self) -> None:
        self._next.wait(FIRST_BEAT)
        if self._over:
            return
        with get_client(sync_client=True) as client:
            while not self._over:
                self._next.clear()
                try:
                    self._once(client)
                except Exception as fault:  # the next one may come through
                    _log.debug("no sign of life: %s", fault)
                self._next.wait(BEAT_EVERY)

    def _once(self, client: SyncPrefectClient) -> None:
        asked = lease.clock()
        try:
            client.read_flow_run_input(self._flow_run, lease.key(self._lease.number + 1))
        except PrefectHTTPStatusError as fault:
            if fault.response.status_code != httpx.codes.NOT_FOUND:
                raise
            self._lease.renew(asked)
            client.update_flow_run_labels(self._flow_run, self.labels())
        else:
            if not self._over:
                self._lost()


class WorkerProcess:
    """This process, as far as it belongs to one flow run.

    `after` are the seconds for which the run only waits before it leaves, infinite where the
    process does other things besides.
    """

    def __init__(
        self,
        client: PrefectClient,
        flow_run: FlowRun,
        activity: Activity,
        pace: Pace,
        cancellation: Cancellation,
    ) -> None:
        self._client, self._flow_run, self._id = client, flow_run, flow_run.id
        self._activity, self._pace, self._cancellation = activity, pace, cancellation
        # The keys of the signals that are waited for, and until when, in seconds since 1970.
        self._waits: dict[str, float | None] = {}
        # The process is the run's own when Prefect started it for that.
        self._own = os.environ.get("PREFECT__FLOW_RUN_ID") == str(flow_run.id)
        self.after = suspend_after() if self._own else float("inf")
        self._journal: Journal | None = None
        self._suspending = False
        self._is_ready = False

    async def __aenter__(self) -> WorkerProcess:
        known = self._flow_run.labels.get(TERM)
        after = known if isinstance(known, int) else lease.FIRST
        number = await lease.begin(self._client, self._id, after=after)
        self._lease = Lease(self._client, self._id, number, self._lost)
        self._start_beats()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._beats.stop()

    def _start_beats(self) -> None:
        loop = asyncio.get_running_loop()

        def lost() -> None:
            if self._own:
                self._exit()
            loop.call_soon_threadsafe(self._cancellation.request, LOST)

        self._beats = Beats(self._id, self._lease, self._waits, lost)
        self._beats.journal = self._journal
        self._beats.start()

    @property
    def term(self) -> int:
        return self._lease.number

    def keeps(self, journal: Journal) -> None:
        """The journal has been read. Raises RunError when that of the process before is elsewhere.

        Without it, what is completed would be done again.
        """
        if self._flow_run.labels.get(KEPT) and not journal.groups:
            raise RunError(
                "what this run has completed was kept in a result storage that this machine does "
                "not have; workers on several machines need one that they share "
                "(PREFECT_DEFAULT_RESULT_STORAGE_BLOCK)",
                code="RESULT_NOT_READ",
                retryable=False,
            )
        self._journal = self._beats.journal = journal

    async def ready(self) -> None:
        """Returns when whoever had the run before cannot begin anything any more."""
        seconds = await lease.overlap(self._client, self._id, self.term)
        if seconds > 0:
            _log.info("the process before may live: waiting for %.1f s", seconds)
            await asyncio.sleep(seconds)
        self._is_ready = True

    async def permit(self) -> None:
        """Returns while the run is ours; see `Lease.permit`."""
        await self._lease.permit()

    async def holds(self) -> bool:
        """Whether the run is ours for sure; see `Lease.holds`."""
        return await self._lease.holds()

    async def left(self) -> None:
        """The run has ended here, and may be run on by another process."""
        self._lease.end()
        if self._is_ready:
            with suppress(httpx.TransportError, PrefectHTTPStatusError):
                await lease.leave(self._client, self._id, self.term)

    async def _lost(self) -> None:
        if self._own:
            self._exit()
        self._cancellation.request(LOST)

    def _exit(self) -> None:
        """Ends the process at once: whatever it told Prefect now would be of another one's run."""
        _log.warning("flow run %s belongs to another process now; this one ends", self._id)
        os._exit(0)

    async def look(self, flow_run: FlowRun) -> bool:
        """Whether steps may begin; ends the process when the run is somebody else's by now."""
        if self._suspending or not self._own:
            return True
        state, term = flow_run.state, flow_run.labels.get(TERM)
        if isinstance(term, int) and term > self.term:
            self._exit()
        if state is not None and (state.is_scheduled() or state.is_pending()):
            await self.left()
            self._exit()
        if not is_suspended(state):
            return True
        if self._activity.idle:  # somebody suspended it from outside
            await self._leave()
        return False

    def may_suspend(self) -> bool:
        return self._activity.idle_seconds() > self.after

    @contextmanager
    def waiting(self, key: str, until: float | None) -> Iterator[None]:
        """The run waits for the signal with this key, until a time in seconds since 1970."""
        self._waits[key] = until
        self._beats.soon()
        try:
            yield
        finally:
            self._waits.pop(key, None)

    async def suspend(self, state: State[Any]) -> None:
        """Ends the process, and leaves the run to whoever brings one of the signals.

        `state` is the Suspended one. Comes back when Prefect refuses.
        """
        await self.permit()
        self._suspending = True
        self._beats.join()
        await self._client.update_flow_run_labels(self._id, self._beats.labels())
        suspended: State[Any] | None
        try:
            # Prefect suspends what is Running, and nothing that is being cancelled.
            await propose_state(self._client, Running(), flow_run_id=self._id)
            suspended = await propose_state(self._client, state, flow_run_id=self._id)
        except (Pause, Abort) as stop:
            suspended = getattr(stop, "state", None)
        if not is_suspended(suspended):
            self._start_beats()
            self._activity.touch()
            self._suspending = False
            return
        for key in self._waits:
            if await rows.value(self._client, self._id, key) is not None:  # it came just now
                await wake(self._client, self._id)
                break
        await self._leave()

    async def _leave(self) -> None:
        """Like a kill at a moment at which nothing happens: the journal has all that was done.

        An orderly end would tell the server that the steps which wait were cancelled.
        """
        self._beats.stop()
        await self.left()
        await self._pace.told()
        await hand_over()
        os._exit(0)


def suspended(message: str, keys: dict[str, str] | None) -> State[Any]:
    """The state of a run that waits without a process; `keys` are those of its form in the UI."""
    state: State[Any] = Suspended(pause_key=str(uuid4()))
    state.message = message
    # No time in the state: the server would fail the run when it is over.
    state.state_details.pause_timeout = None
    state.state_details.run_input_keyset = keys
    return state
