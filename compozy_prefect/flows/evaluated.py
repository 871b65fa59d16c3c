"""A step that is evaluated in the flow run → its state, shown as a task run of its own.

Containers, routers, waits and signals have no attempts of Prefect's: what they do is in the steps
inside them, or is kept by itself. The order of what happens is that of language.md §3.1.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import RunError
from compozy_prefect.flows import engine
from compozy_prefect.flows.attempts import Instance, canceled, end_of, ended, placed
from compozy_prefect.runtime.attempt import Attempt
from compozy_prefect.runtime.outcome import (
    FAILED,
    SKIPPED,
    SUCCESS,
    TIMED_OUT,
    TIMEOUT_CODE,
    Failure,
    TaskState,
    plain,
)
from compozy_prefect.runtime.scope import Opened

if TYPE_CHECKING:
    from compozy_prefect.flows.walk import Walk

_KEPT = ("wait", "signal", "memory")  # what they do is kept under their own path
SIGNAL = "@signal-"  # between the path of a step and the number of a signal that it took
WAIT_TIMEOUT = "WAIT_TIMEOUT"  # code of a wait whose signal did not come


@dataclass(frozen=True)
class Made:
    """What the body of a step gives.

    `more` is what its `outputs` see besides, `view` how the output then reads in templates, and
    `message` what Prefect shows. A `failure` fails the step, which keeps the rest.
    """

    raw: Any
    children: Mapping[str, TaskState] = field(default_factory=dict)
    more: Mapping[str, Any] | None = None
    failure: RunError | None = None
    view: Callable[[Json], Any] | None = None
    message: str | None = None


Body = Callable[[Instance, Opened, engine.Row], Awaitable[Made]]


async def evaluated(
    walk: Walk, instance: Instance, given: Mapping[str, Json], body: Body
) -> TaskState:
    """Runs `body` between the `with` and the `outputs` of a step. Raises only CancelledError."""
    step, redactor = instance.step, walk.run.redactor
    started = time.monotonic()
    row, journal = walk.runner.row(instance, walk.scope), walk.runner.journal
    seen = journal.get(f"{instance.where}{SIGNAL}1") is not None  # with what they made the wait do
    if instance.passed and step.type in _KEPT and journal.get(instance.where) is None and not seen:
        return walk.runner.ended_before(instance, row)
    row.running()
    attempt = Attempt(walk.scope, step, given, instance.where)
    made = Made(None)
    state = TaskState(instance.id, step.type, SUCCESS, parent=instance.parent)
    clock = asyncio.timeout(step.timeout or None)
    work = walk.runner.activity.work
    try:
        if step.sleep:
            with work():
                await asyncio.sleep(step.sleep)
        opened = attempt.open()
        if opened is None:
            state = replace(state, output=SKIPPED)
        else:
            # A time that runs is known to this process alone.
            busy = step.timeout or step.type in ("signal", "memory")
            with work() if busy else nullcontext():
                async with clock:
                    made = await body(instance, opened, row)
            if made.failure is not None:
                raise made.failure
            output = attempt.close(opened, made.raw, more=made.more)
            view = made.raw
            if step.outputs is not None:
                view = made.view(output) if made.view else None
            state = replace(state, output=redactor.json(plain(output)), view=view)
    except asyncio.CancelledError as stop:
        reason = walk.run.cancellation.reason or str(stop) or "cancelled"
        row.cancelled(reason)
        journal.note_end(instance.where, end_of(canceled(instance, reason)))
        raise
    except Exception as fault:
        if not isinstance(fault, (RunError, TimeoutError)):
            # Nobody foresaw it: the failure is a sentence all the same, and the log has the rest.
            walk.run.log.error("%s", redactor.text("".join(traceback.format_exception(fault))))
        expired = isinstance(fault, TimeoutError) and clock.expired()
        failure = Failure.of(fault)
        if expired:
            message = f"task `{instance.id}` took longer than {step.timeout:g} s"
            failure = Failure(message, TIMEOUT_CODE)
        failure = replace(failure, message=redactor.text(failure.message))
        failure = placed(walk.scope, step, failure)
        state = replace(
            state, status=TIMED_OUT if expired else FAILED, error=failure, view=made.raw
        )
        row.failed(failure.placed_message, timed_out=expired or failure.code == WAIT_TIMEOUT)
    else:
        row.completed(made.message)
    state = replace(
        state,
        input=redactor.json(plain(attempt.input)),
        children=made.children,
        seconds=time.monotonic() - started,
    )
    end = journal.end(instance.where) if instance.passed else None
    if end is not None:
        # What its steps gave is known again; that the time was up, say, is not.
        before = ended(instance, end)
        return replace(state, status=before.status, output=None, error=before.error, view=made.raw)
    if not state.ok:
        journal.note_end(instance.where, end_of(state))
    return state
