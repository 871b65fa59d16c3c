"""The variables of each place with the shapes of their values (language.md §11.2, §11.3).

`variables.py` says which there are; a variable that is missing here is one of which nothing is
known, and which the pass over templates judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from compozy_prefect.compiler import children, outcomes, variables
from compozy_prefect.compiler.places import Place
from compozy_prefect.compiler.scope import Scope, action_of, memory_references
from compozy_prefect.compiler.tree import Step
from compozy_prefect.compiler.values import (
    ANY_MAP,
    NUMBER,
    TEXT,
    UNKNOWN,
    Layers,
    Lazy,
    Shape,
    list_of,
    map_of,
)
from compozy_prefect.language.models.agent import Action, Agent
from compozy_prefect.language.models.memory import MemoryReferences
from compozy_prefect.language.models.task import BasicTask, CollectionTask, WaitTask

if TYPE_CHECKING:
    from compozy_prefect.compiler.shapes import Shapes

Makers = dict[str, Callable[[], Shape]]

_TEXTS = ("id", "name", "version", "description", "execution_id", "exec_id")
_ENV = map_of({}, rest=TEXT)


class Contexts:
    """The contexts of one workflow, each made once."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._made: dict[object, Shape] = {}
        self._users: dict[int, _Users] = {}
        self._agents: dict[int, Agent] = {}
        self._tasks: dict[Step | None, Shape] = {}
        workflow = dict.fromkeys(_TEXTS, TEXT) | {
            "status": children.STATUS,
            "input": shapes.input,
            "execution_time": NUMBER,
            "completed_tasks": list_of(TEXT),
            "success_rate": NUMBER,
        }
        trigger = {"input": shapes.input, "type": TEXT, "name": TEXT}
        self._always = {
            "workflow": map_of(workflow, rest=UNKNOWN),
            "trigger": map_of(trigger, rest=UNKNOWN),
            "env": _ENV,
            "tools": _named(shapes.scope, "tools", (one.id for one in shapes.scope.tools_used)),
            "agents": _named(shapes.scope, "agents", shapes.scope.agents),
            "blocks": map_of({}, rest=ANY_MAP),
        }

    def of(self, place: Place) -> Shape:
        """What the template at a place sees."""
        step = place.step
        if step is None:
            return self._outside(place)
        inner = place.sees == "own" and place.pointer[-1] in ("filter", "condition")
        failed = place.ended and place.field == "on_error"
        return self.inside(step, place.sees, ended=place.ended, failed=failed, inner=inner)

    def inside(
        self,
        step: Step,
        sees: variables.Scope,
        *,
        ended: bool = False,
        failed: bool = False,
        inner: bool = False,
    ) -> Shape:
        """What a field of a step sees.

        `ended`, `failed`: in the transition from it. `inner`: with what a collection or a wait
        brings for its own filter or condition.
        """
        key = step, sees, ended, failed, inner
        if key not in self._made:
            shapes = self._shapes
            makers = self._around(step, inner)
            if sees == "with":
                makers["input"] = lambda: self._enclosing(step)
            elif step.task.with_ or step.task.input or step.parent is not None:
                # Without a `with`, what is meant may be the input of the workflow.
                makers["input"] = makers["with"] = lambda: shapes.given(step)
            if sees == "prompt":
                agent = shapes.scope.agent_of(step.task)
                own = step.task.memory if isinstance(step.task, BasicTask) else None
                makers["memory"] = lambda: _memory(agent.memory if agent is not None else own)
                makers["input"] = makers["with"] = lambda: self._asked(step)
            elif sees == "outputs" and not failed:
                makers["output"] = lambda: shapes.output(step) if ended else shapes.raw(step)
                makers["children"] = lambda: children.states(step, shapes)
                makers["progress"] = lambda: children.PROGRESS
            self._made[key] = self._context(makers, self._states(step))
        return self._made[key]

    def outside(self) -> Shape:
        """What templates of the workflow itself see, such as those of its `outputs`."""
        shapes = self._shapes
        return self._context({"input": lambda: shapes.input}, self._states(None))

    def _context(self, makers: Makers, tasks: Shape) -> Shape:
        fields = Layers(Lazy(makers), {**self._always, "tasks": tasks})
        return map_of(fields, rest=UNKNOWN)

    def _outside(self, place: Place) -> Shape:
        """Templates of the workflow itself, and of agents on behalf of the steps that use them."""
        makers = Makers()
        if place.sees == "event":
            return UNKNOWN
        if place.owner is None:
            return self.outside()
        users = self._users_of(place)
        if users.only is not None:
            makers = self._around(users.only, False)
        if place.sees == "prompt" and users.agent is not None:
            memory = users.agent.memory
            makers["memory"] = lambda: _memory(memory)
        if place.sees == "prompt" and "actions" in place.pointer[2:3]:
            makers["input"] = makers["with"] = lambda: self._to_action(place)
        return self._context(makers, self._states(users.only) if users.alike else UNKNOWN)

    def _around(self, step: Step, inner: bool) -> Makers:
        """What the containers around a step bring; the nearest wins."""
        shapes, makers = self._shapes, Makers()
        above = [step, *step.ancestors] if inner else [*step.ancestors]
        for one in reversed(above):
            task = one.task
            if isinstance(task, CollectionTask):
                makers[task.item_var] = makers["item"] = _later(outcomes.item, one, shapes)
                makers[task.index_var] = makers["index"] = lambda: NUMBER
            elif isinstance(task, WaitTask):
                makers["signal"] = _later(_signal, one, shapes)
                makers["processor"] = _later(_processor, one, shapes)
        if step.parent is not None:
            parent = step.parent
            makers["parent"] = lambda: self._parent(parent)
        return makers

    def _parent(self, step: Step) -> Shape:
        shapes = self._shapes
        makers: Makers = dict.fromkeys(("id", "type"), lambda: TEXT)
        makers["status"] = lambda: children.STATUS
        makers["input"] = makers["with"] = lambda: shapes.given(step)
        if step.parent is not None:
            above = step.parent
            makers["parent"] = lambda: self._parent(above)
        return map_of(Lazy(makers), rest=UNKNOWN)

    def _enclosing(self, step: Step) -> Shape:
        """`.input` while the step's own `with` is rendered."""
        if step.parent is None:
            return self._shapes.input
        return self._shapes.given(step.parent)._replace(closed=False, rest=UNKNOWN)

    # Tasks

    def _states(self, reader: Step | None) -> Shape:
        """`.tasks`, as a step sees it."""
        # What has no steps in it sees what its container does.
        at = reader.parent if reader is not None and not reader.steps else reader
        if at not in self._tasks:
            self._tasks[at] = map_of(_States(self, at), rest=UNKNOWN)
        return self._tasks[at]

    def state(self, name: str, at: Step | None) -> Shape | None:
        """What `.tasks.<name>` is at a step; None if there is no such task."""
        found = self._shapes.tree.find(name, at)
        if found is None:
            return None
        if name == found.id and found.names() is not None and not _together(found, at):
            return UNKNOWN  # which of the items is meant is not known
        # Another field of it is said by the pass over templates.
        return children.entry(found, self._shapes)._replace(closed=False, rest=UNKNOWN)

    # Agents

    def _asked(self, step: Step) -> Shape:
        """`.input` in the task's own prompt: over the defaults of the agent and the action."""
        agent = self._shapes.scope.agent_of(step.task)
        if agent is None or not isinstance(step.task, BasicTask):
            return self._shapes.given(step)
        action = action_of(agent, step.task.action or "")
        return self._input_of(agent, action, self._shapes.given(step))

    def _to_action(self, place: Place) -> Shape:
        """`.input` in the prompt of an action, whichever step asks (§4.3)."""
        users = self._users_of(place)
        action = action_of(users.agent, str(place.pointer[3])) if users.agent else None
        if users.agent is None or action is None:
            return UNKNOWN
        # The step of a templated action may ask for any.
        steps = [*users.askers.get(action.id, ()), *users.askers.get("", ())]
        given = [self._shapes.given(step) for step in steps]
        called = users.agent in self._shapes.scope.callable_agents.values()
        loose = any(one.kind != "object" or one.rest is not None for one in given)
        if not given or called or loose:
            known = ANY_MAP
        elif len(given) == 1:
            known = given[0]
        else:
            known = map_of(dict.fromkeys((name for one in given for name in one.fields), UNKNOWN))
        return self._input_of(users.agent, action, known)

    def _users_of(self, place: Place) -> _Users:
        key = id(place.owner)
        if key not in self._users:
            agents = self._shapes.scope.agents_used
            self._agents = self._agents or {id(agent.node): agent for agent in agents}
            self._users[key] = _users(self._agents.get(key), place.readers)
        return self._users[key]

    def _input_of(self, agent: Agent, action: Action | None, given: Shape) -> Shape:
        schema = self._shapes.declared(action.input) if action is not None else UNKNOWN
        if schema.kind == "object" and schema.closed:
            return schema
        defaults = {**agent.with_, **(action.with_ if action is not None else {})}
        fields = Layers(schema.fields, given.fields, dict.fromkeys(defaults, UNKNOWN))
        loose = given.rest is not None or schema.rest is not None
        # What the schema lists is known whoever asks.
        loose = loose and not (schema.kind == "object" and schema.rest is None)
        return map_of(fields, rest=UNKNOWN if loose else None)


