"""How steps ended, and what templates see of it ↔ JSON for another process.

The output of a container reads as more than the JSON that it is (`runtime.views`); what is kept and
shown has no need of the rest, and a worker that goes on from there has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compozy_prefect.compiler.plan import Json
from compozy_prefect.expressions.members import Named, View
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import Failure, TaskState

_KIND = "$kind"  # of a value that is more than JSON, or has this key itself


def to_wire(value: Any) -> Json:
    """A value as templates see it, as JSON."""
    if isinstance(value, View):
        return {_KIND: "view", "of": _map(value), "beside": _map(value.beside)}
    if isinstance(value, Named):
        return {_KIND: "named", "of": [to_wire(v) for v in value], "beside": _map(value.beside)}
    if isinstance(value, Mapping):
        held = _map(value)
        return {_KIND: "map", "of": held} if _KIND in held else held
    if isinstance(value, (list, tuple)):
        return [to_wire(item) for item in value]
    return value


def _map(value: Mapping[str, Any]) -> dict[str, Json]:
    return {key: to_wire(item) for key, item in value.items()}


def from_wire(value: Json) -> Any:
    """What `to_wire` was given."""
    if isinstance(value, list):
        return [from_wire(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _KIND not in value:
        return {key: from_wire(item) for key, item in value.items()}
    kind, of = value[_KIND], value["of"]
    if kind == "named":
        return Named(from_wire(of), _unmap(value["beside"]))
    held = _unmap(of)
    return View(held, _unmap(value["beside"])) if kind == "view" else held


def _unmap(value: Mapping[str, Json]) -> dict[str, Any]:
    return {key: from_wire(item) for key, item in value.items()}


def state_to_wire(state: TaskState) -> dict[str, Json]:
    usage = state.usage
    return {
        "id": state.id,
        "type": state.type,
        "status": state.status,
        "input": state.input,
        "output": state.output,
        "error": state.error and state.error.to_json(),
        "parent": state.parent,
        "handled": state.handled,
        "usage": usage and usage.to_json() | {"calls": usage.calls},
        "seconds": state.seconds,
        "attempts": state.attempts,
        "route": state.route,
        "children": {id: state_to_wire(child) for id, child in state.children.items()},
        "view": to_wire(state.view),
    }


def state_from_wire(data: Mapping[str, Json]) -> TaskState:
    state = TaskState(**data)
    return replace(
        state,
        error=Failure(**data["error"]) if data["error"] else None,
        usage=Usage.from_json(data["usage"]) if data["usage"] else None,
        children={id: state_from_wire(child) for id, child in data["children"].items()},
        view=from_wire(data["view"]),
    )
