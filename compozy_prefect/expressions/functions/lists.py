"""Lists: making, cutting, joining, searching (Go's `index`, Sprig's lists and string lists).

In: lists, which are never changed. Out: new lists, elements, text.
"""

from __future__ import annotations

from typing import Any

from compozy_prefect.expressions.functions.contract import (
    MAX_ITEMS,
    Function,
    FunctionError,
    aliases,
    bounded_list,
    describe,
    integer,
    items,
    joined,
    octets,
    text,
)
from compozy_prefect.expressions.functions.gofmt import go_text
from compozy_prefect.expressions.functions.values import json_text, same, truth


def list_(*values: object) -> list[Any]:
    return list(values)


def index(collection: object, *keys: object) -> object:
    """Go's `index`: by number in a list, by key in a map, where a missing key is null."""
    for key in keys:
        if isinstance(collection, dict):
            if not isinstance(key, (str, int)) and key is not None:
                raise FunctionError(f"index: {describe(key)} is no key of a map")
            collection = collection.get(key)
        elif isinstance(collection, (list, str)):
            sequence = octets(collection) if isinstance(collection, str) else collection
            if isinstance(key, float) or key is None:
                raise FunctionError(f"index: cannot index a list with {describe(key)}")
            at = integer("index", key, "an integer index")
            if not 0 <= at < len(sequence):
                raise FunctionError(f"index: {at} is out of range, there are {len(sequence)}")
            collection = sequence[at]
        else:
            raise FunctionError(f"index: cannot look into {describe(collection)}")
    return collection


def first(value: object) -> object:
    return next(iter(items("first", value)), None)


def last(value: object) -> object:
    source = items("last", value)
    return source[-1] if source else None


def rest(value: object) -> list[Any]:
    return items("rest", value)[1:]


def initial(value: object) -> list[Any]:
    return items("initial", value)[:-1]


def append(value: object, *elements: object) -> list[Any]:
    return bounded_list("append", [*items("append", value), *elements])


def prepend(value: object, element: object) -> list[Any]:
    return bounded_list("prepend", [element, *items("prepend", value)])


def concat(*values: object) -> list[Any]:
    parts = [items("concat", value) for value in values]
    if sum(map(len, parts)) > MAX_ITEMS:
        raise FunctionError(f"concat: the result has more than {MAX_ITEMS:,} elements")
    return [element for part in parts for element in part]


def reverse(value: object) -> list[Any]:
    return items("reverse", value)[::-1]


def uniq(value: object) -> list[Any]:
    """Without repetitions; the first of equal elements stays."""
    seen: set[tuple[str, Any]] = set()
    made: list[Any] = []
    for element in items("uniq", value):
        if (identity := identified(element)) not in seen:
            seen.add(identity)
            made.append(element)
    return made


def identified(element: object) -> tuple[str, Any]:
    """Something to hash that is equal for the elements that `same` calls the same."""
    if isinstance(element, (int, float)) and not isinstance(element, bool):
        return "number", element
    if isinstance(element, (list, dict)):
        return "data", json_text("uniq", element, html=False)
    return type(element).__name__, element


def _among(needle: object, haystack: list[Any]) -> bool:
    return any(same(needle, element) for element in haystack)


def without(value: object, *unwanted: object) -> list[Any]:
    gone = list(unwanted)
    return [element for element in items("without", value) if not _among(element, gone)]


def has(needle: object, haystack: object) -> bool:
    """Whether the list has the element."""
    return haystack is not None and _among(needle, items("has", haystack))


def compact(value: object) -> list[Any]:
    """Without empty elements."""
    return [element for element in items("compact", value) if truth(element)]


def slice_(value: object, start: object = 0, end: object = None) -> object:
    """Elements, or characters of a text, from `start` to before `end`; both are clamped."""
    if value is None:
        return []
    if not isinstance(value, (list, str)):
        raise FunctionError(f"slice: wants a list or text, got {describe(value)}")
    low = max(integer("slice", start), 0)
    high = len(value) if end is None else max(integer("slice", end), 0)
    return value[low:high]


