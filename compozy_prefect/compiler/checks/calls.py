"""Tasks that call workflows, agents and other tasks with built-in tools (language.md §6.5): what is
called, what it is given, and calls that come back to themselves for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeGuard

from compozy_prefect.compiler.builtins import (
    AGENTS,
    TASKS,
    WORKFLOWS,
    Family,
    builtin_of,
    family_of,
    why_not_called,
)
from compozy_prefect.compiler.checks.arguments import COMPOSED, fitted, schemas_of
from compozy_prefect.compiler.checks.names import unknown_action, unknown_agent, unknown_task
from compozy_prefect.compiler.checks.nouns import is_resolved, is_template
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.scope import action_of
from compozy_prefect.compiler.tree import Step
from compozy_prefect.diagnostics import Diagnostic, Span, error
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.names import suggest
from compozy_prefect.language.nodes import Mapping as MappingNode
from compozy_prefect.language.nodes import Node, Scalar

Workflows = Mapping[str, Checked]


class _Call(NamedTuple):
    """A call by the task `step` whose target the file names."""

    family: Family
    step: Step
    node: MappingNode
    id: Scalar

    @property
    def name(self) -> str:
        return str(self.id.value)

    def text(self, key: str) -> Scalar | None:
        """An argument that the file writes out."""
        given = self.node.get(key)
        return given if _is_written(given) else None


def calls(project: Project) -> Iterator[Diagnostic]:
    workflows = {checked.scope.workflow.key: checked for checked in project.workflows}
    for checked in workflows.values():
        for step in checked.tree.all:
            for call in _calls(step):
                if call.family is WORKFLOWS:
                    yield from _workflow(call, workflows)
                elif call.family is AGENTS:
                    yield from _agent(call, checked)
                else:
                    yield from _task(call, checked)
    yield from _endless(workflows)


def _calls(step: Step) -> Iterator[_Call]:
    tool = builtin_of(step.task)
    family = family_of(tool.id) if tool is not None else None
    if tool is None or family is None:
        return
    for node in family.calls(tool.id, step.task.node.get("with")):
        id = node.get(family.id)
        if _is_written(id):
            yield _Call(family, step, node, id)


def _is_written(node: Node | None) -> TypeGuard[Scalar]:
    if not isinstance(node, Scalar) or not isinstance(node.value, str):
        return False
    return not is_template(node.value)


# --- workflows ------------------------------------------------------------------------------------


def _workflow(call: _Call, workflows: Workflows) -> Iterator[Diagnostic]:
    called = workflows.get(call.name)
    if called is None:
        hint = suggest(call.name, workflows, what="there are")
        yield error("CZ219", f"unknown workflow: `{call.name}`", call.id.span, hint)
        return
    first = call.text("initial_task_id")
    if first is not None and first.value not in called.tree.top:
        text = f"the workflow `{call.name}` has no task `{first.value}` to begin with"
        hint = suggest(str(first.value), called.tree.top, what="it has")
        yield error("CZ219", text, first.span, hint)
    config = called.scope.workflow.config
    schema = called.scope.schema(config.input) if config is not None else None
    yield from _given(call, "input", f"the workflow `{call.name}`", schema, set())


# --- agents ---------------------------------------------------------------------------------------


def _agent(call: _Call, checked: Checked) -> Iterator[Diagnostic]:
    scope = checked.scope
    agent = scope.agents.get(call.name)
    if agent is None:
        if not scope.is_broken("agents", call.name):
            yield unknown_agent(call.name, call.id.span, scope)
        return
    if not is_resolved(agent):
        return
    named, name = call.node.get("action_id"), call.text("action_id")
    if name is not None:
        yield from unknown_action(agent, str(name.value), name.span)
    elif named is None and call.node.get("prompt") is None and len(agent.actions) != 1:
        known = ", ".join(f"`{action.id}`" for action in agent.actions) or "none"
        text = f"the call of the agent `{agent.id}` has neither an `action_id` nor a `prompt`"
        yield error("CZ219", text, call.id.span, f"its actions: {known}")
    yield from _asked(call, agent, name, checked)


def _asked(
    call: _Call, agent: Agent, name: Scalar | None, checked: Checked
) -> Iterator[Diagnostic]:
    """The `with` of a call, against the input of the action that it is for."""
    action = action_of(agent, str(name.value)) if name is not None else None
    if call.node.get("action_id") is None and call.node.get("prompt") is None:
        action = agent.actions[0] if len(agent.actions) == 1 else None
    if action is not None and action.input is not None:
        schema, filled = checked.scope.schema(action.input), {*agent.with_, *action.with_}
        yield from _given(call, "with", f"the action `{action.id}`", schema, filled)


# --- tasks ----------------------------------------------------------------------------------------


def _task(call: _Call, checked: Checked) -> Iterator[Diagnostic]:
    called = checked.tree.top.get(call.name)
    if called is None:
        if not checked.scope.is_broken("tasks", call.name):
            yield unknown_task(call.name, call.id.span, checked.tree.top)
        return
    if why := _why_not(called):
        text = f"the task `{call.name}` {why}, and cannot be called"
        hint = "call a task that does a piece of work, or a workflow"
        yield error("CZ219", text, call.id.span, hint)
        return
    for what, schema, defaults in schemas_of(called, checked):
        filled = {*defaults, *called.task.with_}
        what = f"{what.replace('its', 'the', 1)} of the task `{call.name}`"
        yield from _given(call, "with", what, schema, filled)


def _why_not(step: Step) -> str:
    return why_not_called(step.task.type, (one.task.type for one in _below(step)))


def _below(step: Step) -> Iterator[Step]:
    for one in step.steps:
        yield one
        yield from _below(one)


def _given(
    call: _Call, key: str, what: str, schema: object, filled: set[str]
) -> Iterator[Diagnostic]:
    node = call.node.get(key)
    if not isinstance(schema, dict) or COMPOSED & schema.keys():
        return
    if node is None or isinstance(node, MappingNode):
        at = call.id.span if node is None else call.node.key_span(key)
        yield from fitted(node, what, schema, filled, "the call", at, under=key)


# --- calls that never end -------------------------------------------------------------------------


class _Place(NamedTuple):
    """A workflow, or a task of it."""

    workflow: str
    task: str = ""

    def __str__(self) -> str:
        return f"`{self.task or self.workflow}`"


class _Way(NamedTuple):
    """A call that nothing can leave out where the run has come to `at`."""

    at: Span
    to: _Place


def _endless(workflows: Workflows) -> Iterator[Diagnostic]:
    """Workflows and tasks that come back to themselves whatever happens."""
    ways = _ways(workflows)
    told: set[_Place] = set()
    for place in ways:
        path = _way_back(place, ways)
        if path and not told & {place, *path}:
            told |= {place, *path}
            way = " → ".join(map(str, (place, *path)))
            first = next(way for way in ways[place] if way.to == path[0])
            what = "task" if place.task else "workflow"
            yield error(
                "CZ312",
                f"the {what} {place} calls itself and can never end: {way}",
                first.at,
                "put the call behind a `condition`, or into a route of a `router`",
            )


def _ways(workflows: Workflows) -> dict[_Place, list[_Way]]:
    ways: dict[_Place, list[_Way]] = {}
    for key, checked in workflows.items():
        of_workflow = ways.setdefault(_Place(key), [])
        for step in checked.tree.steps:
            if step.task.condition:
                continue
            found = [_Way(call.id.span, to) for call in _calls(step) for to in _target(call, key)]
            ways.setdefault(_Place(key, step.id), found)
            if step.role == "line" and checked.tree.sequence.surely_ran(step.id):
                of_workflow += found
    return ways


def _target(call: _Call, workflow: str) -> Iterator[_Place]:
    if call.family is TASKS:
        yield _Place(workflow, call.name)
    # From another task on, nobody knows what runs.
    elif call.family is WORKFLOWS and call.node.get("initial_task_id") is None:
        yield _Place(call.name)


def _way_back(place: _Place, ways: Mapping[_Place, list[_Way]]) -> list[_Place]:
    """The places from one back to itself; empty without such a way."""
    waiting = [[way.to] for way in ways[place]]
    seen: set[_Place] = set()
    while waiting:
        path = waiting.pop(0)
        if path[-1] == place:
            return path
        if path[-1] not in seen:
            seen.add(path[-1])
            waiting += [[*path, way.to] for way in ways.get(path[-1], [])]
    return []
