"""Schedules as Prefect itself computes them, against every moment tried one by one.

The texts come with the values they stand for, so the reference below knows no cron syntax.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise, takewhile
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.cli.deploy._models import RawScheduleConfig
from prefect.cli.deploy._schedules import _schedule_config_to_deployment_schedule
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.server.schemas.actions import DeploymentScheduleCreate as Stored

from compozy_prefect.compiler.schedules import (
    DeploymentSchedule,
    deployment_schedule,
    prefect_schedule,
)
from compozy_prefect.language.cron import Cron, Every, parse_cron

BERLIN = "Europe/Berlin"


def stored(entry: dict[str, Any]) -> Any:
    """The schedule on the server, on the way that an item of `schedules:` goes there."""
    RawScheduleConfig.model_validate(entry)
    made = DeploymentScheduleCreate(**_schedule_config_to_deployment_schedule(entry))
    sent = made.model_dump(mode="json", exclude_unset=True)
    return Stored.model_validate(sent).schedule


async def dates(entry: dict[str, Any], start: datetime, n: int = 5) -> list[datetime]:
    found = await stored(entry).get_dates(n, start)
    return [datetime.fromtimestamp(moment.timestamp(), UTC) for moment in found]


# What any cron text means


class Field(NamedTuple):
    text: str
    values: frozenset[int]
    starred: bool


class Case(NamedTuple):
    """A cron text and the values of its seven fields."""

    text: str
    fields: list[Field]

    def days(self, start: date) -> Iterator[date]:
        _, _, _, day_of_month, months, weekdays, years = self.fields
        day = start
        while day.year <= 2200:
            fits = day.day in day_of_month.values, day.isoweekday() % 7 in weekdays.values
            both = day_of_month.starred or weekdays.starred
            if (
                (all(fits) if both else any(fits))
                and day.month in months.values
                and day.year in years.values
            ):
                yield day
            day += timedelta(days=1)

    def moments(self, start: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        seconds, minutes, hours, *_ = self.fields
        times = [
            time(hour, minute, second)
            for hour in sorted(hours.values)
            for minute in sorted(minutes.values)
            for second in sorted(seconds.values)
        ]
        for day in self.days(start.astimezone(zone).date()):
            for clock in times:
                moment = datetime.combine(day, clock, zone).astimezone(UTC)
                if moment >= start:
                    yield moment


def part(
    low: int, high: int, words: tuple[str, ...]
) -> st.SearchStrategy[tuple[str, set[int], bool]]:
    def spelled(value: int) -> st.SearchStrategy[str]:
        texts = [str(value)]
        if words:
            word = words[(value - low) % len(words)]
            texts += [word, word.upper()]
        return st.sampled_from(texts)

    @st.composite
    def build(draw: st.DrawFn) -> tuple[str, set[int], bool]:
        kind = draw(st.sampled_from(["*", "one", "one", "range", "*/", "one/", "range/"]))
        a, b = sorted(draw(st.tuples(*[st.integers(low, high)] * 2)))
        step = draw(st.integers(1, max(2, (high - low) // 2))) if kind.endswith("/") else 1
        if kind.startswith("*"):
            text, first, last = draw(st.sampled_from("*?")), low, high
        elif kind.startswith("one"):
            text, first, last = draw(spelled(a)), a, high if kind.endswith("/") else a
        else:
            text, first, last = f"{draw(spelled(a))}-{draw(spelled(b))}", a, b
        text += f"/{step}" if kind.endswith("/") else ""
        return text, set(range(first, last + 1, step)), kind.startswith("*") and step == 1

    return build()


def field(low: int, high: int, *words: str, most: int = 3) -> st.SearchStrategy[Field]:
    parts = st.lists(part(low, high, words), min_size=1, max_size=most)
    return parts.map(
        lambda found: Field(
            ",".join(text for text, _, _ in found),
            frozenset().union(*(values for _, values, _ in found)),
            any(starred for *_, starred in found),
        )
    )


def known(text: str) -> Field:
    return Field(text, CORNERS[text], False)


CORNERS = {
    "1-31": frozenset(range(1, 32)),
    "*/2": frozenset(range(1, 32, 2)),
    "30,31": frozenset({30, 31}),
    "2": frozenset({2}),
    "4,6": frozenset({4, 6}),
    "0-6": frozenset(range(7)),
}
STAR = Field("*", frozenset(range(3001)), True)
ZERO = Field("0", frozenset({0}), False)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
SECOND = st.one_of(st.just(ZERO), field(0, 59))
CLOCK = (field(0, 59), field(0, 23))
# The corners, which chance seldom finds.
DAY = (
    st.one_of(st.just(STAR), field(1, 31), st.sampled_from(["1-31", "*/2", "30,31"]).map(known)),
    st.one_of(st.just(STAR), field(1, 12, *MONTHS), st.sampled_from(["2", "4,6"]).map(known)),
    st.one_of(st.just(STAR), field(0, 6, *WEEKDAYS), st.sampled_from(["0-6"]).map(known)),
)


def case(found: tuple[Field, ...]) -> Case:
    fields = [*found] if len(found) > 5 else [ZERO, *found]
    text = " ".join(item.text for item in found)
    return Case(text, fields if len(fields) == 7 else [*fields, STAR])


CASES = st.one_of(st.tuples(*CLOCK, *DAY), st.tuples(SECOND, *CLOCK, *DAY)).map(case)
YEARS = st.tuples(st.integers(2026, 2031), st.integers(0, 5), st.integers(1, 3)).map(
    lambda found: Field(
        f"{found[0]}-{found[0] + found[1]}/{found[2]}",
        frozenset(range(found[0], found[0] + found[1] + 1, found[2])),
        False,
    )
)
RARE = st.tuples(
    st.sampled_from([ZERO, Field("7,50", frozenset({7, 50}), False)]),
    st.integers(0, 59).map(lambda n: Field(str(n), frozenset({n}), False)),
    st.lists(st.integers(0, 23), min_size=1, max_size=5).map(
        lambda found: Field(",".join(map(str, found)), frozenset(found), False)
    ),
    *DAY,
)
STARTS = st.datetimes(datetime(2026, 1, 1), datetime(2031, 1, 1), timezones=st.just(UTC))
ZONES = st.sampled_from(["UTC", BERLIN, "Asia/Kolkata"])


def quiet(moments: Iterable[datetime], zone: str) -> list[datetime]:
    """The moments that are not near a change of clocks."""
    return [moment for moment in moments if not changes_clocks(moment.astimezone(ZoneInfo(zone)))]


def changes_clocks(local: datetime) -> bool:
    return (local - timedelta(days=2)).utcoffset() != (local + timedelta(days=2)).utcoffset()


async def check(case: Case, entry: dict[str, Any], start: datetime, zone: str) -> None:
    found = await dates(entry, start, 20)
    moments = case.moments(start, ZoneInfo(zone))
    expected = list(takewhile(lambda moment: moment <= found[-1], moments))
    assert quiet(found, zone) == quiet(expected, zone), entry


def parsed(text: str) -> Cron | Every | None:
    """The schedule, or None when no day can ever fit."""
    try:
        return parse_cron(text)
    except ValueError as fault:
        if "never start" in str(fault):
            return None
        raise


@settings(max_examples=150, deadline=None)
@given(CASES, STARTS, ZONES)
async def test_prefect_starts_a_cron_when_robfig_would(
    case: Case, start: datetime, zone: str
) -> None:
    cron = parsed(case.text)
    if cron is None:
        assert next(case.days(date(2026, 1, 1)), None) is None
        return
    entry = prefect_schedule(cron, zone)
    assert entry.keys() == {"cron", "timezone"}
    await check(case, entry, start, zone)


@settings(max_examples=100, deadline=None)
@given(RARE, st.one_of(st.just(STAR), YEARS), STARTS, ZONES, st.tuples(STARTS, STARTS).map(sorted))
async def test_prefect_keeps_to_years_a_start_and_an_end(
    fields: tuple[Field, ...], years: Field, start: datetime, zone: str, window: list[datetime]
) -> None:
    case = Case(" ".join(item.text for item in (*fields, years)), [*fields, years])
    cron = parsed(case.text)
    if cron is None:
        return
    opened, closed = window
    only_years = years is not STAR and start < opened
    try:
        entry = prefect_schedule(cron, zone, *([] if only_years else window))
    except ValueError as fault:
        if "none of the years" in str(fault):
            assert not years.values & {opened.year, closed.year}
            return
        raise
    since = start if only_years else max(start, opened)
    moments = islice(case.moments(since, ZoneInfo(zone)), 40)
    expected = [moment for moment in moments if only_years or moment <= closed]
    assert quiet(await dates(entry, start, 40), zone) == quiet(expected, zone), entry


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10_000_000), STARTS, st.booleans())
async def test_every_counts_from_the_epoch(seconds: int, start: datetime, bounded: bool) -> None:
    entry = prefect_schedule(Every(seconds))
    length = timedelta(seconds=seconds)
    if bounded:
        entry = prefect_schedule(Every(seconds), BERLIN, start, start + 2 * length)
    found = await dates(entry, start, 4)
    assert len(found) == (4 if not bounded else 2 + (start.timestamp() % seconds == 0))
    assert found[0] - start < length
    assert all(moment.timestamp() % seconds == 0 for moment in found)
    assert {b - a for a, b in pairwise(found)} == {length}


# How it is written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("*/15 9-17 * * mon-fri", "*/15 9-17 * * 1-5"),
        ("0 0 9 * * * *", "0 9 * * *"),
        ("30 0 9 1,15 * 1", "0 9 1,15 * 1 30"),
        ("@weekly", "0 0 * * 0"),
        ("0 9 1-31 * 1", "0 9 * * *"),
        ("0 0 30 2 1", "0 0 * 2 1"),
        ("0 0 9 1 1 * 2027-3000", "0 9 1 1 * 0 2027-2099"),
    ],
)
def test_a_cron_text(text: str, written: str) -> None:
    cron = parse_cron(text)
    assert prefect_schedule(cron, BERLIN) == {"cron": written, "timezone": BERLIN}
    assert stored(prefect_schedule(cron, BERLIN)).cron == written


def test_what_runs_every_hour_is_written_in_utc() -> None:
    """Prefect starts nothing in the hour that comes twice, where a local clock counts."""
    hourly = parse_cron("*/20 * * * *")
    assert prefect_schedule(hourly, BERLIN) == {"cron": "*/20 * * * *", "timezone": "UTC"}
    for zone in ("Asia/Kolkata", "Australia/Lord_Howe"):
        assert prefect_schedule(hourly, zone)["timezone"] == zone
    for text in ("0 0-22 * * *", "0 * 1 * *", "0 * * * 1"):
        assert prefect_schedule(parse_cron(text), BERLIN)["timezone"] == BERLIN


def test_rules_and_intervals() -> None:
    assert prefect_schedule(parse_cron("@every 90s"), BERLIN) == {
        "interval": 90,
        "anchor_date": "1970-01-01T00:00:00+00:00",
        "timezone": "UTC",
    }
    assert prefect_schedule(parse_cron("0 30 9 1 * 1 2026/2"), BERLIN)["rrule"].startswith(
        "DTSTART:20260101T000000\n"
        "RRULE:FREQ=YEARLY;INTERVAL=2;BYMONTHDAY=1;BYHOUR=9;BYMINUTE=30;BYSECOND=0;UNTIL=3000"
    )
    start, end = datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    assert prefect_schedule(parse_cron("30 9 * * *"), BERLIN, start, end) == {
        "rrule": "DTSTART:20260301T130000\nRRULE:FREQ=DAILY;BYDAY=SU,MO,TU,WE,TH,FR,SA;BYHOUR=9;"
        "BYMINUTE=30;BYSECOND=0;UNTIL=20260401T020000",
        "timezone": BERLIN,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 */5 * * * * 2027", "these are 288 a day"),
        ("0 0 9 * * * 2027,2028,2030", "Prefect counts years at one distance, and 2027,2028,2030"),
    ],
)
def test_years_that_prefect_cannot_follow(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        prefect_schedule(parse_cron(text))


# Around a change of clocks


@pytest.mark.parametrize("bounded", [False, True])
async def test_a_time_that_comes_twice_or_not_at_all(bounded: bool) -> None:
    """It starts once on either day; without the hour, at the one beside it."""
    opened = datetime(2026, 1, 1, tzinfo=UTC) if bounded else None
    entry = prefect_schedule(parse_cron("30 2 * * *"), BERLIN, opened)
    twice = await dates(entry, datetime(2026, 10, 24, 12, tzinfo=UTC), 2)
    assert [f"{moment:%d %H:%M}" for moment in twice] == ["25 00:30", "26 01:30"]
    never = await dates(entry, datetime(2026, 3, 28, 12, tzinfo=UTC), 2)
    assert f"{never[0]:%d %H:%M}" in ("29 00:30", "29 01:30")
    assert f"{never[1]:%d %H:%M}" == "30 00:30"


# The deployment


def test_the_entry_of_a_deployment() -> None:
    cron = parse_cron("0 9 * * *")
    plain = {"cron": "0 9 * * *", "timezone": "UTC"}
    skip = {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    queue = {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert deployment_schedule(cron) == DeploymentSchedule({**plain, "active": True}, skip)
    made = deployment_schedule(cron, enabled=False, overlap_policy="allow", input={"name": "Ada"})
    assert made == DeploymentSchedule({**plain, "active": False, "parameters": {"name": "Ada"}})
    assert stored(made.entry).cron == "0 9 * * *"
    made = deployment_schedule(cron, jitter=5.0, overlap_policy="buffer_one")
    assert made.concurrency_limit == queue
    assert made.not_honoured == (
        "`overlap_policy: buffer_one`: Prefect lets all later runs wait, not only one",
        "`jitter`: Prefect starts each run at its time, without a random delay",
    )
    made = deployment_schedule(cron, overlap_policy="cancel_other")
    assert made.concurrency_limit == queue
    assert len(made.not_honoured) == 1


def test_a_window_is_kept_or_named() -> None:
    often, start = parse_cron("* * * * *"), datetime(2026, 1, 1, tzinfo=UTC)
    made = deployment_schedule(often, start_at=start)
    assert made.entry == {"cron": "* * * * *", "timezone": "UTC", "active": True}
    assert made.not_honoured == (
        "`start_at`: runs outside of it are not held back, because Prefect keeps to years, a start "
        "or an end only with up to 24 runs a day, or 50000 from the start to the end, and these "
        "are 1440 a day",
    )
    made = deployment_schedule(often, start_at=start, end_at=start + timedelta(days=30))
    assert "rrule" in made.entry
    assert made.not_honoured == ()
    made = deployment_schedule(Every(60), end_at=start)
    assert made.entry["interval"] == 60
    assert made.not_honoured[0].startswith("`end_at`: ")
    with pytest.raises(ValueError, match=r"`end_at` .* is not after `start_at`"):
        deployment_schedule(often, start_at=start, end_at=start)


@pytest.mark.parametrize("text", ["{{ name }}", "a {{$HOME}}", "{{ prefect.variables.x }}"])
def test_input_that_prefect_would_fill_in(text: str) -> None:
    with pytest.raises(ValueError, match=r"`prefect deploy` would fill in `\{\{"):
        deployment_schedule(Every(60), input={"a": [{"b": text}]})
    assert deployment_schedule(Every(60), input={"a": "{{ a | b }} {x}"}).entry["parameters"]
