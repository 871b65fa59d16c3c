"""The tasks of a workflow → a tree of steps: what is in what, and what runs in which order.

A container holds its tasks; a router brings its inline targets into the list that it stands in
(language.md §3.6), so that a path of ids names every step. Names of tasks are looked up here, from
the nearest container outwards (§11.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from compozy_prefect.compiler.sequence import Sequence, sequence, targets_of
from compozy_prefect.language.models.task import (
    CollectionTask,
    CompositeTask,
    ParallelTask,
    RouterTask,
    Task,
    Transition,
    WaitTask,
)

# How a step comes to run: in the order of its list, chosen by a router, or for each signal.
Role = Literal["line", "route", "processor"]

_TEMPLATE = re.compile(r"\{\{.*?\}\}", re.S)


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """A task at its place. `pointer` is where the plan of the workflow holds it."""

    task: Task
    id: str
    path: str
    pointer: tuple[str | int, ...]
    parent: Step | None
    role: Role = "line"
    steps: list[Step] = field(default_factory=list)
    # The edges between `steps`; None where they do not run one after another.
    order: list[Sequence] = field(default_factory=list)

    @property
    def sequence(self) -> Sequence | None:
        return self.order[0] if self.order else None

    @property
    def ancestors(self) -> Iterator[Step]:
        """The containers around the step, the nearest first."""
        at = self.parent
        while at is not None:
            yield at
            at = at.parent

    def names(self) -> re.Pattern[str] | None:
        """What the ids of a step in a collection look like, one for each item (§3.4)."""
        if "{{" in self.id:
            return re.compile(".*".join(map(re.escape, _TEMPLATE.split(self.id))), re.S)
        if any(isinstance(above.task, CollectionTask) for above in self.ancestors):
            return re.compile(re.escape(self.id) + r"(-\d+)?")
        return None


@dataclass(frozen=True, eq=False)
class Tree:
    """The steps of a workflow; `sequence` is the order of those at the top."""

    steps: tuple[Step, ...]
    sequence: Sequence

    @cached_property
    def all(self) -> tuple[Step, ...]:
        """Every step, each before those in it."""
        return tuple(_walk(self.steps))

    @cached_property
    def _top(self) -> dict[str, Step]:
        return _by_id(self.steps)

    @cached_property
    def _anywhere(self) -> dict[str, Step]:
        return _by_id(self.all)

    @cached_property
    def _inside(self) -> dict[Step, dict[str, Step]]:
        return {step: _by_id(step.steps) for step in self.all if step.steps}

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], Step]]:
        found = ((step.names(), step) for step in self.all)
        return [(pattern, step) for pattern, step in found if pattern is not None]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(step.id for step in self.all))

    def find(self, name: str, at: Step | None = None) -> Step | None:
        """What `.tasks.<name>` means at a step: the nearest one, outwards, then any (§11.3)."""
        for around in (at, *at.ancestors) if at is not None else ():
            inside = self._inside.get(around)
            if inside is not None and name in inside:
                return inside[name]
        found = self._top.get(name) or self._anywhere.get(name)
        if found is None:
            found = next((s for pattern, s in self._patterns if pattern.fullmatch(name)), None)
        return found

    @property
    def top(self) -> Mapping[str, Step]:
        """The steps of no container, by id."""
        return self._top

    def beside(self, step: Step) -> Mapping[str, Step]:
        """The list that a step stands in, by id."""
        return self._top if step.parent is None else self._inside[step.parent]

    def around(self, step: Step) -> Sequence | None:
        """The order of the list that a step stands in."""
        return self.sequence if step.parent is None else step.parent.sequence


def tree(tasks: Iterable[Task], default_error: Transition | None = None) -> Tree:
    """The steps of a task list. `default_error` stands in for a missing `on_error` at the top."""
    top: list[Step] = []
    _fill(top, list(tasks), None, ("steps",), "", {})
    return Tree(tuple(top), sequence(top, default_error))


def fork(one: Step, other: Step) -> tuple[Step, Step] | None:
    """The parts of one list that lead to two steps; None if one step is in the other."""
    ways = {id(step.parent): step for step in (one, *one.ancestors)}
    for there in (other, *other.ancestors):
        here = ways.get(id(there.parent))
        if here is not None:
            return None if here is there else (here, there)
    return None


def _by_id(steps: Iterable[Step]) -> dict[str, Step]:
    """In the order of the file; of two with one id, which is reported, the first."""
    out: dict[str, Step] = {}
    for step in steps:
        out.setdefault(step.id, step)
    return out


def _walk(steps: Iterable[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        yield from _walk(step.steps)


def _fill(
    into: list[Step],
    tasks: list[Task],
    parent: Step | None,
    pointer: tuple[str | int, ...],
    prefix: str,
    outer: dict[str, Task],
) -> None:
    """Makes the steps of a list, and with them those of the routes that its routers bring in.

    `outer` has the tasks of the lists around, by id: what a route may also lead to.
    """
    own = {task.id: task for task in reversed(tasks)}
    known = {**outer, **own}
    brought = set(own)

    def add(task: Task, role: Role, id: str = "") -> None:
        id = id or task.id
        step = Step(task, id, prefix + id, (*pointer, len(into)), parent, role)
        into.append(step)
        _open(step, known)
        if isinstance(task, RouterTask):
            for target in targets_of(task):
                inline = target if isinstance(target, Task) else known.get(target)
                # A route to a task of the list leads there; one from elsewhere runs here.
                if inline is not None and inline.id not in brought:
                    brought.add(inline.id)
                    add(inline, "route")

    for task in tasks:
        add(task, "line")


def _open(step: Step, outer: dict[str, Task]) -> None:
    """The steps inside a step."""
    task = step.task
    at, prefix = (*step.pointer, "steps"), step.path + "/"
    if any(above.task.node is task.node for above in step.ancestors):
        return  # a task inside itself, which the checks report
    if isinstance(task, (ParallelTask, CompositeTask)):
        _fill(step.steps, task.tasks, step, at, prefix, outer)
    elif isinstance(task, CollectionTask):
        inside = [*([task.task] if task.task else []), *(task.tasks or [])]
        _fill(step.steps, inside, step, at, prefix, outer)
    elif isinstance(task, WaitTask) and task.processor is not None:
        given = task.processor
        id = given.id if "id" in given.node.entries else f"{task.id}-processor"
        step.steps.append(Step(given, id, prefix + id, (*at, 0), step, "processor"))
        _open(step.steps[0], outer)
    if isinstance(task, CompositeTask):
        step.order.append(sequence(step.steps, None, in_order=True))
