"""Values: their text, truth and order (language.md §11.1 rule 4, §11.4).

In: any template value. Out: text, truth, equality, order. Every walk is bounded in depth and size.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from json.encoder import encode_basestring as _quote_json
from math import isfinite
from typing import Any

from compozy_prefect.expressions.functions.contract import (
    MAX_DEPTH,
    MAX_NODES,
    MAX_TEXT,
    FunctionError,
    describe,
    too_long,
)

TOO_MANY_DIGITS = "an integer has more digits than can be printed"

_NUMBER = re.compile(r"[+-]?(?:\d{1,400}\.?\d{0,400}|\.\d{1,400})(?:[eE][+-]?\d{1,5})?", re.ASCII)


class Version(dict[str, Any]):
    """A semantic version: a map of its parts that prints as the version."""

    __slots__ = ()

    def __str__(self) -> str:
        pre = f"-{self['Prerelease']}" if self["Prerelease"] else ""
        meta = f"+{self['Metadata']}" if self["Metadata"] else ""
        return f"{self['Major']}.{self['Minor']}.{self['Patch']}{pre}{meta}"


class Transcript(list[dict[str, str]]):
    """The messages of a conversation, a list that prints as what was said (§4.4)."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(f"{message['role']}: {message['content']}" for message in self)


def to_text(value: object) -> str:
    """The value inside text (§11.4, Stringification)."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int_text(value)
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, (Version, Transcript)):
        return str(value)
    if isinstance(value, dict) and len(value) == 1:
        # The answer in words of an agent: {"response": "..."}.
        response = value.get("response")
        if isinstance(response, str):
            return response
    return json_text("text", value, html=False)


def int_text(value: int) -> str:
    try:
        return str(value)
    except ValueError:
        raise FunctionError(TOO_MANY_DIGITS) from None


def float_text(value: float) -> str:
    """The shortest digits that read back the same; an exponent below 1e-6 and from 1e21 on."""
    if value == 0:
        return "-0" if str(value)[0] == "-" else "0"
    if not isfinite(value):
        return "NaN" if value != value else ("+Inf" if value > 0 else "-Inf")
    shortest = repr(value)
    if "e" not in shortest:
        return shortest.removesuffix(".0")
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(shortest), "f")
    mantissa, _, exponent = shortest.partition("e")
    sign = exponent[0] if exponent[0] in "+-" else "+"
    return f"{mantissa}e{sign}{exponent.lstrip('+-').lstrip('0')}"


def time_text(value: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    try:
        moment = value.astimezone(UTC)
    except (OverflowError, ValueError):  # the first and last day that Python knows
        moment = value.replace(tzinfo=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}".rjust(20, "0")


def json_text(where: str, value: object, *, html: bool = True, indent: str = "") -> str:
    """Compact JSON as Go writes it: sorted keys, integral floats without `.0`.

    `html` escapes `<`, `>` and `&`, as Go does unless told otherwise; `indent` makes it pretty.
    """
    parts: list[str] = []
    left = MAX_TEXT

    def string(value: str) -> str:
        quoted = _quote_json(value)
        if not quoted.isascii():
            quoted = quoted.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
            quoted = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in quoted)
        if html:
            quoted = quoted.replace("<", "\\u003c").replace(">", "\\u003e")
            quoted = quoted.replace("&", "\\u0026")
        return quoted

    def put(part: str) -> None:
        nonlocal left
        left -= len(part)
        if left < 0:
            raise too_long(where)
        parts.append(part)

    def write(value: object, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise too_deep(where)
        if isinstance(value, str):
            put(string(value))
        elif value is None:
            put("null")
        elif isinstance(value, bool):
            put("true" if value else "false")
        elif isinstance(value, int):
            put(int_text(value))
        elif isinstance(value, float):
            if not isfinite(value):
                raise FunctionError(f"{where}: {float_text(value)} has no JSON")
            put(float_text(value))
        elif isinstance(value, (list, tuple)):
            if not value:
                put("[]")
                return
            inner = f"\n{indent * (depth + 1)}" if indent else ""
            put("[" + inner)
            for n, element in enumerate(value):
                if n:
                    put("," + inner)
                write(element, depth + 1)
            put(f"\n{indent * depth}]" if indent else "]")
        elif isinstance(value, Version):
            put(string(str(value)))
        elif isinstance(value, dict):
            if not value:
                put("{}")
                return
            inner = f"\n{indent * (depth + 1)}" if indent else ""
            colon = ": " if indent else ":"
            put("{" + inner)
            for n, key in enumerate(sorted_keys(value)):
                if n:
                    put("," + inner)
                put(string(to_text(key)) + colon)
                write(value[key], depth + 1)
            put(f"\n{indent * depth}}}" if indent else "}")
        elif isinstance(value, datetime):
            put(string(time_text(value)))
        else:
            raise FunctionError(f"{where}: {describe(value)} has no JSON")

    write(value, 0)
    return "".join(parts)


def sorted_keys(value: dict[Any, Any]) -> list[Any]:
    """The keys in the order in which templates walk a map."""
    try:
        return sorted(value)
    except TypeError:  # YAML allows keys that are not text
        return sorted(value, key=lambda key: (type(key).__name__, str(key)))


def too_deep(where: str) -> FunctionError:
    return FunctionError(f"{where}: the value nests deeper than {MAX_DEPTH} levels")


def plain(value: object) -> object:
    """The value as plain JSON data: times become RFC 3339, versions text. A copy."""
    return copy("value", value, dict, time_text)


def copy(
    where: str,
    value: object,
    make: Callable[[], dict[Any, Any]],
    time: Callable[[datetime], object] | None = None,
) -> object:
    """A deep copy whose maps are made by `make`."""
    left = MAX_NODES

    def walk(value: object, depth: int) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise FunctionError(f"{where}: the value has more than {MAX_NODES:,} elements")
        if depth > MAX_DEPTH:
            raise too_deep(where)
        if isinstance(value, Version):
            return str(value) if time else Version(value)
        if isinstance(value, dict):
            made = make()
            for key, element in value.items():
                made[key] = walk(element, depth + 1)
            return made
        if isinstance(value, (list, tuple)):
            return [walk(element, depth + 1) for element in value]
        if time and isinstance(value, datetime):
            return time(value)
        return value

    return walk(value, 0)


def truth(value: object) -> bool:
    """Go's truth: false, 0, "", null, [] and {} are false."""
    return bool(value)


