"""Arithmetic on integers and floats (Sprig's math).

In: numbers, and what Sprig reads as numbers: their text, booleans, null as 0. Out: integers of 64
bits, or floats. Overflow raises, where Go would wrap around.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal, DecimalException, localcontext
from typing import Any

from compozy_prefect.expressions.functions.contract import (
    INT64_MAX,
    INT64_MIN,
    MAX_ITEMS,
    Function,
    FunctionError,
    describe,
    int64,
    integer,
)
from compozy_prefect.expressions.functions.values import number

_INTEGER = re.compile(r"([+-]?)(0[xX]|0[bB]|0[oO]?)?((?:_?[0-9a-fA-F]){1,80})")
_BASES = {"": 10, "0x": 16, "0b": 2, "0o": 8, "0": 8}


def parse_int(source: str) -> int | None:
    """Go's `strconv.ParseInt` with base 0: decimal, 0x, 0b, 0o or a leading 0; None if it fails."""
    if source in ("0", "+0", "-0"):
        return 0
    found = _INTEGER.fullmatch(source)
    if found is None:
        return None
    sign, prefix, digits = found.groups()
    base = _BASES[(prefix or "").lower()]
    if digits[0] == "_" and not prefix:
        return None
    try:
        value = int(sign + digits.replace("_", ""), base)
    except ValueError:
        return None
    return value if INT64_MIN <= value <= INT64_MAX else None


