"""The input of a workflow: its defaults and its schema (language.md §2.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compozy_prefect.compiler.plan import Json, WorkflowPlan
from compozy_prefect.errors import InputInvalid
from compozy_prefect.language.names import nearest
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


def misspelt(workflow: WorkflowPlan, given: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """Inputs that the schema does not list, each with the one it does that is nearly the same."""
    schema = workflow.input_schema
    listed = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(listed, dict):
        return
    for name in sorted(given.keys() - listed.keys()):
        near = nearest(name, listed)
        if near is not None and near not in given:
            yield name, near
