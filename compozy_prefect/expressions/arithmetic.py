"""The operators `+ - * / %` on numbers (language.md §11.1, §3.6)."""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import fmod
from typing import Any


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _quotient(a: Any, b: Any) -> Any:
    """Integers divide to an integer, towards zero, as in CEL."""
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _remainder(a: Any, b: Any) -> Any:
    return a - b * _quotient(a, b) if isinstance(a, int) and isinstance(b, int) else fmod(a, b)


INT64 = 1 << 63
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _quotient,
    "%": _remainder,
}
