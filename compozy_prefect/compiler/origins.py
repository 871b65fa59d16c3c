"""Which variables of the environment a template gives on, followed through the workflow.

`.env.KEY` in the `with` of a task is in `.input` of its prompts, what a task gives is in
`.tasks.<id>.output`, what a transition brings is in the `with` of the next task, and so on, as far
as the YAML writes it out (language.md §2.3, §11.2, §11.3). What an agent or a tool answers, and
what a signal brings, is not looked through: nothing says that it is what was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from compozy_prefect.compiler.checks.project import Checked
from compozy_prefect.compiler.places import Place
from compozy_prefect.compiler.scope import action_of
from compozy_prefect.compiler.sequence import target_id, targets_of
from compozy_prefect.compiler.shown import Segment, Shown, shown
from compozy_prefect.compiler.tree import Step
from compozy_prefect.diagnostics import Span
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import Template, parse
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.task import (
    BasicTask,
    CollectionTask,
    CompositeTask,
    ParallelTask,
    RouterTask,
    WaitTask,
)
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence

Segments = tuple[Segment, ...]


class Origin(NamedTuple):
    """A variable, and where a template reads it. `name` is empty for all of `.env`."""

    name: str
    span: Span


Origins = dict[Origin, None]  # in the order in which they are found


class Spot(NamedTuple):
    """Where a template stands: in a step, or in an agent that answers several.

    `sees` is that of its place, or "transition" for one that is rendered when the step has ended.
    """

    sees: str
    steps: tuple[Step, ...] = ()
    agent: Agent | None = None
    action: str = ""


class Traces:
    """The origins of the values of one workflow."""

    def __init__(self, checked: Checked) -> None:
        self._scope, self._tree = checked.scope, checked.tree
        self._agents = {id(agent.node): agent for agent in checked.scope.agents_used}
        self._known: dict[object, Origins] = {}

    def of(self, place: Place) -> Iterator[tuple[Shown, Origins]]:
        """What a place gives on of the variables of the environment."""
        template = _parsed(place.node)
        if template is None:
            return
        spot = Spot("transition" if place.ended else place.sees, place.readers)
        agent = self._agents.get(id(place.owner))
        if agent is not None:
            action = str(place.pointer[3]) if place.pointer[2:3] == ("actions",) else ""
            steps = tuple(step for step in place.readers if _may_ask(step, action))
            spot = Spot(place.sees, steps, agent, action)
        for read in shown(template):
            if found := self._read(read, read.segments, place.node, spot):
                yield read, found

    def _read(self, read: Shown, path: Segments, node: Scalar, spot: Spot) -> Origins:
        root, rest = (path[0], path[1:]) if path else ("env", ())
        if root == "env":
            span = node.span_of(read.start, read.end)
            return self._variable(rest[0] if rest else None, span, node, spot)
        found: list[Origins] = []
        if root == "tasks":
            found += [self._state(step, rest[1:]) for step in self._named(rest, spot)]
        if root == "output" and spot.sees == "workflow outputs":
            found += [self._output(step, rest) for step in self._last]
        for step in spot.steps:
            found.append(self._around(root, rest, step, spot))
        return _all(found)

    def _named(self, path: Segments, spot: Spot) -> Iterator[Step]:
        """The tasks that `.tasks` and the name behind it mean; all of them without one."""
        if not path or path[0] is None:
            yield from self._tree.all
            return
        for at in spot.steps or (None,):
            step = self._tree.find(str(path[0]), at)
            if step is not None:
                yield step

    @cached_property
    def _last(self) -> list[Step]:
        """The steps that a run may end with."""
        order = self._tree.sequence
        return [step for step in self._tree.steps if not order.successors(step.id)]

    def _around(self, root: Segment, rest: Segments, step: Step, spot: Spot) -> Origins:
        """What a variable brings that is not the same for all steps."""
        if root in ("task", "current") and spot.sees != "with" and rest[:1] == ("with",):
            root, rest = "with", rest[1:]
        if root in ("input", "with"):
            if spot.sees == "with":
                return self._given(step.parent, rest) if step.parent is not None else {}
            return self._asked(step, rest, spot)
        if spot.sees == "transition" and root == "output":
            return self._output(step, rest)
        if root in ("output", "children") and spot.sees == "outputs":
            return self._raw(step, rest) if root == "output" else self._child(step, rest)
        if root == "parent":
            above = step.parent
            while above is not None and rest[:1] == ("parent",):
                above, rest = above.parent, rest[1:]
            inside = above is not None and rest[:1] in (("input",), ("with",))
            return self._given(above, rest[1:]) if above is not None and inside else {}
        found = (self._items(above, (root, *rest)) for above in step.ancestors)
        return next((items for items in found if items is not None), {})

    def _items(self, step: Step, path: Segments) -> Origins | None:
        """The item that a collection brings to the steps in it, if that is what the path means."""
        task = step.task
        if not isinstance(task, CollectionTask) or path[:1] not in (("item",), (task.item_var,)):
            return None
        return self._inside(task.node.get("items"), (None, *path[1:]), Spot("own", (step,)))

    def _variable(self, name: Segment, span: Span, node: Scalar, spot: Spot) -> Origins:
        """The nearest `env` that sets a variable says what it is; else it comes from outside."""
        config, layers = self._scope.workflow.config, []
        for step in spot.steps[:1]:
            layers = [(step.task.node.get("env"), Spot("with", (step,)))]
        if spot.agent is not None:
            layers.insert(0, (spot.agent.node.get("env"), Spot("with", spot.steps)))
        if config is not None and config.is_placed:
            layers.append((config.node.get("env"), Spot("workflow")))
        inside = False
        for env, where in layers:
            given = env.get(name) if isinstance(env, Mapping) and isinstance(name, str) else None
            # A variable that is set from one of the same name means the one further out.
            inside = inside or given is node
            if given is not None and not inside:
                return self._inside(given, (), where)
        return {Origin(name if isinstance(name, str) else "", span): None}

    # Steps

    def _state(self, step: Step, path: Segments) -> Origins:
        """`.tasks.<id>` and what follows."""
        if not path or path[0] is None:
            return self._output(step, path[1:]) | self._given(step, path[1:])
        if path[0] == "output":
            return self._output(step, path[1:])
        if path[0] == "input":
            return self._given(step, path[1:])
        return self._child(step, path[1:]) if path[0] == "children" else {}

    def _child(self, step: Step, path: Segments) -> Origins:
        """`.children` of a container and what follows."""
        return _all(self._state(one, path[1:]) for one in _called(step, path))

    def _asked(self, step: Step, path: Segments, spot: Spot) -> Origins:
        """`.input` of a prompt: the task's `with` over that of the action and of the agent."""
        agent = spot.agent or (self._scope.agent_of(step.task) if spot.sees == "prompt" else None)
        own = step.task.node.get("with")
        if agent is None or not path or _has(own, path[0]):
            return self._given(step, path)
        action = action_of(agent, spot.action or getattr(step.task, "action", None) or "")
        for layer in (action.node.get("with") if action else None, agent.node.get("with")):
            if _has(layer, path[0]):
                return self._inside(layer, path, Spot("with", (step,)))
        return self._given(step, path)

    def _given(self, step: Step, path: Segments) -> Origins:
        """`.input` and `.with` of a step, over those of the container around it (§11.2)."""

        def make() -> Origins:
            brought = _all(
                self._inside(node, path, Spot("transition", (before,)))
                for before, node in self._transitions.get(step, ())
            )
            node, above = step.task.node.get("with"), step.parent
            if above is None or (_has(node, path[0]) if path else node is not None):
                return brought | self._inside(node, path, Spot("with", (step,)))
            items = self._items(above, path)
            return brought | (self._given(above, path) if items is None else items)

        return self._once(("given", step, path), make)

    @cached_property
    def _transitions(self) -> dict[Step, list[tuple[Step, Node]]]:
        """The `with` of the transitions that lead to a step, and the steps that they leave."""
        found: dict[Step, list[tuple[Step, Node]]] = {}
        for step in self._tree.all:
            for target, node in self._leading(step):
                found.setdefault(target, []).append((step, node))
        return found

    def _leading(self, step: Step) -> Iterator[tuple[Step, Node]]:
        order, node = self._tree.around(step), step.task.node
        if order is None:
            return
        beside = self._tree.beside(step)
        follows = {*order.successors(step.id), *filter(None, [order.success.get(step.id)])}
        failed = {*filter(None, [order.failure.get(step.id)])}
        for names, transition in (
            (follows, node.get("on_success")),
            (failed, node.get("on_error") or node.at("config", "on_error")),
        ):
            given = transition.get("with") if isinstance(transition, Mapping) else None
            for name in sorted(names) if given is not None else ():
                if name in beside and given is not None:
                    yield beside[name], given

    def _output(self, step: Step, path: Segments) -> Origins:
        """What others see of a step's result."""

        def make() -> Origins:
            node, at = step.task.node.get("outputs"), path
            if node is None:
                return self._raw(step, path)
            views = (ParallelTask, CompositeTask, CollectionTask, RouterTask)
            holds = isinstance(step.task, views)
            if holds and path[:1] == ("output",):
                at = path[1:]
            elif holds and path and isinstance(node, Mapping) and not _has(node, path[0]):
                return self._raw(step, path)
            return self._inside(node, at, Spot("outputs", (step,)))

        return self._once(("output", step, path), make)

    def _raw(self, step: Step, path: Segments) -> Origins:
        """What a step gives before its `outputs`; nothing for what somebody answers."""
        task = step.task
        if echoes(step):
            return self._given(step, path)
        if isinstance(task, (ParallelTask, CompositeTask, CollectionTask)):
            if path[:1] == ("children",):
                return self._child(step, path[1:])
            if path[:1] == ("outputs",):
                return _all(self._output(one, path[2:]) for one in _called(step, path[1:]))
            if isinstance(task, CollectionTask) and (not path or not isinstance(path[0], str)):
                return self._item_output(step, task, path)
            return _all(self._viewed(one, path[1:]) for one in _called(step, path))
        if isinstance(task, RouterTask):
            if path[:1] == ("condition",):
                return self._inside(task.node.get("condition"), (), Spot("own", (step,)))
            found = (self._tree.find(target_id(target), step) for target in targets_of(task))
            return _all(self._viewed(one, path) for one in found if one is not None)
        if isinstance(task, WaitTask) and path[:2] == ("processor_output", "output")[: len(path)]:
            return _all(self._output(one, path[2:]) for one in step.steps)
        return {}

    def _item_output(self, step: Step, task: CollectionTask, path: Segments) -> Origins:
        """What the list of a collection holds: of several tasks for an item, a map by their ids."""
        below = [one for one in step.steps if one.role == "line"]
        if task.task is not None:
            return _all(self._viewed(one, path[1:]) for one in below)
        named = [one for one in below if path[1:2] in ((), (None,), (one.id,))]
        return _all(self._viewed(one, path[2:]) for one in named)

    def _viewed(self, step: Step, path: Segments) -> Origins:
        """The result of a child in that of its container, in both spellings of §3.3."""
        found = self._output(step, path)
        return found | self._output(step, path[1:]) if path[:1] == ("output",) else found

    def _once(self, key: object, make: Callable[[], Origins]) -> Origins:
        if key not in self._known:
            self._known[key] = {}  # for a task that reads itself
            self._known[key] = make()
        return self._known[key]

    # Values

    def _inside(self, node: Node | None, path: Segments, spot: Spot) -> Origins:
        """What is in a value that the YAML writes out, at the end of a path."""
        if isinstance(node, Scalar):
            return self._text(node, path, spot)
        below: Iterable[Node] = ()
        if isinstance(node, Mapping):
            below = node.entries.values()
            if path and path[0] is not None:
                below = filter(None, [node.get(str(path[0]))])
        elif isinstance(node, Sequence):
            below = node.items
            if path and isinstance(path[0], int):
                below = node.items[path[0] : path[0] + 1] if path[0] >= 0 else ()
        return _all(self._inside(one, path[1:], spot) for one in below)

    def _text(self, node: Scalar, path: Segments, spot: Spot) -> Origins:
        def make() -> Origins:
            template = _parsed(node)
            if template is None:
                return {}
            return _all(
                self._read(read, (*read.segments, *(path if read.whole else ())), node, spot)
                for read in shown(template)
            )

        return self._once((id(node), path, spot.sees, spot.steps), make)