def to_int(where: str, value: object) -> int:
    """What Sprig's `toInt64` makes of a value: text that is no integer counts as 0."""
    if isinstance(value, bool) or value is None:
        return int(bool(value))
    if isinstance(value, int):
        return int64(where, value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise FunctionError(f"{where}: {value} is no integer")
        return int64(where, int(value))
    if isinstance(value, str):
        whole, point, rest = value.partition(".")
        if point and rest and not rest.strip("0"):
            value = whole
        return parse_int(value) or 0
    raise FunctionError(f"{where}: wants a number, got {describe(value)}")


def to_float(where: str, value: object) -> float:
    """What Sprig's `toFloat64` makes of a value: text that is no number counts as 0."""
    if isinstance(value, bool) or value is None:
        return float(bool(value))
    if isinstance(value, str):
        value = number(re.sub(r"(?<=[0-9])_(?=[0-9])", "", value)) or 0
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            raise FunctionError(f"{where}: the number is too large for a float") from None
    raise FunctionError(f"{where}: wants a number, got {describe(value)}")


def finite(where: str, value: float) -> float:
    if math.isfinite(value):
        return value
    raise FunctionError(f"{where}: the result is not a finite number")


def _exact(
    where: str, values: tuple[object, ...], step: Callable[[Decimal, Decimal], Decimal]
) -> float:
    """Sprig computes floats as decimals, so that 0.1 + 0.2 is 0.3."""
    numbers = [finite(where, to_float(where, value)) for value in values]
    with localcontext() as context:
        context.prec = 700
        try:
            total = Decimal(repr(numbers[0]))
            for operand in numbers[1:]:
                total = step(total, Decimal(repr(operand)))
            return finite(where, float(total) + 0.0)  # a decimal of Go has no negative zero
        except (DecimalException, OverflowError):
            raise FunctionError(f"{where}: the result is not a finite number") from None


def _divided(a: Decimal, b: Decimal) -> Decimal:
    if not b:
        raise FunctionError("divf: division by zero")
    from fractions import Fraction

    # Decimals of Go carry 16 places through a division, rounded half away from zero.
    scaled = Fraction(a) / Fraction(b) * 10**16
    whole = math.floor(abs(scaled) + Fraction(1, 2))
    return Decimal(-whole if scaled < 0 else whole).scaleb(-16)


def _has_float(values: tuple[object, ...]) -> bool:
    return any(isinstance(value, float) for value in values)


def add(*values: object) -> int | float:
    """The sum; a float when an operand is one."""
    if _has_float(values):
        return _exact("add", values, lambda a, b: a + b)
    return int64("add", sum(to_int("add", value) for value in values))


def add1(value: object) -> int:
    return int64("add1", to_int("add1", value) + 1)


def sub(a: object, b: object) -> int:
    return int64("sub", to_int("sub", a) - to_int("sub", b))


def mul(*values: object) -> int | float:
    """The product; a float when an operand is one."""
    if _has_float(values):
        return _exact("mul", values, lambda a, b: a * b)
    product = 1
    for value in values:
        product = int64("mul", product * to_int("mul", value))
    return product


def div(a: object, b: object) -> int:
    """The quotient of integers, towards zero."""
    over, under = to_int("div", a), to_int("div", b)
    if under == 0:
        raise FunctionError("div: division by zero")
    quotient = abs(over) // abs(under)
    return int64("div", quotient if (over < 0) == (under < 0) else -quotient)


def mod(a: object, b: object) -> int:
    """The remainder, with the sign of the dividend."""
    over, under = to_int("mod", a), to_int("mod", b)
    if under == 0:
        raise FunctionError("mod: division by zero")
    return abs(over) % abs(under) * (-1 if over < 0 else 1)


def add1f(value: object) -> float:
    return _exact("add1f", (value, 1), lambda a, b: a + b)


def addf(*values: object) -> float:
    return _exact("addf", (0, *values), lambda a, b: a + b)


def subf(*values: object) -> float:
    return _exact("subf", values, lambda a, b: a - b)


def mulf(*values: object) -> float:
    return _exact("mulf", values, lambda a, b: a * b)


def divf(*values: object) -> float:
    return _exact("divf", values, _divided)


def _extreme(where: str, pick: Callable[[Any], Any], values: tuple[object, ...]) -> object:
    if len(values) == 1 and isinstance(values[0], list):
        # On a list: its elements as they are, nulls skipped; null when there is none.
        elements = [e for e in values[0] if e is not None]
        for element in elements:
            if number(element) is None:
                raise FunctionError(f"{where}: wants a list of numbers, found {describe(element)}")
        numbers = [number(element) for element in elements]
        return pick(numbers) if numbers else None
    return pick([to_int(where, value) for value in values])


def max_(*values: object) -> object:
    """The largest as an integer (Sprig), or the largest element of one list."""
    return _extreme("max", max, values)


def min_(*values: object) -> object:
    """The smallest as an integer (Sprig), or the smallest element of one list."""
    return _extreme("min", min, values)


def maxf(*values: object) -> float:
    return max(to_float("maxf", value) for value in values)


def minf(*values: object) -> float:
    return min(to_float("minf", value) for value in values)


def floor(value: object) -> float:
    return _rounded("floor", math.floor, value)


def ceil(value: object) -> float:
    return _rounded("ceil", math.ceil, value)


def _rounded(where: str, towards: Callable[[float], int], value: object) -> float:
    given = finite(where, to_float(where, value))
    return math.copysign(float(towards(given)), given)


def round_(value: object, places: object = 0, up_from: object = 0.5) -> float:
    """To so many decimal places; a fraction from `up_from` on goes up (Sprig's arithmetic)."""
    given = finite("round", to_float("round", value))
    digits = integer("round", places, "an integer number of places")
    if not -300 <= digits <= 300:
        raise FunctionError(f"round: cannot round to {digits} places")
    power = math.pow(10, digits)
    shifted = finite("round", power * given)
    up = math.modf(shifted)[0] >= to_float("round", up_from)
    return finite("round", float(math.ceil(shifted) if up else math.floor(shifted)) / power)


def until(count: object) -> list[Any]:
    """0 to before `count`; downwards if it is negative."""
    stop = integer("until", count, "an integer count")
    return _steps("until", 0, stop, -1 if stop < 0 else 1)


def until_step(start: object, stop: object, step: object) -> list[Any]:
    return _steps(
        "untilStep",
        integer("untilStep", start),
        integer("untilStep", stop),
        integer("untilStep", step),
    )


def _steps(where: str, start: int, stop: int, step: int) -> list[Any]:
    if step == 0 or (stop < start) != (step < 0):
        return []
    steps = range(start, stop, step)
    # len() itself overflows on the longest ranges.
    if abs(stop - start) // abs(step) > MAX_ITEMS or len(steps) > MAX_ITEMS:
        raise FunctionError(f"{where}: the result has more than {MAX_ITEMS:,} elements")
    return list(steps)


def seq(*values: object) -> str:
    """Numbers as text like `seq` of the shell: `[first [step]] last`, the last included."""
    numbers = [integer("seq", value) for value in values]
    match numbers:
        case [last]:
            start, step = 1, -1 if last < 1 else 1
            onward = step
        case [start, last]:
            step = onward = -1 if last < start else 1
        case [start, step, last]:
            onward = -1 if last < start else 1
            if onward < 0 < step:
                return ""
        case _:
            return ""
    return " ".join(map(str, _steps("seq", start, last + onward, step)))


NUMBERS: tuple[Function, ...] = (
    Function("add", add, 0, None),
    Function("add1", add1, 1, 1),
    Function("sub", sub, 2, 2),
    Function("mul", mul, 1, None),
    Function("div", div, 2, 2),
    Function("mod", mod, 2, 2),
    Function("add1f", add1f, 1, 1),
    Function("addf", addf, 0, None),
    Function("subf", subf, 1, None),
    Function("mulf", mulf, 1, None),
    Function("divf", divf, 1, None),
    Function("max", max_, 1, None),
    Function("min", min_, 1, None),
    Function("biggest", max_, 1, None),
    Function("maxf", maxf, 1, None),
    Function("minf", minf, 1, None),
    Function("floor", floor, 1, 1),
    Function("ceil", ceil, 1, 1),
    Function("round", round_, 1, 3, in_parentheses=0),
    Function("until", until, 1, 1),
    Function("untilStep", until_step, 3, 3),
    Function("seq", seq, 0, None),
)
