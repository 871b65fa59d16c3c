"""What a task does, and that it says so once (language.md §14, rows 6 to 8)."""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.scope import Scope
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.language.models.task import Task
from compozy_prefect.language.names import nearest


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
        stated = node.entries.get("type")
        yield error(
            "CZ308",
            f"this version does not run tasks of type `{task.type}`",
            stated.span if stated is not None and stated.data() else node.at("id").span,
            "it runs `basic` tasks; the other types are on their way",
        )
        return
    if any(directive in node.entries for directive in ("$use", "$ref", "$merge")):
        return  # it could not be resolved, and would have said what the task does
    # What is faulty is missing in the task and was reported; it is given all the same.
    agent, tool, action = (_is_given(task, name) for name in ("agent", "tool", "action"))
    if agent and tool:
        yield error(
            "CZ309",
            f"the task `{task.id}` has an agent and a tool",
            node.key_span("tool"),
            "a task has one of them; make two tasks",
        )
    elif tool and action:
        yield error(
            "CZ309",
            f"the task `{task.id}` calls a tool, which has no actions",
            node.key_span("action"),
            "put what the tool should do into `with`",
        )
    elif agent and not action:
        wanted = scope.agent_of(task)
        actions = ", ".join(f"`{one.id}`" for one in wanted.actions) if wanted else ""
        yield error(
            "CZ309",
            f"the task `{task.id}` does not say which `action` of its agent it wants",
            node.key_span("agent") if "agent" in node.keys else node.at("id").span,
            f"add `action:` with one of {actions}" if actions else "add `action:`",
        )
    elif action and not agent and task.action:
        yield from _action_alone(task, scope)
    named = "id" in node.entries and task.type == "basic"
    if named and not (agent or tool or action) and "with" not in node.entries:
        yield warning(
            "CZ310",
            f"the task `{task.id}` does nothing: it has no agent, no tool and no `with`",
            node.at("id").span,
            "add `agent` and `action`, `tool`, or a `with` that it passes on",
        )


def _is_given(task: Task, name: str) -> bool:
    given = task.node.get(name)
    return given is not None and given.data() not in (None, "")


def _action_alone(task: Task, scope: Scope) -> Iterator[Diagnostic]:
    """`action` without an agent is fine when exactly one agent has it (§3.2)."""
    action = str(task.action)
    if scope.agent_of(task) is not None or any(kind == "agents" for kind, _ in scope.broken):
        return
    owners = [a.id for a in scope.agents.values() if any(x.id == action for x in a.actions)]
    found = f"{len(owners)} agents have it: {', '.join(owners)}" if owners else "no agent has it"
    near = nearest(action, [x.id for a in scope.agents.values() for x in a.actions])
    yield error(
        "CZ309",
        f"the task `{task.id}` has the action `{action}` and no agent, and {found}",
        task.node.at("action").span,
        f"did you mean `{near}`?" if near and not owners else "add `agent:`",
    )
