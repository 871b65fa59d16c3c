"""Comparison, emptiness and defaults: `eq`, `lt`, `default`, `coalesce`, `ternary` ...

In: any values. Out: booleans or one of the arguments. Null never raises here.
"""

from __future__ import annotations

from compozy_prefect.expressions.functions.contract import Environment, Function, FunctionError
from compozy_prefect.expressions.functions.values import (
    Version,
    compare,
    equal,
    number,
    same,
    truth,
)


def eq(first: object, *others: object) -> bool:
    """Whether the first equals any of the others (Go)."""
    return any(equal(first, other) for other in others)


def ne(a: object, b: object) -> bool:
    return not equal(a, b)


def lt(a: object, b: object) -> bool:
    order = compare(a, b, "lt")
    return order is not None and order < 0


def le(a: object, b: object) -> bool:
    order = compare(a, b, "le")
    return order is not None and order <= 0


def gt(a: object, b: object) -> bool:
    order = compare(a, b, "gt")
    return order is not None and order > 0


def ge(a: object, b: object) -> bool:
    order = compare(a, b, "ge")
    return order is not None and order >= 0


def empty(value: object) -> bool:
    """Sprig's emptiness: null, "", 0, false, [] and {}."""
    return not truth(value)


def default(fallback: object, *given: object) -> object:
    """The given value, or the fallback if it is missing, null or empty."""
    return given[0] if given and truth(given[0]) else fallback


def coalesce(*values: object) -> object:
    """The first value that is not empty, or null."""
    return next((value for value in values if truth(value)), None)


def all_(*values: object) -> bool:
    return all(map(truth, values))


def any_(*values: object) -> bool:
    return any(map(truth, values))


def ternary(yes: object, no: object, condition: object) -> object:
    return yes if truth(condition) else no


def required(message: object, value: object) -> object:
    """Helm's guard: the value, unless it is null or empty text."""
    if value is None or value == "":
        raise FunctionError(str(message))
    return value


def fail(message: object) -> object:
    raise FunctionError(message if isinstance(message, str) else f"fail: {message}")


def null() -> None:
    return None


def bool_(value: object) -> bool:
    """A boolean from its texts ("true", "yes", "on", "1" ...), from a number or from null."""
    if isinstance(value, str):
        lowered = value.strip().lower()
        if lowered in ("true", "t", "yes", "y", "on", "1"):
            return True
        if lowered in ("false", "f", "no", "n", "off", "0", ""):
            return False
        parsed = number(lowered)
        if parsed is None:
            raise FunctionError(f'bool: wants "true" or "false", got "{value[:40]}"')
        return bool(parsed)
    return truth(value)


def in_(needle: object, haystack: object) -> bool:
    """Whether a list has an element, a map a key or a text a part; either order of arguments."""
    if isinstance(needle, (list, dict)) and not isinstance(haystack, (list, dict)):
        needle, haystack = haystack, needle
    if haystack is None:
        return False
    if isinstance(haystack, list):
        return any(equal(needle, element) or same(needle, element) for element in haystack)
    if isinstance(haystack, dict) and not isinstance(haystack, Version):
        return isinstance(needle, str) and needle in haystack
    if isinstance(haystack, str) and isinstance(needle, str):
        return needle in haystack
    raise FunctionError("in: wants a list, a map or a text to look into")


def validate_schema(environment: Environment, value: object, schema: object) -> object:
    """The value, checked against a schema of the project; its failure is the run's (§9)."""
    if environment.validate_schema is None:
        raise FunctionError("validateSchema: no schemas are known here")
    if not isinstance(schema, str) and isinstance(value, str):
        value, schema = schema, value
    if not isinstance(schema, str):
        raise FunctionError("validateSchema: wants the id of a schema")
    return environment.validate_schema(value, schema)


COMPARISON: tuple[Function, ...] = (
    Function("eq", eq, 2, None),
    Function("ne", ne, 2, 2),
    Function("lt", lt, 2, 2),
    Function("le", le, 2, 2),
    Function("gt", gt, 2, 2),
    Function("ge", ge, 2, 2),
    Function("empty", empty, 1, 1, guard=True),
    Function("default", default, 1, 2, guard=True),
    Function("coalesce", coalesce, 0, None, guard=True),
    Function("all", all_, 0, None),
    Function("any", any_, 0, None),
    Function("ternary", ternary, 3, 3, guard=True),
    Function("required", required, 2, 2, guard=True),
    Function("fail", fail, 1, 1),
    Function("null", null, 0, 0),
    Function("bool", bool_, 1, 1),
    Function("in", in_, 2, 2, subject="first"),
    Function("validateSchema", validate_schema, 2, 2, subject="first", environment=True),
)
