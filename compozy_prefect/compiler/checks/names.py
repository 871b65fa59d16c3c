"""Names, looked up: agents, actions, tools, models, schemas, tasks (language.md §14, row 9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from compozy_prefect.compiler.checks.nouns import is_resolved
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.scope import Scope, action_of, schema_name
from compozy_prefect.compiler.tree import Step
from compozy_prefect.diagnostics import Diagnostic, Span, error, warning
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import Selector
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.project import Workflow
from compozy_prefect.language.models.task import (
    BasicTask,
    MemoryTask,
    RouterTask,
    Transition,
    WaitTask,
)
from compozy_prefect.language.models.tool import BUILTIN_TOOLS, Tool
from compozy_prefect.language.names import nearest, suggest
from compozy_prefect.language.nodes import Mapping as MappingNode
from compozy_prefect.language.nodes import Node, Scalar, Sequence


def names(project: Project) -> Iterator[Diagnostic]:
    yield from _project_default(project)
    told: set[int] = set()
    for checked in project.workflows:
        scope, workflow = checked.scope, checked.scope.workflow
        top = checked.tree.top
        if workflow.config is not None:
            yield from _schema(workflow.node.at("config", "input"), workflow.config.input, scope)
            on_error = workflow.node.at("config", "on_error", "next")
            yield from _next(workflow.config.on_error, on_error, top, scope)
        for trigger in workflow.triggers:
            yield from _schema(trigger.node.get("schema"), trigger.schema, scope)
            for event in trigger.webhook.events if trigger.webhook else ():
                yield from _schema(event.node.get("schema"), event.schema, scope)
        for step in checked.tree.all:
            yield from _step(step, checked)
        for agent in scope.agents_used:
            yield from _agent(agent, scope)
            model = scope.model_of(agent)
            if model is not None and id(model.node) not in told:
                told.add(id(model.node))
                yield from _fallbacks(model, scope)
        for tool in scope.tools_used:
            for name in ("input", "output"):
                yield from _schema(tool.node.get(name), getattr(tool, name), scope)


def _project_default(project: Project) -> Iterator[Diagnostic]:
    """`config.on_error` of a project that stands for itself: a task that some workflow has."""
    noun = project.loaded.project
    scopes = [checked.scope for checked in project.workflows]
    if noun is None or noun.config is None or isinstance(noun, Workflow):
        return
    transition = noun.config.on_error
    target = transition.next if transition else None
    known = {step.id: None for checked in project.workflows for step in checked.tree.steps}
    if target and target not in known and not any(s.is_broken("tasks", target) for s in scopes):
        yield _unknown(
            "CZ210", "task", target, noun.node.at("config", "on_error", "next").span, known
        )


def _step(step: Step, checked: Checked) -> Iterator[Diagnostic]:
    scope, task, node = checked.scope, step.task, step.task.node
    beside = checked.tree.beside(step)
    configured = task.config.on_error if task.config else None
    yield from _next(task.on_success, node.at("on_success", "next"), beside, scope)
    yield from _next(task.on_error, node.at("on_error", "next"), beside, scope)
    yield from _next(configured, node.at("config", "on_error", "next"), beside, scope)
    for name in ("input", "output"):
        yield from _schema(node.get(name), getattr(task, name), scope)
    match task:
        case BasicTask():
            yield from _basic(task, scope)
        case RouterTask():
            yield from _routes(step, checked)
        case WaitTask():
            yield from _target(task.on_timeout or "", node.at("on_timeout"), beside, scope)
        case MemoryTask() if task.memory_ref not in scope.memories:
            if not scope.is_broken("memories", task.memory_ref) and "memory_ref" in node.entries:
                span = node.at("memory_ref").span
                yield _unknown("CZ217", "memory", task.memory_ref, span, scope.memories)


def _basic(task: BasicTask, scope: Scope) -> Iterator[Diagnostic]:
    node = task.node
    agent = scope.agent_of(task)
    named: object = task.agent.id if isinstance(task.agent, Selector) else task.agent
    if isinstance(named, str) and agent is None and not scope.is_broken("agents", named):
        yield unknown_agent(named, node.at("agent", "id").span, scope)
    if agent is not None and task.action and is_resolved(agent):
        yield from unknown_action(agent, task.action, node.at("action").span)
    if task.tool is not None:
        yield from _tool(task.tool, node.at("tool"), scope)
    yield from _offered(task, scope)


def _routes(step: Step, checked: Checked) -> Iterator[Diagnostic]:
    task, beside = step.task, checked.tree.beside(step)
    assert isinstance(task, RouterTask)
    for key, target in task.routes.items():
        if isinstance(target, str):
            yield from _target(target, task.node.at("routes", key), beside, checked.scope)
    for name in ("default", "default_route"):
        target = getattr(task, name)
        if isinstance(target, str):
            yield from _target(target, task.node.at(name), beside, checked.scope)


def _next(
    given: Transition | None, node: Node, beside: Mapping[str, Step], scope: Scope
) -> Iterator[Diagnostic]:
    yield from _target((given.next if given is not None else None) or "", node, beside, scope)


def _target(
    target: str, node: Node, beside: Mapping[str, Step], scope: Scope
) -> Iterator[Diagnostic]:
    """A task that is named as the next one stands in the same list."""
    if not target or "{{" in target or target in beside:
        return
    if not scope.is_broken("tasks", target):
        yield unknown_task(target, node.span, beside)


def unknown_task(name: str, span: Span, known: Iterable[str]) -> Diagnostic:
    return _unknown("CZ210", "task", name, span, known)


def unknown_agent(name: str, span: Span, scope: Scope) -> Diagnostic:
    return _unknown("CZ211", "agent", name, span, scope.agents)


def unknown_action(agent: Agent, name: str, span: Span) -> Iterator[Diagnostic]:
    """What is wrong with the name of an action, if it is no template."""
    if "{{" in name or action_of(agent, name) is not None or _is_given(agent, name):
        return
    known = [action.id for action in agent.actions]
    yield _unknown("CZ212", f"action of the agent `{agent.id}`", name, span, known)


def _is_given(agent: Agent, name: str) -> bool:
    """Whether the file gives, or may give, an action that is missing here as it is faulty."""
    given = agent.node.get("actions")
    if not isinstance(given, Sequence):
        return given is not None and given.data() is not None
    known = {action.id for action in agent.actions}
    ids = [item.get("id") if isinstance(item, MappingNode) else None for item in given.items]
    texts = [node.text if isinstance(node, Scalar) else "" for node in ids]
    return any(text in ("", name) and text not in known for text in texts)


def _agent(agent: Agent, scope: Scope) -> Iterator[Diagnostic]:
    for action in agent.actions:
        for name in ("input", "output"):
            yield from _schema(action.node.get(name), getattr(action, name), scope)
    yield from _offered(agent, scope)
    yield from _memories(agent, scope)
    if scope.model_of(agent) is not None or scope.is_broken("models", ""):
        return
    if agent.model is not None:
        span = agent.node.at("model").span
        yield _unknown("CZ214", "model", str(agent.model), span, _models(scope))
    elif all(_absent(agent.node.get(name)) for name in ("config", "model")):
        span = agent.node.at("id").span
        if not scope.models:
            yield error(
                "CZ214",
                f"the agent `{agent.id}` has no model, and the project has none",
                span,
                "add `models: [{provider: openai, model: gpt-4o}]`, or `config:` to the agent",
            )
        else:
            yield error(
                "CZ214",
                f"the agent `{agent.id}` does not say which of {len(scope.models)} models it uses",
                span,
                'name one with `model: "provider:model"`, or mark one with `default: true`',
            )


def _fallbacks(model: Model, scope: Scope) -> Iterator[Diagnostic]:
    """The models that are asked when one fails are entries of the project, and others than it."""
    given = model.node.get("fallbacks")
    for node in given.items if isinstance(given, Sequence) else ():
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            continue
        other = scope.model_named(node.value)
        if other is None and not scope.is_broken("models", ""):
            yield _unknown("CZ214", "model", node.value, node.span, _models(scope))
        elif other is not None and other.node is model.node:
            text = f"the model `{node.value}` is its own fallback"
            yield error("CZ214", text, node.span, "name another entry of `models`")


def _models(scope: Scope) -> list[str]:
    known = [f"{model.provider}:{model.model}" for model in scope.models]
    return known + [model.id for model in scope.models if model.id]


def _offered(noun: Agent | BasicTask, scope: Scope) -> Iterator[Diagnostic]:
    """The tools and servers that a model may use."""
    tools, servers = noun.node.get("tools"), noun.node.get("mcps")
    for given in _items(tools):
        name = _name(given)
        if name:
            yield from _tool(name, given, scope)
    for given in _items(servers):
        name = _name(given)
        if name and name not in scope.mcps and not scope.is_broken("mcps", name):
            yield _unknown("CZ216", "MCP server", name, given.at("id").span, scope.mcps)


def _tool(given: str | Selector | Tool, node: Node, scope: Scope) -> Iterator[Diagnostic]:
    if isinstance(given, Tool):
        return
    name = given.id if isinstance(given, Selector) else given
    span = node.at("id").span
    if name.startswith("cp__"):
        if name not in BUILTIN_TOOLS:
            yield _unknown("CZ213", "built-in tool", name, span, BUILTIN_TOOLS)
    elif name not in scope.tools and not scope.is_broken("tools", name):
        yield _unknown("CZ213", "tool", name, span, scope.tools)


def _memories(agent: Agent, scope: Scope) -> Iterator[Diagnostic]:
    """A memory that nobody declares is implied (§7.4), and may be a slip."""
    given = agent.node.get("memory")
    for node in _items(given) if isinstance(given, Sequence) else [given]:
        id_ = node.get("id") if isinstance(node, MappingNode) else node
        if not isinstance(id_, Scalar) or not isinstance(id_.value, str):
            continue
        if id_.value not in scope.memories and not scope.is_broken("memories", id_.value):
            near = nearest(id_.value, scope.memories)
            yield warning(
                "CZ217",
                f"no memory has the id `{id_.value}`: one with default limits is made",
                id_.span,
                f"did you mean `{near}`?" if near else "declare it under `memories:`",
            )


def _items(node: Node | None) -> tuple[Node, ...]:
    return node.items if isinstance(node, Sequence) else ()


def _name(node: Node) -> str:
    """The id that a reference names; empty for a definition."""
    if isinstance(node, MappingNode):
        node = node.entries["id"] if set(node.entries) == {"id"} else node
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else ""


def _absent(node: Node | None) -> bool:
    return node is None or (isinstance(node, Scalar) and node.value is None)


def _schema(node: Node | None, given: object, scope: Scope) -> Iterator[Diagnostic]:
    """A schema that is named must exist (§9)."""
    name: str | None = None
    if isinstance(given, str):
        name = given
    elif isinstance(given, dict) and set(given) == {"schema"} and isinstance(node, MappingNode):
        node = node.get("schema")
        name = given["schema"] if isinstance(given["schema"], str) else None
    if name is None or not isinstance(node, Scalar):
        return
    wanted = schema_name(name)
    if wanted not in scope.schemas and not scope.is_broken("schemas", wanted):
        yield _unknown("CZ215", "schema", wanted, node.span, scope.schemas)


def _unknown(code: str, kind: str, name: str, span: Span, known: Iterable[str]) -> Diagnostic:
    names = list(known)
    hint = suggest(name, names, what="there are") or f"there is no {kind.split(' ')[0]} at all"
    return error(code, f"unknown {kind}: `{name}`", span, hint)
