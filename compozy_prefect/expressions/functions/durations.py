"""Durations as Go writes them: `1h15m30.5s`.

In: text. Out: integer nanoseconds, and back.
"""

from __future__ import annotations

import re

from compozy_prefect.expressions.functions.contract import INT64_MAX, INT64_MIN

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3_600 * 10**9,
}
# Compiled when first used, as most patterns here: the package has to import quickly.
_PART = r"([0-9]{0,40})(?:\.([0-9]{0,40}))?(ns|us|µs|μs|ms|s|m|h)"


def parse_duration(source: str) -> int | None:
    """Nanoseconds, or None if the text is no duration that fits into 64 bits."""
    sign, body = 1, source
    if body[:1] in ("+", "-"):
        sign, body = (-1 if body[0] == "-" else 1), body[1:]
    if body == "0":
        return 0
    total, at, pattern = 0, 0, re.compile(_PART)
    while at < len(body):
        found = pattern.match(body, at)
        if found is None or not (found[1] or found[2]):
            return None
        whole, fraction, size = found[1] or "0", found[2] or "", _NANOSECONDS[found[3]]
        total += int(whole) * size + int(fraction or "0") * size // 10 ** len(fraction)
        at = found.end()
    total *= sign
    return total if body and INT64_MIN <= total <= INT64_MAX else None


def duration_text(nanoseconds: int) -> str:
    """Go's `Duration.String()`."""
    if nanoseconds == 0:
        return "0s"
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left < 10**9:
        unit, size = next((u, s) for u, s in (("ms", 10**6), ("µs", 10**3), ("ns", 1)) if left >= s)
        return f"{sign}{_decimal(left, size)}{unit}"
    minutes, rest = divmod(left, 60 * 10**9)
    seconds = f"{_decimal(rest, 10**9)}s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else sign + seconds


def _decimal(value: int, size: int) -> str:
    whole, rest = divmod(value, size)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).zfill(len(str(size)) - 1).rstrip('0')}"
