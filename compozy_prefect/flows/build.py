"""A workflow of the plan → a Prefect flow with typed, documented parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext

from compozy_prefect.compiler import types
from compozy_prefect.compiler.emit import flow_names
from compozy_prefect.compiler.plan import Json, Plan, WorkflowPlan
from compozy_prefect.errors import UsageError
from compozy_prefect.flows.engine import RESULTS
from compozy_prefect.runtime.redaction import redact

_SECRET = re.compile(r"key|token|secret|passw|pwd|credential|auth", re.IGNORECASE)
_LONGEST_NAME, _LONGEST_VALUE = 80, 30  # characters of a run's name, and of a value in it


def build_flow(plan: Plan, workflow_id: str) -> Flow[..., Any]:
    """The flow of a workflow. Raises UsageError for an unknown id.

    Its name is the workflow's id without the characters that Prefect refuses, its version the
    plan's hash, which every run then carries. Its parameters are the properties of the input
    schema (design.md, flow parameters).
    """
    workflow = workflow_of(plan, workflow_id)

    signature = types.signature(workflow.input_schema)

    async def body(*args: Any, **kwargs: Any) -> Json | State[Any]:
        from compozy_prefect.flows.execute import execute

        return await execute(plan, workflow_id, signature.bind_partial(*args, **kwargs).arguments)

    body.__name__ = body.__qualname__ = re.sub(r"\W", "_", workflow_id)
    body.__doc__ = types.docstring(workflow)
    body.__signature__ = signature  # type: ignore[attr-defined]
    return Flow(body, name=flow_names(plan)[workflow_id], **flow_options(plan, workflow_id))


def flow_options(plan: Plan, workflow_id: str) -> dict[str, Any]:
    """The arguments of `@flow` beside `name`, for flows built here and for emitted modules alike.

    The name is written out in emitted modules, where `prefect deploy` reads it.

    Parameters are not validated by Prefect: the JSON Schema is checked inside the flow, which
    coerces nothing, and a `$ref` in the input is data, where Prefect would load a block.
    """
    workflow = workflow_of(plan, workflow_id)
    return {
        "version": plan.hash,
        "description": workflow.description or workflow.name or workflow_id,
        "flow_run_name": _namer(workflow_id),
        "validate_parameters": False,
        "persist_result": True,
        "result_serializer": RESULTS,
    }


def workflow_of(plan: Plan, workflow_id: str) -> WorkflowPlan:
    """The workflow with this id. Raises UsageError, which lists those there are."""
    try:
        return plan.workflows[workflow_id]
    except KeyError:
        known = ", ".join(f"`{name}`" for name in plan.workflows) or "none"
        message = f"no workflow `{workflow_id}` in project `{plan.project.name}`; it has: {known}"
        raise UsageError(message) from None


def run_name(workflow_id: str, given: Mapping[str, Json]) -> str:
    """A name that tells runs apart: the workflow and the short, harmless part of its input."""
    name = workflow_id
    for key, value in given.items():
        if isinstance(value, (dict, list)) or value is None or _SECRET.search(key):
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        text = redact(" ".join("".join(c if c.isprintable() else " " for c in text).split()))
        longer = f"{name} {key}={text[:_LONGEST_VALUE]}{'…' if len(text) > _LONGEST_VALUE else ''}"
        if len(longer) > _LONGEST_NAME:
            break
        name = longer
    return name


def _namer(workflow_id: str) -> Callable[[], str]:
    def name() -> str:
        context = FlowRunContext.get()
        parameters = (context.parameters or {}) if context else {}
        if parameters.keys() == {"input"} and isinstance(parameters["input"], dict):
            parameters = parameters["input"]
        return run_name(workflow_id, parameters)

    return name
