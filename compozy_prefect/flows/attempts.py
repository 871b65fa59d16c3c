"""A step at its place in a run → what one attempt gives, and how it fails.

Who repeats the attempts, keeps their results and shows them is `flows.steps`.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol
from uuid import UUID

from compozy_prefect.compiler.plan import Json, RetryPlan, StepPlan
from compozy_prefect.errors import ModelFailed, RunError, ToolFailed
from compozy_prefect.flows import engine
from compozy_prefect.flows.calls import KeptCalls
from compozy_prefect.flows.journal import Journal
from compozy_prefect.runtime.attempt import Attempt, Performed
from compozy_prefect.runtime.calls import Watch
from compozy_prefect.runtime.clocks import Clocks
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import (
    CANCELED,
    CANCELED_CODE,
    FAILED,
    SUCCESS,
    TIMED_OUT,
    Failure,
    TaskState,
    plain,
)
from compozy_prefect.runtime.redaction import Redactor
from compozy_prefect.runtime.scope import Scope
from compozy_prefect.runtime.templates import nearest_place
from compozy_prefect.runtime.tools.effects import IN_DOUBT, Decision, Doubt, Effects, unknown


@dataclass(frozen=True, slots=True)
class Instance:
    """A step at its place in a run.

    `id` is its rendered id. `where` is the path of ids that leads to it, with a number for each
    visit after the first: no two instances of a run share it. `parent` is that of its container.
    `after` are the task runs that it comes after. `passed`: an earlier process went on in spite of
    how it had ended, so that it only ends in the same way again.
    """

    step: StepPlan
    id: str
    where: str
    parent: str | None = None
    after: tuple[UUID, ...] = ()
    passed: bool = False


def retryable(error: object, retry: RetryPlan) -> bool:
    """Whether another attempt could help: not when data, templates or keys are wrong.

    `non_retryable_error_types` are compared with the type of the error and with its code. A
    provider has been asked as often as the plan of its model says: the step asks again only where
    its own plan says so, so that attempts do not multiply. What a tool has asked for again itself
    is left at that.
    """
    non_retryable = retry.non_retryable
    if isinstance(error, ToolFailed) and error.details.get("attempts"):
        return False
    if isinstance(error, ModelFailed) and error.details.get("attempts") and not retry.given:
        return False
    if isinstance(error, RunError):
        names = {type(error).__name__, error.code, str(error.details.get("type", ""))}
        return error.retryable and names.isdisjoint(non_retryable)
    return {type(error).__name__, "TimeoutError", "TIMEOUT"}.isdisjoint(non_retryable)


def pause_before(error: RunError | engine.StepTimeout, pause: float, retry: RetryPlan) -> float:
    """The seconds before the next attempt: as a server has asked for, up to the longest pause."""
    wanted = error.details.get("retry_after_seconds") if isinstance(error, ToolFailed) else None
    return max(pause, min(wanted, retry.maximum)) if isinstance(wanted, float) else pause


class Ask(Protocol):
    """Asks a person about a call of a step; see `flows.doubts`."""

    async def __call__(self, instance: Instance, doubt: Doubt, log: engine.Log) -> Decision: ...


class Attempts:
    """The attempts of one instance; `once` makes one, and gives what is kept of it.

    Whatever goes wrong leaves as a RunError or a StepTimeout without secrets. `input` is the
    rendered `with` of the last attempt, and the usage is that of them all.
    """

    def __init__(
        self,
        instance: Instance,
        scope: Scope,
        given: Mapping[str, Json],
        redactor: Redactor,
        journal: Journal,
        watch: Callable[[engine.Log], Watch],
        ask: Ask | None = None,
    ) -> None:
        self.input: Json = None
        self.effects: Effects | None = None
        self._usage: Usage | None = None
        self._journal, self._watch, self._ask = journal, watch, ask
        self.number = 1
        self.started = time.monotonic()
        self._instance = instance
        self._scope = scope
        self._given = given
        self._redactor = redactor

    async def once(self, number: int, log: engine.Log) -> Json:
        step, redactor = self._instance.step, self._redactor
        self.number = number
        if step.sleep and number == 1:
            await asyncio.sleep(step.sleep)
        where = self._instance.where
        self._recall_usage(number)
        calls = KeptCalls(self._journal, where, redactor, number)
        clock = asyncio.timeout(step.timeout or None)
        clocks = self._scope.within.clocks or Clocks()
        scope = replace(self._scope, within=replace(self._scope.within, clocks=clocks))
        if self._ask is not None:
            scope = replace(scope, decide=partial(self._decide, self._ask, clocks, log))
        attempt = Attempt(scope, step, self._given, where, calls, self._watch(log))
        self.effects = attempt.effects
        try:
            async with clock:
                with clocks.running(clock):
                    performed = await attempt.run()
            usage = _sum(self._usage, performed.usage)
            return redactor.json(replace(performed, usage=usage).to_json())
        except RunError as fault:
            raise _clean(fault, redactor) from None
        except Exception as fault:
            if isinstance(fault, TimeoutError) and clock.expired():
                message = f"task `{self._instance.id}` took longer than {step.timeout:g} s"
                raise engine.StepTimeout(message) from None
            # Nobody foresaw it: the failure is a sentence all the same, and the log has the rest.
            log.error("%s", redactor.text("".join(traceback.format_exception(fault))))
            failure = Failure.of(fault)
            raise _clean(RunError(failure.message, details=failure.details), redactor) from None
        finally:
            self.input = redactor.json(attempt.input)
            self._usage = _sum(self._usage, attempt.usage)

    async def _decide(self, ask: Ask, clocks: Clocks, log: engine.Log, doubt: Doubt) -> Decision:
        """What a person says; the time of the step stands still meanwhile."""
        with clocks.still():
            return await ask(self._instance, doubt, log)

    @property
    def is_final(self) -> bool:
        """Whether another attempt would do again what must not be done twice."""
        effects = self.effects
        return effects is not None and bool(effects.unknown or effects.made)

    def _recall_usage(self, number: int) -> None:
        """What attempts before this one have taken is kept, and counted by whoever goes on."""
        spent = f"{self._instance.where}@spent"
        if number > 1:
            if self._usage is not None:
                self._journal.note(spent, self._usage.kept())
            return
        kept = self._journal.get(spent)
        if kept is not None:
            self._usage = Usage.from_json(kept)
            self._count(self._usage)

    def _count(self, usage: Usage) -> None:
        for budget in self._scope.budgets_of(self._instance.step, self._instance.where):
            budget.add(usage, self._instance.step.id)

    def succeeded(self, kept: Json) -> TaskState:
        done = Performed.from_json(kept)
        return replace(self._state(SUCCESS), input=done.input, output=done.output, usage=done.usage)

    def counted(self, state: TaskState) -> TaskState:
        """The same: how it ended in an earlier process, whose calls count in the budgets."""
        if state.usage is not None:
            self._count(state.usage)
        return state

    def failed(self, fault: Exception) -> TaskState:
        status = TIMED_OUT if isinstance(fault, engine.StepTimeout) else FAILED
        failure = Failure.of(fault)
        failure = self._told(failure)
        failure = replace(failure, message=self._redactor.text(failure.message))
        error = placed(self._scope, self._instance.step, failure)
        return replace(self._state(status), input=self.input, error=error, usage=self._usage)

    def _told(self, failure: Failure) -> Failure:
        """The failure with what is to be known of the effects that the attempt may have had."""
        effects = self.effects
        if effects is None or not (effects.unknown or effects.made):
            return failure
        message, details = failure.message, failure.details
        if effects.unknown:
            details = {**details, "in_doubt": effects.unknown}
        if effects.unknown and failure.code != IN_DOUBT:
            message += f"; {unknown(effects.unknown[0])}"
        elif effects.made and self.number < self._instance.step.retry.attempts:
            message += f"; it is not tried again, since `{next(iter(effects.made))}` was called"
        return replace(failure, message=message, details=details)

    def _state(self, status: str) -> TaskState:
        one = self._instance
        seconds = time.monotonic() - self.started
        return TaskState(
            one.id,
            one.step.type,
            status,
            parent=one.parent,
            seconds=seconds,
            attempts=self.number,
        )


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


def end_of(state: TaskState) -> Json:
    """What is kept of a step that did not succeed."""
    error = state.error.to_json() if state.error else None
    end: dict[str, Json] = {"status": state.status, "input": state.input, "error": error}
    if state.usage is not None:
        end["usage"] = state.usage.kept()
    return end


def ended(instance: Instance, end: Json) -> TaskState:
    """How the step ended in an earlier process, from what is kept of it; cancelled without."""
    if end is None:
        return canceled(instance, "it was cancelled before")
    failure = Failure(**end["error"]) if end["error"] else None
    return TaskState(
        instance.id,
        instance.step.type,
        end["status"],
        input=end["input"],
        error=failure,
        parent=instance.parent,
        usage=Usage.from_json(end["usage"]) if "usage" in end else None,
    )


def canceled(instance: Instance, reason: str) -> TaskState:
    failure = Failure(reason, CANCELED_CODE)
    return TaskState(
        instance.id, instance.step.type, CANCELED, error=failure, parent=instance.parent
    )


def placed(scope: Scope, step: StepPlan, failure: Failure) -> Failure:
    """The failure with the place of the step in the YAML, if it has none of its own."""
    place = nearest_place(scope.at(step), scope.spans)
    if place is None or "file" in failure.details:
        return failure
    file, line, column = place[:3]
    details = failure.details | {"file": file, "line": line, "column": column}
    return Failure(failure.message, failure.code, details)


def _clean(fault: RunError, redactor: Redactor) -> RunError:
    """The same failure without secrets, and without the exceptions that led to it."""
    return type(fault)(
        redactor.text(fault.message),
        code=fault.code,
        details=redactor.json(plain(fault.details)),
        retryable=fault.retryable,
    )
