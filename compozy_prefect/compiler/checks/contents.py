"""What a valid JSON Schema can still get wrong: defaults that break it, references to
nothing, properties that are required and not described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.checks.schemas import schema_nodes
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping, Node, Sequence

# Under these stand values, not schemas.
_VALUES = {"default", "enum", "const", "example", "examples"}
# Under these stand schemas by name: `properties: {default: …}` is a property.
_NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}

# With one of these, properties may be described elsewhere.
_ELSEWHERE = frozenset(("allOf", "anyOf", "oneOf", "if", "$ref", "patternProperties"))

_FITS: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "integer": (int, float),
    "number": (int, float),
    "array": list,
    "object": dict,
    "null": type(None),
}


def contents(project: Project) -> Iterator[Diagnostic]:
    seen: set[int] = set()
    for checked in project.workflows:
        for node in schema_nodes(checked.scope):
            if isinstance(node, Mapping) and id(node) not in seen:
                seen.add(id(node))
                yield from _schema(node, node)


def _schema(node: Node, root: Mapping) -> Iterator[Diagnostic]:
    if isinstance(node, Sequence):
        for item in node.items:
            yield from _schema(item, root)
        return
    if not isinstance(node, Mapping):
        return
    yield from _default(node)
    yield from _reference(node, root)
    yield from _required(node)
    for name, value in node.entries.items():
        if name in _NAMED and isinstance(value, Mapping):
            for inner in value.entries.values():
                yield from _schema(inner, root)
        elif name not in _VALUES:
            yield from _schema(value, root)


def _default(node: Mapping) -> Iterator[Diagnostic]:
    """A default is filled in and then checked like any value (§2.2), so one that breaks its
    schema fails every run that needs it."""
    given = node.get("default")
    if given is None:
        return
    schema, value = node.data(), given.data()
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    choices = schema.get("enum")
    if isinstance(kinds, list) and not any(fits(value, kind) for kind in kinds):
        wanted = f"of type {' or '.join(map(str, kinds))}"
    elif isinstance(choices, list) and value not in choices:
        wanted = f"one of {', '.join(map(str, choices))}"
    else:
        return
    yield error(
        "CZ506",
        "the default breaks its own schema",
        given.span,
        f"it must be {wanted}",
    )


def _required(node: Mapping) -> Iterator[Diagnostic]:
    """A property that is required and not described: one of the two names is misspelt."""
    properties, required = node.get("properties"), node.get("required")
    if not isinstance(properties, Mapping) or not isinstance(required, Sequence):
        return
    if not _ELSEWHERE.isdisjoint(node.entries) or not properties.entries:
        return
    for item in required.items:
        name = item.data()
        if isinstance(name, str) and name not in properties.entries:
            near = nearest(name, properties.entries)
            hint = f"did you mean `{near}`?" if near else f"add `{name}` to `properties`"
            yield warning("CZ510", f"`{name}` is required and not described", item.span, hint)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type of JSON Schema."""
    if kind not in _FITS:
        return True  # said by the pass over schemas
    if kind in ("integer", "number") and isinstance(value, bool):
        return False
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _FITS[kind])


def _reference(node: Mapping, root: Mapping) -> Iterator[Diagnostic]:
    """A `$ref` leads into the same schema: nothing is fetched from anywhere (§9)."""
    given = node.get("$ref")
    target = given.data() if given is not None else None
    if given is None or not isinstance(target, str) or "::" in target:
        return
    if not target.startswith("#"):
        hint = "copy it under `$defs` and write `#/$defs/<name>`"
        yield error("CZ507", "a schema is not fetched from elsewhere", given.span, hint)
    elif target.startswith("#/") and not _leads(root.data(), target[2:]):
        known = root.data().get("$defs")
        names = ", ".join(f"#/$defs/{name}" for name in known) if isinstance(known, dict) else ""
        yield error(
            "CZ507",
            f"`{target}` leads nowhere in this schema",
            given.span,
            f"there are {names}" if names else "define it under `$defs` of the same schema",
        )


def _leads(value: Any, pointer: str) -> bool:
    for step in pointer.split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            return False
    return True
