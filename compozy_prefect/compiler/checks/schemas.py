"""Every schema of a project is a valid JSON Schema (language.md §9, §14 row 32).

A schema of plain keywords with values of the right kind is recognised here in microseconds;
for any other jsonschema has the word, which takes a tenth of a second to import. Regular
expressions are checked by what will match them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.scope import Scope
from compozy_prefect.diagnostics import Diagnostic, error
from compozy_prefect.language import patterns
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence

if TYPE_CHECKING:
    from jsonschema import ValidationError

_KINDS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "a map",
    "array": "a list",
    "null": "null",
}
_TYPES = tuple(_KINDS)
_TEXTS = {"title", "description", "format", "pattern", "id"}
_TEXTS |= {"$schema", "$comment", "contentMediaType"}
_NUMBERS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
_COUNTS = {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
_FREE = {"default", "example", "const"}
# The value of these is a schema, a list of schemas, or a map of them.
_ONE = {"additionalProperties", "contains", "contentSchema", "else", "if", "items", "not"}
_ONE |= {"propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"}
_MANY = {"allOf", "anyOf", "oneOf", "prefixItems"}
_NAMED = {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}


def schemas(project: Project) -> Iterator[Diagnostic]:
    seen: set[int] = set()
    for checked in project.workflows:
        for node in schema_nodes(checked.scope):
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, Mapping):
                if not _is_reference(node):
                    yield from _faults(node)
            elif not (isinstance(node, Scalar) and isinstance(node.value, (str, bool, type(None)))):
                message = f"a JSON Schema is a map, or the id of one, not a {node.kind}"
                yield error("CZ502", message, node.span)


def schema_nodes(scope: Scope) -> Iterator[Node | None]:
    """Every schema that a workflow sees, as it is written."""
    workflow = scope.workflow
    if workflow.config is not None:
        yield workflow.node.at("config").get("input")  # type: ignore[attr-defined]
    for trigger in workflow.triggers:
        yield trigger.node.get("schema")
        yield from (
            e.node.get("schema") for e in (trigger.webhook.events if trigger.webhook else ())
        )
    holders = [workflow]
    if scope.loaded.project is not None:
        holders.append(scope.loaded.project)  # type: ignore[arg-type]
    for holder in holders:
        yield from (schema.node for schema in holder.schemas)
    for task in scope.tasks:
        yield task.node.get("input")
        yield task.node.get("output")
    agents = {id(a.node): a for a in (*scope.agents.values(), *scope.agents_used)}
    for agent in agents.values():
        for action in agent.actions:
            yield action.node.get("input")
            yield action.node.get("output")
    for tool in scope.tools_used:
        yield tool.node.get("input")
        yield tool.node.get("output")


def _is_reference(node: Mapping) -> bool:
    return set(node.entries) == {"schema"}


def _faults(node: Mapping) -> Iterator[Diagnostic]:
    yield from _patterns(node)
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
        where = ".".join(str(step) for step in place)
        if place[-1:] == ("type",):
            yield from _wrong_type(at, where)
            continue
        yield error("CZ502", f"no valid JSON Schema: `{where}` {_sentence(fault, at)}", at.span)


def _wrong_type(node: Node, where: str) -> Iterator[Diagnostic]:
    """`type` is none of the seven, or a list with one that is not."""
    for one in node.items if isinstance(node, Sequence) else (node,):
        name = one.data()
        if name in _TYPES:
            continue
        near = nearest(name, _TYPES) if isinstance(name, str) else None
        hint = f"did you mean `{near}`?" if near else f"the types are {', '.join(_TYPES)}"
        yield error(
            "CZ502", f"no valid JSON Schema: `{where}` cannot be {_shown(one)}", one.span, hint
        )


def _sentence(fault: ValidationError, at: Node) -> str:
    wanted: Any = fault.validator_value
    if fault.validator == "type":
        kinds = [wanted] if isinstance(wanted, str) else list(wanted)
        return f"must be {' or '.join(_KINDS[kind] for kind in kinds)}, not {_shown(at)}"
    if fault.validator == "minimum":
        return f"must be at least {wanted}, not {_shown(at)}"
    if fault.validator == "uniqueItems":
        return "names something twice"
    return f"is wrong: {_short(fault.message)}"


def _shown(node: Node) -> str:
    if isinstance(node, Scalar):
        return f'"{_short(node.value)}"' if isinstance(node.value, str) else node.text or "null"
    return f"a {node.kind}"


def _patterns(node: Node) -> Iterator[Diagnostic]:
    """Regular expressions that are none: values of `pattern`, keys of `patternProperties`."""
    for key, value in node.entries.items() if isinstance(node, Mapping) else ():
        if key == "pattern" and isinstance(value, Scalar) and isinstance(value.value, str):
            yield from _pattern(value.value, value)
        elif key in _ONE:
            yield from _patterns(value)
        elif key in _MANY and isinstance(value, Sequence):
            for item in value.items:
                yield from _patterns(item)
        elif key in _NAMED and isinstance(value, Mapping):
            for name, item in value.entries.items():
                if key == "patternProperties":
                    yield from _pattern(name, value.keys[name])
                yield from _patterns(item)


def _pattern(text: str, node: Scalar) -> Iterator[Diagnostic]:
    try:
        patterns.check(text)
    except patterns.PatternError as fault:
        place = fault.position
        yield error("CZ502", str(fault), node.span_of(place, place + 1))


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
    if key in ("properties", "patternProperties"):
        return isinstance(value, dict) and all(_is_plain(v, depth + 1) for v in value.values())
    if key == "required":
        return (
            isinstance(value, list)
            and all(isinstance(name, str) for name in value)
            and len(set(value)) == len(value)
        )
    if key in ("items", "additionalProperties", "propertyNames"):
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
