"""A schedule of the language (language.md §2.8) → what `prefect deploy` takes in its place.

Prefect 3.8 knows three kinds, and each form goes to the one that says the same:

- five fields, or six with second 0: `cron`. Other seconds: `cron` with the second as *sixth* field,
  where croniter reads it. Years up to the last one croniter knows: `cron` with the year as seventh.
- other years, `start_at` and `end_at`: `rrule` with DTSTART and UNTIL. A cron text whose years run
  out is no way: Prefect then fails on each look at it, and loses the last runs before the end.
- `@every`: `interval` in UTC, with the epoch as anchor, which is where Temporal counts from in the
  original. With no anchor each `prefect deploy` would move the schedule.

Fields are written out as numbers, so that nothing rests on how croniter reads a text. Around a
change of clocks Prefect starts a run once where a local time comes twice, and an hour off where it
does not come at all; robfig starts two and none. What runs every hour of every day is therefore
written in UTC wherever that names the same moments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from compozy_prefect.compiler.plan import Json
from compozy_prefect.language.cron import Cron, Every
from compozy_prefect.language.texts import texts

OverlapPolicy = Literal["skip", "allow", "buffer_one", "cancel_other"]

# Prefect walks an rrule from its DTSTART on each look, some 20 µs a step, on the server's one
# event loop. It takes an hourly rule since 2020 for cheap enough, and so do we.
MOST_STEPS = 50_000
STEPS_A_DAY = 24
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OLDEST = datetime(2020, 1, 1)  # where Prefect starts a rule without DTSTART
CRONITER_LAST_YEAR = 2099
# What `prefect deploy` fills in, or drops, wherever it stands in the file.
_PLACEHOLDER = re.compile(r"{{\s*[\w.\-\[\]$]+\s*}}")
# The limit that comes nearest, and what it lacks.
_OVERLAP: dict[OverlapPolicy, tuple[dict[str, Json] | None, str]] = {
    "skip": ({"limit": 1, "collision_strategy": "CANCEL_NEW"}, ""),
    "allow": (None, ""),
    "buffer_one": (
        {"limit": 1, "collision_strategy": "ENQUEUE"},
        "`overlap_policy: buffer_one`: Prefect lets all later runs wait, not only one",
    ),
    "cancel_other": (
        {"limit": 1, "collision_strategy": "ENQUEUE"},
        "`overlap_policy: cancel_other`: Prefect lets the later run wait and cancels none for it",
    ),
}
_BYDAY = ("SU", "MO", "TU", "WE", "TH", "FR", "SA")


@dataclass(frozen=True, slots=True)
class DeploymentSchedule:
    """What a deployment in `prefect.yaml` holds for a schedule, as plain JSON.

    `entry` is the one item of its `schedules`, `concurrency_limit` the key of that name unless
    None. The limit counts all runs of the deployment, so it wants one of its own, which nothing
    else starts; otherwise a run that somebody starts by hand is cancelled for a scheduled one.
    `not_honoured` says what Prefect does not do, one sentence for each field.
    """

    entry: dict[str, Json]
    concurrency_limit: dict[str, Json] | None = None
    not_honoured: tuple[str, ...] = ()


class _TooOften(ValueError):
    """An rrule that would keep the server busy."""


def deployment_schedule(
    cron: Cron | Every,
    timezone: str = "UTC",
    enabled: bool = True,
    jitter: float = 0.0,
    overlap_policy: OverlapPolicy = "skip",
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    input: Mapping[str, Json] | None = None,
) -> DeploymentSchedule:
    """The schedule of a workflow; `jitter` is seconds, `input` the parameters of the flow.

    It has no slug, so that the next deploy replaces it. A deploy whose file lists no schedule any
    more leaves the old one on, which Prefect 3.8 does with and without a slug.
    Raises ValueError with a sentence where Prefect would run it at other times or with other input.
    """
    check_window(start_at, end_at)
    missing = []
    try:
        when = prefect_schedule(cron, timezone, start_at, end_at)
    except _TooOften as fault:
        when = prefect_schedule(cron, timezone)
        given = {"start_at": start_at, "end_at": end_at}
        names = " and ".join(f"`{name}`" for name, value in given.items() if value)
        missing.append(f"{names}: runs outside of it are not held back, because {fault}")
    limit, short = _OVERLAP[overlap_policy]
    if short:
        missing.append(short)
    if jitter:
        missing.append("`jitter`: Prefect starts each run at its time, without a random delay")
    entry = {**when, "active": enabled}
    if input:
        entry["parameters"] = _parameters(input)
    return DeploymentSchedule(entry, dict(limit) if limit else None, tuple(missing))


def check_window(start_at: datetime | None, end_at: datetime | None) -> None:
    """Raises ValueError when the end is not after the start (§14 row 34)."""
    if start_at is not None and end_at is not None and end_at <= start_at:
        raise ValueError(f"`end_at` ({end_at}) is not after `start_at` ({start_at})")


def prefect_schedule(
    cron: Cron | Every,
    timezone: str = "UTC",
    start_at: datetime | None = None,
    end_at: datetime | None = None,
) -> dict[str, Json]:
    """The keys of a schedule in `prefect.yaml` that say when.

    `timezone` is a known zone; both ends are included, and have an offset. Raises ValueError where
    Prefect has no such schedule.
    """
    bounded = start_at is not None or end_at is not None
    if isinstance(cron, Every):
        if bounded:
            return _interval_rule(cron.seconds, start_at, end_at)
        return {"interval": cron.seconds, "anchor_date": EPOCH.isoformat(), "timezone": "UTC"}
    if cron.every_day and len(cron.hours) == 24 and cron.years is None and _whole_hours(timezone):
        timezone = "UTC"
    if bounded or not _open_years(cron.years):
        return _rule(cron, timezone, start_at, end_at)
    return {"cron": _text(cron), "timezone": timezone}


def _open_years(years: tuple[int, ...] | None) -> bool:
    """Whether the years, if any are given, go on without a gap for as long as croniter counts."""
    return years is None or (
        years[0] <= CRONITER_LAST_YEAR <= years[-1] and len(years) == years[-1] - years[0] + 1
    )


def _whole_hours(timezone: str) -> bool:
    """Whether the zone is, now and later, a whole number of hours from UTC."""
    if timezone == "UTC":
        return True
    from zoneinfo import ZoneInfo

    zone = ZoneInfo(timezone)
    moments = (datetime(year, month, 1, tzinfo=zone) for year in (2024, 2037) for month in (1, 7))
    return all((moment.utcoffset() or timedelta()).seconds % 3600 == 0 for moment in moments)


# Cron


def _text(cron: Cron) -> str:
    """The fields in the order and the spelling of croniter."""
    fields = [
        _field(cron.minutes, 0, 59),
        _field(cron.hours, 0, 23),
        _field(cron.days, 1, 31),
        _field(cron.months, 1, 12),
        _field(cron.weekdays, 0, 6),
    ]
    if cron.seconds != (0,) or cron.years is not None:
        fields.append(_field(cron.seconds, 0, 59))
    if cron.years is not None:
        fields.append(f"{cron.years[0]}-{CRONITER_LAST_YEAR}")
    return " ".join(fields)


def _field(values: tuple[int, ...], low: int, high: int) -> str:
    """`*`, `*/15`, or a list of numbers and ranges."""
    if len(values) > 2 or values == (low,):
        step = values[1] - low if len(values) > 1 else 0
        if step and values == tuple(range(low, high + 1, step)):
            return "*" if step == 1 else f"*/{step}"
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in _runs(values))


def _runs(values: Iterable[int]) -> list[tuple[int, int]]:
    """The first and last of each row of neighbours."""
    out: list[tuple[int, int]] = []
    for value in values:
        if out and out[-1][1] == value - 1:
            out[-1] = (out[-1][0], value)
        else:
            out.append((value, value))
    return out


# RRULE


def _rule(
    cron: Cron, timezone: str, start_at: datetime | None, end_at: datetime | None
) -> dict[str, Json]:
    """The moments of a cron within a window; both are local times of the zone, as Prefect reads."""
    from zoneinfo import ZoneInfo

    zone = ZoneInfo(timezone)
    start = _up(start_at).astimezone(zone).replace(tzinfo=None) if start_at else None
    end = end_at.astimezone(zone).replace(tzinfo=None, microsecond=0) if end_at else None
    freq = "FREQ=DAILY"
    if cron.years is not None:
        start, end, freq = _within_years(cron.years, start, end)
    since = start or OLDEST
    rate = len(cron.hours) * len(cron.minutes) * len(cron.seconds)
    _check_steps(rate, rate * (end - since).days if end else None)
    by = [
        f"BYHOUR={_list(cron.hours)}",
        f"BYMINUTE={_list(cron.minutes)}",
        f"BYSECOND={_list(cron.seconds)}",
    ]
    if end:
        by.append(f"UNTIL={end:%Y%m%dT%H%M%S}")
    rules = [";".join(["RRULE:" + freq, *days, *by]) for days in _days(cron)]
    return {"rrule": "\n".join([f"DTSTART:{since:%Y%m%dT%H%M%S}", *rules]), "timezone": timezone}


def _days(cron: Cron) -> list[list[str]]:
    """The parts of one rule, or of two where the day of the month or the weekday fits."""
    month = [f"BYMONTH={_list(cron.months)}"] if len(cron.months) < 12 else []
    days = f"BYMONTHDAY={_list(cron.days)}"
    weekdays = f"BYDAY={','.join(_BYDAY[day] for day in cron.weekdays)}"
    if len(cron.days) == 31:
        return [[*month, weekdays]]
    if len(cron.weekdays) == 7:
        return [[*month, days]]
    return [[*month, days], [*month, weekdays]]


def _within_years(
    years: tuple[int, ...], start: datetime | None, end: datetime | None
) -> tuple[datetime, datetime, str]:
    """The window within the years, and how to get from one of them to the next."""
    left = [
        year
        for year in years
        if (not start or year >= start.year) and (not end or year <= end.year)
    ]
    if not left:
        raise ValueError("none of the years in `cron` lies between `start_at` and `end_at`")
    step = left[1] - left[0] if len(left) > 1 else 1
    if left != list(range(left[0], left[-1] + 1, step)):
        raise ValueError(
            f"Prefect counts years at one distance, and {_list(left)} are not; write a range such "
            f"as `{left[0]}-{left[-1]}`, or a step such as `{left[0]}/2`"
        )
    first, last = datetime(left[0], 1, 1), datetime(left[-1], 12, 31, 23, 59, 59)
    return (
        max(first, start or first),
        min(last, end or last),
        f"FREQ=YEARLY;INTERVAL={step}" if step > 1 else "FREQ=DAILY",
    )


def _interval_rule(
    seconds: int, start_at: datetime | None, end_at: datetime | None
) -> dict[str, Json]:
    """Every so many seconds since the epoch, from the first that is not before the start."""
    least = start_at or OLDEST.replace(tzinfo=UTC)
    start = EPOCH + timedelta(seconds=seconds) * -((EPOCH - least) // timedelta(seconds=seconds))
    if end_at and end_at < start:
        raise ValueError(f"no multiple of `@every {seconds}s` lies between `start_at` and `end_at`")
    rate = 86_400 // seconds
    _check_steps(rate, (end_at - start) // timedelta(seconds=seconds) if end_at else None)
    rule = f"RRULE:FREQ=SECONDLY;INTERVAL={seconds}"
    if end_at:
        rule += f";UNTIL={end_at.astimezone(UTC):%Y%m%dT%H%M%S}"
    return {"rrule": f"DTSTART:{start:%Y%m%dT%H%M%S}\n{rule}", "timezone": "UTC"}


def _check_steps(rate: int, steps: int | None) -> None:
    if rate > STEPS_A_DAY and (steps is None or steps > MOST_STEPS):
        raise _TooOften(
            f"Prefect keeps to years, a start or an end only with up to {STEPS_A_DAY} runs a day, "
            f"or {MOST_STEPS} from the start to the end, and these are {rate} a day"
        )


def _up(moment: datetime) -> datetime:
    """The moment, or the next whole second."""
    return moment.replace(microsecond=0) + timedelta(seconds=moment.microsecond > 0)


def _list(values: Iterable[int]) -> str:
    return ",".join(map(str, values))


def _parameters(input: Mapping[str, Json]) -> dict[str, Json]:
    for _, text in texts(input):
        if found := _PLACEHOLDER.search(text):
            raise ValueError(
                f"`prefect deploy` would fill in `{found[0]}` in the `input` of a schedule; write "
                "the text without the braces"
            )
    return dict(input)
