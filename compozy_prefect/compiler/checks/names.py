"""Names, looked up: agents, actions, tools, models, schemas, tasks (language.md §14, row 9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.scope import Scope, action_of, schema_name
from compozy_prefect.diagnostics import Diagnostic, Span, error
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import Selector
from compozy_prefect.language.models.project import Workflow
from compozy_prefect.language.models.task import Task, Transition
from compozy_prefect.language.names import suggest
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence


def names(project: Project) -> Iterator[Diagnostic]:
    yield from _project_default(project)
    for checked in project.workflows:
        scope = checked.scope
        workflow = scope.workflow
        if workflow.config is not None:
            yield from _schema(workflow.node.at("config", "input"), workflow.config.input, scope)
            yield from _next(
                workflow.config.on_error, workflow.node.at("config", "on_error", "next"), scope
            )
        for task in workflow.tasks:
            yield from _task(task, checked)
        seen = {id(agent): agent for agent in workflow.agents}
        for task in workflow.tasks:
            agent = scope.agent_of(task)
            if agent is not None:
                seen[id(agent)] = agent
        for agent in seen.values():
            yield from _agent(agent, scope)
        for tool in scope.tools_used():
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
    if target and not any(target in s.tasks or s.is_broken("tasks", target) for s in scopes):
        known = {name: None for scope in scopes for name in scope.tasks}
        yield _unknown(
            "CZ210", "task", target, noun.node.at("config", "on_error", "next").span, known
        )


def _task(task: Task, checked: Checked) -> Iterator[Diagnostic]:
    scope = checked.scope
    node = task.node
    configured = task.config.on_error if task.config else None
    yield from _next(task.on_success, node.at("on_success", "next"), scope)
    yield from _next(task.on_error, node.at("on_error", "next"), scope)
    yield from _next(configured, node.at("config", "on_error", "next"), scope)
    agent = scope.agent_of(task)
    named: object = task.agent.id if isinstance(task.agent, Selector) else task.agent
    if isinstance(named, str) and agent is None and not scope.is_broken("agents", named):
        yield _unknown("CZ211", "agent", named, node.at("agent", "id").span, scope.agents)
    if agent is not None and task.action:
        yield from _action(agent, task.action, node.at("action").span)
    named = task.tool.id if isinstance(task.tool, Selector) else task.tool
    known = scope.tool_of(task) is not None
    if isinstance(named, str) and not known and not scope.is_broken("tools", named):
        yield _unknown("CZ213", "tool", named, node.at("tool", "id").span, scope.tools)
    for name in ("input", "output"):
        yield from _schema(node.get(name), getattr(task, name), scope)


def _next(given: Transition | None, node: Node, scope: Scope) -> Iterator[Diagnostic]:
    target = given.next if given is not None else None
    if target and target not in scope.tasks and not scope.is_broken("tasks", target):
        yield _unknown("CZ210", "task", target, node.span, scope.tasks)


def _action(agent: Agent, name: str, span: Span) -> Iterator[Diagnostic]:
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
    ids = [item.get("id") if isinstance(item, Mapping) else None for item in given.items]
    texts = [node.text if isinstance(node, Scalar) else "" for node in ids]
    return any(text in ("", name) and text not in known for text in texts)


def _agent(agent: Agent, scope: Scope) -> Iterator[Diagnostic]:
    for action in agent.actions:
        for name in ("input", "output"):
            yield from _schema(action.node.get(name), getattr(action, name), scope)
    for tool in agent.tools:
        named = tool.id if isinstance(tool, Selector) else tool
        builtin = isinstance(named, str) and named.startswith("cp__")
        if not isinstance(named, str) or builtin or named in scope.tools:
            continue
        if not scope.is_broken("tools", named):
            yield _unknown("CZ213", "tool", named, _tool_node(agent, named).span, scope.tools)
    if scope.model_of(agent) is not None or scope.is_broken("models", ""):
        return
    if agent.model is not None:
        known = [f"{model.provider}:{model.model}" for model in scope.models]
        known += [model.id for model in scope.models if model.id]
        yield _unknown("CZ214", "model", str(agent.model), agent.node.at("model").span, known)
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


def _tool_node(agent: Agent, name: str) -> Node:
    given = agent.node.get("tools")
    for item in given.items if isinstance(given, Sequence) else ():
        node = item.get("id") if isinstance(item, Mapping) else item
        if isinstance(node, Scalar) and node.text == name:
            return node
    return agent.node.at("tools")


def _absent(node: Node | None) -> bool:
    return node is None or (isinstance(node, Scalar) and node.value is None)


def _schema(node: Node | None, given: object, scope: Scope) -> Iterator[Diagnostic]:
    """A schema that is named must exist (§9)."""
    name: str | None = None
    if isinstance(given, str):
        name = given
    elif isinstance(given, dict) and set(given) == {"schema"} and isinstance(node, Mapping):
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
