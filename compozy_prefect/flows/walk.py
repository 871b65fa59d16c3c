"""The steps of a list, in their order → how each ended (language.md §2.3, §3.3 to §3.6).

What is a task run, what a branch and what only happens in between is decided here; who runs a step
without steps of its own is the `leaf`, and how many run at a time is `fanout`'s.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from compozy_prefect.compiler.plan import Json, StepPlan, Transition
from compozy_prefect.errors import RunError
from compozy_prefect.flows import engine
from compozy_prefect.flows.attempts import Instance, Leaf, placed
from compozy_prefect.flows.collection import Item, items_of
from compozy_prefect.flows.fanout import FanOut, Unit, succeeded
from compozy_prefect.flows.observer import Watched
from compozy_prefect.runtime import routing, templates, views
from compozy_prefect.runtime.attempt import SKIPPED, Attempt, Opened, Scope
from compozy_prefect.runtime.outcome import (
    CANCELED,
    CANCELED_CODE,
    FAILED,
    RUNNING,
    SUCCESS,
    TIMED_OUT,
    TIMEOUT_CODE,
    Failure,
    TaskState,
    plain,
)
from compozy_prefect.runtime.redaction import Redactor

WAIT_TIMEOUT = "WAIT_TIMEOUT"


class Ended(NamedTuple):
    """How a step ended, and the step whose transition counts: of a router, the one it chose."""

    state: TaskState
    decided: StepPlan


class Branch(Protocol):
    """Runs `body` as a flow run of its own, a part of the one it is called in."""

    async def __call__(
        self, name: str, where: str, body: Callable[[Leaf], Awaitable[Ended]]
    ) -> Ended: ...


class Waiter(Protocol):
    """What a step that waits asks for; see `flows.wait`."""

    async def __call__(self, walk: Walk, instance: Instance, opened: Opened) -> Json: ...


@dataclass
class Run:
    """What all lists of steps of one execution share.

    `states` holds how the steps ended by their path, in the order in which they began.
    """

    watched: Watched
    cancellation: engine.Cancellation
    redactor: Redactor
    log: Any
    branch: Branch
    wait: Waiter
    send: Callable[[Scope, StepPlan, str, Mapping[str, Json]], Awaitable[None]]
    states: dict[str, TaskState | None] = field(default_factory=dict)
    visits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Walk:
    """One list of steps. `prefix` leads to them, `parent` is the path of their container.

    `leaf` runs the steps that have none in them; `apart` says that the list stands in a fan-out,
    where nothing is mapped and no branch is a flow run of its own.
    """

    run: Run
    scope: Scope
    leaf: Leaf
    prefix: str = ""
    parent: str | None = None
    apart: bool = False
    watched: bool = True

    async def line(
        self, steps: Sequence[StepPlan], start: str, *, go_on: bool = False
    ) -> TaskState | None:
        """Runs the steps from `start` along their edges; gives how the last one ended.

        A failure without a handler ends the line, or with `go_on` does not.
        """
        by_id = {step.id: step for step in reversed(steps)}
        current, given = start, dict[str, Json]()
        last: TaskState | None = None
        while current:
            step = by_id.get(current)
            if step is None:
                raise _no_such_task(current, steps)
            state, decided = await self.step(step, given, by_id)
            transition = _transition(step, decided, state, go_on=go_on)
            if not state.ok and transition.next:
                state = replace(state, handled=True)
            self._note(state)
            last = state
            current, given = transition.next, {}
            if current and transition.with_:
                given = self._handed(decided, state, transition)
        return last

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
    ) -> Ended:
        """Runs one step, whatever its type. `beside` are the steps of its list, by id.

        `id` is its rendered id, where that is not the one of the plan.
        """
        run = self.run
        path = self.prefix + (id or step.id)
        run.visits[path] = visit = run.visits.get(path, 0) + 1
        where = path if visit == 1 else f"{path}#{visit}"
        instance = Instance(step, id or step.id, where, self.parent)
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
        self._note(state, decided.id)
        if self.watched and decided is step:
            run.watched.tell("step_finished", step, state.status, state.seconds, state.error)
        return ended

    def _note(self, state: TaskState, alias: str = "") -> None:
        """Keeps how a step ended, for the outcome and for the templates that come after it."""
        self.run.states[self.prefix + state.id] = state
        self.scope.context.record(state, alias)

    async def _step(
        self, instance: Instance, given: Mapping[str, Json], beside: Mapping[str, StepPlan]
    ) -> Ended:
        step = instance.step
        match step.type:
            case "parallel" | "collection" | "composite":
                return Ended(await self._container(instance, given), step)
            case "router":
                return await self._router(instance, given, beside)
            case "wait":
                return Ended(await self._evaluated(instance, given, self._wait), step)
            case "signal":
                return Ended(await self._evaluated(instance, given, self._signal), step)
            case "memory":
                raise RunError(
                    f"task `{instance.id}`: this version has no store for memories",
                    code="UNSUPPORTED",
                    retryable=False,
                )
        return Ended(await self.leaf.run(instance, self.scope, given), step)

    # --- steps that have a row of their own, and no attempts ------------------------------------

    async def _evaluated(
        self,
        instance: Instance,
        given: Mapping[str, Json],
        body: Callable[[Instance, Opened, engine.Row], Awaitable[_Made]],
    ) -> TaskState:
        """Runs what happens between the `with` and the `outputs` of a step (§3.1)."""
        step, scope, redactor = instance.step, self.scope, self.run.redactor
        started = time.monotonic()
        row = engine.Row(
            self.leaf.flow_run, instance.where, instance.id, f"{scope.workflow.id}/{step.path}"
        )
        row.running()
        attempt = Attempt(scope, step, given)
        made = _Made(None)
        state = TaskState(instance.id, step.type, SUCCESS, parent=instance.parent)
        clock = asyncio.timeout(step.timeout or None)
        try:
            if step.sleep:
                await asyncio.sleep(step.sleep)
            opened = attempt.open()
            if opened is None:
                state = replace(state, output=SKIPPED)
            else:
                async with clock:
                    made = await body(instance, opened, row)
                if made.failure is not None:
                    raise made.failure
                output = attempt.close(opened, made.raw, more=made.more)
                is_mapped = step.outputs is not None and made.view is not None
                view = made.view(output) if is_mapped and made.view else made.raw
                state = replace(state, output=redactor.json(plain(output)), view=view)
        except asyncio.CancelledError as stop:
            row.cancelled(self.run.cancellation.reason or str(stop) or "cancelled")
            raise
        except Exception as fault:
            if not isinstance(fault, (RunError, TimeoutError)):
                trace = "".join(traceback.format_exception(fault))
                self.run.log.error("%s", redactor.text(trace))
            expired = isinstance(fault, TimeoutError) and clock.expired()
            message = f"task `{instance.id}` took longer than {step.timeout:g} s"
            failure = Failure(message, TIMEOUT_CODE) if expired else Failure.of(fault)
            failure = placed(scope, step, replace(failure, message=redactor.text(failure.message)))
            timed_out = expired or failure.code == WAIT_TIMEOUT
            status = TIMED_OUT if expired else FAILED
            state = replace(state, status=status, error=failure, view=made.raw)
            row.failed(failure.message, timed_out=timed_out)
        else:
            row.completed(made.message)
        return replace(
            state,
            input=redactor.json(plain(attempt.input)),
            children=made.children,
            seconds=time.monotonic() - started,
        )

    async def _signal(self, instance: Instance, opened: Opened, row: engine.Row) -> _Made:
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
        await self.run.send(scope, step, name, payload)
        return _Made({"signal_dispatched": True, "signal_id": name})

    async def _wait(self, instance: Instance, opened: Opened, row: engine.Row) -> _Made:
        row.waiting(f"waits for `{instance.step.wait.signal}`" if instance.step.wait else "")
        return _Made(await self.run.wait(self, instance, opened))

    # --- containers -------------------------------------------------------------------------------

    async def _container(self, instance: Instance, given: Mapping[str, Json]) -> TaskState:
        attempts = max(instance.step.retry.attempts, 1)
        delays = instance.step.retry.delays()
        state = await self._evaluated(instance, given, self._contents)
        for number in range(1, attempts):
            if state.status not in (FAILED, TIMED_OUT):
                break
            await asyncio.sleep(delays[number - 1])
            again = replace(instance, where=f"{instance.where}~{number + 1}")
            state = await self._evaluated(again, given, self._contents)
        return state

    async def _contents(self, instance: Instance, opened: Opened, row: engine.Row) -> _Made:
        step = instance.step
        fan = step.fan
        assert fan is not None
        if instance.where != self.prefix + instance.id:
            self._forget(instance)
        inside = self.inside(instance, opened)
        if step.type == "composite":
            best_effort = fan.strategy == "best_effort"
            await inside.line(step.steps, step.start, go_on=best_effort)
            return inside._gathered(instance, inside.states_of(step.steps), fan.strategy)
        if step.collection is not None:
            return await self._collection(instance, opened, inside)
        children = [child for child in step.steps if not child.role]
        units = [inside.unit(child, step, children) for child in children]
        states = await self._fan(instance, units)
        return inside._gathered(instance, {state.id: state for state in states}, fan.strategy)

    def _forget(self, instance: Instance) -> None:
        """A container that runs once more replaces what its steps gave before."""
        path = self.prefix + instance.id
        for known in list(self.run.states):
            if known.startswith((f"{path}/", f"{path}#", f"{path}~")):
                del self.run.states[known]

    async def _fan(
        self, instance: Instance, units: list[Unit], *, sequential: bool = False
    ) -> list[TaskState]:
        fan = instance.step.fan
        assert fan is not None
        work = FanOut(
            units,
            fan.strategy,
            name=instance.id,
            limit=fan.max_workers,
            sequential=sequential,
        )
        return await work.run(mapped=not self.apart)

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
            leaf=self.leaf.apart if fans_out else self.leaf,
            prefix=f"{instance.where}/",
            parent=self.prefix + instance.id,
            apart=self.apart or fans_out,
            watched=self.watched and step.type != "collection",
        )

    def unit(self, child: StepPlan, container: StepPlan, children: Sequence[StepPlan]) -> Unit:
        """A child of a parallel task. It waits for those that it reads (§3.3)."""
        order = [one.id for one in children]
        beside = {one.id: one for one in container.steps}

        return Unit(
            lambda: self._unit(child, child.id, beside),
            lambda reason: self._skipped(child, child.id, reason),
            tuple(order.index(needed) for needed in child.needs if needed in order),
        )

    def _skipped(self, step: StepPlan, id: str, reason: str) -> TaskState:
        """The state of a step that was cancelled, or never began."""
        path = self.prefix + id
        instance = Instance(step, id, path, self.parent)
        if self.run.states.get(path) is None:
            engine.Row(
                self.leaf.flow_run, path, id, f"{self.scope.workflow.id}/{step.path}"
            ).cancelled(reason)
        state = self.run.states[path] = canceled(instance, reason)
        return state

    def _gathered(self, instance: Instance, states: dict[str, TaskState], strategy: str) -> _Made:
        return self._made(instance, states, views.of_children(states, strategy), strategy)

    def _made(
        self, instance: Instance, by_id: dict[str, TaskState], raw: Any, strategy: str
    ) -> _Made:
        """What the container around gives; its failure is that of the first step that failed."""
        failure = None
        if not succeeded(list(by_id.values()), strategy):
            first = next((s for s in by_id.values() if s.status in (FAILED, TIMED_OUT)), None)
            if first is not None and first.error is not None:
                failure = RunError(
                    f"task `{first.id}` failed: {first.error.message}",
                    code=first.error.code,
                    details={"task": first.id, **first.error.details},
                )
            else:
                failure = RunError(f"no task in `{instance.id}` succeeded", retryable=False)
        return _Made(
            raw,
            children=by_id,
            more={
                "children": raw.beside["children"],
                "progress": raw.beside["progress_info"],
                "tasks": self.scope.context.tasks(),
            },
            failure=failure,
            view=lambda output: views.of_container(output, raw),
        )

    async def _collection(self, instance: Instance, opened: Opened, inside: Walk) -> _Made:
        """The steps of a collection, for each of its items (§3.4)."""
        step = instance.step
        assert step.collection is not None
        assert step.fan is not None
        given = items_of(step, self.scope, opened)
        templates_of_item = [child for child in step.steps if not child.role]
        taken: set[str] = set()
        units: list[Unit] = []
        ids: list[list[str]] = []
        for item in given.items:
            walk = self.inside(instance, opened, item.variables, opened.given)
            row = [_child_id(child, item, walk.scope, taken) for child in templates_of_item]
            ids.append(row)
            order = [child.id for child in templates_of_item]
            for child, id in zip(templates_of_item, row, strict=True):
                first = len(units) - order.index(child.id)
                needs = tuple(first + order.index(n) for n in child.needs if n in order)
                units.append(walk._of_item(child, id, step, needs))
        states = await self._fan(instance, units, sequential=step.collection.sequential)
        by_id = {state.id: state for state in states}
        outputs: list[Any] = []
        for row in ids:
            shown = [views.of_child(by_id[id]) if id in by_id else None for id in row]
            if step.collection.single:
                outputs.append(shown[0])
            else:
                outputs.append(dict(zip((c.id for c in templates_of_item), shown, strict=True)))
        raw = views.of_items(outputs, by_id, step.fan.strategy, given.skipped)
        for state in states:
            inside.scope.context.record(state)
        return inside._made(instance, by_id, raw, step.fan.strategy)

    def _of_item(
        self, child: StepPlan, id: str, container: StepPlan, needs: tuple[int, ...]
    ) -> Unit:
        beside = {one.id: one for one in container.steps}
        return Unit(
            lambda: self._unit(child, id, beside),
            lambda reason: self._skipped(child, id, reason),
            needs,
        )

    async def _unit(self, child: StepPlan, id: str, beside: Mapping[str, StepPlan]) -> TaskState:
        """A step of a fan-out; a router has failed there when what it chose has."""
        state, decided = await self.step(child, {}, beside, id=id)
        if decided is child:
            return state
        own = self.run.states[self.prefix + id]
        assert own is not None
        if not state.ok:
            own = replace(own, status=state.status, error=state.error)
            self._note(own)
        return own

    # --- routers --------------------------------------------------------------------------------

    async def _router(
        self, instance: Instance, given: Mapping[str, Json], beside: Mapping[str, StepPlan]
    ) -> Ended:
        """Decides, then runs what was chosen, as a flow run of its own in a sequence (§3.6)."""
        step = instance.step
        ended: list[Ended] = []

        async def route(instance: Instance, opened: Opened, row: engine.Row) -> _Made:
            key, target_id, value = routing.choose(step, self.scope, opened)
            target = beside.get(target_id)
            if target is None:
                raise _no_such_task(target_id, list(beside.values()))
            if self.apart:
                ended.append(await self.step(target, {}, beside))
            else:

                async def body(leaf: Leaf) -> Ended:
                    return await replace(self, leaf=leaf).step(target, {}, beside)

                ended.append(await self.run.branch(f"{step.id}: {key}", instance.where, body))
            routed = {"condition": value, "route_taken": key, "router_type": "conditional"}
            raw = views.of_router(ended[0].state, routed)
            return _Made(
                raw,
                message=f"route `{key}` to `{target.id}`",
                view=lambda output: views.of_routed(output, raw),
            )

        state = await self._evaluated(instance, given, route)
        if not ended:
            return Ended(state, step)
        self._note(state)
        if self.watched:
            self.run.watched.tell("step_finished", step, state.status, state.seconds, state.error)
        if not state.ok:
            return Ended(state, step)
        after = ended[0].state
        target = ended[0].decided
        if after.ok and not target.on_success.next and not target.final:
            target = replace(target, on_success=step.on_success)
        return Ended(after, target)


@dataclass(frozen=True)
class _Made:
    """What the body of a step gives: its raw output, and how its `outputs` then read."""

    raw: Any
    children: Mapping[str, TaskState] = field(default_factory=dict)
    more: Mapping[str, Any] | None = None
    failure: RunError | None = None
    view: Callable[[Json], Any] | None = None
    message: str | None = None


def canceled(instance: Instance, reason: str) -> TaskState:
    failure = Failure(reason, CANCELED_CODE)
    return TaskState(
        instance.id, instance.step.type, CANCELED, error=failure, parent=instance.parent
    )


def _transition(step: StepPlan, decided: StepPlan, state: TaskState, *, go_on: bool) -> Transition:
    if state.ok:
        return decided.on_success
    timed_out = state.error is not None and state.error.code == WAIT_TIMEOUT
    if decided.wait is not None and decided.wait.on_timeout and timed_out:
        return Transition(decided.wait.on_timeout)
    if not decided.on_error.next and go_on:
        return step.on_success
    return decided.on_error


def _child_id(child: StepPlan, item: Item, scope: Scope, taken: set[str]) -> str:
    """The id of a step for one item: rendered, and made unique by the number of the item."""
    id = child.id
    if "{{" in id:
        seen = scope.context.for_step(child)
        id = templates.render_text(
            id, seen, scope.environment(scope.context.env), scope.at(child), scope.spans
        )
    if id == child.id or id in taken:
        id = f"{id}-{item.index}"
    taken.add(id)
    return id


def _no_such_task(name: str, steps: Sequence[StepPlan]) -> RunError:
    known = ", ".join(f"`{one.id}`" for one in steps)
    return RunError(
        f"there is no task `{name}` here; there are {known}", code="TASK_NOT_FOUND", retryable=False
    )
