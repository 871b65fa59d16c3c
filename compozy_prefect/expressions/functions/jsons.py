"""JSON: from text to values and back.

In: JSON text or any value. Out: values or JSON text as Go writes it (keys sorted, no spaces).
"""

from __future__ import annotations

import json
from math import isfinite

from compozy_prefect.expressions.functions.contract import (
    INT64_MAX,
    INT64_MIN,
    Function,
    FunctionError,
    aliases,
    text,
)
from compozy_prefect.expressions.functions.values import json_text


def _int(digits: str) -> int | float:
    # Go would read every number as a float; ours stay integers as long as they are ones.
    value = int(digits) if len(digits) <= 20 else None
    return value if value is not None and INT64_MIN <= value <= INT64_MAX else _float(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not isfinite(value):
        raise ValueError(f"number out of range: {digits[:20]}")
    return value


def _constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def must_from_json(value: object) -> object:
    """The value that the JSON text stands for."""
    source = text("mustFromJson", value, "JSON text")
    try:
        return json.loads(source, parse_int=_int, parse_float=_float, parse_constant=_constant)
    except RecursionError:
        raise FunctionError("mustFromJson: the text nests too deeply") from None
    except ValueError as error:
        raise FunctionError(f"mustFromJson: no valid JSON: {error}") from None


def from_json(value: object) -> object:
    """The value that the JSON text stands for, or null if it is not valid."""
    source = text("fromJson", value, "JSON text")
    try:
        return must_from_json(source)
    except FunctionError:
        return None


def to_json(value: object) -> str:
    """Compact JSON, with `<`, `>` and `&` escaped."""
    return json_text("toJson", value)


def to_raw_json(value: object) -> str:
    """Compact JSON, nothing escaped that need not be."""
    return json_text("toRawJson", value, html=False)


def to_pretty_json(value: object) -> str:
    """JSON on many lines, indented by two."""
    return json_text("toPrettyJson", value, indent="  ")


JSONS: tuple[Function, ...] = (
    Function("fromJson", from_json, 1, 1),
    Function("mustFromJson", must_from_json, 1, 1),
    *aliases(Function("toJson", to_json, 1, 1, json_text=True), "mustToJson"),
    *aliases(Function("toRawJson", to_raw_json, 1, 1, json_text=True), "mustToRawJson"),
    *aliases(Function("toPrettyJson", to_pretty_json, 1, 1, json_text=True), "mustToPrettyJson"),
)
