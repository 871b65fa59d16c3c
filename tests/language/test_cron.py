"""What a cron text means, against robfig's rules; what is refused, and with which words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from compozy_prefect.language.cron import (
    MACROS,
    Cron,
    Every,
    check_timezone,
    parse_cron,
    parse_instant,
)

ALL_DAYS, ALL_WEEKDAYS = tuple(range(1, 32)), tuple(range(7))


def parsed(text: str) -> Cron:
    cron = parse_cron(text)
    assert isinstance(cron, Cron)
    return cron


def test_five_six_and_seven_fields() -> None:
    five = Cron((0,), (30,), (9,), ALL_DAYS, tuple(range(1, 13)), (1, 2, 3, 4, 5))
    assert parse_cron("30 9 * * 1-5") == five
    assert parse_cron("0 30 9 * * MON-Fri") == five
    assert parse_cron("  0 30 9 ? * 1-5 *  ") == five
    assert parsed("15 30 9 * * 1-5 2026,2028").years == (2026, 2028)
    assert parsed("15 30 9 * * 1-5 2026").seconds == (15,)


@pytest.mark.parametrize("macro", MACROS)
def test_macros(macro: str) -> None:
    assert parse_cron(macro) == parse_cron(macro.upper()) == parse_cron(MACROS[macro])


def test_every() -> None:
    assert parse_cron("@every 90s") == Every(90)
    assert parse_cron("@every 1h30m") == Every(5400)
    assert parse_cron("@Every  5 minutes") == Every(300)
    assert parse_cron("@every soon", lambda text: 7.0) == Every(7)


@pytest.mark.parametrize(
    ("field", "text", "values"),
    [
        ("minutes", "5/20 * * * *", (5, 25, 45)),
        ("minutes", "*/25 * * * *", (0, 25, 50)),
        ("minutes", "*/90 * * * *", (0,)),
        ("minutes", "10-20/5,3,3 * * * *", (3, 10, 15, 20)),
        ("minutes", "007 * * * *", (7,)),
        ("months", "0 0 * jan,Mar-MAY *", (1, 3, 4, 5)),
        ("weekdays", "0 0 * * 7", (0,)),
        ("weekdays", "0 0 * * 5-7", (0, 5, 6)),
        ("weekdays", "0 0 * * fri-sun", (0, 5, 6)),
        ("weekdays", "0 0 * * 7-2", (0, 1, 2)),
        ("weekdays", "0 0 * * 4/2", (4, 6)),
        ("weekdays", "0 0 * * */3", (0, 3, 6)),
        # One of both is enough where both are restricted, and a step from 2 restricts …
        ("days", "0 0 1-31 * 1", ALL_DAYS),
        ("weekdays", "0 0 1-31 * 1", ALL_WEEKDAYS),
        ("weekdays", "0 0 13 * 0-6", ALL_WEEKDAYS),
        ("days", "0 0 13 * 0-6", ALL_DAYS),
        ("days", "0 0 */2 * 1", tuple(range(1, 32, 2))),
        ("days", "0 0 */2 * 0-6", ALL_DAYS),
        # … and a `*` in a list, or with the step 1, does not.
        ("weekdays", "0 0 *,5 * 1", (1,)),
        ("days", "0 0 13 * */1", (13,)),
        ("weekdays", "0 0 ? * 1", (1,)),
        # A day that no such month has: the weekdays are left.
        ("days", "0 0 30 2 1", ALL_DAYS),
        ("weekdays", "0 0 30 2 1", (1,)),
        ("days", "0 0 28-31 2 *", (28, 29)),
        ("days", "0 0 0 29 2 1 2026", ALL_DAYS),
    ],
)
def test_fields(field: str, text: str, values: tuple[int, ...]) -> None:
    assert getattr(parsed(text), field) == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "this one has 0"),
        ("* * * *", "has 5 fields (minute hour day month weekday), 6 .* this one has 4"),
        ("* * * * * * * *", "this one has 8"),
        ("61 * * * *", "`61` is no minute; write 0 to 59"),
        ("* 24 * * *", "`24` is no hour; write 0 to 23"),
        ("* * 0 * *", "`0` is no day of the month; write 1 to 31"),
        ("* * * 13 *", "`13` is no month; write 1 to 12 or jan to dec"),
        ("* * * * 8", "`8` is no weekday; write 0 to 7 or sun to sat"),
        ("* * * * Someday", "`Someday` is no weekday"),
        ("* * * * * * 1969", "`1969` is no year; write 1970 to 3000"),
        ("60 * * * * *", "`60` is no second"),
        ("5-1 * * * *", "`5-1` runs backwards; write `5-59,0-1`"),
        ("0 0 * nov-feb *", "`nov-feb` runs backwards; write `nov-12,1-feb`"),
        ("0 0 * * fri-mon", "`fri-mon` runs backwards; write `fri-sat,0-mon`"),
        ("1,,2 * * * *", "the field of the minute has an empty part"),
        ("-5 * * * *", "the field of the minute has an empty part"),
        ("*-5 * * * *", "`\\*` is no minute"),
        ("*/0 * * * *", "`\\*/0` has no step; after `/` stands a number from 1"),
        ("*/ * * * *", "has no step"),
        ("1-2-3 * * * *", "`2-3` is no minute"),
        ("٣ * * * *", "`٣` is no minute"),
        ("9" * 5000 + " * * * *", "is no minute"),
        ("* * L * *", "`L` is not understood: there is no `L`, `W` or `#` in a cron text"),
        ("* * 15W * *", "`15W` is not understood"),
        ("* * * * 5L", "`5L` is not understood"),
        ("* * * * 1#2", "`1#2` is not understood"),
        ("0 0 30 2 *", "no Feb has a day 30, so it would never start; the last day there is 29"),
        ("0 0 31 4,jun *", "no Apr or Jun has a day 31"),
        ("0 0 0 29 2 * 2026-2027", "no Feb has a day 29"),
        ("@dayly", "`@dayly` is no schedule; did you mean `@daily`?"),
        ("@reboot", "`@reboot` is no schedule; write @hourly, .* or @every 90s"),
        ("@every", "`@every` says no duration"),
        ("@every 500ms", "`@every 500ms` is not a whole number of seconds"),
        ("@every 1.5s", "is not a whole number of seconds"),
        ("@every moon", "`moon` is no duration"),
        ("TZ=UTC 0 0 * * *", "write the zone under `timezone`"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")) as caught:
        parse_cron(text)
    assert "\n" not in str(caught.value)


def test_zones() -> None:
    for name in ("UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"):
        check_timezone(name)
    with pytest.raises(ValueError, match="is no IANA time zone; did you mean `Europe/Berlin`"):
        check_timezone("Europe/Berlim")
    for name in ("", "Europe", "../etc/passwd", "/etc/localtime", "localtime", "right/UTC", "\0"):
        with pytest.raises(ValueError, match="is no IANA time zone"):
            check_timezone(name)


def test_instants() -> None:
    assert parse_instant("2026-01-31T09:00:00Z") == datetime(2026, 1, 31, 9, tzinfo=UTC)
    offset = timezone(-timedelta(hours=3, minutes=30))
    assert parse_instant("2026-01-31t09:00:00.123456789-03:30") == datetime(
        2026, 1, 31, 9, tzinfo=offset
    )
    for text in ("", "2026-01-31", "2026-01-31 09:00:00Z", "2026-01-31T09:00:00", "tomorrow"):
        with pytest.raises(ValueError, match="is no RFC 3339 time; write `2026"):
            parse_instant(text)
    with pytest.raises(ValueError, match="`2026-02-30T09:00:00Z` is no time: day is out of range"):
        parse_instant("2026-02-30T09:00:00Z")
