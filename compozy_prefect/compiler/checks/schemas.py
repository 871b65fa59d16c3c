"""Every schema of a project is a valid JSON Schema (language.md §9, §14 row 32).

A schema of plain keywords with values of the right kind is recognised here in microseconds;
for any other jsonschema has the word, which takes a tenth of a second to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.scope import Scope
from compozy_prefect.diagnostics import Diagnostic, error
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping, Node

_TYPES = {"string", "number", "integer", "boolean", "object", "array", "null"}
_TEXTS = {"title", "description", "format", "id", "$schema", "$comment", "contentMediaType"}
_NUMBERS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
_COUNTS = {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
_FREE = {"default", "example", "const"}


def schemas(project: Project) -> Iterator[Diagnostic]:
    seen: set[int] = set()
    for checked in project.workflows:
        for node in _nodes(checked.scope):
            if isinstance(node, Mapping) and id(node) not in seen:
                seen.add(id(node))
                if not _is_reference(node):
                    yield from _faults(node)


def _nodes(scope: Scope) -> Iterator[Node | None]:
    workflow = scope.workflow
    if workflow.config is not None:
        yield workflow.node.at("config").get("input")  # type: ignore[attr-defined]
    holders = [workflow]
    if scope.loaded.project is not None:
        holders.append(scope.loaded.project)  # type: ignore[arg-type]
    for holder in holders:
        yield from (schema.node for schema in holder.schemas)
    agents = {id(a): a for a in scope.agents.values()}
    for task in workflow.tasks:
        yield task.node.get("input")
        yield task.node.get("output")
        agent = scope.agent_of(task)
        if agent is not None:
            agents.setdefault(id(agent), agent)
    for agent in agents.values():
        for action in agent.actions:
            yield action.node.get("input")
            yield action.node.get("output")
    for tool in scope.tools.values():
        yield tool.node.get("input")
        yield tool.node.get("output")


def _is_reference(node: Mapping) -> bool:
    return set(node.entries) == {"schema"}


def _faults(node: Mapping) -> Iterator[Diagnostic]:
    schema = node.data()
    if _is_plain(schema):
        return
    from jsonschema import Draft202012Validator

    seen: set[tuple[Any, ...]] = set()
    validator = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    for fault in validator.iter_errors(_without_null_types(schema)):
        place = tuple(fault.absolute_path)
        if place in seen:
            continue
        seen.add(place)
        at = node.at(*place)
        near = nearest(str(at.data()), _TYPES) if place[-1:] == ("type",) else None
        where = ".".join(str(step) for step in place)
        yield error(
            "CZ502",
            f"this is no valid JSON Schema: `{where}`: {_short(fault.message)}"
            if where
            else f"this is no valid JSON Schema: {_short(fault.message)}",
            at.span,
            f"did you mean `{near}`?" if near else None,
        )


def _short(message: str) -> str:
    return message if len(message) <= 160 else message[:159] + "…"


def _is_plain(schema: Any, depth: int = 0) -> bool:
    """Whether every keyword is one of the common ones and has a value that fits it."""
    if isinstance(schema, bool):
        return True
    if not isinstance(schema, dict) or depth > 50:
        return False
    return all(_fits(key, value, depth) for key, value in schema.items())


def _fits(key: str, value: Any, depth: int) -> bool:
    if key == "type":
        return value is None or (isinstance(value, str) and value in _TYPES)
    if key == "properties":
        return isinstance(value, dict) and all(_is_plain(v, depth + 1) for v in value.values())
    if key == "required":
        return (
            isinstance(value, list)
            and all(isinstance(name, str) for name in value)
            and len(set(value)) == len(value)
        )
    if key in ("items", "additionalProperties"):
        return _is_plain(value, depth + 1)
    if key in _TEXTS:
        return isinstance(value, str)
    if key in _NUMBERS:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if key in _COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if key in ("enum", "examples"):
        return isinstance(value, list)
    return key in _FREE


def _without_null_types(schema: Any) -> Any:
    """`type:` without a value counts as absent (§9)."""
    if isinstance(schema, dict):
        return {
            key: _without_null_types(value)
            for key, value in schema.items()
            if not (key == "type" and value is None)
        }
    if isinstance(schema, list):
        return [_without_null_types(item) for item in schema]
    return schema
