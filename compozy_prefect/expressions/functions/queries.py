"""The language's own functions on lists: `map`, `filter`, `sort`, `sum` ... (language.md §11.6).

In: a list first, or piped; null counts as an empty list. Out: new lists, or one number.
Elements are reached by dotted keys: `map .rows 'user.name'`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cmp_to_key
from typing import Any

from compozy_prefect.expressions.functions.contract import (
    Function,
    FunctionError,
    Made,
    bounded_list,
    describe,
    integer,
    text,
)
from compozy_prefect.expressions.functions.lists import identified, uniq
from compozy_prefect.expressions.functions.values import (
    compare,
    equal,
    number,
    same,
    to_text,
    truth,
)

MAX_PATH = 1000
"""Characters of a dotted key; it is taken apart for every element."""

_KEYWORDS = frozenset({"attr"})


def _listed(where: str, value: object) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise FunctionError(f"{where}: wants a list, got {describe(value)}")


def _subject(where: str, args: tuple[object, ...]) -> tuple[list[Any], list[object]]:
    """The list and the other arguments; the list may stand first or last."""
    if isinstance(args[0], list) or args[0] is None or not isinstance(args[-1], list):
        return _listed(where, args[0]), list(args[1:])
    return args[-1], list(args[:-1])


def reached(element: object, path: str) -> object:
    """The value at a dotted key of an element; null where a step is missing."""
    if isinstance(element, dict) and path in element:
        return element[path]
    if len(path) > MAX_PATH:
        raise FunctionError(f"a dotted key has at most {MAX_PATH:,} characters, not {len(path):,}")
    for step in path.split("."):
        if isinstance(element, dict):
            element = element.get(step)
        elif isinstance(element, list) and step.isascii() and step.isdigit():
            at = int(step[:9])
            element = element[at] if at < len(element) else None
        else:
            return None
    return element


def map_(*args: object, attr: object = None) -> list[Any]:
    """The value at the dotted key of each element."""
    source, rest = _subject("map", args)
    key = text("map", rest[0] if rest else attr, "the key to take from each element")
    return [reached(element, key) for element in source]


def _contains(a: object, b: object) -> bool:
    if isinstance(a, str):
        return to_text(b) in a
    if isinstance(a, dict):
        return isinstance(b, str) and b in a
    return isinstance(a, list) and any(equal(e, b) or same(e, b) for e in a)


def _ordered(test: Callable[[int], bool]) -> Callable[[object, object], bool]:
    def operator(a: object, b: object) -> bool:
        order = compare(a, b, "filter")
        return order is not None and test(order)

    return operator


def _equal(a: object, b: object) -> bool:
    return equal(a, b) or same(a, b)


_OPERATORS: dict[str, Callable[[object, object], bool]] = {
    "eq": _equal,
    "ne": lambda a, b: not _equal(a, b),
    "gt": _ordered(lambda order: order > 0),
    "ge": _ordered(lambda order: order >= 0),
    "lt": _ordered(lambda order: order < 0),
    "le": _ordered(lambda order: order <= 0),
    "in": lambda a, b: _contains(b, a),
    "contains": _contains,
}
_OPERATORS |= {
    "==": _OPERATORS["eq"],
    "equalto": _OPERATORS["eq"],
    "!=": _OPERATORS["ne"],
    ">": _OPERATORS["gt"],
    ">=": _OPERATORS["ge"],
    "gte": _OPERATORS["ge"],
    "<": _OPERATORS["lt"],
    "<=": _OPERATORS["le"],
    "lte": _OPERATORS["le"],
}


def _kept(where: str, args: tuple[object, ...], keep: bool) -> list[Any]:
    source, rest = _subject(where, args)
    if not rest:
        return [element for element in source if truth(element) is keep]
    key = text(where, rest[0], "the key to test in each element")
    if len(rest) == 1:
        return [element for element in source if truth(reached(element, key)) is keep]
    name = "eq" if len(rest) == 2 else rest[1]
    test = _OPERATORS.get(name) if isinstance(name, str) else None
    if test is None:
        known = "eq ne gt ge lt le in contains"
        raise FunctionError(f"{where}: no operator {describe(name)}; there are {known}")
    wanted = rest[-1]
    return [element for element in source if test(reached(element, key), wanted) is keep]


def filter_(*args: object) -> list[Any]:
    """The elements whose key has the value, or passes the operator: `filter .l 'n' 'gt' 3`."""
    return _kept("filter", args, keep=True)


def selectattr(*args: object) -> list[Any]:
    """Jinja's name for `filter`; with a key alone, the elements where it is true."""
    return _kept("selectattr", args, keep=True)


def rejectattr(*args: object) -> list[Any]:
    return _kept("rejectattr", args, keep=False)


def _rank(value: object) -> int:
    """Nulls last, then kinds in a fixed order, so that any list can be sorted."""
    if value is None:
        return 9
    if isinstance(value, bool):
        return 0
    return 1 if isinstance(value, (int, float)) else 2 if isinstance(value, str) else 3


