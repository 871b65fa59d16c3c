"""Dates, layouts and durations, checked against what Go prints."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from compozy_prefect.expressions.functions import FUNCTIONS, Environment, FunctionError, to_text

NOW = datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC)
LEAP = datetime(2024, 2, 29, 13, 4, 5, 120_000, tzinfo=UTC)


def call(name: str, *args: object) -> Any:
    function = FUNCTIONS[name]
    return function.call(*([Environment(now=NOW), *args] if function.environment else args))


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("2006-01-02", "2024-02-29"),
        ("Jan 2, 2006", "Feb 29, 2024"),
        ("Monday, 02-Jan-06 15:04:05 MST", "Thursday, 29-Feb-24 13:04:05 UTC"),
        ("2006-01-02T15:04:05Z07:00", "2024-02-29T13:04:05Z"),
        ("Mon Jan _2 15:04:05 2006", "Thu Feb 29 13:04:05 2024"),
        ("3:04PM", "1:04PM"),
        ("03:04:05.000 pm", "01:04:05.120 pm"),
        ("15:04:05.999999999", "13:04:05.12"),
        ("Z0700 -0700 -07:00 -07", "Z +0000 +00:00 +00"),
        ("002 __2", "060  60"),
        ("Januaryx Janet Monty", "Februaryx Janet Monty"),
        ("20060102150405", "20240229130405"),
        ("", ""),
        ("nothing of a time", "nothing of a time"),
    ],
)
def test_layouts(layout: str, expected: str) -> None:
    assert call("date", layout, LEAP) == expected


def test_zones() -> None:
    layout = "2006-01-02 15:04:05 -0700 MST"
    assert call("dateInZone", layout, LEAP, "America/New_York") == "2024-02-29 08:04:05 -0500 EST"
    assert call("date_in_zone", layout, LEAP, "Asia/Kolkata") == "2024-02-29 18:34:05 +0530 IST"
    assert call("dateInZone", layout, LEAP, "No/Where") == "2024-02-29 13:04:05 +0000 UTC"
    assert call("dateInZone", "15:04", LEAP, "../../etc/passwd") == "13:04"
    assert call("htmlDateInZone", LEAP, "Pacific/Auckland") == "2024-03-01"


@pytest.mark.parametrize(
    ("layout", "source", "expected"),
    [
        ("2006-01-02", "2024-02-29", "2024-02-29T00:00:00Z"),
        ("2006-01-02T15:04:05Z07:00", "2024-02-29T13:14:15.123+02:00", "2024-02-29T11:14:15Z"),
        ("Jan 2, 2006", "feb 9, 2024", "2024-02-09T00:00:00Z"),
        ("2006-01-02 3:04PM", "2024-01-01 12:05AM", "2024-01-01T00:05:00Z"),
        ("02/01/06", "05/07/69", "1969-07-05T00:00:00Z"),
        ("2006-002", "2024-060", "2024-02-29T00:00:00Z"),
        ("Mon Jan _2 15:04:05 2006", "Thu Feb 29 13:14:15 2024", "2024-02-29T13:14:15Z"),
        ("2006-01-02", "2023-02-29", None),
        ("2006-01-02", "2024-2-9", None),
        ("2006-01-02", "2024-02-29 ", None),
        ("2006-01-02", "tomorrow", None),
    ],
)
def test_reading(layout: str, source: str, expected: str | None) -> None:
    if expected is None:
        assert to_text(call("toDate", layout, source)) == "0001-01-01T00:00:00Z"
        with pytest.raises(FunctionError, match="mustToDate: "):
            call("mustToDate", layout, source)
    else:
        assert to_text(call("mustToDate", layout, source)) == expected


def test_now_is_frozen_and_prints_as_rfc3339() -> None:
    assert call("now") == NOW
    assert to_text(call("now")) == "2026-03-04T05:06:07Z"
    assert call("date", "2006", call("now")) == "2026"
    assert call("quote", call("now")) == '"2026-03-04T05:06:07Z"'
    assert call("printf", "%v", call("now")) == "2026-03-04 05:06:07.089 +0000 UTC"


@pytest.mark.parametrize(
    "name", ["dateModify", "date_modify", "mustDateModify", "must_date_modify"]
)
def test_moving_by_a_duration(name: str) -> None:
    assert call(name, "-1h30m", NOW) == NOW - timedelta(hours=1, minutes=30)
    assert call(name, "1.5s", NOW) == NOW + timedelta(seconds=1.5)
    if name.lower().startswith("must"):
        with pytest.raises(FunctionError, match="no duration such as"):
            call(name, "soon", NOW)
    else:
        assert call(name, "soon", NOW) == NOW
    with pytest.raises(FunctionError, match="out of range"):
        call(name, "2000000h", datetime(9999, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "args",
    [(NOW, "24h"), ("24h", NOW), (NOW, 1, "day"), (1, "days", NOW), ("day", 1, NOW), (NOW, 86400)],
)
def test_date_add(args: tuple[object, ...]) -> None:
    assert call("dateAdd", *args) == NOW + timedelta(days=1)


def test_date_add_refuses() -> None:
    with pytest.raises(FunctionError, match='wants a duration such as "24h"'):
        call("dateAdd", NOW, "soon")
    with pytest.raises(FunctionError, match="out of range"):
        call("dateAdd", NOW, 10**12)


def test_since() -> None:
    assert call("ago", NOW - timedelta(hours=2, minutes=3, seconds=4)) == "2h3m4s"
    assert call("ago", "2026-03-04T05:06:02Z") == "5s"
    assert call("durationRound", NOW - timedelta(hours=30)) == "1d"
    assert call("unixEpoch", LEAP) == "1709211845"
    assert call("htmlDate", 0) == "1970-01-01"
    assert call("date", "2006-01-02", "2024-02-29T13:14:15Z") == "2024-02-29"


@pytest.mark.parametrize("value", [None, "yesterday", True, [1], {}, 1e300])
def test_what_is_no_time(value: object) -> None:
    with pytest.raises(FunctionError, match="date: "):
        call("date", "2006", value)