class _States(Mapping[str, Shape]):
    """The tasks by name, looked up from one step."""

    def __init__(self, contexts: Contexts, at: Step | None) -> None:
        self._contexts, self._at = contexts, at
        self._found: dict[str, Shape | None] = {}

    def __getitem__(self, name: str) -> Shape:
        if name not in self._found:
            self._found[name] = self._contexts.state(name, self._at)
        found = self._found[name]
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class _Users(NamedTuple):
    """An agent, and the steps that ask it, by action; "" for those whose action is a template.

    `only` is the single one. `alike`: they mean the same tasks by the same names.
    """

    agent: Agent | None
    askers: dict[str, list[Step]]
    only: Step | None
    alike: bool


def _users(agent: Agent | None, steps: Sequence[Step]) -> _Users:
    askers: dict[str, list[Step]] = {}
    for step in steps:
        action = (step.task.action if isinstance(step.task, BasicTask) else None) or ""
        askers.setdefault("" if "{{" in action else action, []).append(step)
    only = steps[0] if len(steps) == 1 else None
    return _Users(agent, askers, only, only is not None or all(s.parent is None for s in steps))


def _together(found: Step, at: Step | None) -> bool:
    """Whether a step is in the innermost collection that the found one is in."""
    collection = next((a for a in found.ancestors if isinstance(a.task, CollectionTask)), None)
    around = (at, *at.ancestors) if at is not None else ()
    return any(one is collection for one in around)


def _named(scope: Scope, kind: str, names: Iterable[str]) -> Shape:
    """`.tools` and `.agents`, by their ids."""
    known = dict.fromkeys(names, ANY_MAP)
    broken = any(one == kind for one, _ in scope.broken)
    return map_of(known, closed=not broken, rest=UNKNOWN if broken else None)


def _memory(given: MemoryReferences | None) -> Shape:
    """`.memory` in a prompt: the transcripts of what an agent or a task refers to (§4.4)."""
    return map_of({one.id: UNKNOWN for one in memory_references(given)}, closed=True)


def _later(
    make: Callable[[Step, Shapes], Shape], step: Step, shapes: Shapes
) -> Callable[[], Shape]:
    return lambda: make(step, shapes)


def _signal(step: Step, shapes: Shapes) -> Shape:
    assert isinstance(step.task, WaitTask)
    return outcomes.signal(step.task, shapes)


def _processor(step: Step, shapes: Shapes) -> Shape:
    return map_of({"output": outcomes.processed(step, shapes), "error": UNKNOWN}, rest=UNKNOWN)
