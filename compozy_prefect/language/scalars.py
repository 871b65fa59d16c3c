"""The text of an unquoted scalar → the value it means, by the YAML 1.2 core schema.

`on`, `yes`, `12:30:45` and `2025-03-26` are text, `012` is twelve (language.md §0).
"""

from __future__ import annotations

import re

from compozy_prefect.language.nodes import Value

MAYBE_TYPED = frozenset("+-.0123456789~nNtTfF")
_CONSTANTS: dict[str, Value] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_MAX_DIGITS = 1000  # Python refuses to print longer ones; nothing sensible has them


def plain_value(text: str) -> Value:
    """What an unquoted scalar means. `ValueError`, saying why, for numbers JSON does not have."""
    if not text or text[0] in MAYBE_TYPED:
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                raise ValueError(f"a number of {len(text)} digits")
            base = {"0x": 16, "0o": 8}.get(text[:2], 10)
            return int(text, base)
        if _FLOAT.fullmatch(text):
            number = float(text) if len(text) <= _MAX_DIGITS else float("inf")
            if number in (float("inf"), float("-inf")):
                raise ValueError(f"the number {text[:40]} is too large")
            return number
        if _NO_NUMBER.fullmatch(text):
            raise ValueError(f"{text} is no number that JSON can hold")
    return text