def number(value: object) -> int | float | None:
    """The value as a number, if it is one or a text that is one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value) if value.lstrip("+-").isdigit() else float(value)
    return None


def _pair(a: object, b: object) -> tuple[Any, Any] | None:
    """Both values as something that Python orders the way the language does, or None."""
    if isinstance(a, str) and isinstance(b, str):
        return a, b
    if isinstance(a, datetime) or isinstance(b, datetime):
        if isinstance(a, datetime) and isinstance(b, datetime):
            return a, b
        if isinstance(a, str) or isinstance(b, str):
            return to_text(a), to_text(b)
        return None
    if isinstance(a, Version) or isinstance(b, Version):
        return (to_text(a), to_text(b)) if isinstance(a, str) or isinstance(b, str) else None
    first, second = number(a), number(b)
    if first is None or second is None:
        return None
    return first, second


def equal(a: object, b: object) -> bool:
    """`==` of the language: lenient between numbers and their text, else false."""
    if a is None or b is None or isinstance(a, bool) or isinstance(b, bool):
        return a is b
    pair = _pair(a, b)
    return pair is not None and bool(pair[0] == pair[1])


def compare(a: object, b: object, where: str = "compare") -> int | None:
    """-1, 0 or 1; None when there is no order and `<`, `<=`, `>`, `>=` are all false (null)."""
    if a is None or b is None:
        return None
    pair = _pair(a, b)
    if pair is None:
        raise FunctionError(f"{where}: cannot order {describe(a)} and {describe(b)}")
    first, second = pair
    return -1 if first < second else 1 if first > second else 0 if first == second else None


def same(a: object, b: object) -> bool:
    """Deep equality, as `has` and `deepEqual` mean it: 1 and 1.0 are the same, 1 and "1" not."""
    left = MAX_NODES

    def walk(a: object, b: object, depth: int) -> bool:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise too_deep("comparison")
        if a is b:
            return True
        if isinstance(a, dict) and isinstance(b, dict):
            return a.keys() == b.keys() and all(walk(a[k], b[k], depth + 1) for k in a)
        if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
            if len(a) != len(b):
                return False
            return all(walk(x, y, depth + 1) for x, y in zip(a, b, strict=True))
        if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
            return a is b
        return a == b

    return walk(a, b, 0)
