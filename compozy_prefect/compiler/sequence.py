"""The tasks of a workflow → the edges between them (language.md §2.3).

When a top-level task names its `on_success.next`, all edges are those that are written. When none
does, tasks run in the order of the file, past those that are only the target of an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from compozy_prefect.language.models.task import Task, Transition


@dataclass(frozen=True)
class Sequence:
    """`success` and `failure` give the next task of each that has one."""

    order: tuple[str, ...]
    start: str
    success: dict[str, str]
    failure: dict[str, str]
    explicit: bool

    @cached_property
    def _before(self) -> dict[str, int]:
        """For each task the set, as bits by position, of tasks that some path runs before it."""
        bit = {name: 1 << i for i, name in enumerate(self.order)}
        before = dict.fromkeys(self.order, 0)
        waiting = [name for name in self._reachable if self._next(name)]
        while waiting:
            again: dict[str, None] = {}
            for name in waiting:
                flowing = before[name] | bit[name]
                for following in self._next(name):
                    if before[following] | flowing != before[following]:
                        before[following] |= flowing
                        again[following] = None
            waiting = list(again)
        return before

    def _next(self, name: str) -> list[str]:
        found = (self.success.get(name), self.failure.get(name))
        return [target for target in found if target is not None and target in self._known]

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.order)

    @cached_property
    def _reachable(self) -> dict[str, None]:
        """The tasks that a run can come to, in the order it comes to them."""
        out: dict[str, None] = {}
        waiting = [self.start] if self.start else []
        while waiting:
            name = waiting.pop()
            if name not in out:
                out[name] = None
                waiting += reversed(self._next(name))
        return out

    def reaches(self, name: str) -> bool:
        """Whether any path runs the task."""
        return name in self._reachable

    def may_precede(self, earlier: str, later: str) -> bool:
        """Whether some path runs `earlier` before `later`."""
        position = self.positions.get(earlier)
        return position is not None and bool(self._before.get(later, 0) >> position & 1)

    @cached_property
    def positions(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.order)}


def sequence(tasks: list[Task], default_error: Transition | None = None) -> Sequence:
    """The edges of a task list. `default_error` stands in for a missing `on_error`."""
    unique = {task.id: task for task in tasks}
    explicit = any(task.on_success and task.on_success.next for task in tasks)
    failure: dict[str, str] = {}
    for task in unique.values():
        own = handler.next if (handler := task.on_failure) else None
        default = default_error.next if default_error else None
        if own:
            failure[task.id] = own
        elif default and default != task.id and default in unique:
            failure[task.id] = default
    success: dict[str, str] = {}
    if explicit:
        for task in unique.values():
            if task.on_success and task.on_success.next:
                success[task.id] = task.on_success.next
        start = tasks[0].id
    else:
        handlers = set(failure.values())
        line = [task for task in unique.values() if task.id not in handlers]
        for task, following in pairwise(line):
            if not task.final:
                success[task.id] = following.id
        start = line[0].id if line else (tasks[0].id if tasks else "")
    return Sequence(tuple(unique), start, success, failure, explicit)
