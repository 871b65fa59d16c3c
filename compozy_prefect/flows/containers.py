"""The steps inside a container → what it gives (language.md §3.3 to §3.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from compozy_prefect import faults
from compozy_prefect.compiler.plan import Json, StepPlan
from compozy_prefect.errors import RunError
from compozy_prefect.flows import engine
from compozy_prefect.flows.attempts import Instance, canceled, end_of
from compozy_prefect.flows.collection import Item, items_of
from compozy_prefect.flows.evaluated import Made, evaluated
from compozy_prefect.flows.fanout import FanOut, Unit, succeeded
from compozy_prefect.runtime import templates, views
from compozy_prefect.runtime.outcome import FAILED, TIMED_OUT, TaskState
from compozy_prefect.runtime.scope import Opened, Scope

if TYPE_CHECKING:
    from compozy_prefect.flows.walk import Walk


async def container(walk: Walk, instance: Instance, given: Mapping[str, Json]) -> TaskState:
    """Runs a parallel, a collection or a composite, as often as its `retries` allow."""

    journal = walk.runner.journal

    async def body(instance: Instance, opened: Opened, row: engine.Row) -> Made:
        made = await _contents(walk, instance, opened)
        if made.failure is None and not all(state.ok for state in made.children.values()):
            await walk.pass_over(instance)
        await faults.point("fan.ended", instance.where)
        return made

    attempts = max(instance.step.retry.attempts, 1)
    delays = instance.step.retry.delays()
    first = instance
    state = await evaluated(walk, instance, given, body)
    for number in range(1, attempts):
        if state.status not in (FAILED, TIMED_OUT):
            break
        await walk.pass_over(instance)
        where = f"{first.where}~{number + 1}"
        instance = replace(first, where=where, passed=walk.passed or journal.passed(where))
        walk.run.instances[walk.prefix + instance.id] = instance
        if not instance.passed:
            with walk.runner.activity.work():
                await asyncio.sleep(delays[number - 1])
        state = replace(await evaluated(walk, instance, given, body), attempts=number + 1)
    return state


async def _contents(walk: Walk, instance: Instance, opened: Opened) -> Made:
    step = instance.step
    assert step.fan is not None
    if instance.where != walk.prefix + instance.id:
        _forget(walk, walk.prefix + instance.id)
    inside = walk.inside(instance, opened)
    if step.type == "composite":
        await inside.line(step.steps, step.start, go_on=step.fan.strategy == "best_effort")
        return _gathered(inside, instance, inside.states_of(step.steps))
    if step.collection is not None:
        return await _collection(walk, inside, instance, opened)
    children = [child for child in step.steps if not child.role]
    row = Row(inside, children, [child.id for child in children])
    states, first = await _fan(walk, inside, instance, opened, [row])
    return _gathered(inside, instance, {state.id: state for state in states}, first)


def _forget(walk: Walk, path: str) -> None:
    """A container that runs once more replaces what its steps gave before."""
    for known in list(walk.run.states):
        if known.startswith((f"{path}/", f"{path}#", f"{path}~")):
            del walk.run.states[known]


class Row(NamedTuple):
    """Steps of a fan-out that see the same: those of a parallel, or those for one item.

    `walk` is the one that they run in, `ids` are their rendered ids, and `variables` what the item
    brings, None in a parallel.
    """

    walk: Walk
    steps: Sequence[StepPlan]
    ids: Sequence[str]
    variables: Mapping[str, Json] | None = None


def in_item(inside: Walk, opened: Opened, variables: Mapping[str, Json]) -> Walk:
    """The walk through the steps of one item of a collection."""
    context = inside.scope.context.inside(opened.given, variables, opened.env, opened.given)
    return replace(inside, scope=replace(inside.scope, context=context))


def fan_out(inside: Walk, instance: Instance, rows: Sequence[Row], limit: int) -> FanOut:
    """The rows as a fan-out, `limit` steps at a time."""
    step = instance.step
    assert step.fan is not None
    sequential = step.collection is not None and step.collection.sequential
    units: list[Unit] = []
    for row in rows:
        units += _units(row.walk, step, row.steps, row.ids, first=len(units))
    if sequential:
        units = [replace(unit, run=_noted(inside, unit)) for unit in units]
    return FanOut(units, step.fan.strategy, name=instance.id, limit=limit, sequential=sequential)


async def _fan(
    walk: Walk, inside: Walk, instance: Instance, opened: Opened, rows: Sequence[Row]
) -> tuple[list[TaskState], TaskState | None]:
    """How the steps ended, and the one of them that ended first."""
    step, journal = instance.step, walk.runner.journal
    assert step.fan is not None
    await faults.point("fan.begun", instance.where)
    work = fan_out(inside, instance, rows, step.fan.max_workers)
    if walk.apart:
        states = await work.run(mapped=False)
    else:
        place = walk.run.place
        elsewhere = await place(walk, inside, instance, opened, rows) if place else None
        async with walk.run.progress(walk.runner.flow_run, instance.id, work.done):
            states = await work.run(mapped=True, elsewhere=elsewhere)
    first = work.first
    if step.fan.strategy == "wait_first" and first is not None:
        known = journal.get(f"{instance.where}@first") if instance.passed else None
        if known is not None:
            first = next((state for state in states if state.id == known), first)
        else:
            journal.note(f"{instance.where}@first", first.id)
    return states, first


def _units(
    inside: Walk,
    container: StepPlan,
    children: Sequence[StepPlan],
    ids: Sequence[str],
    first: int = 0,
) -> list[Unit]:
    """The steps of a fan-out, each of which waits for those that it reads (§3.3).

    `ids` are their rendered ids, `first` is the position of the first one in the fan-out.
    """
    at = {child.id: index for index, child in enumerate(children)}
    units: list[Unit] = []
    for child, id in zip(children, ids, strict=True):
        needs = [at[needed] for needed in child.needs if needed in at]
        after = [ids[needed] for needed in needs]
        units.append(_unit(inside, container, child, id, [first + n for n in needs], after))
    return units


def _unit(
    inside: Walk,
    container: StepPlan,
    child: StepPlan,
    id: str,
    needs: Sequence[int],
    after: Sequence[str],
) -> Unit:
    beside = {one.id: one for one in container.steps}

    async def run() -> TaskState:
        state, decided = await inside.step(child, {}, beside, id=id, after=after)
        if decided is child:
            return state
        # A router has failed here when what it chose has.
        own = inside.run.states[inside.prefix + id]
        assert own is not None
        if not state.ok:
            own = replace(own, status=state.status, error=state.error)
            inside.note(own)
        return own

    def skip(reason: str) -> TaskState:
        path = inside.prefix + id
        instance = Instance(child, id, path, inside.parent)
        if inside.run.states.get(path) is None:  # it never began
            inside.runner.row(instance, inside.scope).cancelled(reason)
        state = inside.run.states[path] = canceled(instance, reason)
        inside.runner.journal.note_end(path, end_of(state))
        return state

    return Unit(run, skip, tuple(needs))


async def _collection(walk: Walk, inside: Walk, instance: Instance, opened: Opened) -> Made:
    """The steps of a collection, for each of its items (§3.4)."""
    step = instance.step
    assert step.collection is not None
    assert step.fan is not None
    given = items_of(step, walk.scope, opened)
    of_item = [child for child in step.steps if not child.role]
    order = [child.id for child in of_item]
    taken: set[str] = set()
    rows: list[Row] = []
    for item in given.items:
        of = in_item(inside, opened, item.variables)
        ids = [_id(child, item, of.scope, taken) for child in of_item]
        rows.append(Row(of, of_item, ids, item.variables))
    states, first_ended = await _fan(walk, inside, instance, opened, rows)
    by_id = {state.id: state for state in states}
    for state in states:
        inside.scope.context.record(state)
    outputs: list[Any] = []
    for row in rows:
        shown = [views.of_child(by_id[id]) if id in by_id else None for id in row.ids]
        outputs.append(shown[0] if step.collection.single else dict(zip(order, shown, strict=True)))
    raw = views.of_items(outputs, by_id, step.fan.strategy, given.skipped)
    return _made(inside, instance, by_id, raw, first_ended)


def _noted(inside: Walk, unit: Unit) -> Any:
    """The same, told to the items that come after it."""

    async def run() -> TaskState:
        state = await unit.run()
        inside.scope.context.record(state)
        return state

    return run


def _id(child: StepPlan, item: Item, scope: Scope, taken: set[str]) -> str:
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


def _gathered(
    inside: Walk,
    instance: Instance,
    states: dict[str, TaskState],
    first: TaskState | None = None,
) -> Made:
    assert instance.step.fan is not None
    raw = views.of_children(states, instance.step.fan.strategy)
    return _made(inside, instance, states, raw, first)


def _made(
    inside: Walk,
    instance: Instance,
    by_id: dict[str, TaskState],
    raw: Any,
    first_ended: TaskState | None,
) -> Made:
    """What a container gives; its failure is that of the first step that failed."""
    assert instance.step.fan is not None
    failure = None
    if not succeeded(list(by_id.values()), instance.step.fan.strategy, first_ended):
        first = next((s for s in by_id.values() if s.status in (FAILED, TIMED_OUT)), None)
        if first is not None and first.error is not None:
            failure = RunError(
                f"task `{first.id}` failed: {first.error.message}",
                code=first.error.code,
                details={"task": first.id, **first.error.details},
            )
        else:
            failure = RunError(f"no task in `{instance.id}` succeeded", retryable=False)
    return Made(
        raw,
        children=by_id,
        more={
            "children": raw.beside["children"],
            "progress": raw.beside["progress_info"],
            "tasks": inside.scope.context.tasks(),
        },
        failure=failure,
        view=lambda output: views.of_container(output, raw),
    )