def chunk(size: object, value: object) -> list[Any]:
    """Lists of `size` elements; the last may be shorter."""
    step, source = integer("chunk", size, "an integer size"), items("chunk", value)
    if step < 1:
        raise FunctionError(f"chunk: wants a size of at least 1, got {step}")
    return [source[at : at + step] for at in range(0, len(source), step)]


def to_strings(value: object) -> list[Any]:
    """Each element as text; nulls are left out."""
    if value is None:
        return []
    if isinstance(value, list):
        return [go_text(element) for element in value if element is not None]
    return [go_text(value)]


def join(separator: object, value: object) -> str:
    """The elements as text with the separator between; nulls are left out."""
    return joined("join", text("join", separator, "a text as separator"), to_strings(value))


def sort_alpha(value: object) -> list[Any]:
    """The elements as text, in the order of their bytes."""
    return sorted(to_strings(value))


def split_list(separator: object, value: object) -> list[Any]:
    return _split("splitList", text("splitList", separator), text("splitList", value), -1)


def split(separator: object, value: object) -> dict[str, Any]:
    """The parts as a map `_0`, `_1` ..."""
    parts = _split("split", text("split", separator), text("split", value), -1)
    return {f"_{n}": part for n, part in enumerate(parts)}


def splitn(separator: object, count: object, value: object) -> dict[str, Any]:
    """At most `count` parts as a map `_0`, `_1` ...; the last holds the rest."""
    limit = integer("splitn", count, "an integer count")
    parts = _split("splitn", text("splitn", separator), text("splitn", value), limit)
    return {f"_{n}": part for n, part in enumerate(parts)}


def _split(where: str, separator: str, source: str, limit: int) -> list[Any]:
    if limit == 0:
        return []
    if separator:
        if source.count(separator) >= MAX_ITEMS and not 0 < limit <= MAX_ITEMS:
            raise FunctionError(f"{where}: the result has more than {MAX_ITEMS:,} elements")
        return list(source.split(separator, limit - 1 if limit > 0 else -1))
    if len(source) > MAX_ITEMS and not 0 < limit <= MAX_ITEMS:
        raise FunctionError(f"{where}: the result has more than {MAX_ITEMS:,} elements")
    if limit < 0 or limit >= len(source):
        return list(source)
    return [*source[: limit - 1], source[limit - 1 :]]


LISTS: tuple[Function, ...] = (
    *aliases(Function("list", list_, 0, None), "tuple"),
    Function("index", index, 1, None, subject="collection"),
    *aliases(Function("first", first, 1, 1), "mustFirst"),
    *aliases(Function("last", last, 1, 1), "mustLast"),
    *aliases(Function("rest", rest, 1, 1), "mustRest"),
    *aliases(Function("initial", initial, 1, 1), "mustInitial"),
    *aliases(
        Function("append", append, 2, None, subject="collection"), "mustAppend", "push", "mustPush"
    ),
    *aliases(Function("prepend", prepend, 2, 2, subject="collection"), "mustPrepend"),
    Function("concat", concat, 0, None),
    *aliases(Function("reverse", reverse, 1, 1), "mustReverse"),
    *aliases(Function("uniq", uniq, 1, 1), "mustUniq"),
    *aliases(Function("without", without, 1, None, subject="collection"), "mustWithout"),
    *aliases(Function("has", has, 2, 2), "mustHas"),
    *aliases(Function("compact", compact, 1, 1), "mustCompact"),
    *aliases(Function("slice", slice_, 1, 3, subject="collection"), "mustSlice"),
    *aliases(Function("chunk", chunk, 2, 2), "mustChunk"),
    Function("toStrings", to_strings, 1, 1),
    Function("join", join, 2, 2),
    Function("sortAlpha", sort_alpha, 1, 1),
    Function("splitList", split_list, 2, 2),
    Function("split", split, 2, 2),
    Function("splitn", splitn, 3, 3),
)
