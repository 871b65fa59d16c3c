"""Frozen dataclasses ↔ their one JSON form: sorted keys, nothing at its default."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any

Json = Any  # null, bool, int, float, str, list, dict with str keys; never changed after lowering


def canonical(value: Json) -> bytes:
    """JSON with sorted keys and no spaces, in UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8", "surrogatepass")


def to_json(value: Any) -> Json:
    """Dataclasses as objects without the fields that stand at their default."""
    kind = type(value)
    if kind in _PLAIN:  # most of a plan, and asked for first
        return value
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if is_dataclass(kind):
        out = {}
        for name, key, default, _ in _layout(kind):
            item = getattr(value, name)
            if item is not default and (item != default or type(item) is not type(default)):
                out[key] = to_json(item)
        return out
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    return value


_PLAIN = frozenset((str, int, float, bool, type(None)))


@cache
def _layout(cls: type) -> tuple[tuple[str, str, Any, Any], ...]:
    """Of each field: attribute, JSON key (`with_` is `with`), default, type."""
    hints = typing.get_type_hints(cls)
    out = []
    for item in fields(cls):
        default = item.default
        if item.default_factory is not MISSING:
            default = item.default_factory()
        out.append((item.name, item.name.rstrip("_"), default, hints[item.name]))
    return tuple(out)


def from_json(kind: Any, data: Json) -> Any:
    if is_dataclass(kind):
        values = {}
        for name, key, _, hint in _layout(typing.cast(type, kind)):
            if key in data:
                values[name] = from_json(hint, data[key])
        return typing.cast(type, kind)(**values)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if data is None:
        return None
    if origin is types.UnionType:
        return from_json(next(a for a in args if a is not type(None)), data)
    if origin is dict and is_dataclass(args[1]):
        return {key: from_json(args[1], item) for key, item in data.items()}
    if origin is dict and typing.get_origin(args[1]) is tuple:
        return {key: tuple(item) for key, item in data.items()}
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(from_json(args[0], item) for item in data)
        return tuple(data)
    return data