def _order(a: object, b: object) -> int:
    first, second = _rank(a), _rank(b)
    if first != second:
        return first - second
    if isinstance(a, bool) and isinstance(b, bool):
        return int(a) - int(b)
    if first == 3:
        a, b = to_text(a), to_text(b)
    return compare(a, b, "sort") or 0


def sort(*args: object) -> list[Any]:
    """In ascending order, by a dotted key if one is given; `'desc'` turns it around."""
    source, rest = _subject("sort", args)
    words = [text("sort", word, "a key or a direction") for word in rest]
    descending = bool(words) and words[-1].lower() in ("desc", "descending")
    if descending or (words and words[-1].lower() in ("asc", "ascending")):
        words.pop()
    if len(words) > 1:
        raise FunctionError(f"sort: wants 'asc' or 'desc' after the key, got {describe(words[1])}")

    def key(element: object) -> object:
        return reached(element, words[0]) if words else element

    # Nulls stay last either way.
    known = [element for element in source if key(element) is not None]
    unknown = [element for element in source if key(element) is None]
    by_order = cmp_to_key(_order)
    return sorted(known, key=lambda e: by_order(key(e)), reverse=descending) + unknown


def group(*args: object) -> dict[str, Any]:
    """The elements by the text of the value at a dotted key."""
    source, rest = _subject("group", args)
    if not rest:
        raise FunctionError("group: wants the key to group by")
    key = text("group", rest[0], "the key to group by")
    made = Made()
    for element in source:
        made.setdefault(to_text(reached(element, key)), []).append(element)
    return made


def unique(*args: object) -> list[Any]:
    """Without repetitions, by a dotted key if one is given."""
    source, rest = _subject("unique", args)
    if not rest:
        return uniq(source)
    key = text("unique", rest[0], "a key")
    seen: dict[tuple[str, Any], Any] = {}
    for element in source:
        seen.setdefault(identified(reached(element, key)), element)
    return list(seen.values())


def take(*args: object) -> object:
    """The first so many elements, or characters of a text."""
    a, b = args
    count, source = (b, a) if isinstance(a, (list, str)) or a is None else (a, b)
    size = max(integer("take", count, "an integer count"), 0)
    if isinstance(source, str):
        return source[:size]
    return _listed("take", source)[:size]


def flatten(value: object) -> list[Any]:
    """One level of nested lists less, without nulls."""
    made: list[Any] = []
    for element in _listed("flatten", value):
        made += element if isinstance(element, list) else [element]
        bounded_list("flatten", made)
    return [element for element in made if element is not None]


def _numbers(where: str, value: object) -> list[int | float]:
    made: list[int | float] = []
    for element in _listed(where, value):
        if element is None:
            continue
        found = number(element)
        if found is None:
            raise FunctionError(f"{where}: wants numbers, found {describe(element)}")
        made.append(found)
    return made


def _sum(where: str, numbers: list[int | float]) -> int | float:
    if all(isinstance(n, int) for n in numbers):
        return sum(numbers)
    try:
        total = math.fsum(numbers)
    except (OverflowError, ValueError):
        total = math.inf
    if not math.isfinite(total):
        raise FunctionError(f"{where}: the result is not a finite number")
    return total


def sum_(value: object) -> int | float:
    """The sum, an integer if all elements are; nulls are skipped, of nothing 0."""
    return _sum("sum", _numbers("sum", value))


def avg(value: object) -> float:
    """The mean; nulls are skipped, of nothing 0."""
    numbers = _numbers("avg", value)
    return _mean("avg", numbers) if numbers else 0.0


def _mean(where: str, numbers: list[int | float]) -> float:
    try:
        return _sum(where, numbers) / len(numbers)
    except OverflowError:
        raise FunctionError(f"{where}: the result is not a finite number") from None


def variance(value: object) -> float:
    """The mean squared distance from the mean (of a population); of nothing 0."""
    numbers = _numbers("variance", value)
    if not numbers:
        return 0.0
    mean = _mean("variance", numbers)
    try:
        return _mean("variance", [(n - mean) ** 2 for n in numbers])
    except OverflowError:
        raise FunctionError("variance: the result is not a finite number") from None


QUERIES: tuple[Function, ...] = (
    Function("map", map_, 1, 2, subject="first", keywords=_KEYWORDS),
    Function("filter", filter_, 1, 4, subject="first"),
    Function("selectattr", selectattr, 1, 4, subject="first"),
    Function("rejectattr", rejectattr, 1, 4, subject="first"),
    Function("sort", sort, 1, 3, subject="first"),
    Function("group", group, 1, 2, subject="first"),
    Function("unique", unique, 1, 2, subject="first"),
    Function("take", take, 2, 2, subject="first"),
    Function("flatten", flatten, 1, 1),
    Function("sum", sum_, 1, 1),
    Function("avg", avg, 1, 1),
    Function("variance", variance, 1, 1),
)
