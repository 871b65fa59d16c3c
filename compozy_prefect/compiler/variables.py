"""Which variables a template sees, by the place where it stands (language.md §11.2).

The checks refuse any other root; the runtime provides exactly these (a test holds the two
together). What a container brings for the steps in it comes on top.
"""

from __future__ import annotations

from typing import Literal

Scope = Literal["with", "own", "outputs", "prompt", "workflow outputs", "workflow", "key", "event"]

_ALWAYS = frozenset(
    {"workflow", "tasks", "env", "blocks", "trigger", "project", "agents", "tools", "input"}
)
_TASK = _ALWAYS | {"task", "current"}

VARIABLES: dict[Scope, frozenset[str]] = {
    # `with`, `env`, `condition`: `.input` is still what is around the task.
    "with": _TASK,
    # Fields that are rendered once the task's own `with` is.
    "own": _TASK | {"with"},
    "outputs": _TASK | {"with", "output"},
    "prompt": _TASK | {"with", "memory", "mcps"},
    "workflow outputs": _ALWAYS
    | {"output", "status", "error", "workflow_id", "workflow_exec_id", "config"},
    "workflow": _ALWAYS,
    # A provider's key is looked up before anything is rendered for a step.
    "key": frozenset({"env", "blocks"}),
    # What a webhook brings, before the workflow has an input.
    "event": frozenset({"payload", "headers", "query", "env"}),
}

# What an MCP server is asked for by `.mcps.<id>.<method>(…)`, with the least and the most
# arguments: its address or name, and what a prompt is filled in with.
ASKED_FOR = {"resource": (1, 1), "prompt": (1, 2)}
COUNTS = {"resource": "one argument", "prompt": "one or two arguments"}
MCP_FIELDS = frozenset({"id", "transport"})

# What the `outputs` of a container see besides.
CONTAINER = frozenset({"children", "progress"})

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
