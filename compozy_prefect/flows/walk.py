"""The steps of a list, in their order → how each ended (language.md §2.3, §3.3 to §3.6).

What is a task run, what a branch and what only happens in between is decided here; a step without
steps of its own is `steps`', and how many run at a time is `fanout`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from compozy_prefect import faults
from compozy_prefect.compiler.plan import Json, StepPlan, Transition
from compozy_prefect.errors import RunError
from compozy_prefect.flows import engine
from compozy_prefect.flows.attempts import Instance, canceled
from compozy_prefect.flows.containers import Row, container
from compozy_prefect.flows.evaluated import WAIT_TIMEOUT, Made, evaluated
from compozy_prefect.flows.fanout import Elsewhere
from compozy_prefect.flows.ledger import Ledger
from compozy_prefect.flows.memory import remember
from compozy_prefect.flows.observer import Watched
from compozy_prefect.flows.steps import StepRunner
from compozy_prefect.runtime import routing, templates, views
from compozy_prefect.runtime.outcome import CANCELED, RUNNING, Taken, TaskState, plain
from compozy_prefect.runtime.redaction import Redactor
from compozy_prefect.runtime.scope import Opened, Scope


class Ended(NamedTuple):
    """How a step ended, and the step whose transition counts: of a router, the one it chose."""

    state: TaskState
    decided: StepPlan


class Branch(Protocol):
    """Runs `body` as a flow run of its own, a part of the one it is called in."""

    async def __call__(
        self, name: str, where: str, body: Callable[[StepRunner], Awaitable[Ended]]
    ) -> Ended: ...


class Progress(Protocol):
    """Shows how much of a task in a flow run is done, between 0 and 1; see `flows.artifacts`."""

    def __call__(
        self, flow_run: UUID, task: str, done: Callable[[], float]
    ) -> AbstractAsyncContextManager[None]: ...


class Waiter(Protocol):
    """What a step that waits asks for; see `flows.wait`."""

    async def __call__(self, walk: Walk, instance: Instance, opened: Opened) -> Json: ...


class Placer(Protocol):
    """Decides what of a fan-out runs in other processes; see `flows.dispatch`."""

    async def __call__(
        self, walk: Walk, inside: Walk, instance: Instance, opened: Opened, rows: Sequence[Row]
    ) -> Elsewhere | None: ...


@dataclass
class Run:
    """What all lists of steps of one execution share.

    `states` holds how the steps ended by their path, in the order in which they began, and
    `instances` what they were at their last visit; `taken` are the ways of all visits, and of
    the workflows that are called. No step begins while one of `gates` is not set.
    """

    watched: Watched
    cancellation: engine.Cancellation
    redactor: Redactor
    log: Any
    branch: Branch
    wait: Waiter
    send: Callable[[Scope, str, str, Mapping[str, Json]], Awaitable[None]]
    gates: tuple[asyncio.Event, ...]
    progress: Progress
    ledger: Ledger
    place: Placer | None = None
    states: dict[str, TaskState | None] = field(default_factory=dict)
    taken: set[Taken] = field(default_factory=set)
    visits: dict[str, int] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)


@dataclass(frozen=True)
class Walk:
    """One list of steps. `prefix` leads to them, `parent` is the path of their container.

    `runner` belongs to the flow run that shows the steps; `apart` says that the list stands in a
    fan-out, where nothing is mapped and no branch is a flow run of its own. `passed`: as of an
    `Instance`, of them all.
    """

    run: Run
    scope: Scope
    runner: StepRunner
    prefix: str = ""
    parent: str | None = None
    apart: bool = False
    watched: bool = True
    passed: bool = False

    async def line(
        self, steps: Sequence[StepPlan], start: str, *, go_on: bool = False
    ) -> TaskState | None:
        """Runs the steps from `start` along their edges; gives how the last one ended.

        A failure without a handler ends the line, or with `go_on` does not.
        """
        by_id = {step.id: step for step in reversed(steps)}
        current, given = start, dict[str, Json]()
        last: TaskState | None = None
        before: tuple[str, ...] = ()
        while current:
            step = by_id.get(current)
            if step is None:
                raise _no_such_task(current, steps)
            state, decided = await self.step(step, given, by_id, after=before)
            before = (step.id,)
            edge, transition = _transition(step, decided, state, go_on=go_on)
            if transition.next:
                self._take(decided, edge)
            if not state.ok and transition.next:
                state = replace(state, handled=True)
                await self.pass_over(self.run.instances[self.prefix + state.id])
            self.note(state)
            last = state
            current, given = transition.next, {}
            if current and transition.with_:
                given = self._handed(decided, state, transition)
        return last

    async def pass_over(self, instance: Instance) -> None:
        """The run goes on in spite of how the step, or steps in it, ended: a resumed one, too."""
        if not instance.passed:
            await self.runner.journal.pass_over(instance.where)

    def states_of(self, steps: Sequence[StepPlan]) -> dict[str, TaskState]:
        """How the steps of the list ended, as far as they ran."""
        found = {step.id: self.run.states.get(self.prefix + step.id) for step in steps}
        return {id: state for id, state in found.items() if state is not None}

    def _handed(self, step: StepPlan, state: TaskState, transition: Transition) -> dict[str, Json]:
        """What a transition lays over the `with` of the next step."""
        scope = self.scope
        edge = "on_success" if state.ok else "on_error"
        given: dict[str, Json] = templates.render(
            transition.with_,
            scope.context.for_step(step, given=state.input or {}) | {"output": state.output},
            scope.environment(scope.context.env),
            scope.at(step, edge, "with"),
            scope.spans,
        )
        return given

    async def step(
        self,
        step: StepPlan,
        given: Mapping[str, Json],
        beside: Mapping[str, StepPlan],
        *,
        id: str = "",
        after: Sequence[str] = (),
    ) -> Ended:
        """Runs one step, whatever its type. `beside` are the steps of its list, by id.

        `id` is its rendered id, where that is not the one of the plan. `after` are the ids of the
        steps of its list that it comes after.
        """
        run = self.run
        for gate in run.gates:
            await gate.wait()
        path = self.prefix + (id or step.id)
        run.visits[path] = visit = run.visits.get(path, 0) + 1
        where = path if visit == 1 else f"{path}#{visit}"
        known = [run.instances.get(self.prefix + one) for one in after]
        rows = tuple(self.runner.row_id(one) for one in known if one is not None)
        passed = self.passed or self.runner.journal.passed(where)
        instance = Instance(step, id or step.id, where, self.parent, rows, passed)
        run.instances[path] = instance
        run.states.setdefault(path, None)
        if self.watched:
            run.watched.tell("step_started", step)
        try:
            ended = await self._step(instance, given, beside)
        except asyncio.CancelledError as stop:
            reason = run.cancellation.reason or str(stop) or "cancelled"
            state = canceled(instance, reason)
            run.states[path] = state
            if self.watched:
                run.watched.tell("step_finished", step, CANCELED, 0.0, None)
            raise
        state, decided = ended
        # What a router chose may be skipped, and then it was the router that ran.
        self._take(step, "skipped" if state.skipped and decided is step else "run")
        self.note(state, decided.id)
        if self.watched and decided is step:
            run.watched.tell("step_finished", step, state.status, state.seconds, state.error)
        return ended

    async def called(self, step: StepPlan, given: Mapping[str, Json]) -> TaskState:
        """Runs a step that a tool calls, by itself: its list does not hear of it."""
        for gate in self.run.gates:
            await gate.wait()
        where = self.prefix + step.id
        passed = self.runner.journal.passed(where)
        instance = Instance(step, step.id, where, self.parent, passed=passed)
        self.run.instances[where] = instance
        state, _ = await self._step(instance, given, {})
        self._take(step, "skipped" if state.skipped else "run")
        self.run.states[where] = state
        return state

    def note(self, state: TaskState, alias: str = "") -> None:
        """Keeps how a step ended, for the outcome and for the templates that come after it."""
        self.run.states[self.prefix + state.id] = state
        self.scope.context.record(state, alias)

    def _take(self, step: StepPlan, what: str, route: str = "") -> None:
        """Notes the way that the run takes at a step."""
        self.run.taken.add(Taken(self.scope.workflow.id, step.path, what, route))

    async def _step(
        self, instance: Instance, given: Mapping[str, Json], beside: Mapping[str, StepPlan]
    ) -> Ended:
        step = instance.step
        match step.type:
            case "parallel" | "collection" | "composite":
                return Ended(await container(self, instance, given), step)
            case "router":
                return await self._router(instance, given, beside)
            case "wait":
                return Ended(await evaluated(self, instance, given, self._wait), step)
            case "signal":
                return Ended(await evaluated(self, instance, given, self._signal), step)
            case "memory":
                return Ended(await evaluated(self, instance, given, self._memory), step)
        return Ended(await self.runner.run(instance, self.scope, given), step)

    async def _signal(self, instance: Instance, opened: Opened, row: engine.Row) -> Made:
        step, scope = instance.step, self.scope
        assert step.signal is not None
        seen = scope.context.for_step(step, env=opened.env, given=opened.given)
        at = scope.at(step, "signal")
        name = templates.render_text(
            step.signal.id, seen, opened.environment, at + "/id", scope.spans
        )
        payload = templates.render(
            step.signal.payload, seen, opened.environment, at + "/payload", scope.spans
        )
        await self.run.send(scope, instance.where, name, payload)
        return Made({"signal_dispatched": True, "signal_id": name})

    async def _memory(self, instance: Instance, opened: Opened, row: engine.Row) -> Made:
        return Made(await remember(self, instance, opened))

    async def _wait(self, instance: Instance, opened: Opened, row: engine.Row) -> Made:
        row.waiting(f"waits for `{instance.step.wait.signal}`" if instance.step.wait else "")
        return Made(await self.run.wait(self, instance, opened))

    def inside(
        self,
        instance: Instance,
        opened: Opened,
        brought: Mapping[str, Any] | None = None,
        under: Mapping[str, Json] | None = None,
    ) -> Walk:
        """The walk through the steps of a container."""
        step, outer = instance.step, self.scope.context.brought.get("parent")
        parent = {
            "id": instance.id,
            "type": step.type,
            "input": opened.given,
            "with": opened.given,
            "output": None,
            "status": RUNNING,
            "parent": outer,
        }
        context = self.scope.context.inside(
            opened.given, {"parent": parent, **(brought or {})}, opened.env, under
        )
        fans_out = step.type != "composite"
        return replace(
            self,
            scope=replace(self.scope, context=context),
            prefix=f"{instance.where}/",
            parent=self.prefix + instance.id,
            apart=self.apart or fans_out,
            watched=self.watched and step.type != "collection",
            passed=instance.passed,
        )

    # --- routers --------------------------------------------------------------------------------

    async def _router(
        self, instance: Instance, given: Mapping[str, Json], beside: Mapping[str, StepPlan]
    ) -> Ended:
        """Decides, then runs what was chosen, as a flow run of its own in a sequence (§3.6)."""
        step = instance.step
        ended: list[Ended] = []
        chosen: list[str] = []

        async def route(instance: Instance, opened: Opened, row: engine.Row) -> Made:
            key, target_id, value = await self._choice(instance, opened)
            chosen.append(key)
            self._take(step, "route", key)
            target = beside.get(target_id)
            if target is None:
                raise _no_such_task(target_id, list(beside.values()))
            if self.apart:
                ended.append(await self.step(target, {}, beside))
            else:

                async def body(runner: StepRunner) -> Ended:
                    return await replace(self, runner=runner).step(target, {}, beside)

                ended.append(await self.run.branch(f"{step.id}: {key}", instance.where, body))
            routed = {"condition": value, "route_taken": key, "router_type": "conditional"}
            raw = views.of_router(ended[0].state, routed)
            return Made(
                raw,
                message=f"route `{key}` to `{target.id}`",
                view=lambda output: views.of_routed(output, raw),
            )

        state = await evaluated(self, instance, given, route)
        state = replace(state, route="".join(chosen))
        if not ended:
            return Ended(state, step)
        self.note(state)
        if self.watched:
            self.run.watched.tell("step_finished", step, state.status, state.seconds, state.error)
        if not state.ok:
            return Ended(state, step)
        after = ended[0].state
        target = ended[0].decided
        if after.ok and not target.on_success.next and not target.final:
            target = replace(target, on_success=step.on_success)
        return Ended(after, target)

    async def _choice(self, instance: Instance, opened: Opened) -> tuple[str, str, Json]:
        """The route, the task and the value of the condition, as a resumed run finds them again."""
        journal, where = self.runner.journal, f"{instance.where}@route"
        kept = journal.get(where)
        if kept is None:
            key, target, value = routing.choose(instance.step, self.scope, opened)
            kept = [key, target, self.run.redactor.json(plain(value))]
            await faults.point("route.chosen", instance.where)
            await journal.keep(where, kept)
            await faults.point("route.kept", instance.where)
        return kept[0], kept[1], kept[2]


def _transition(
    step: StepPlan, decided: StepPlan, state: TaskState, *, go_on: bool
) -> tuple[str, Transition]:
    """The edge that leads on from a step, and its name."""
    if state.ok:
        return "on_success", decided.on_success
    timed_out = state.error is not None and state.error.code == WAIT_TIMEOUT
    if decided.wait is not None and decided.wait.on_timeout and timed_out:
        return "on_timeout", Transition(decided.wait.on_timeout)
    if not decided.on_error.next and go_on:
        return "on_success", step.on_success
    return "on_error", decided.on_error


def _no_such_task(name: str, steps: Sequence[StepPlan]) -> RunError:
    known = ", ".join(f"`{one.id}`" for one in steps)
    return RunError(
        f"there is no task `{name}` here; there are {known}", code="TASK_NOT_FOUND", retryable=False
    )
