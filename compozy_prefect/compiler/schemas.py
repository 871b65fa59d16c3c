"""A JSON Schema → the shape of what is valid under it (language.md §9).

References into the schema are followed a few times, `allOf` is put together, `anyOf` and `oneOf`
become alternatives. What is not understood makes the shape wider, never narrower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compozy_prefect.compiler.values import (
    BOOLEAN,
    NULL,
    NUMBER,
    TEXT,
    UNKNOWN,
    Shape,
    either,
    kind_of,
)

_PLAIN = {
    "string": TEXT,
    "number": NUMBER,
    "integer": NUMBER,
    "boolean": BOOLEAN,
    "null": NULL,
}
# Keywords through which other fields may come in than `properties` lists.
_OPENING = {"$dynamicRef", "dependentSchemas", "if", "unevaluatedProperties"}
_SAYING = {"type", "properties", "required", "enum", "const"}
_DEPTH = 60  # of schemas in schemas
_SAME = 3  # times that a path passes one reference
_EXPANDED = 2000  # schemas read behind references, and in all
_MOST = 20_000


def shape_of(schema: Any) -> Shape:
    """The shape of the values that a schema allows."""
    return _Reader(schema).read(schema, 0, ()) or UNKNOWN


class _Reader:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._expanded, self._left = _EXPANDED, _MOST

    def read(self, schema: Any, depth: int, behind: tuple[str, ...]) -> Shape | None:
        """The shape, or None of a schema that allows everything. `behind`: references passed."""
        if not isinstance(schema, Mapping):
            return None
        self._left -= 1
        self._expanded -= bool(behind)
        if self._left < 0 or self._expanded < 0:
            return UNKNOWN
        if depth > _DEPTH or (depth and "$id" in schema):
            return UNKNOWN
        shape = self._own(schema, depth, behind)
        if "$ref" in schema:
            shape = _both(shape, self._referred(schema["$ref"], depth, behind))
        for part in _listed(schema.get("allOf")):
            shape = _both(shape, self.read(part, depth + 1, behind))
        for word in ("anyOf", "oneOf"):
            parts = [self.read(p, depth + 1, behind) for p in _listed(schema.get(word))]
            if parts:
                shape = _both(shape, either(part or UNKNOWN for part in parts))
        return _opened(shape) if shape is not None and _OPENING & schema.keys() else shape

    def _referred(self, target: Any, depth: int, behind: tuple[str, ...]) -> Shape | None:
        if not isinstance(target, str) or behind.count(target) >= _SAME:
            return UNKNOWN
        if target != "#" and not target.startswith("#/"):
            return UNKNOWN
        found = self._root
        for step in target[2:].split("/") if len(target) > 2 else ():
            found = found.get(_unescaped(step)) if isinstance(found, Mapping) else None
        if found is None:
            return UNKNOWN
        return self.read(found, depth + 1, (*behind, target))

    def _own(self, schema: Mapping[str, Any], depth: int, behind: tuple[str, ...]) -> Shape | None:
        """What the schema says without those that it takes in."""
        if not _SAYING & schema.keys():
            return None
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        listed = tuple(values) if isinstance(values, (list, tuple)) else None
        given = schema.get("type")
        if given is None and listed is not None:
            kinds = [kind_of(value) for value in listed]
        elif given is None:
            kinds = ["object"] if {"properties", "required"} & schema.keys() else []
        else:
            kinds = given if isinstance(given, list) else [given]
        names = dict.fromkeys(kind if isinstance(kind, str) else "" for kind in kinds)
        shapes = [self._of_kind(kind, schema, listed, depth, behind) for kind in names]
        return either(shape for shape in shapes if shape is not None) if shapes else UNKNOWN

    def _of_kind(
        self,
        kind: str,
        schema: Mapping[str, Any],
        values: tuple[Any, ...] | None,
        depth: int,
        behind: tuple[str, ...],
    ) -> Shape | None:
        if kind == "object":
            return self._object(schema, depth, behind)
        if kind == "array":
            items = schema.get("items")
            if not isinstance(items, Mapping) or "prefixItems" in schema:
                return Shape("array")
            return Shape("array", items=self.read(items, depth + 1, behind) or UNKNOWN)
        if kind not in _PLAIN:
            return UNKNOWN
        plain = _PLAIN[kind]
        if values is None or kind == "null":
            return plain
        fitting = tuple(value for value in values if kind_of(value) == plain.kind)
        return plain._replace(values=fitting) if fitting else None

    def _object(self, schema: Mapping[str, Any], depth: int, behind: tuple[str, ...]) -> Shape:
        given, required = schema.get("properties"), schema.get("required")
        fields = {str(name): UNKNOWN for name in _listed(required)}
        if isinstance(given, Mapping):
            for name, inner in given.items():
                fields[str(name)] = self.read(inner, depth + 1, behind) or UNKNOWN
        other = schema.get("additionalProperties")
        if "patternProperties" in schema:
            return Shape("object", fields, rest=UNKNOWN)
        if isinstance(other, Mapping):
            rest = self.read(other, depth + 1, behind) or UNKNOWN
            return Shape("object", fields, rest=rest)
        return Shape("object", fields, closed=other is False)


def _both(a: Shape | None, b: Shape | None) -> Shape | None:
    """The shape of what is valid under two schemas; None says nothing, UNKNOWN what is unknown."""
    if a is None or b is None:
        return b if a is None else a
    if not a.alternatives or not b.alternatives:
        return _opened(a if a.alternatives else b)
    pairs = [(x, y) for x in a.alternatives for y in b.alternatives if x.kind == y.kind]
    return either(_merged(x, y) for x, y in pairs)


def _merged(a: Shape, b: Shape) -> Shape:
    """Two shapes of one kind in one."""
    if a.kind == "array":
        items = _both(a.items, b.items)
        return Shape("array", items=items)
    if a.kind != "object":
        if a.values is None or b.values is None:
            return b if a.values is None else a
        return Shape(a.kind, values=tuple(value for value in a.values if value in b.values))
    names = dict.fromkeys((*a.fields, *b.fields))
    fields = {}
    for name in names:
        mine, other = a.fields.get(name), b.fields.get(name)
        if (mine is None and a.closed) or (other is None and b.closed):
            continue  # one of the two rules it out
        fields[name] = _both(mine, other) or UNKNOWN
    closed = a.closed or b.closed
    rest = None if closed else UNKNOWN if a.rest is not None or b.rest is not None else None
    return Shape("object", fields, closed, rest)


def _opened(shape: Shape) -> Shape:
    """The shape when something unknown may list more fields; what is ruled out stays so."""
    opened = [
        one._replace(rest=UNKNOWN)
        if one.kind == "object" and not one.closed and one.rest is None
        else one
        for one in shape.alternatives
    ]
    return either(opened) if opened else UNKNOWN


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else []


def _unescaped(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")
