"""What a task does, and that it says so once (language.md §14, rows 6 to 8, 14, 20, 22)."""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.scope import Scope
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.language.models.task import BasicTask, Task
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping

_EXECUTORS = ("agent", "tool", "prompt")


def executors(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        workflow = checked.scope.workflow
        for task in checked.scope.tasks:
            if any(directive in task.node.entries for directive in ("$use", "$ref", "$merge")):
                continue  # it could not be resolved, and would have said what the task does
            if isinstance(task, BasicTask):
                yield from _basic(task, checked.scope)
            elif task.type != "unknown":
                yield from _other(task)
        if workflow.outputs == {}:
            yield _empty_outputs(workflow.node, "leave it out to get the output of every task")


def _empty_outputs(node: Mapping, hint: str) -> Diagnostic:
    return error("CZ307", "`outputs` is empty", node.key_span("outputs"), hint)


def _other(task: Task) -> Iterator[Diagnostic]:
    """A task that is not basic has no executor of its own."""
    for name in task.refused:
        if _is_given(task, name):
            yield error(
                "CZ309",
                f"a task of type `{task.type}` has no `{name}`",
                task.node.key_span(name),
                "leave `type` out, or give the work to a task of its own"
                if name in _EXECUTORS
                else f"remove `{name}`",
            )


def _basic(task: BasicTask, scope: Scope) -> Iterator[Diagnostic]:
    node = task.node
    # What is faulty is missing in the task and was reported; it is given all the same.
    agent, tool, action = (_is_given(task, name) for name in ("agent", "tool", "action"))
    prompt = _is_given(task, "prompt")
    if agent and tool:
        yield error(
            "CZ309",
            f"the task `{task.id}` has an agent and a tool",
            node.key_span("tool"),
            "a task has one of them; make two tasks",
        )
    elif tool and (action or prompt):
        name = "action" if action else "prompt"
        yield error(
            "CZ309",
            f"the task `{task.id}` calls a tool, which has no {name}s",
            node.key_span(name),
            "put what the tool should do into `with`",
        )
    elif agent and not action and not prompt:
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
    elif prompt and not agent and not _has_model(task, scope):
        yield error(
            "CZ214",
            f"the task `{task.id}` has a prompt and no model",
            node.key_span("prompt"),
            "add `model_config:`, or mark a model of the project with `default: true`",
        )
    does = agent or tool or action or prompt or "with" in node.entries
    if not does and "id" in node.entries:
        yield warning(
            "CZ310",
            f"the task `{task.id}` does nothing: it has no agent, no tool and no `with`",
            node.at("id").span,
            "add `agent` and `action`, `tool`, or a `with` that it passes on",
        )


def _has_model(task: BasicTask, scope: Scope) -> bool:
    known = scope.default_model is not None or scope.is_broken("models", "")
    return known or _is_given(task, "model_config")


def _is_given(task: Task, name: str) -> bool:
    given = task.node.get(name)
    return given is not None and given.data() not in (None, "")


def _action_alone(task: BasicTask, scope: Scope) -> Iterator[Diagnostic]:
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
