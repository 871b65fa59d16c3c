"""Which variables a template sees, by the place where it stands (language.md §11.2).

The checks refuse any other root; the runtime provides exactly these (a test holds the two
together).
"""

from __future__ import annotations

from typing import Literal

Scope = Literal["with", "outputs", "prompt", "workflow outputs", "workflow", "key"]

_ALWAYS = frozenset({"workflow", "tasks", "env", "trigger", "project", "agents", "tools", "input"})
_TASK = _ALWAYS | {"task", "current"}

VARIABLES: dict[Scope, frozenset[str]] = {
    # `with`, `env`, `condition`: `.input` is still the workflow's.
    "with": _TASK,
    "outputs": _TASK | {"with", "output"},
    "prompt": _TASK | {"with"},
    "workflow outputs": _ALWAYS
    | {"output", "status", "error", "workflow_id", "workflow_exec_id", "config"},
    "workflow": _ALWAYS,
    # A provider's key is looked up before anything is rendered for a step.
    "key": frozenset({"env"}),
}

WORKFLOW_FIELDS = frozenset(
    {
        "id",
        "name",
        "version",
        "description",
        "input",
        "execution_id",
        "exec_id",
        "status",
        "output",
        "config",
        "execution_time",
        "completed_tasks",
        "success_rate",
    }
)

TASK_FIELDS = frozenset({"id", "status", "input", "output", "error", "children", "handled"})
