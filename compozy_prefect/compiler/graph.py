"""A plan → the graph of its workflows: nodes, boxes and edges, for the renderers to draw.

A container is a box with its steps inside. All edges are between parts of one box: a step leads to
another of its list (language.md §2.3). What a router chose leads on to its own next step or, if it
has none, to the one after the router (§3.6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from compozy_prefect.compiler.plan import Plan, StepPlan, WorkflowPlan, pointer
from compozy_prefect.compiler.wording import bare, duration, is_prompt_only, model_name, short

LONGEST, LONGEST_OF_BOX = 44, 64  # characters of a title or a detail

EdgeKind = Literal["next", "route", "error", "timeout", "signal"]


@dataclass(frozen=True, slots=True)
class Node:
    """A step, or a marker. `details` are small lines under the title.

    `kind` is the type of a step, with `agent`, `tool` and `echo` in the place of `basic`, or
    `start`, `end` or `chosen`: a step that is only known when it runs.
    """

    id: str
    kind: str
    title: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Edge:
    """From one part of a box to another, by their ids."""

    source: str
    target: str
    kind: EdgeKind = "next"
    label: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A container with its steps, a `workflow`, or a `project` with several of them."""

    id: str
    kind: str
    title: str
    details: tuple[str, ...] = ()
    parts: tuple[Node | Box, ...] = ()
    edges: tuple[Edge, ...] = ()

    @property
    def all_parts(self) -> Iterator[Node | Box]:
        """The nodes and boxes inside, each box before those in it."""
        for part in self.parts:
            yield part
            if isinstance(part, Box):
                yield from part.all_parts


def graph(plan: Plan, workflow_id: str | None = None) -> Box:
    """The graph of one workflow or, with each of them as a box, of a project with several."""
    keys = sorted(plan.workflows) if workflow_id is None else [workflow_id]
    boxes = tuple(_Workflow(plan.workflows[key]).box() for key in keys)
    if len(boxes) == 1:
        return boxes[0]
    return Box("", "project", _line(plan.project.name), (), boxes)


class Link(NamedTuple):
    """An edge between two steps of a list, by id; no target is the end of the list."""

    source: str
    target: str
    kind: EdgeKind = "next"
    label: str = ""


def links(steps: tuple[StepPlan, ...]) -> list[Link]:
    """The edges of a list, in the order of its steps.

    Steps that run side by side have none but from those whose results they need. The target of a
    route may be a template: its link leads to the text of it, and others from there on.
    """
    by_id = {step.id: step for step in steps}
    chosen_by: dict[str, list[StepPlan]] = {}
    reached: set[str] = set()  # in another way than by a route
    for step in steps:
        timeout = step.wait.on_timeout if step.wait else ""
        reached |= {step.on_success.next, step.on_error.next, timeout}
        for target in _routes(step):
            chosen_by.setdefault(target, []).append(step)

    def after(step: StepPlan) -> dict[str, list[str]]:
        """The steps that may follow, each with the routers whose next step it is."""
        if step.on_success.next:
            return {step.on_success.next: []}
        out: dict[str, list[str]] = {}
        waiting, seen = [step], {step.id}
        for one in waiting:  # outwards, past routers that have no next step themselves
            for router in chosen_by.get(one.id, ()):
                following = router.on_success.next
                if following or router.id not in chosen_by or router.id in reached:
                    out.setdefault(following, []).append(router.id)
                if not following and router.id not in seen:
                    seen.add(router.id)
                    waiting.append(router)
        if not out or step.id in reached:
            out.setdefault("", [])
        return out

    out: list[Link] = []
    for step in steps:
        out += [Link(needed, step.id) for needed in step.needs]
        routes = _routes(step)
        for target, keys in routes.items():
            out.append(Link(step.id, target, "route", ", ".join(keys)))
            if target not in by_id:
                out += [Link(target, following) for following in after(step)]
        if not routes:
            following = after(step)
            for target, routers in following.items():
                label = f"after {' or '.join(routers)}" if routers else "otherwise"
                out.append(Link(step.id, target, label=label if len(following) > 1 else ""))
        if step.on_error.next:
            out.append(Link(step.id, step.on_error.next, "error", "on error"))
        if step.wait and step.wait.on_timeout:
            out.append(Link(step.id, step.wait.on_timeout, "timeout", "on timeout"))
    return [link for link in out if link.target in by_id or not link.target or "{{" in link.target]


def _routes(step: StepPlan) -> dict[str, list[str]]:
    """The keys of a router by the step they lead to."""
    out: dict[str, list[str]] = {}
    if step.router is not None:
        for route in step.router.routes:
            out.setdefault(route.target, []).append(route.key)
        if step.router.default and all(r.key != "default" for r in step.router.routes):
            out.setdefault(step.router.default, []).append("default")
    return out


