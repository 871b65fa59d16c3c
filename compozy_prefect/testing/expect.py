"""What a test file expects of a value, read from its YAML.

A map is expected as a part of what is seen, a list and a scalar as all of it. A map whose keys
begin with `$` is a matcher, which says what holds of the value; `RULES` has them all. What nobody
can read is a diagnostic at its place (CZ702).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from compozy_prefect.compiler.plan import Json
from compozy_prefect.diagnostics import Diagnostic, Span, error
from compozy_prefect.expressions.functions.contract import FunctionError
from compozy_prefect.expressions.functions.regexes import must_regex_match
from compozy_prefect.language import misfits, nodes
from compozy_prefect.language.names import suggest

TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of one value, and where that is written."""

    span: Span


@dataclass(frozen=True, slots=True)
class Same(Expected):
    value: Json


@dataclass(frozen=True, slots=True)
class Fields(Expected):
    """A map that has these keys, and may have others; `keys` are where they are written."""

    fields: Mapping[str, Expected]
    keys: Mapping[str, Span]


@dataclass(frozen=True, slots=True)
class Items(Expected):
    items: tuple[Expected, ...]


@dataclass(frozen=True, slots=True)
class Rules(Expected):
    """What all holds of a value: the argument of each rule, by its name."""

    rules: Mapping[str, Any]


def read(node: nodes.Node, found: list[Diagnostic], *, optional: bool = False) -> Expected:
    """What a node expects; `optional`: of the value of a key, which may also be absent."""
    if isinstance(node, nodes.Mapping):
        rules = [key for key in node.entries if key.startswith("$")]
        if not rules:
            fields = {key: read(value, found, optional=True) for key, value in node.entries.items()}
            keys = {key: node.key_span(key) for key in node.entries}
            return Fields(misfits.head(node), fields, keys)
        span = node.key_span(rules[0])
        if len(rules) < len(node.entries):
            message = f"`{rules[0]}` is a matcher, and stands in a map without other keys"
            found.append(error("CZ702", message, span, "`{$exact: …}` takes any key as it is"))
        arguments = {rule: _argument(rule, node, found, optional) for rule in rules}
        return Rules(span, {rule: one for rule, one in arguments.items() if one is not FAULT})
    if isinstance(node, nodes.Sequence):
        return Items(node.span, tuple(read(item, found) for item in node.items))
    return Same(node.span, node.data())


def data_of(expected: Expected) -> Json:
    """The expectation as the data that a file would hold."""
    match expected:
        case Same():
            return expected.value
        case Fields():
            return {key: data_of(value) for key, value in expected.fields.items()}
        case Items():
            return [data_of(item) for item in expected.items]
        case Rules():
            return {name: _data(one) for name, one in expected.rules.items()}
    raise AssertionError(expected)


def _data(argument: Any) -> Json:
    if isinstance(argument, Expected):
        return data_of(argument)
    if not isinstance(argument, tuple):
        return argument
    return _data(argument[0]) if len(argument) == 1 else [*map(_data, argument)]


# --- matchers -------------------------------------------------------------------------------------

FAULT: Final = object()
_Reader = Callable[[nodes.Node, list[Diagnostic]], Any]


def _argument(name: str, node: nodes.Mapping, found: list[Diagnostic], optional: bool) -> Any:
    """The argument of a matcher, FAULT after its diagnostic."""
    reader = RULES.get(name)
    if reader is None:
        hint = suggest(name, RULES, what="the matchers are", limit=len(RULES))
        found.append(error("CZ702", f"there is no matcher `{name}`", node.key_span(name), hint))
        return FAULT
    if name == "$absent" and not optional:
        message = "`$absent` is for a key of a map, and stands for its value"
        found.append(error("CZ702", message, node.key_span(name)))
        return FAULT
    return reader(node.entries[name], found)


def _refused(name: str, wanted: str, node: nodes.Node, found: list[Diagnostic]) -> Any:
    is_empty = isinstance(node, nodes.Sequence) and not node.items
    seen = "an empty list" if is_empty else misfits.seen(node)
    message = f"`{name}` takes {wanted}, not {seen}"
    found.append(error("CZ702", message, misfits.head(node)))
    return FAULT


def _true(name: str) -> _Reader:
    def read_true(node: nodes.Node, found: list[Diagnostic]) -> Any:
        return True if node.data() is True else _refused(name, "`true`", node, found)

    return read_true


def _number(name: str) -> _Reader:
    def read_number(node: nodes.Node, found: list[Diagnostic]) -> Any:
        value = node.data()
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return value if is_number else _refused(name, "a number", node, found)

    return read_number


def _types(node: nodes.Node, found: list[Diagnostic]) -> Any:
    items = node.items if isinstance(node, nodes.Sequence) else (node,)
    names = ["null" if item.data() is None else item.data() for item in items]
    for item, name in zip(items, names, strict=True):
        if name not in TYPES:
            hint = suggest(str(name), TYPES, what="the types are", limit=len(TYPES))
            message = f"`$type` cannot be {misfits.seen(item)}"
            found.append(error("CZ702", message, misfits.head(item), hint))
            return FAULT
    return tuple(names) if names else _refused("$type", "a type or several", node, found)


def _pattern(node: nodes.Node, found: list[Diagnostic]) -> Any:
    value = node.data()
    if not isinstance(value, str):
        return _refused("$matches", "a pattern as text", node, found)
    try:
        must_regex_match(value, "")
    except FunctionError as fault:
        reason = str(fault).partition(": ")[2]
        found.append(error("CZ702", f"`$matches`: {reason}", node.span))
        return FAULT
    return value


def _one_of(node: nodes.Node, found: list[Diagnostic]) -> Any:
    if not isinstance(node, nodes.Sequence) or not node.items:
        return _refused("$one_of", "a list of what it may be", node, found)
    return tuple(read(item, found) for item in node.items)


def _length(node: nodes.Node, found: list[Diagnostic]) -> Any:
    if isinstance(node, nodes.Mapping):
        return read(node, found)
    value = node.data()
    if not isinstance(value, int) or isinstance(value, bool):
        return _refused("$length", "a whole number or a matcher of one", node, found)
    return Same(node.span, value)


RULES: Mapping[str, _Reader] = {
    "$any": _true("$any"),
    "$absent": _true("$absent"),
    "$exact": lambda node, found: node.data(),
    "$type": _types,
    "$matches": _pattern,
    "$contains": read,
    "$length": _length,
    "$gt": _number("$gt"),
    "$gte": _number("$gte"),
    "$lt": _number("$lt"),
    "$lte": _number("$lte"),
    "$not": read,
    "$one_of": _one_of,
}
