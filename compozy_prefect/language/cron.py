"""When a workflow starts by itself (language.md §2.8): the text of `cron` → a set of moments.

Five fields are `minute hour day month weekday`, six have the second first, seven also the year
last; `@every <duration>` and `@daily` with its like are the other forms (§13 no. 54). What a field
means is what Go's robfig/cron v3 says, which the original parses with:

- A day counts when the day of the month *or* the weekday fits, if both are restricted. `*` and `?`
  do not restrict, and neither does `*/1`; `*/2` does, as any list or range, even one of all days.
- `5/15` means `5-59/15`. A step beyond the end leaves the first value.

Taken beyond it: 7 and `sun` at the end of a range are Sunday, and there is a year. A schedule that
can never fit a day (`0 0 30 2 *`) is refused, because Prefect answers it with errors for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from compozy_prefect.language.durations import parse_duration
from compozy_prefect.language.names import nearest

if TYPE_CHECKING:
    from datetime import datetime

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIRST_YEAR, LAST_YEAR = 1970, 3000
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# Files of a tz database that are no zones, or mean another time on another machine.
_NO_ZONES = ("localtime", "posixrules", "Factory", "posix/", "right/")


@dataclass(frozen=True, slots=True)
class Cron:
    """The moments of a cron text in the clock of some zone; each field is sorted, never empty.

    Sunday is weekday 0. A day fits when both `days` and `weekdays` have it, or, when neither of
    them is complete, one of them. `years` is None for all years.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    years: tuple[int, ...] | None = None

    @property
    def every_day(self) -> bool:
        return (len(self.days), len(self.months), len(self.weekdays)) == (31, 12, 7)


@dataclass(frozen=True, slots=True)
class Every:
    """A moment every so many seconds, counted from 1970-01-01T00:00:00Z."""

    seconds: int


def parse_cron(text: str, duration: Callable[[object], float] = parse_duration) -> Cron | Every:
    """The meaning of `cron`. `duration` gives the seconds of what follows `@every`.

    Raises ValueError with a sentence that says what is wrong and what would be right.
    """
    text = text.strip()
    head, _, rest = text.partition(" ")
    if head.lower() == "@every":
        return _every(rest.strip(), duration)
    if head.startswith("@"):
        if text.lower() not in MACROS:
            near = nearest(text, MACROS)
            right = (
                f"did you mean `{near}`?" if near else f"write {', '.join(MACROS)}, or @every 90s"
            )
            raise ValueError(f"`{text}` is no schedule; {right}")
        text = MACROS[text.lower()]
    if head.upper().startswith(("TZ=", "CRON_TZ=")):
        raise ValueError(f"`{head}` does not belong into `cron`; write the zone under `timezone`")
    fields = text.split()
    if not 5 <= len(fields) <= 7:
        raise ValueError(
            f"a cron text has 5 fields (minute hour day month weekday), 6 (the second first) or 7 "
            f"(the year last); this one has {len(fields)}"
        )
    return _cron(["0", *fields] if len(fields) == 5 else fields)


def check_timezone(name: str) -> None:
    """Raises ValueError when there is no such zone in the IANA database."""
    if name == "UTC":
        return
    from zoneinfo import ZoneInfo, available_timezones

    try:
        if name.startswith(_NO_ZONES):
            raise ValueError
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        near = nearest(name, sorted(available_timezones()))
        right = f"did you mean `{near}`?" if near else "write one such as `UTC` or `Europe/Berlin`"
        raise ValueError(f"`{name}` is no IANA time zone; {right}") from None


def parse_instant(text: str) -> datetime:
    """The moment of an RFC 3339 text, with its offset. Raises ValueError with a sentence."""
    from datetime import datetime

    if _RFC3339.fullmatch(text):
        try:
            # RFC 3339 allows any number of digits below the second; a schedule has no use for them.
            return datetime.fromisoformat(re.sub(r"\.\d+", "", text).upper())
        except ValueError as fault:
            raise ValueError(f"`{text}` is no time: {fault}") from None
    raise ValueError(
        f"`{text}` is no RFC 3339 time; write `2026-01-31T09:00:00Z` or `2026-01-31T09:00:00+02:00`"
    )


_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FIELDS = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
    _Field("year", FIRST_YEAR, LAST_YEAR),
)
_WEEKDAY = _FIELDS[5]


