"""Dates: `now`, `date`, `dateModify`, `ago`, `duration` ... with Go's layouts (Sprig).

In: aware datetimes, seconds since 1970, or RFC 3339 text. Out: datetimes in UTC, text. The local
zone is UTC on every machine; `now` is the moment at which the task's attempt began.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from compozy_prefect.expressions.functions.contract import (
    MAX_TEXT,
    Environment,
    Function,
    FunctionError,
    aliases,
    describe,
    int64,
    integer,
    text,
    too_long,
)
from compozy_prefect.expressions.functions.durations import duration_text, parse_duration
from compozy_prefect.expressions.functions.layouts import format_time, parse_time
from compozy_prefect.expressions.functions.values import number

ZERO = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time, which Sprig gives for a text that cannot be read."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}


def moment(where: str, value: object) -> datetime:
    """The argument as a time."""
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return _EPOCH + timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise FunctionError(f"{where}: {describe(value)} is out of range") from None
    if isinstance(value, str):
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            raise FunctionError(
                f"{where}: wants a time, got {describe(value)}; read other forms with toDate"
            ) from None
        return read if read.tzinfo is not None else read.replace(tzinfo=UTC)
    raise FunctionError(f"{where}: wants a time, got {describe(value)}")


@lru_cache(maxsize=64)
def zone(name: str) -> tzinfo:
    """A time zone by its IANA name; UTC for an unknown one, as in Sprig."""
    if name in ("", "UTC", "Local"):
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        return UTC


def _written(where: str, layout: object, time: object, place: tzinfo) -> str:
    pattern = text(where, layout, "a layout as text")
    if len(pattern) > MAX_TEXT // 8:
        raise too_long(where)
    try:
        local = moment(where, time).astimezone(place)
    except (OverflowError, ValueError):
        raise FunctionError(f"{where}: the time is out of range") from None
    return format_time(pattern, local)


def now(environment: Environment) -> datetime:
    return environment.now


def date(layout: object, time: object) -> str:
    """The time in UTC, written like the layout `2006-01-02 15:04:05`."""
    return _written("date", layout, time, UTC)


def date_in_zone(layout: object, time: object, place: object) -> str:
    return _written("dateInZone", layout, time, zone(text("dateInZone", place, "a zone as text")))


def html_date(time: object) -> str:
    return _written("htmlDate", "2006-01-02", time, UTC)


def html_date_in_zone(time: object, place: object) -> str:
    where = "htmlDateInZone"
    return _written(where, "2006-01-02", time, zone(text(where, place, "a zone as text")))


def _moved(where: str, time: datetime, nanoseconds: int) -> datetime:
    try:
        return time + timedelta(microseconds=nanoseconds // 1_000)
    except OverflowError:
        raise FunctionError(f"{where}: the time is out of range") from None


def date_modify(by: object, time: object) -> datetime:
    """The time moved by a duration such as `-1h30m`; unmoved if that is no duration (Sprig)."""
    at = moment("dateModify", time)
    step = parse_duration(text("dateModify", by, "a duration as text"))
    return at if step is None else _moved("dateModify", at, step)


def must_date_modify(by: object, time: object) -> datetime:
    step = parse_duration(text("mustDateModify", by, "a duration as text"))
    if step is None:
        raise FunctionError(f"mustDateModify: {describe(by)} is no duration such as -1h30m")
    return _moved("mustDateModify", moment("mustDateModify", time), step)


def date_add(*args: object) -> datetime:
    """The time moved by a duration, `dateAdd .t "24h"`, or by a number of days, hours ...

    The time may stand first or last: `.t | dateAdd "24h"`, `dateAdd .t 3 "days"`.
    """
    rest = list(args)
    first_is_step = isinstance(rest[0], str) and parse_duration(rest[0]) is not None
    if isinstance(rest[-1], datetime) or first_is_step or rest[0] in _unit_names():
        rest.insert(0, rest.pop())
    at = moment("dateAdd", rest[0])
    if len(rest) == 2:
        seconds = number(rest[1])
        step = parse_duration(rest[1]) if isinstance(rest[1], str) else None
        if step is None and seconds is not None:
            step = _nanoseconds(seconds, 1)
    else:
        count, unit = (rest[2], rest[1]) if isinstance(rest[1], str) else (rest[1], rest[2])
        size = _UNITS.get(unit.lower().removesuffix("s")) if isinstance(unit, str) else None
        amount = number(count)
        step = None if size is None or amount is None else _nanoseconds(amount, size)
    if step is None:
        wanted = 'wants a duration such as "24h", or a number and "days"'
        raise FunctionError(f"dateAdd: {wanted}, got {describe(rest[1])}")
    return _moved("dateAdd", at, step)


def _unit_names() -> tuple[str, ...]:
    return (*_UNITS, *(f"{unit}s" for unit in _UNITS))


def _nanoseconds(count: int | float, seconds: int) -> int | None:
    try:
        return int(count * seconds * 10**9)
    except (OverflowError, ValueError):
        return None


def ago(environment: Environment, time: object) -> str:
    """How long ago the time was, in whole seconds: `2h34m7s`."""
    passed = environment.now - moment("ago", time)
    seconds = passed / timedelta(seconds=1)
    whole = int(abs(seconds) + 0.5)
    return duration_text((whole if seconds >= 0 else -whole) * 10**9)


def duration(seconds: object) -> str:
    """Seconds, or their text, as a duration: `95` is `1m35s`."""
    if isinstance(seconds, str):
        count = number(seconds) if seconds.lstrip("+-").isdigit() else 0
        size = int(count or 0)
    else:
        size = integer("duration", seconds, "a number of seconds")
    return duration_text(int64("duration", size * 10**9))


def duration_round(environment: Environment, value: object) -> str:
    """The largest unit of a duration, or of the time since a moment: `2h10m` is `2h`."""
    if isinstance(value, datetime):
        length = (environment.now - moment("durationRound", value)) // timedelta(microseconds=1)
        length *= 1_000
    elif isinstance(value, str):
        length = parse_duration(value) or 0
    else:
        length = integer("durationRound", value, "a duration, nanoseconds or a time")
    length = abs(length)
    hour = 3_600 * 10**9
    for size, unit in (
        (hour * 24 * 365, "y"),
        (hour * 24 * 30, "mo"),
        (hour * 24, "d"),
        (hour, "h"),
        (60 * 10**9, "m"),
        (10**9, "s"),
    ):
        if length > size:
            return f"{length // size}{unit}"
    return "0s"


def unix_epoch(time: object) -> str:
    """Seconds since 1970, as text."""
    return str((moment("unixEpoch", time) - _EPOCH) // timedelta(seconds=1))


def must_to_date(layout: object, value: object) -> datetime:
    """The time that the text means by the layout."""
    pattern = text("mustToDate", layout, "a layout as text")
    source = text("mustToDate", value, "a date as text")
    try:
        return parse_time(pattern, source)
    except (ValueError, OverflowError) as error:
        raise FunctionError(f"mustToDate: {error}") from None


def to_date(layout: object, value: object) -> datetime:
    """The time that the text means by the layout; the year 1 if it cannot be read (Sprig)."""
    text("toDate", layout, "a layout as text")
    text("toDate", value, "a date as text")
    try:
        return must_to_date(layout, value)
    except FunctionError:
        return ZERO


DATES: tuple[Function, ...] = (
    Function("now", now, 0, 0, environment=True),
    Function("date", date, 2, 2),
    *aliases(Function("dateInZone", date_in_zone, 3, 3, in_parentheses=1), "date_in_zone"),
    *aliases(Function("dateModify", date_modify, 2, 2), "date_modify"),
    *aliases(Function("mustDateModify", must_date_modify, 2, 2), "must_date_modify"),
    Function("dateAdd", date_add, 2, 3),
    Function("ago", ago, 1, 1, environment=True),
    Function("duration", duration, 1, 1),
    Function("durationRound", duration_round, 1, 1, environment=True),
    Function("unixEpoch", unix_epoch, 1, 1),
    Function("toDate", to_date, 2, 2),
    Function("mustToDate", must_to_date, 2, 2),
    Function("htmlDate", html_date, 1, 1),
    Function("htmlDateInZone", html_date_in_zone, 2, 2, in_parentheses=0),
)
