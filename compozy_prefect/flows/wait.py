"""A step that waits for a signal → the signal that counts (language.md §3.8).

The flow run is Paused in Prefect while it waits, with the state and the keys of `pause_flow_run`,
so that the Resume button of the UI shows a form. Signals are rows of the run's input, numbered by
name: one that comes early is kept, and one that was looked at is not looked at again.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, Pause, PrefectHTTPStatusError
from prefect.input.run_input import keyset_from_base_key
from prefect.states import Paused, Running
from prefect.utilities.engine import propose_state

from compozy_prefect import faults
from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import RunError
from compozy_prefect.expressions.members import View
from compozy_prefect.flows import rows
from compozy_prefect.flows.activity import Activity
from compozy_prefect.flows.attempts import Instance, ended
from compozy_prefect.flows.evaluated import SIGNAL, WAIT_TIMEOUT
from compozy_prefect.flows.journal import Journal
from compozy_prefect.flows.observer import Watched
from compozy_prefect.flows.walk import Walk
from compozy_prefect.flows.worker import WorkerProcess, suspended
from compozy_prefect.language.durations import parse_duration
from compozy_prefect.runtime import templates
from compozy_prefect.runtime.forms import form
from compozy_prefect.runtime.outcome import rfc3339
from compozy_prefect.runtime.scope import Opened

FIRST_POLL, SLOWEST_POLL = 0.1, 1.0  # seconds between two looks; the longer, the slower


def base_key(name: str, number: int) -> str:
    """The key of the signal `number`, from 1, of that name.

    Prefect takes small letters, digits and dashes: all else stands there by its code, as `-5f-`.
    """
    spelled = _SPECIAL.sub(lambda found: f"-{ord(found[0]):x}-", name)
    return f"signal-{spelled}-{number}"


def waits_for(name: str) -> str:
    """The message of a state."""
    return f"waits for the signal `{name}`"


HELD = "Held"  # the name of the state of a run that was paused from outside
_BASE_KEY = re.compile(r"signal-(?P<name>.*)-\d+-response")
_SPECIAL = re.compile(r"[^a-z0-9]")
_SPELLED = re.compile(r"-([0-9a-f]+)-")


def is_held(state: State[Any] | None) -> bool:
    """Whether somebody wants a flow run in this state to begin no step."""
    return state is not None and state.is_paused() and state.name == HELD


def awaited(state: State[Any] | None) -> str | None:
    """The name of the signal that a flow run in this state waits for."""
    keys = state.state_details.run_input_keyset if state is not None else None
    if state is None or not state.is_paused() or keys is None:
        return None
    match = _BASE_KEY.fullmatch(dict(keys).get("response", ""))
    return _SPELLED.sub(lambda found: chr(int(found[1], 16)), match["name"]) if match else None


@dataclass
class Signals:
    """The signals that one execution waits for."""

    client: PrefectClient
    root: UUID
    journal: Journal
    activity: Activity
    worker: WorkerProcess | None = None
    watched: Watched = field(default_factory=lambda: Watched(None))
    # The numbers of the signals that somebody has, or waits for, by their name.
    _taken: dict[str, set[int]] = field(default_factory=dict, init=False)
    _leaving: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """What steps had taken before the run was resumed is not given to others."""
        for where, kept in self.journal.items():
            if SIGNAL in where and "number" in kept:
                self._taken.setdefault(kept["name"], set()).add(kept["number"])

    async def __call__(self, walk: Walk, instance: Instance, opened: Opened) -> Json:
        """Waits until a signal fulfils the condition; the raw output of the step.

        Raises RunError with the code WAIT_TIMEOUT when none has in time.
        """
        kept = self.journal.get(instance.where)
        if kept is not None or instance.passed:
            await self._again(walk, instance, opened)
            return kept if kept is not None else _raised(instance, self.journal)
        name, timeout = self._asked(walk, instance, opened)
        deadline = await self._deadline(instance, timeout)
        number = 0
        while True:
            number += 1
            where = f"{instance.where}{SIGNAL}{number}"
            signal = self.journal.get(where)
            if signal is None:
                signal = await self._next(name, deadline, form(instance.step))
                if signal is None:
                    raise RunError(
                        f"no signal `{name}` came within {timeout:g} s",
                        code=WAIT_TIMEOUT,
                        details={"signal_name": name, "timeout": timeout},
                        retryable=False,
                    )
                await faults.point("signal.taken", instance.where)
                await self.journal.keep(where, signal)
                await faults.point("signal.kept", instance.where)
            shown = {key: signal[key] for key in ("payload", "metadata")}
            processed = await self._process(walk, instance, opened, shown, number)
            if self._counts(walk, instance, opened, shown, processed):
                out = {
                    "wait_status": "completed",
                    "signal": shown,
                    "processor_output": processed,
                }
                await self.journal.keep(instance.where, out)
                return out

    async def _again(self, walk: Walk, instance: Instance, opened: Opened) -> None:
        """Shows the processors again that ran for the signals of a wait that is over."""
        for number in count(1):
            signal = self.journal.get(f"{instance.where}{SIGNAL}{number}")
            if signal is None:
                return
            shown = {key: signal[key] for key in ("payload", "metadata")}
            await self._process(walk, instance, opened, shown, number)

    async def _deadline(self, instance: Instance, seconds: float) -> float | None:
        """Until when to wait, by the monotonic clock; a resumed run does not begin anew."""
        if not seconds:
            return None
        kept = self.journal.get(f"{instance.where}@until")
        if kept is None:
            kept = time.time() + seconds
            await self.journal.keep(f"{instance.where}@until", kept)
        return time.monotonic() + min(float(kept) - time.time(), seconds)

    def _asked(self, walk: Walk, instance: Instance, opened: Opened) -> tuple[str, float]:
        """The name of the signal, and the seconds to wait for it, 0 for ever."""
        step, scope = instance.step, walk.scope
        assert step.wait is not None
        seen = scope.context.for_step(step, env=opened.env, given=opened.given)

        def text(template: str, name: str) -> str:
            at = scope.at(step, "wait", name)
            return templates.render_text(template, seen, opened.environment, at, scope.spans)

        timeout = step.wait.timeout
        if isinstance(timeout, str):
            try:
                timeout = parse_duration(text(timeout, "timeout"))
            except ValueError as fault:
                raise RunError(f"`timeout`: {fault}", retryable=False) from None
        return text(step.wait.signal, "signal").strip(), float(timeout or 0)

    async def _process(
        self, walk: Walk, instance: Instance, opened: Opened, signal: Json, number: int
    ) -> Json:
        processors = [one for one in instance.step.steps if one.role == "processor"]
        if not processors:
            return {"output": None, "error": None}
        inside = walk.inside(instance, opened, {"signal": seen_as(signal)})
        beside = {one.id: one for one in instance.step.steps}
        state, _ = await inside.step(processors[0], {}, beside)
        if not state.ok:
            message = state.error.message if state.error else "it failed"
            raise RunError(
                f"the processor `{state.id}` failed: {message}",
                code="WAIT_TASK_ERROR",
                retryable=False,
            )
        return {"output": state.output, "error": None}

    def _counts(
        self, walk: Walk, instance: Instance, opened: Opened, signal: Json, processed: Json
    ) -> bool:
        step, scope = instance.step, walk.scope
        assert step.wait is not None
        if not step.wait.condition:
            return True
        seen = scope.context.for_step(step, env=opened.env, given=opened.given)
        seen |= {"signal": seen_as(signal), "processor": processed}
        at = scope.at(step, "wait", "condition")
        try:
            return templates.holds(step.wait.condition, seen, opened.environment, at, scope.spans)
        except RunError as fault:
            raise RunError(fault.message, code="WAIT_TASK_ERROR", retryable=False) from None

    async def ask(self, name: str, form: Json, why: str) -> Json:
        """The payload of the next signal of that name, which nobody gets again."""
        signal = await self._next(name, None, form, why)
        assert signal is not None
        await self.journal.keep(f"{name}{SIGNAL}{signal['number']}", signal)
        return signal["payload"]

    async def _next(
        self, name: str, deadline: float | None, form: Json, why: str = ""
    ) -> dict[str, Json] | None:
        """The next signal of that name, given in the form; None when the time is up."""
        taken = self._taken.setdefault(name, set())
        number = next(n for n in count(1) if n not in taken)
        taken.add(number)  # two that wait for one name take one signal each
        keys: dict[str, str] = dict(keyset_from_base_key(base_key(name, number)).items())
        value = await self._read(keys["response"])
        self.activity.touch()
        try:
            if value is None:
                await self._write(keys["schema"], json.dumps({"title": name, **form}))
                self.watched.waits(name, why)
                async with _Pausing(self, name, keys):
                    with self._waiting(keys["response"], deadline):
                        value = await self._polled(keys["response"], deadline)
        finally:
            self.activity.touch()
            if value is None:
                taken.discard(number)
        if value is None:
            return None
        return {
            "name": name,
            "number": number,
            "payload": value,
            "metadata": {
                "signal_id": f"{name}-{number}",
                "received_at_utc": rfc3339(datetime.now(UTC)),
                "workflow_id": str(self.root),
                "source": "signal",
            },
        }

    async def _polled(self, key: str, deadline: float | None) -> Json:
        """The value of the key as soon as it is there; None when the time is up."""
        pause = FIRST_POLL
        while (value := await self._read(key)) is None:
            left = pause if deadline is None else min(pause, deadline - time.monotonic())
            if left <= 0:
                return None
            await asyncio.sleep(max(left, 0.01))
            pause = min(pause * 1.02, SLOWEST_POLL)
            if self.worker is not None and self.worker.may_suspend() and not self._leaving:
                await self._suspend(self.worker)
        return value

    def _waiting(self, key: str, deadline: float | None) -> AbstractContextManager[None]:
        if self.worker is None:
            return nullcontext()
        until = None if deadline is None else time.time() + deadline - time.monotonic()
        return self.worker.waiting(key, until)

    async def _suspend(self, worker: WorkerProcess) -> None:
        """Leaves the process; whoever brings a signal has the run go on in another one."""
        self._leaving = True
        try:
            state = (await self.client.read_flow_run(self.root)).state
            name = awaited(state)
            if state is not None and name is not None:
                keys = state.state_details.run_input_keyset
                await worker.suspend(suspended(waits_for(name), dict(keys or {})))
        finally:
            self._leaving = False

    async def _read(self, key: str) -> Json:
        text = await rows.value(self.client, self.root, key)
        return None if text is None else json.loads(text)

    async def _write(self, key: str, text: str) -> None:
        with suppress(PrefectHTTPStatusError):  # it is there already
            await self.client.create_flow_run_input(self.root, key, text)


class _Pausing:
    """The time in which the flow run is Paused. Of several that wait, one holds the pause."""

    def __init__(self, signals: Signals, name: str, keys: dict[str, str]) -> None:
        self._signals, self._name, self._keys = signals, name, keys

    async def __aenter__(self) -> None:
        if self._signals.worker is not None:
            await self._signals.worker.permit()
        state: Any = Paused(pause_key=f"{self._name}#{uuid4()}")
        state.message = waits_for(self._name)
        state.state_details.run_input_keyset = self._keys
        # No timeout in the state: the server would fail the run when it is over.
        with suppress(Pause, Abort):
            await propose_state(self._signals.client, state, flow_run_id=self._signals.root)
        await faults.point("wait.paused")

    async def __aexit__(self, *_: object) -> None:
        signals = self._signals
        if signals.worker is not None and not await signals.worker.holds():
            return
        with suppress(PrefectHTTPStatusError, Pause, Abort):
            state = (await signals.client.read_flow_run(signals.root)).state
            paused = state is not None and state.is_paused() and not is_held(state)
            if paused and state is not None:
                keys = state.state_details.run_input_keyset
                if keys is None or dict(keys) == self._keys:
                    await propose_state(signals.client, Running(), flow_run_id=signals.root)


def _raised(instance: Instance, journal: Journal) -> Json:
    """Raises how a wait had ended that is passed over."""
    state = ended(instance, journal.end(instance.where))
    assert state.error is not None
    raise RunError(state.error.message, code=state.error.code, details=state.error.details)


def seen_as(signal: Json) -> View:
    """A signal as templates see it: `signal.x` is `signal.payload.x` (§3.8)."""
    payload = signal["payload"]
    return View(signal, payload if isinstance(payload, dict) else {})