def echoes(step: Step) -> bool:
    """Whether a step gives what it is given: nobody carries it out (§3.2)."""
    task = step.task
    return isinstance(task, BasicTask) and not any(
        name in task.node.entries for name in ("agent", "tool", "action", "prompt", "$use", "$ref")
    )


def _called(step: Step, path: Segments) -> list[Step]:
    """The steps in a container that the name which a path begins with means; all without one."""
    name = path[0] if path else None
    if name is None:
        return [one for one in step.steps if one.role != "processor"]
    return [one for one in step.steps if one.id == name or _may_be(one, name)]


def _may_be(step: Step, name: Segment) -> bool:
    pattern = step.names()
    return pattern is not None and pattern.fullmatch(str(name)) is not None


def _may_ask(step: Step, action: str) -> bool:
    named = getattr(step.task, "action", None) or ""
    return not action or named == action or "{{" in named


def _has(node: Node | None, name: Segment) -> bool:
    return isinstance(node, Mapping) and str(name) in node.entries


def _parsed(node: Scalar) -> Template | None:
    text = node.value
    if not isinstance(text, str) or "{{" not in text:
        return None
    try:
        return parse(text)
    except TemplateError:
        return None  # said by the pass over templates


def _all(found: Iterable[Origins]) -> Origins:
    out: Origins = {}
    for one in found:
        out |= one
    return out
