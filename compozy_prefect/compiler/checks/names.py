"""Names, looked up: agents, actions, tools, models, schemas, tasks (language.md §14, row 9)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.scope import Scope, action_of, schema_name
from compozy_prefect.diagnostics import Diagnostic, Span, error
from compozy_prefect.language.models.agent import Agent, AgentSelector
from compozy_prefect.language.models.task import Task
from compozy_prefect.language.models.tool import ToolSelector
from compozy_prefect.language.names import suggest
from compozy_prefect.language.nodes import Mapping, Node, Scalar


def names(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        scope = checked.scope
        workflow = scope.workflow
        if workflow.config is not None:
            yield from _schema(workflow.node.at("config", "input"), workflow.config.input, scope)
        for task in workflow.tasks:
            yield from _task(task, checked)
        seen = {id(agent): agent for agent in workflow.agents}
        for task in workflow.tasks:
            agent = scope.agent_of(task)
            if agent is not None:
                seen[id(agent)] = agent
        for agent in seen.values():
            yield from _agent(agent, scope)
        for tool in scope.tools.values():
            for name in ("input", "output"):
                yield from _schema(tool.node.get(name), getattr(tool, name), scope)


def _task(task: Task, checked: Checked) -> Iterator[Diagnostic]:
    scope = checked.scope
    node = task.node
    for name in ("on_success", "on_error"):
        yield from _next(task, name, scope)
    agent = scope.agent_of(task)
    named: object = task.agent.id if isinstance(task.agent, AgentSelector) else task.agent
    if isinstance(named, str) and agent is None and not scope.is_broken("agents", named):
        yield _unknown("CZ211", "agent", named, node.at("agent", "id").span, scope.agents)
    if agent is not None and task.action:
        yield from _action(agent, task.action, node.at("action").span)
    named = task.tool.id if isinstance(task.tool, ToolSelector) else task.tool
    known = scope.tool_of(task) is not None
    if isinstance(named, str) and not known and not scope.is_broken("tools", named):
        yield _unknown("CZ213", "tool", named, node.at("tool", "id").span, scope.tools)
    for name in ("input", "output"):
        yield from _schema(node.get(name), getattr(task, name), scope)


def _next(task: Task, name: str, scope: Scope) -> Iterator[Diagnostic]:
    transition = getattr(task, name)
    target = transition.next if transition is not None else None
    if target and target not in scope.tasks and not scope.is_broken("tasks", target):
        yield _unknown("CZ210", "task", target, task.node.at(name, "next").span, scope.tasks)


def _action(agent: Agent, name: str, span: Span) -> Iterator[Diagnostic]:
    if "{{" in name or action_of(agent, name) is not None or _has_broken_actions(agent):
        return
    known = [action.id for action in agent.actions]
    yield _unknown("CZ212", f"action of the agent `{agent.id}`", name, span, known)


def _has_broken_actions(agent: Agent) -> bool:
    """Whether the file gives actions that are missing here, since they could not be read."""
    given = agent.node.get("actions")
    return given is not None and not agent.actions and bool(given.data())


def _agent(agent: Agent, scope: Scope) -> Iterator[Diagnostic]:
    for action in agent.actions:
        for name in ("input", "output"):
            yield from _schema(action.node.get(name), getattr(action, name), scope)
    if scope.model_of(agent) is not None:
        return
    if agent.model is not None:
        known = [f"{model.provider}:{model.model}" for model in scope.models]
        yield _unknown("CZ214", "model", str(agent.model), agent.node.at("model").span, known)
    elif agent.node.get("config") is None:
        span = agent.node.at("id").span
        if not scope.models:
            if not any(kind == "models" for kind, _ in scope._broken):
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
