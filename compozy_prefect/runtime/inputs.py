"""The input of a workflow: its defaults and its schema (language.md §2.2)."""

from __future__ import annotations

from collections.abc import Mapping

from compozy_prefect.compiler.plan import Json, WorkflowPlan
from compozy_prefect.errors import InputInvalid
from compozy_prefect.runtime import schemas


def check_input(workflow: WorkflowPlan, given: Mapping[str, Json]) -> dict[str, Json]:
    """The input with its shallow defaults. Raises InputInvalid, which names every violation."""
    value = schemas.with_defaults(dict(given), workflow.input_schema)
    broken = schemas.violations(value, workflow.input_schema)
    if broken:
        raise InputInvalid(
            f"the input of workflow `{workflow.id}` breaks its schema: {'; '.join(broken)}",
            details={"violations": broken},
        )
    return dict(value)
