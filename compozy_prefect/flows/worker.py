"""A run in a process that a worker started: its sign of life, and how it leaves the process.

The sign of life are labels of the flow run on the server, so that a supervisor on any machine sees
them. Prefect's own heartbeats are events, 30 s apart at the least, that a busy server takes in
late; a label is there when the request is answered, and comes with the flow run.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import Abort, ObjectNotFound, Pause, PrefectHTTPStatusError
from prefect.states import Running, Scheduled, Suspended
from prefect.utilities.engine import propose_state

from compozy_prefect.flows.activity import Activity
from compozy_prefect.flows.engine import hand_over
from compozy_prefect.flows.pace import Pace

_log = logging.getLogger(__name__)

BEAT_EVERY = 5.0  # seconds between two signs of life
FIRST_BEAT = 1.0  # seconds; a run that is over by then needs none
# The labels of a flow run: the process that has it, the number of its sign of life, the keys of the
# signals that it waits for, until when (seconds since 1970), and how often it was revived.
PROCESS, BEAT = "compozy.process", "compozy.beat"
WAITS, UNTIL = "compozy.waits", "compozy.until"
REVIVED = "compozy.revived"

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

    From a thread, since a step may keep the event loop busy, which is no death.
    """

    def __init__(self, flow_run: UUID, waits: Mapping[str, float | None]) -> None:
        self.process = uuid4().hex
        self.told = False
        self._flow_run, self._waits = flow_run, waits
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
        return {
            PROCESS: self.process,
            BEAT: self._number,
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
                    client.update_flow_run_labels(self._flow_run, self.labels())
                    self.told = True
                except Exception as fault:  # the next one may come through
                    _log.debug("no sign of life: %s", fault)
                self._next.wait(BEAT_EVERY)


class WorkerProcess:
    """This process, as far as it belongs to one flow run.

    `after` are the seconds for which the run only waits before it leaves, infinite where the
    process does other things besides.
    """

    def __init__(
        self, client: PrefectClient, flow_run: FlowRun, activity: Activity, pace: Pace
    ) -> None:
        self._client, self._id = client, flow_run.id
        self._activity, self._pace = activity, pace
        # The keys of the signals that are waited for, and until when, in seconds since 1970.
        self._waits: dict[str, float | None] = {}
        self._beats = Beats(flow_run.id, self._waits)
        # The process is the run's own when Prefect started it for that.
        self._own = os.environ.get("PREFECT__FLOW_RUN_ID") == str(flow_run.id)
        self.after = suspend_after() if self._own else float("inf")
        self._suspending = False

    def __enter__(self) -> WorkerProcess:
        self._beats.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._beats.stop()

    async def look(self, flow_run: FlowRun) -> bool:
        """Whether steps may begin; ends the process when the run is somebody else's by now."""
        if self._suspending or not self._own:
            return True
        state, holder = flow_run.state, flow_run.labels.get(PROCESS)
        taken = self._beats.told and holder != self._beats.process
        if taken or (state is not None and (state.is_scheduled() or state.is_pending())):
            _log.warning("flow run %s belongs to another process now; this one ends", self._id)
            await self._leave()
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
            self._beats = Beats(self._id, self._waits)
            self._beats.start()
            self._activity.touch()
            self._suspending = False
            return
        for key in self._waits:
            if await has_input(self._client, self._id, key):  # it came just now
                await wake(self._client, self._id)
                break
        await self._leave()

    async def _leave(self) -> None:
        """Like a kill at a moment at which nothing happens: the journal has all that was done.

        An orderly end would tell the server that the steps which wait were cancelled.
        """
        self._beats.stop()
        await self._pace.told()
        await hand_over()
        os._exit(0)


async def has_input(client: PrefectClient, flow_run: UUID, key: str) -> bool:
    """Whether the flow run has an input of that key."""
    try:
        await client.read_flow_run_input(flow_run, key)
    except ObjectNotFound:
        return False
    except PrefectHTTPStatusError as fault:
        if fault.response.status_code != 404:
            raise
        return False
    return True


def suspended(message: str, keys: dict[str, str] | None) -> State[Any]:
    """The state of a run that waits without a process; `keys` are those of its form in the UI."""
    state: State[Any] = Suspended(pause_key=str(uuid4()))
    state.message = message
    # No time in the state: the server would fail the run when it is over.
    state.state_details.pause_timeout = None
    state.state_details.run_input_keyset = keys
    return state
