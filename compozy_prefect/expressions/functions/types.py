"""Types: naming them and converting between them (Sprig's reflection and conversion).

In: any value. Out: Go's names of its type, or the value as another type. Our integers are Go's
`int`, floats `float64`, lists `slice`, maps `map`.
"""

from __future__ import annotations

from datetime import datetime

from compozy_prefect.expressions.functions.contract import (
    Function,
    FunctionError,
    describe,
    text,
)
from compozy_prefect.expressions.functions.gofmt import go_text, type_name
from compozy_prefect.expressions.functions.numbers import parse_int, to_float, to_int
from compozy_prefect.expressions.functions.values import Version, number, same


def kind_of(value: object) -> str:
    """Go's kind: string, int, float64, bool, slice, map, struct, invalid (null)."""
    if value is None:
        return "invalid"
    if isinstance(value, Version):
        return "ptr"
    if isinstance(value, list):
        return "slice"
    if isinstance(value, dict):
        return "map"
    if isinstance(value, datetime):
        return "struct"
    return type_name(value)


def kind_is(kind: object, value: object) -> bool:
    return text("kindIs", kind) == kind_of(value)


def type_of(value: object) -> str:
    """Go's type: string, int, []interface {}, map[string]interface {} ..."""
    return type_name(value)


def type_is(name: object, value: object) -> bool:
    return text("typeIs", name) == type_name(value)


def type_is_like(name: object, value: object) -> bool:
    """Like `typeIs`, pointers counting as what they point to."""
    wanted, actual = text("typeIsLike", name), type_name(value)
    return wanted in (actual, actual.removeprefix("*"))


def deep_equal(a: object, b: object) -> bool:
    return same(a, b)


def atoi(value: object) -> int:
    """The decimal integer that the text is, or 0."""
    source = text("atoi", value)
    digits = source[1:] if source[:1] in ("+", "-") else source
    if not (digits.isascii() and digits.isdigit()):
        return 0
    return parse_int(source[: len(source) - len(digits)] + (digits.lstrip("0") or "0")) or 0


def int_(value: object) -> int:
    return to_int("int", value)


def float64(value: object) -> float:
    return to_float("float64", value)


def to_string(value: object) -> str:
    return go_text(value)


def to_decimal(value: object) -> int:
    """The number that the octal digits stand for, or 0."""
    source = go_text(value)
    digits = source[1:] if source[:1] in ("+", "-") else source
    if not digits or len(digits) > 22 or digits.strip("01234567"):
        return 0
    result = int(source, 8)
    return result if -(1 << 63) <= result < 1 << 63 else 0


def to_number(value: object) -> int | float:
    """The number that a text is; unlike `int` and `float64` it refuses what is none."""
    if isinstance(value, bool):
        return int(value)
    found = number(value.strip() if isinstance(value, str) else value)
    if found is None:
        raise FunctionError(f"toNumber: wants a number or its text, got {describe(value)}")
    return found


TYPES: tuple[Function, ...] = (
    Function("kindOf", kind_of, 1, 1),
    Function("kindIs", kind_is, 2, 2),
    Function("typeOf", type_of, 1, 1),
    Function("typeIs", type_is, 2, 2),
    Function("typeIsLike", type_is_like, 2, 2),
    Function("deepEqual", deep_equal, 2, 2),
    Function("atoi", atoi, 1, 1),
    Function("int", int_, 1, 1),
    Function("int64", int_, 1, 1),
    Function("float64", float64, 1, 1),
    Function("toString", to_string, 1, 1),
    Function("toDecimal", to_decimal, 1, 1),
    Function("toNumber", to_number, 1, 1),
)
