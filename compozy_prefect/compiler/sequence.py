"""A list of steps → the edges between them (language.md §2.3), and what they imply.

When a step names its `on_success.next`, all edges are those that are written. When none does, steps
run in the order of the file, past those that are only the target of an error, a timeout or a route.
After a router comes the step it chose, then what that one names, or what comes after the router.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from compozy_prefect.language.models.task import RouterTask, Task, Transition, WaitTask

if TYPE_CHECKING:
    from compozy_prefect.compiler.tree import Step


@dataclass(frozen=True)
class Sequence:
    """`success`, `failure` and `timeout` give the next step of each that has one.

    `choices` gives the steps that a router may choose; None stands for one that is only known
    when it runs.
    """

    order: tuple[str, ...]
    start: str
    success: dict[str, str]
    failure: dict[str, str]
    timeout: dict[str, str]
    choices: dict[str, tuple[str | None, ...]]
    explicit: bool
    final: frozenset[str] = frozenset()

    @cached_property
    def _ok(self) -> dict[str, list[str]]:
        """Where each step may lead when it succeeds."""
        after = {name: self._known(self.success.get(name)) for name in self.order}
        edges = {name: list(targets) for name, targets in after.items()}
        for router, targets in self.choices.items():
            chosen = [t for t in targets if t is not None and t in self.positions]
            if None in targets:
                chosen = [name for name in self.order if name != router]
            edges[router] = chosen
            for target in chosen:
                if not after[target] and target not in self.final:
                    edges[target] += after[router]
        return edges

    @cached_property
    def _failed(self) -> dict[str, list[str]]:
        """Where each step may lead when it fails."""
        return {
            name: self._known(self.failure.get(name), self.timeout.get(name)) for name in self.order
        }

    def _known(self, *targets: str | None) -> list[str]:
        return [target for target in targets if target in self.positions and target is not None]

    def successors(self, name: str) -> list[str]:
        """Where a step may lead when it succeeds."""
        return self._ok.get(name, [])

    def _next(self, name: str) -> list[str]:
        return self._ok[name] + self._failed[name]

    @cached_property
    def positions(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.order)}

    @cached_property
    def _reachable(self) -> dict[str, None]:
        """The steps that a run can come to, in the order it comes to them."""
        out: dict[str, None] = {}
        waiting = self._known(self.start)
        while waiting:
            name = waiting.pop()
            if name not in out:
                out[name] = None
                waiting += reversed(self._next(name))
        return out

    def reaches(self, name: str) -> bool:
        """Whether any path runs the step."""
        return name in self._reachable

    @cached_property
    def _before(self) -> dict[str, int]:
        """For each step the set, as bits by position, of those that some path runs before it."""
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

    def may_precede(self, earlier: str, later: str) -> bool:
        """Whether some path runs `earlier` before `later`."""
        position = self.positions.get(earlier)
        return position is not None and bool(self._before.get(later, 0) >> position & 1)

    @cached_property
    def _surely(self) -> dict[str, int]:
        """For each step the set of those that have succeeded before it on every path."""
        return self._available(with_failures=True)

    def surely_precedes(self, earlier: str, later: str) -> bool:
        """Whether `earlier` has succeeded on every path that runs `later`."""
        position = self.positions.get(earlier)
        return position is not None and bool(self._surely.get(later, 0) >> position & 1)

    @cached_property
    def _at_the_end(self) -> int:
        """The set of steps that have succeeded whenever the list ends without a failure."""
        available = self._available(with_failures=False)
        everything = (1 << len(self.order)) - 1
        out = everything
        for name, before in available.items():
            if not self._ok[name]:
                out &= before | 1 << self.positions[name]
        return out if available else 0

    def surely_ran(self, name: str) -> bool:
        """Whether the step has succeeded whenever the whole list does."""
        position = self.positions.get(name)
        return position is not None and bool(self._at_the_end >> position & 1)

    def _available(self, *, with_failures: bool) -> dict[str, int]:
        """What has succeeded on every path to each step that is reached."""
        everything = (1 << len(self.order)) - 1
        out: dict[str, int] = {}
        waiting = self._known(self.start)
        for name in waiting:
            out[name] = 0
        while waiting:
            again: dict[str, None] = {}
            for name in waiting:
                done = out[name] | 1 << self.positions[name]
                edges = [(target, done) for target in self._ok[name]]
                if with_failures:
                    edges += [(target, out[name]) for target in self._failed[name]]
                for target, flowing in edges:
                    known = out.get(target, everything)
                    if target not in out or known & flowing != known:
                        out[target] = known & flowing
                        again[target] = None
            waiting = list(again)
        return out


def sequence(
    steps: Iterable[Step], default_error: Transition | None, *, in_order: bool = False
) -> Sequence:
    """The edges of a list. `default_error` stands in for a missing `on_error`.

    `in_order`: the children of a composite, whose `on_success` and `on_error` do not count (§3.5).
    """
    unique: dict[str, Step] = {}
    for step in steps:
        unique.setdefault(step.id, step)
    tasks = {name: step.task for name, step in unique.items()}
    explicit = not in_order and any(_named(task) for task in tasks.values())
    choices = {
        name: tuple(_choice(target) for target in targets_of(task))
        for name, task in tasks.items()
        if isinstance(task, RouterTask)
    }
    failure = {} if in_order else _failure(tasks, default_error)
    timeout = {
        name: task.on_timeout
        for name, task in tasks.items()
        if isinstance(task, WaitTask) and task.on_timeout
    }
    success: dict[str, str] = {}
    aside = {*failure.values(), *timeout.values(), *(t for ts in choices.values() for t in ts)}
    aside |= {name for name, step in unique.items() if step.role != "line"}
    line = [name for name in unique if name not in aside]
    if explicit:
        success = {name: target for name, task in tasks.items() if (target := _named(task))}
        start = next((name for name, step in unique.items() if step.role == "line"), "")
    else:
        for name, following in pairwise(line):
            if in_order or not tasks[name].final:
                success[name] = following
        start = line[0] if line else next(iter(unique), "")
    final = frozenset(name for name, task in tasks.items() if task.final)
    return Sequence(tuple(unique), start, success, failure, timeout, choices, explicit, final)


def _named(task: Task) -> str:
    return (task.on_success.next if task.on_success else None) or ""


def targets_of(task: RouterTask) -> list[str | Task]:
    """Where a router may lead, in the order of the file, its fallback last."""
    fallback = task.default if task.default is not None else task.default_route
    return [*task.routes.values(), *([] if fallback is None else [fallback])]


def _choice(target: str | Task) -> str | None:
    name = target_id(target)
    return None if "{{" in name else name


def target_id(target: str | Task) -> str:
    return target.id if isinstance(target, Task) else target


def condition_kind(task: RouterTask) -> Literal["template", "literal", "expression"]:
    """What the condition of a router is (§3.6): a key of its routes stands for itself."""
    if "{{" in task.condition:
        return "template"
    return "literal" if task.condition.strip() in task.routes else "expression"


def _failure(tasks: dict[str, Task], default_error: Transition | None) -> dict[str, str]:
    failure: dict[str, str] = {}
    default = default_error.next if default_error else None
    for name, task in tasks.items():
        own = handler.next if (handler := task.on_failure) else None
        if own:
            failure[name] = own
        elif default and default != name and default in tasks:
            failure[name] = default
    return failure
