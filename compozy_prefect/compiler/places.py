"""Every place of a workflow where a template stands, with what it may see and where it is planned.

The checks read the places to judge the templates, `lower` to record their spans: one list, so
that nothing is planned that was not checked.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import suppress
from typing import NamedTuple
from weakref import WeakKeyDictionary

from compozy_prefect.compiler import variables
from compozy_prefect.compiler.scope import Scope
from compozy_prefect.compiler.sequence import condition_kind
from compozy_prefect.compiler.tree import Step
from compozy_prefect.diagnostics import Span
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse
from compozy_prefect.expressions.reads import Read
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import Noun
from compozy_prefect.language.models.knowledge import Embedder, VectorDbConfig
from compozy_prefect.language.models.mcp import Mcp
from compozy_prefect.language.models.memory import Memory, TokenProvider
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.task import (
    BasicTask,
    CollectionTask,
    MemoryTask,
    RouterTask,
    SignalTask,
    WaitTask,
)
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.models.trigger import Trigger
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence

_RESOURCES: dict[type[Noun], tuple[str, ...]] = {
    Model: ("api_key", "api_url", "base_url", "organization"),
    Mcp: ("url", "command", "args", "headers", "env"),
    Memory: ("default_key_template", "key"),
    TokenProvider: ("api_key", "endpoint"),
    Embedder: ("api_key",),
    VectorDbConfig: ("dsn", "path", "auth"),
}
RESOURCES = tuple(_RESOURCES)

NOTHING: frozenset[str] = frozenset()
ANYWHERE = frozenset({"parent", "item", "index", "signal"})


class Place(NamedTuple):
    """One text that may hold templates.

    `pointer` is its path in the plan of the workflow, empty where the plan does not hold it;
    below `agents` and `tools` with the id of the noun, which `owner` tells from another one of
    that id. `step` is the step it belongs to, `readers` the steps on whose behalf it is rendered:
    more than one for an agent that several tasks use. `extra` are variables that only this place
    sees. `condition`: a bare expression is allowed too. `ended`: rendered when `step` has ended,
    so that its own state is known.
    """

    node: Scalar
    sees: variables.Scope
    pointer: tuple[str | int, ...]
    step: Step | None = None
    readers: tuple[Step, ...] = ()
    condition: bool = False
    ended: bool = False
    owner: Mapping | None = None
    extra: frozenset[str] = NOTHING

    @property
    def sight(self) -> frozenset[str]:
        """The variables that the place sees."""
        return variables.VARIABLES[self.sees] | self.extra

    @property
    def field(self) -> str | int:
        """The field of the step that it stands in, such as `with`."""
        return self.pointer[len(self.step.pointer)] if self.step is not None else ""

    def span(self, read: Read, at: int) -> Span:
        """Where segment `at` of a path stands, without the dot in front of a name."""
        start, last = read.starts[at], at + 1 >= len(read.starts)
        if at and str(self.node.value)[start : start + 1] == ".":
            start += 1
        return self.node.span_of(start, read.end if last else read.starts[at + 1])


# Most passes go over them.
_made: WeakKeyDictionary[Scope, tuple[Place, ...]] = WeakKeyDictionary()


def places(scope: Scope) -> tuple[Place, ...]:
    """All places of a workflow, and of the agents that it defines or uses."""
    known = _made.get(scope)
    if known is None:
        known = _made[scope] = tuple(_places(scope))
    return known


def _places(scope: Scope) -> Iterator[Place]:
    workflow = scope.workflow
    if workflow.config is not None and workflow.config.is_placed:
        yield from _leaves(workflow.config.node.get("env"), "workflow", ("env",))
    for index, trigger in enumerate(workflow.triggers):
        yield from _of_trigger(trigger, ("triggers", index, "webhook"))
    readers: dict[int, list[Step]] = {}
    for step in scope.tree.all:
        yield from _of_step(step)
        agent = scope.agent_of(step.task)
        if agent is not None:
            readers.setdefault(id(agent.node), []).append(step)
    for agent in scope.agents_used:
        yield from _of_agent(agent, tuple(readers.get(id(agent.node), ())))
    yield from _leaves(workflow.node.get("outputs"), "workflow outputs", ("outputs",))


def called_tools(scope: Scope) -> Iterator[str]:
    """The tools whose methods prompts call: `.tools.<id>.<method>(…)` (§6.2)."""
    return _named(scope, "tools", scope.tools)


def asked_servers(scope: Scope) -> tuple[Mcp, ...]:
    """The MCP servers that prompts ask: `.mcps.<id>.<method>(…)`."""
    names = dict.fromkeys(_named(scope, "mcps", scope.mcps))
    return tuple(scope.mcps[name] for name in names)


def servers_used(scope: Scope) -> tuple[Mcp, ...]:
    """The MCP servers of agents, and those that prompts ask."""
    every = (*scope.mcps_offered, *asked_servers(scope))
    return tuple({id(mcp.node): mcp for mcp in every}.values())


def _named(scope: Scope, root: str, known: Container[str]) -> Iterator[str]:
    """The names in `.<root>.<name>` of prompts."""
    for place in places(scope):
        text = str(place.node.value)
        if place.sees == "prompt" and f".{root}." in text:
            with suppress(TemplateError):
                for read in parse(text).reads:
                    name = read.segments[1] if len(read.segments) > 1 else None
                    if read.segments[0] == root and str(name) in known:
                        yield str(name)


def brought(step: Step) -> frozenset[str]:
    """The variables that the containers around a step bring (§11.2)."""
    out: set[str] = set()
    for above in step.ancestors:
        out |= {"parent", "with"}
        if isinstance(above.task, CollectionTask):
            out |= {"item", "index", above.task.item_var, above.task.index_var}
        if isinstance(above.task, WaitTask):
            out.add("signal")
    return frozenset(out)


def _of_step(step: Step) -> Iterator[Place]:
    task, node, at = step.task, step.task.node, step.pointer
    extra = brought(step)

    def leaves(name: str, sees: variables.Scope, *more: str) -> Iterator[Place]:
        seen = extra | variables.CONTAINER if sees == "outputs" and step.steps else extra
        seen = seen | frozenset(more)
        for place in _leaves(node.get(name), sees, (*at, name), step):
            yield place._replace(extra=seen)

    yield from leaves("id", "with")
    yield from leaves("with", "with")
    yield from leaves("env", "with")
    yield from leaves("outputs", "outputs")
    yield from leaves("attachments", "own")
    failure = node.get("on_error")
    if task.on_failure is not task.on_error:
        failure = node.at("config", "on_error")
    for name, given in (("on_success", node.get("on_success")), ("on_error", failure)):
        if isinstance(given, Mapping):
            for place in _leaves(given.get("with"), "outputs", (*at, name, "with"), step):
                yield place._replace(ended=True, extra=extra)
    if not isinstance(task, (RouterTask, WaitTask)):
        yield from _condition(step, "with", (*at, "condition"), extra)
    match task:
        case BasicTask():
            for place in leaves("action", "with"):
                yield place._replace(pointer=(*at, "agent", "action"))
            for place in leaves("prompt", "prompt"):
                yield place._replace(pointer=(*at, "agent", "prompt"))
        case CollectionTask():
            for place in leaves("items", "own"):
                yield place._replace(pointer=(*at, "collection", *place.pointer[len(at) :]))
            item = {"item", "index", task.item_var, task.index_var}
            below = (*at, "collection", "filter")
            yield from _condition(step, "own", below, extra | item, "filter")
        case RouterTask():
            below = (*at, "router", "condition")
            if condition_kind(task) != "literal":
                yield from _condition(step, "own", below, extra)
        case WaitTask():
            for place in leaves("wait_for", "own"):
                yield place._replace(pointer=(*at, "wait", "signal"))
            for place in leaves("timeout", "own"):
                yield place._replace(pointer=(*at, "wait", "timeout"))
            below = (*at, "wait", "condition")
            yield from _condition(step, "own", below, extra | {"signal", "processor"})
        case SignalTask():
            yield from leaves("signal", "own")
        case MemoryTask():
            for place in leaves("key_template", "own"):
                yield place._replace(pointer=(*at, "memory", "key"))
            for place in leaves("payload", "own"):
                yield place._replace(pointer=(*at, "memory", *place.pointer[len(at) :]))


def _condition(
    step: Step,
    sees: variables.Scope,
    pointer: tuple[str | int, ...],
    extra: frozenset[str],
    name: str = "condition",
) -> Iterator[Place]:
    for place in _leaves(step.task.node.get(name), sees, pointer, step):
        if place.node.value:
            yield place._replace(condition=True, extra=extra)


def _of_trigger(trigger: Trigger, at: tuple[str | int, ...]) -> Iterator[Place]:
    if trigger.webhook is None:
        return
    for index, event in enumerate(trigger.webhook.events):
        below = (*at, "events", index)
        yield from _leaves(event.node.get("input"), "event", (*below, "input"))
        for place in _leaves(event.node.get("filter"), "event", (*below, "filter")):
            yield place._replace(condition=True)
    verify = trigger.webhook.node.get("verify")
    if isinstance(verify, Mapping):
        yield from _leaves(verify.get("secret"), "key", (*at, "verify", "secret"))


def _of_agent(agent: Agent, readers: tuple[Step, ...]) -> Iterator[Place]:
    # What every one of its readers sees, and any of it for an agent that nobody uses yet.
    extra = frozenset.intersection(*map(brought, readers)) if readers else ANYWHERE
    for place in _inside_agent(agent, readers):
        yield place._replace(owner=agent.node, extra=extra)


def _inside_agent(agent: Agent, readers: tuple[Step, ...]) -> Iterator[Place]:
    node = agent.node
    at = ("agents", agent.id)
    yield from _leaves(node.get("instructions"), "prompt", (*at, "instructions"), None, readers)
    yield from _leaves(node.get("with"), "with", (*at, "with"), None, readers)
    yield from _leaves(node.get("env"), "with", (*at, "env"), None, readers)
    yield from _leaves(node.get("attachments"), "own", (*at, "attachments"), None, readers)
    for action in agent.actions:
        below = (*at, "actions", action.id)
        inside = action.node.get
        yield from _leaves(inside("prompt"), "prompt", (*below, "prompt"), None, readers)
        yield from _leaves(inside("with"), "with", (*below, "with"), None, readers)
        attached = inside("attachments")
        yield from _leaves(attached, "own", (*below, "attachments"), None, readers)
    memory = node.get("memory")
    for index, one in enumerate(memory.items if isinstance(memory, Sequence) else [memory]):
        if isinstance(one, Mapping):
            yield from _leaves(one.get("key"), "own", (*at, "memory", index, "key"), None, readers)
    model = node.get("config") or node.get("model")
    if isinstance(model, Mapping):
        yield from _leaves(model.get("api_key"), "key", (*at, "model", "api_key"), None, readers)


def of_tool(tool: Tool) -> Iterator[Place]:
    at = ("tools", tool.id)
    for name in ("with", "env", "config"):
        for place in _leaves(tool.node.get(name), "with", (*at, name)):
            yield place._replace(owner=tool.node)


def of_server(mcp: Mcp) -> Iterator[Place]:
    for name in _RESOURCES[Mcp]:
        for place in _leaves(mcp.node.get(name), "key", ("mcps", str(mcp.id), name)):
            yield place._replace(owner=mcp.node)


def of_resource(noun: Noun) -> Iterator[Place]:
    """The templates of what connects to something: they are looked at when it is connected."""
    for kind, names in _RESOURCES.items():
        for name in names if isinstance(noun, kind) else ():
            for place in _leaves(noun.node.get(name), "key", ()):
                yield place._replace(extra=variables.VARIABLES["own"])


def _leaves(
    node: Node | None,
    sees: variables.Scope,
    pointer: tuple[str | int, ...],
    step: Step | None = None,
    readers: tuple[Step, ...] = (),
) -> Iterator[Place]:
    if isinstance(node, Scalar):
        if isinstance(node.value, str):
            yield Place(node, sees, pointer, step, readers or ((step,) if step else ()))
    elif isinstance(node, Mapping):
        for key, value in node.entries.items():
            yield from _leaves(value, sees, (*pointer, key), step, readers)
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from _leaves(item, sees, (*pointer, index), step, readers)
