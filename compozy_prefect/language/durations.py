"""Durations (language.md §2.6): `1h30m`, `500ms`, `7d`, `30 seconds`, `0` → seconds."""

from __future__ import annotations

import re

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
_WORDS = {"second": "s", "minute": "m", "hour": "h", "day": "d", "week": "w", "millisecond": "ms"}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d|w)")
_ENGLISH = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+?)s?")
# No timer of the platforms we run on takes more, and Prefect stores durations in days.
_LONGEST = 100 * 365 * 86_400.0

_FORMS = "write `30s`, `1h30m`, `500ms`, `7d` or `5 minutes`"


def parse_duration(value: object) -> float:
    """Seconds of a duration. A bare number is seconds. Raises ValueError with a sentence."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"a duration is text or a number; {_FORMS}")
    if isinstance(value, (int, float)):
        seconds = float(value)
    else:
        seconds = _from_text(value.strip())
    if seconds < 0:
        raise ValueError(f"a duration cannot be negative: {value}")
    if not seconds <= _LONGEST:
        raise ValueError(f"the duration {value} is longer than 100 years")
    return seconds


def _from_text(text: str) -> float:
    lowered = text.lower()
    if lowered in ("", "0"):
        return 0.0
    if lowered.startswith("-"):
        raise ValueError(f"a duration cannot be negative: {text}")
    at, total = 0, 0.0
    while part := _PART.match(lowered, at):
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if at == len(lowered):
        return total
    english = _ENGLISH.fullmatch(lowered)
    if english and english[2] in _WORDS:
        return float(english[1]) * _UNITS[_WORDS[english[2]]]
    raise ValueError(f"`{text}` is no duration; {_FORMS}")
