"""The built-in tools that run, by their ids: what they take and give (language.md §6.5)."""

from __future__ import annotations

from collections.abc import Mapping

from compozy_prefect.compiler.natives import NATIVES
from compozy_prefect.compiler.plan import Json, ToolPlan
from compozy_prefect.language.models.base import Selector
from compozy_prefect.language.models.task import BasicTask, Task

CALL_WORKFLOW, CALL_WORKFLOWS = "cp__call_workflow", "cp__call_workflows"
CALLS_AT_ONCE = 10  # of the workflows of one `cp__call_workflows`
CALL_TIMEOUT = 300.0  # seconds of a called workflow that says nothing else

_TEXT: Json = {"type": "string", "minLength": 1}
_MILLISECONDS: Json = {"type": "integer", "minimum": 0}
_CALL: dict[str, Json] = {
    "type": "object",
    "properties": {
        "workflow_id": {**_TEXT, "description": "A workflow of the project."},
        "input": {"type": "object", "description": "Its input."},
        "initial_task_id": {**_TEXT, "description": "The task to begin with, if not the first."},
        "timeout_ms": {**_MILLISECONDS, "description": "Of the whole run; five minutes if 0."},
    },
    "required": ["workflow_id"],
    "additionalProperties": False,
}
_CALLED: dict[str, Json] = {
    "success": {"type": "boolean"},
    "workflow_id": {"type": "string"},
    "workflow_exec_id": {"type": "string"},
    "status": {"type": "string"},
    "output": True,
    "duration_ms": {"type": "integer"},
}
_ERROR: Json = {
    "type": "object",
    "properties": {"message": {"type": "string"}, "code": {"type": "string"}},
}

BUILTINS: Mapping[str, ToolPlan] = {
    **NATIVES,
    CALL_WORKFLOW: ToolPlan(
        CALL_WORKFLOW,
        type="builtin",
        description="Runs another workflow of the project, and gives its output.",
        input_schema=_CALL,
        output_schema={
            "type": "object",
            "properties": _CALLED,
            "required": ["success", "workflow_id", "workflow_exec_id", "status", "duration_ms"],
        },
        timeout=0.0,
    ),
    CALL_WORKFLOWS: ToolPlan(
        CALL_WORKFLOWS,
        type="builtin",
        description="Runs several workflows of the project at once; one that fails is told.",
        input_schema={
            "type": "object",
            "properties": {"workflows": {"type": "array", "items": _CALL, "minItems": 1}},
            "required": ["workflows"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "results": {
                    "type": "array",
                    "items": {"type": "object", "properties": {**_CALLED, "error": _ERROR}},
                },
                "total_count": {"type": "integer"},
                "success_count": {"type": "integer"},
                "failure_count": {"type": "integer"},
                "total_duration_ms": {"type": "integer"},
            },
            "required": ["results", "total_count", "success_count", "failure_count"],
        },
        timeout=0.0,
    ),
}


def builtin_of(task: Task) -> ToolPlan | None:
    """The built-in tool that a task uses, if it is one that runs."""
    given = task.tool if isinstance(task, BasicTask) else None
    name = given.id if isinstance(given, Selector) else given
    return BUILTINS.get(name) if isinstance(name, str) else None


def builtin_plan(name: str) -> ToolPlan:
    """The tool in the plan; one that does not run yet has only its name."""
    return BUILTINS.get(name) or ToolPlan(name, type="builtin")
