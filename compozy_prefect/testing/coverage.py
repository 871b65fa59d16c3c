"""What the workflows of a project can do, and what of that the cases have made them do.

What is counted stands in the plan: the tasks, the routes of routers with their defaults, the edges
`on_error` and `on_timeout`, and conditions both ways. An `on_error` of the workflow or the project,
for tasks that have none, counts once, whichever task takes it. What happened is told by the runs,
all their visits, items and branches included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from compozy_prefect.compiler.checks.project import Checked
from compozy_prefect.compiler.plan import Json, StepPlan, WorkflowPlan
from compozy_prefect.diagnostics import Span
from compozy_prefect.language import misfits, nodes
from compozy_prefect.language.models.task import Task
from compozy_prefect.runtime.outcome import Taken
from compozy_prefect.runtime.routing import DEFAULT

KINDS = ("tasks", "routes", "edges", "conditions")


class Point(NamedTuple):
    """Something that a run can do, at the task `path`, by any of some ways.

    `kind` is one of KINDS, `missed` says that no run has.
    """

    kind: str
    path: str
    ways: frozenset[Taken]
    missed: str
    span: Span

    @property
    def place(self) -> str:
        return f"{self.span.file}:{self.span.line}"


@dataclass(frozen=True, slots=True)
class Counted:
    """How much there is, and how much of it was covered."""

    covered: int
    total: int

    @property
    def percent(self) -> float:
        """Between 0 and 100, rounded down, so that 100 means all; of nothing, all is covered."""
        return self.covered * 1000 // self.total / 10 if self.total else 100.0


@dataclass(frozen=True, slots=True)
class Covered:
    """One workflow: what it can do, and what it did."""

    workflow: str
    points: tuple[Point, ...]
    taken: frozenset[Taken]

    @property
    def missed(self) -> list[Point]:
        return [point for point in self.points if self.taken.isdisjoint(point.ways)]

    def of(self, *kinds: str) -> Counted:
        listed = [point for point in self.points if point.kind in kinds]
        missed = sum(self.taken.isdisjoint(point.ways) for point in listed)
        return Counted(len(listed) - missed, len(listed))

    def to_json(self) -> dict[str, Json]:
        whole = self.of(*KINDS)
        parts = {kind: self.of(kind) for kind in KINDS}
        return {
            "percent": whole.percent,
            "covered": whole.covered,
            "total": whole.total,
            **{kind: {"covered": n.covered, "total": n.total} for kind, n in parts.items()},
            "missed": [
                {
                    "kind": point.kind,
                    "task": point.path,
                    "message": point.missed,
                    "file": point.span.file,
                    "line": point.span.line,
                    "column": point.span.column,
                }
                for point in self.missed
            ],
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """All workflows of a project, in its order."""

    workflows: tuple[Covered, ...]

    @property
    def whole(self) -> Counted:
        parts = [one.of(*KINDS) for one in self.workflows]
        return Counted(sum(one.covered for one in parts), sum(one.total for one in parts))

    def to_json(self) -> dict[str, Json]:
        return {
            "percent": self.whole.percent,
            "covered": self.whole.covered,
            "total": self.whole.total,
            "workflows": {one.workflow: one.to_json() for one in self.workflows},
        }


def coverage(
    workflows: Iterable[tuple[WorkflowPlan, Checked]], taken: frozenset[Taken]
) -> Coverage:
    """What runs did that took these ways."""
    covered = (Covered(plan.id, tuple(points(plan, one)), taken) for plan, one in workflows)
    return Coverage(tuple(covered))


def points(plan: WorkflowPlan, checked: Checked) -> Iterator[Point]:
    """All that a workflow can do, in the order of its file."""
    written = {step.path: step for step in checked.tree.all}
    inherited: dict[str, list[Taken]] = {}
    for step in plan.all_steps.values():
        yield from _of_step(plan.id, step, written[step.path].task)
        if step.on_error.next and not _own_handler(written[step.path].task):
            way = Taken(plan.id, step.path, "on_error")
            inherited.setdefault(step.on_error.next, []).append(way)
    for target, ways in inherited.items():
        message = f"`on_error` of `config` does not lead to `{target}`"
        yield Point("edges", "", frozenset(ways), message, _default_handler(checked))


def _of_step(workflow: str, step: StepPlan, task: Task) -> Iterator[Point]:
    path, node = step.path, task.node

    def point(kind: str, missed: str, span: Span, what: str, route: str = "") -> Point:
        ways = frozenset({Taken(workflow, path, what, route)})
        return Point(kind, path, ways, missed, span)

    name = node.at("id").span if "id" in node.entries else _key(node, "type")
    yield point("tasks", f"task `{path}` does not run", name, "run")
    if step.condition:
        at = _key(node, "condition")
        yield point("conditions", f"the condition of `{path}` does not hold", at, "run")
        yield point("conditions", f"`{path}` is not skipped", at, "skipped")
    if step.router is not None:
        routes = node.get("routes")
        keys = [route.key for route in step.router.routes]
        for key in keys:
            at = _key(routes, key) if isinstance(routes, nodes.Mapping) else name
            yield point("routes", f"router `{path}` does not take `{key}`", at, "route", key)
        if step.router.default and DEFAULT not in keys:
            at = _key(node, "default" if "default" in node.entries else "default_route")
            yield point(
                "routes", f"router `{path}` does not take its default", at, "route", DEFAULT
            )
    if step.on_error.next and (handler := _own_handler(task)):
        message = f"`on_error` of `{path}` does not lead to `{step.on_error.next}`"
        yield point("edges", message, handler, "on_error")
    if step.wait is not None and step.wait.on_timeout:
        message = f"`on_timeout` of `{path}` does not lead to `{step.wait.on_timeout}`"
        yield point("edges", message, _key(node, "on_timeout"), "on_timeout")


def _own_handler(task: Task) -> Span | None:
    """Where a task says itself where an error leads."""
    if task.on_failure is None or not task.on_failure.next:
        return None
    return misfits.head(task.on_failure.node)


def _default_handler(checked: Checked) -> Span:
    """Where the workflow, or else the project, says where errors lead."""
    scope = checked.scope
    project = scope.loaded.project
    configs = [scope.workflow.config, project.config if project else None]
    handlers = [config.on_error for config in configs if config is not None]
    return misfits.head(next(one for one in handlers if one is not None).node)


def _key(node: nodes.Mapping, name: str) -> Span:
    """Where a key stands; where the map begins if it has none, as an anonymous processor."""
    return node.key_span(name if name in node.keys else next(iter(node.keys), name))