def _every(text: str, duration: Callable[[object], float]) -> Every:
    if not text:
        raise ValueError("`@every` says no duration; write `@every 90s`")
    seconds = duration(text)
    if seconds < 1 or seconds != int(seconds):
        raise ValueError(f"`@every {text}` is not a whole number of seconds; write `@every 1s`")
    return Every(int(seconds))


def _cron(texts: list[str]) -> Cron:
    read = [_values(text, field) for text, field in zip(texts, _FIELDS, strict=False)]
    (seconds, _), (minutes, _), (hours, _), days, (months, _), weekdays, *year = read
    years = None if not year or year[0].starred else tuple(sorted(year[0].values))
    fit, others = days.values, {value % 7 for value in weekdays.values}
    if not days.starred and not weekdays.starred and (len(fit) == 31 or len(others) == 7):
        fit, others = set(range(1, 32)), set(range(7))  # one of them or the other: any day
    if len(fit) < 31:
        longest = max(_longest(month, years) for month in months)
        fit = {day for day in fit if day <= longest}
        if not fit and (weekdays.starred or len(others) == 7):
            raise ValueError(
                f"no {_names(months)} has a day {texts[3]}, so it would never start; the last day "
                f"there is {longest}"
            )
        fit = fit or set(range(1, 32))  # only the weekdays can ever fit
    return Cron(
        seconds=_sorted(seconds),
        minutes=_sorted(minutes),
        hours=_sorted(hours),
        days=_sorted(fit),
        months=_sorted(months),
        weekdays=_sorted(others),
        years=years,
    )


def _sorted(values: set[int]) -> tuple[int, ...]:
    return tuple(sorted(values))


def _longest(month: int, years: tuple[int, ...] | None) -> int:
    """The last day that a month has in any of the years."""
    leap = years is None or any(y % 4 == 0 and (y % 100 or y % 400 == 0) for y in years)
    return 28 if month == 2 and not leap else _LONGEST[month - 1]


def _names(months: set[int]) -> str:
    return " or ".join(_MONTHS[month - 1].capitalize() for month in sorted(months))


class _Values(NamedTuple):
    values: set[int]
    starred: bool


def _values(text: str, field: _Field) -> _Values:
    """The values of a list, and whether a `*` in it takes the restriction away."""
    values: set[int] = set()
    starred = False
    for part in text.split(","):
        base, slash, step = part.partition("/")
        if slash and not re.fullmatch(r"0*[1-9][0-9]{0,8}", step):
            raise ValueError(f"`{part}` has no step; after `/` stands a number from 1")
        by = int(step) if slash else 1
        if base in ("*", "?"):
            low, high = field.low, 6 if field is _WEEKDAY else field.high
            starred |= by == 1
        else:
            low, high = _range(base, field, open_end=bool(slash))
        values.update(range(low, high + 1, by))
    return _Values(values, starred)


def _range(text: str, field: _Field, *, open_end: bool) -> tuple[int, int]:
    """Both ends of `5` or `5-10`; a single value with a step goes on to the end of the field."""
    first, dash, last = text.partition("-")
    low = _value(first, field, text)
    if not dash:
        end = 6 if field is _WEEKDAY and low < 7 else field.high
        return low, end if open_end else low
    high = _value(last, field, text)
    if field is _WEEKDAY:
        low, high = 0 if low == 7 > high else low, 7 if high == 0 < low else high
    if low > high:
        turn = f"{first}-{_WEEKDAY.words[6] if field is _WEEKDAY else field.high}"
        raise ValueError(f"`{text}` runs backwards; write `{turn},{field.low}-{last}`")
    return low, high


def _value(text: str, field: _Field, part: str) -> int:
    name, low, high, words = field
    if text.lower() in words:
        return words.index(text.lower()) + (0 if field is _WEEKDAY else 1)
    if re.fullmatch(r"[0-9]{1,9}", text) and low <= int(text) <= high:
        return int(text)
    if re.search(r"(?i)^lw?$|[0-9][lw]$|#", text):
        raise ValueError(f"`{part}` is not understood: there is no `L`, `W` or `#` in a cron text")
    if not text:
        raise ValueError(f"the field of the {name} has an empty part; write `*` or a number")
    spelled = f" or {words[0]} to {words[-1]}" if words else ""
    raise ValueError(f"`{text}` is no {name}; write {low} to {high}{spelled}")