class _Workflow:
    def __init__(self, workflow: WorkflowPlan) -> None:
        self._workflow = workflow

    def box(self) -> Box:
        workflow = self._workflow
        starts = tuple(f"on {trigger.name}" for trigger in workflow.triggers)
        if workflow.schedule is not None:
            starts += (f"{workflow.schedule.cron} {workflow.schedule.timezone}",)
        at = pointer(workflow.id)
        start, end = f"start:{at}", f"end:{at}"
        parts, edges = self._list(workflow.steps, (workflow.id,), end)
        first = () if not workflow.start else (Edge(start, pointer(workflow.id, workflow.start)),)
        last = () if all(e.target != end for e in edges) else (Node(end, "end", "end"),)
        return Box(
            id=at,
            kind="workflow",
            title=_line(workflow.id),
            details=(short(workflow.description, 100),) if workflow.description else (),
            parts=(Node(start, "start", "start", tuple(map(_line, starts))), *parts, *last),
            edges=(*first, *edges),
        )

    def _list(
        self, steps: tuple[StepPlan, ...], at: tuple[str, ...], end: str = ""
    ) -> tuple[tuple[Node | Box, ...], tuple[Edge, ...]]:
        """The parts for a list of steps, and their edges; those to the end only if it has one."""
        parts: list[Node | Box] = []
        edges: list[Edge] = []
        for step in steps:
            parts.append(self._part(step, (*at, step.id)))
            if step.wait:
                inner, further = self._list(step.steps, (*at, step.id))
                parts += inner
                edges += further
                source = pointer(*at, step.id)
                edges += [Edge(source, part.id, "signal", "each signal") for part in inner]
        known = {step.id for step in steps}
        for link in links(steps):
            ids = [pointer(*at, link.source), pointer(*at, link.target) if link.target else end]
            if link.target and link.target not in known:
                parts.append(Node(ids[1], "chosen", _line(bare(link.target)), ("when it runs",)))
            if ids[1]:
                edges.append(Edge(ids[0], ids[1], link.kind, _line(link.label)))
        unique = {part.id: part for part in parts}
        return tuple(unique.values()), tuple(dict.fromkeys(edges))

    def _part(self, step: StepPlan, at: tuple[str, ...]) -> Node | Box:
        kind, details = self._said(step)
        if step.condition:
            details = (*details, f"if {_line(bare(step.condition))}")
        if step.steps and step.wait is None:
            parts, edges = self._list(step.steps, at)
            return Box(pointer(*at), kind, _line(step.id), details, parts, edges)
        return Node(pointer(*at), kind, _line(step.id), details)

    def _said(self, step: StepPlan) -> tuple[str, tuple[str, ...]]:
        """The kind of a step, and the small lines in its picture."""
        if step.agent is not None:
            agent = self._workflow.agents[step.agent.agent]
            if is_prompt_only(agent):
                return "agent", (_line(f"prompt · {model_name(agent.model)}"),)
            action = bare(step.agent.action) or "prompt"
            return "agent", (_line(f"{agent.id} · {action}"),)
        if step.tool is not None:
            return "tool", (_line(f"tool · {self._workflow.tools[step.tool.tool].id}"),)
        if step.router is not None:
            return "router", (_line(bare(step.router.condition)),)
        if step.wait is not None:
            return "wait", self._waits(step)
        if step.signal is not None:
            return "signal", (_line(f"sends {bare(step.signal.id)}"),)
        if step.memory is not None:
            memory = self._workflow.memories[step.memory.memory]
            return "memory", (_line(f"{step.memory.operation} · {memory.id}"),)
        if step.fan is not None:
            return step.type, self._runs(step)
        return ("echo", ()) if step.type == "basic" else (step.type, (step.type,))

    def _waits(self, step: StepPlan) -> tuple[str, ...]:
        assert step.wait is not None
        given = step.wait.timeout
        limit = bare(given) if isinstance(given, str) else duration(given) if given else ""
        details = [f"waits for {bare(step.wait.signal)}"]
        if limit:
            details.append(f"at most {limit}")
        if step.wait.condition:
            details.append(f"until {bare(step.wait.condition)}")
        return tuple(map(_line, details))

    def _runs(self, step: StepPlan) -> tuple[str, ...]:
        """What a container runs over, and how."""
        assert step.fan is not None
        how = [step.type, step.fan.strategy]
        details: tuple[str, ...] = ()
        if step.collection is not None:
            items = step.collection.items
            listed = bare(items) if isinstance(items, str) else f"{len(items or ())} items"
            details = (f"for each {step.collection.item_var} of {listed}",)
            if step.collection.filter:
                details += (f"where {bare(step.collection.filter)}",)
            if step.collection.sequential:
                how.append("one by one")
        if step.fan.max_workers:
            how.append(f"{step.fan.max_workers} at a time")
        return tuple(short(line, LONGEST_OF_BOX) for line in (" · ".join(how), *details))


def _line(text: str) -> str:
    return short(text, LONGEST)


def names(root: Box) -> dict[str, str]:
    """A name of letters, digits and `_` for each part, which no language reserves."""
    out: dict[str, str] = {}
    taken: set[str] = set()
    for part in (root, *root.all_parts):
        path = part.id.replace(":/", "/").replace("~1", "/").replace("~0", "~")
        slug = "".join(c if c.isascii() and c.isalnum() else "_" for c in path).strip("_")
        name, number = f"n_{slug}", 2
        while name in taken:
            name, number = f"n_{slug}_{number}", number + 1
        taken.add(name)
        out[part.id] = name
    return out
