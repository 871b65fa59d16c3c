"""Every place of a workflow where a template stands, with what it may see and where it is planned.

The checks read the places to judge the templates, `lower` to record their spans: one list, so
that nothing is planned that was not checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from compozy_prefect.compiler import variables
from compozy_prefect.compiler.scope import Scope
from compozy_prefect.diagnostics import Span
from compozy_prefect.expressions.reads import Read
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.task import Task
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence


class Place(NamedTuple):
    """One text that may hold templates.

    `pointer` is its path in the plan of the workflow; below `agents` and `tools` with the id of the
    noun, which `owner` tells from another one of that id. `task` is the task it belongs to,
    `readers` the tasks on whose behalf it is rendered: more than one for an agent that several
    tasks use. `condition`: a bare expression is allowed too. `ended`: rendered when `task` has
    ended, so that its own state is known.
    """

    node: Scalar
    sees: variables.Scope
    pointer: tuple[str | int, ...]
    task: Task | None = None
    readers: tuple[str, ...] = ()
    condition: bool = False
    ended: bool = False
    owner: Mapping | None = None

    def span(self, read: Read, at: int) -> Span:
        """Where segment `at` of a path stands, without the dot in front of a name."""
        start, last = read.starts[at], at + 1 >= len(read.starts)
        if at and str(self.node.value)[start : start + 1] == ".":
            start += 1
        return self.node.span_of(start, read.end if last else read.starts[at + 1])


_TASK_FIELDS: tuple[tuple[str, variables.Scope], ...] = (
    ("with", "with"),
    ("env", "with"),
    ("outputs", "outputs"),
)


def places(scope: Scope) -> Iterator[Place]:
    """All places of a workflow, and of the agents and tools that it defines or uses."""
    workflow = scope.workflow
    if workflow.config is not None and workflow.config.is_placed:
        yield from _leaves(workflow.config.node.get("env"), "workflow", ("env",))
    readers: dict[int, list[str]] = {}
    agents: dict[int, Agent] = {id(agent): agent for agent in workflow.agents}
    for index, task in enumerate(workflow.tasks):
        yield from _of_task(task, ("steps", index))
        agent = scope.agent_of(task)
        if agent is not None:
            agents.setdefault(id(agent), agent)
            readers.setdefault(id(agent), []).append(task.id)
    for key, agent in agents.items():
        yield from _of_agent(agent, tuple(readers.get(key, ())))
    yield from _leaves(workflow.node.get("outputs"), "workflow outputs", ("outputs",))


def _of_task(task: Task, at: tuple[str | int, ...]) -> Iterator[Place]:
    readers = (task.id,)
    for name, sees in _TASK_FIELDS:
        yield from _leaves(task.node.get(name), sees, (*at, name), task, readers)
    failure = task.node.get("on_error")
    if task.on_failure is not task.on_error:
        failure = task.node.at("config", "on_error")
    for name, given in (("on_success", task.node.get("on_success")), ("on_error", failure)):
        if isinstance(given, Mapping):
            for place in _leaves(given.get("with"), "outputs", (*at, name, "with"), task, readers):
                yield place._replace(ended=True)
    action = task.node.get("action")
    if isinstance(action, Scalar) and isinstance(action.value, str):
        yield Place(action, "with", (*at, "agent", "action"), task, readers)
    condition = task.node.get("condition")
    if isinstance(condition, Scalar) and isinstance(condition.value, str) and condition.value:
        yield Place(condition, "with", (*at, "condition"), task, readers, condition=True)


def _of_agent(agent: Agent, readers: tuple[str, ...]) -> Iterator[Place]:
    for place in _inside_agent(agent, readers):
        yield place._replace(owner=agent.node)


def _inside_agent(agent: Agent, readers: tuple[str, ...]) -> Iterator[Place]:
    node = agent.node
    at = ("agents", agent.id)
    yield from _leaves(node.get("instructions"), "prompt", (*at, "instructions"), None, readers)
    yield from _leaves(node.get("with"), "with", (*at, "with"), None, readers)
    yield from _leaves(node.get("env"), "with", (*at, "env"), None, readers)
    for action in agent.actions:
        below = (*at, "actions", action.id)
        yield from _leaves(action.node.get("prompt"), "prompt", (*below, "prompt"), None, readers)
        yield from _leaves(action.node.get("with"), "with", (*below, "with"), None, readers)
    model = node.get("config") or node.get("model")
    if isinstance(model, Mapping):
        yield from _leaves(model.get("api_key"), "key", (*at, "model", "api_key"), None, readers)


def of_tool(tool: Tool) -> Iterator[Place]:
    at = ("tools", tool.id)
    for name in ("with", "env", "config"):
        for place in _leaves(tool.node.get(name), "with", (*at, name)):
            yield place._replace(owner=tool.node)


def _leaves(
    node: Node | None,
    sees: variables.Scope,
    pointer: tuple[str | int, ...],
    task: Task | None = None,
    readers: tuple[str, ...] = (),
) -> Iterator[Place]:
    if isinstance(node, Scalar):
        if isinstance(node.value, str):
            yield Place(node, sees, pointer, task, readers)
    elif isinstance(node, Mapping):
        for key, value in node.entries.items():
            yield from _leaves(value, sees, (*pointer, key), task, readers)
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from _leaves(item, sees, (*pointer, index), task, readers)
