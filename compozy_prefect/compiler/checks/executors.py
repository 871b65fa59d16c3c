"""What a task does, and that it says so once (language.md §14, rows 6 to 8)."""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.scope import Scope
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.language.models.task import Task


def executors(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        workflow = checked.scope.workflow
        for task in workflow.tasks:
            yield from _task(task, checked.scope)
        if workflow.outputs == {}:
            yield error(
                "CZ307",
                "`outputs` is empty",
                workflow.node.key_span("outputs"),
                "leave it out to get the output of every task",
            )


def _task(task: Task, scope: Scope) -> Iterator[Diagnostic]:
    node = task.node
    if task.type not in ("basic", "unknown"):
        yield error(
            "CZ308",
            f"this version does not run tasks of type `{task.type}`",
            node.at("type").span,
            "it runs `basic` tasks; the other types are on their way",
        )
        return
    if task.agent is not None and task.tool is not None:
        yield error(
            "CZ309",
            f"the task `{task.id}` has an agent and a tool",
            node.key_span("tool"),
            "a task has one of them; make two tasks",
        )
    elif task.tool is not None and task.action:
        yield error(
            "CZ309",
            f"the task `{task.id}` calls a tool, which has no actions",
            node.key_span("action"),
            "put what the tool should do into `with`",
        )
    elif task.agent is not None and not task.action:
        agent = scope.agent_of(task)
        actions = ", ".join(f"`{action.id}`" for action in agent.actions) if agent else ""
        yield error(
            "CZ309",
            f"the task `{task.id}` does not say which `action` of its agent it wants",
            node.key_span("agent") if "agent" in node.keys else node.at("id").span,
            f"add `action:` with one of {actions}" if actions else "add `action:`",
        )
    elif task.agent is None and task.tool is None and task.action:
        yield from _action_alone(task, scope)
    if task.agent is None and task.tool is None and not task.action and "with" not in node.keys:
        yield warning(
            "CZ310",
            f"the task `{task.id}` does nothing: it has no agent, no tool and no `with`",
            node.at("id").span,
            "add `agent` and `action`, `tool`, or a `with` that it passes on",
        )


def _action_alone(task: Task, scope: Scope) -> Iterator[Diagnostic]:
    """`action` without an agent is fine when exactly one agent has it (§3.2)."""
    action = str(task.action)
    if scope.agent_of(task) is not None:
        return
    owners = [a.id for a in scope.agents.values() if any(x.id == action for x in a.actions)]
    found = f"{len(owners)} agents have it: {', '.join(owners)}" if owners else "no agent has it"
    yield error(
        "CZ309",
        f"the task `{task.id}` has the action `{action}` and no agent, and {found}",
        task.node.at("action").span,
        "add `agent:`",
    )
