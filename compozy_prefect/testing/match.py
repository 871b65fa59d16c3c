"""What is expected and what was seen → where the two differ.

Keys of a map that nothing is expected of do not matter; the items of a list do, and their order.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from compozy_prefect.compiler.plan import Json
from compozy_prefect.expressions.functions.contract import FunctionError
from compozy_prefect.expressions.functions.regexes import must_regex_match
from compozy_prefect.runtime.outcome import same_json
from compozy_prefect.runtime.schemas import kind, shown
from compozy_prefect.testing.expect import Expected, Fields, Items, Rules, Same, data_of

NOTHING: Final = object()
"""Seen where there is nothing, not even null."""

_LINES = 30  # of a comparison
_MOST_ITEMS = 300  # of lists that are compared item by item
_WIDTH = 60  # characters of a long text that are shown around the first that differs
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as expected. `seen` may be NOTHING."""

    path: str
    expected: Expected
    seen: Any

    def said(self) -> str:
        """What was expected and what is there, in a line."""
        there = "nothing" if self.seen is NOTHING else shown(self.seen)
        return f"expected {_wanted(self.expected)}, saw {there}"

    def detail(self) -> list[str]:
        """The two beside each other where a line says too little: long texts, and lists."""
        expected, seen = self.expected, self.seen
        if isinstance(expected, Same) and isinstance(expected.value, str) and isinstance(seen, str):
            return _texts(expected.value, seen)
        if isinstance(expected, Items) and isinstance(seen, list):
            return _lists(expected.items, seen)
        return []


def differences(expected: Expected, seen: Any, at: str) -> Iterator[Difference]:
    """Where the value at `at` is not as expected; one for each of its parts that differs."""
    match expected:
        case Rules():
            if not all(_RULES[name](one, seen) for name, one in expected.rules.items()):
                yield Difference(at, expected, seen)
        case Fields() if isinstance(seen, dict):
            for key, value in expected.fields.items():
                yield from differences(value, seen.get(key, NOTHING), _inside(at, key))
        case Items() if isinstance(seen, list) and len(seen) == len(expected.items):
            for index, (item, other) in enumerate(zip(expected.items, seen, strict=True)):
                yield from differences(item, other, f"{at}[{index}]")
        case Same() if seen is not NOTHING and same_json(expected.value, seen):
            return
        case _:
            yield Difference(at, expected, seen)


def matches(expected: Expected, seen: Any) -> bool:
    return next(differences(expected, seen, ""), None) is None


def _inside(at: str, key: str) -> str:
    return f"{at}.{key}" if _PLAIN.fullmatch(key) else f"{at}[{shown(key)}]"


def _wanted(expected: Expected) -> str:
    if isinstance(expected, Rules) and "$absent" in expected.rules:
        return "nothing"
    return shown(data_of(expected))


# --- matchers -------------------------------------------------------------------------------------


def _of_type(names: tuple[str, ...], seen: Any) -> bool:
    if seen is NOTHING:
        return False
    found = {kind(seen)}
    if _is_number(seen):
        found |= {"number", "integer"} if seen == int(seen) else {"number"}
    return not found.isdisjoint(names)


def _is_number(seen: Any) -> bool:
    return kind(seen) in ("integer", "number")


def _matched(pattern: str, seen: Any) -> bool:
    try:
        return isinstance(seen, str) and must_regex_match(pattern, seen)
    except FunctionError:
        return False


def _contained(part: Expected, seen: Any) -> bool:
    """A text in a text, or an item of a list."""
    if isinstance(seen, str):
        return isinstance(part, Same) and isinstance(part.value, str) and part.value in seen
    return isinstance(seen, list) and any(matches(part, item) for item in seen)


def _long(length: Expected, seen: Any) -> bool:
    return isinstance(seen, (str, list, dict)) and matches(length, len(seen))


def _number(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda bound, seen: _is_number(seen) and holds(seen, bound)


_RULES: Mapping[str, Callable[[Any, Any], bool]] = {
    "$any": lambda _, seen: seen is not NOTHING,
    "$absent": lambda _, seen: seen is NOTHING,
    "$exact": lambda value, seen: seen is not NOTHING and same_json(value, seen),
    "$type": _of_type,
    "$matches": _matched,
    "$contains": _contained,
    "$length": _long,
    "$gt": _number(lambda seen, bound: bool(seen > bound)),
    "$gte": _number(lambda seen, bound: bool(seen >= bound)),
    "$lt": _number(lambda seen, bound: bool(seen < bound)),
    "$lte": _number(lambda seen, bound: bool(seen <= bound)),
    "$not": lambda other, seen: seen is not NOTHING and not matches(other, seen),
    "$one_of": lambda several, seen: any(matches(one, seen) for one in several),
}


# --- the two beside each other --------------------------------------------------------------------


def _texts(expected: str, seen: str) -> list[str]:
    if "\n" in expected or "\n" in seen:
        compared = difflib.ndiff(expected.splitlines(), seen.splitlines())
        return _cut([line.rstrip() for line in compared if line[:1] != "?"])
    if max(len(expected), len(seen)) <= _WIDTH // 2:
        return []
    pairs = zip(expected, seen, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(expected), len(seen)))
    start = max(0, first - _WIDTH // 2)
    before = "…" if start else ""
    lines = [before + text[start : start + _WIDTH] for text in (expected, seen)]
    return [f"- {lines[0]}", f"+ {lines[1]}", f"  {' ' * (len(before) + first - start)}^"]


def _lists(expected: Sequence[Expected], seen: list[Json]) -> list[str]:
    """The items that are missing (`-`) and those that are too many (`+`), by the fewest."""
    if len(expected) > _MOST_ITEMS or len(seen) > _MOST_ITEMS:
        return [f"  {len(expected)} items expected, {len(seen)} seen"]
    # longest[i][j]: how many items of expected[i:] and seen[j:] can be paired in their order.
    longest = [[0] * (len(seen) + 1) for _ in range(len(expected) + 1)]
    same = [[matches(one, other) for other in seen] for one in expected]
    for i in range(len(expected) - 1, -1, -1):
        for j in range(len(seen) - 1, -1, -1):
            without = max(longest[i + 1][j], longest[i][j + 1])
            longest[i][j] = max(without, 1 + longest[i + 1][j + 1] if same[i][j] else 0)
    out: list[str] = []
    i = j = 0
    while i < len(expected) or j < len(seen):
        if i < len(expected) and j < len(seen) and same[i][j]:
            out.append(f"  {shown(seen[j])}")
            i, j = i + 1, j + 1
        elif i < len(expected) and (j == len(seen) or longest[i + 1][j] >= longest[i][j + 1]):
            out.append(f"- {_wanted(expected[i])}")
            i += 1
        else:
            out.append(f"+ {shown(seen[j])}")
            j += 1
    return _cut(out)


def _cut(lines: list[str]) -> list[str]:
    """The lines around those that differ, and not too many of them."""
    near = {i for at, line in enumerate(lines) if line[:1] in "-+" for i in range(at - 2, at + 3)}
    out: list[str] = []
    for i, line in enumerate(lines):
        if i in near:
            out.append(line)
        elif out and out[-1] != "  …":
            out.append("  …")
    return out if len(out) <= _LINES else [*out[:_LINES], f"  … and {len(out) - _LINES} more lines"]
