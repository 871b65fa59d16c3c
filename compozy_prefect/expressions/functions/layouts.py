"""Go's layouts: times written and read after the example of `Mon Jan 2 15:04:05 MST 2006`.

In: a layout and a time or text. Out: text or an aware datetime. Python knows the years 1 to 9999
and microseconds; nothing outside is ever made.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]

# Longest first where one is the start of another, in the order in which Go tries them.
_ELEMENT = (
    r"January|Jan|Monday|Mon|MST|2006|__2|_2006|_2|"
    r"002|01|02|03|04|05|06|15|1|2|3|4|5|PM|pm|"
    r"Z070000|Z07:00:00|Z0700|Z07:00|Z07|"
    r"-070000|-07:00:00|-0700|-07:00|-07|"
    r"[.,]0+(?!\d)|[.,]9+(?!\d)"
)


@lru_cache(maxsize=256)
def elements(layout: str) -> tuple[str, ...]:
    """The layout cut into literal text (at even places) and elements (at odd ones)."""
    parts: list[str] = []
    at = start = 0
    element_pattern = re.compile(_ELEMENT)
    while found := element_pattern.search(layout, at):
        element = found[0]
        if element == "_2006":  # an underscore before a year
            parts += (layout[start : found.start() + 1], "2006")
        elif element in ("Jan", "Mon") and layout[found.end() : found.end() + 1].islower():
            at = found.end()  # "Janet" is no month
            continue
        else:
            parts += (layout[start : found.start()], element)
        at = start = found.end()
    return (*parts, layout[start:])


def format_time(layout: str, time: datetime) -> str:
    """The time written like the layout."""
    parts = elements(layout)
    made: list[str] = []
    for n, part in enumerate(parts):
        made.append(part if n % 2 == 0 else _element(part, time))
    return "".join(made)


def _element(element: str, time: datetime) -> str:
    hour = time.hour % 12 or 12
    match element:
        case "2006":
            return f"{time.year:04d}"
        case "06":
            return f"{time.year % 100:02d}"
        case "January":
            return _MONTHS[time.month - 1]
        case "Jan":
            return _MONTHS[time.month - 1][:3]
        case "01":
            return f"{time.month:02d}"
        case "1":
            return str(time.month)
        case "Monday":
            return _DAYS[time.weekday()]
        case "Mon":
            return _DAYS[time.weekday()][:3]
        case "02":
            return f"{time.day:02d}"
        case "_2":
            return f"{time.day:2d}"
        case "2":
            return str(time.day)
        case "002":
            return f"{time.timetuple().tm_yday:03d}"
        case "__2":
            return f"{time.timetuple().tm_yday:3d}"
        case "15":
            return f"{time.hour:02d}"
        case "03":
            return f"{hour:02d}"
        case "3":
            return str(hour)
        case "04":
            return f"{time.minute:02d}"
        case "4":
            return str(time.minute)
        case "05":
            return f"{time.second:02d}"
        case "5":
            return str(time.second)
        case "PM":
            return "PM" if time.hour >= 12 else "AM"
        case "pm":
            return "pm" if time.hour >= 12 else "am"
        case "MST":
            return _zone_name(time)
    if element[0] in ".,":
        digits = f"{time.microsecond:06d}000"[: len(element) - 1].ljust(len(element) - 1, "0")
        if element[1] == "9":
            digits = digits.rstrip("0")
        return element[0] + digits if digits else ""
    return _offset(element, time)


def _offset(element: str, time: datetime) -> str:
    shift = time.utcoffset() or timedelta()
    total = int(shift.total_seconds())
    if element[0] == "Z" and total == 0:
        return "Z"
    sign, total = ("-", -total) if total < 0 else ("+", total)
    hours, minutes, seconds = total // 3600, total // 60 % 60, total % 60
    colon = ":" if ":" in element else ""
    digits = len(element.replace(":", "")) - 1
    made = f"{sign}{hours:02d}"
    if digits >= 4:
        made += f"{colon}{minutes:02d}"
    if digits >= 6:
        made += f"{colon}{seconds:02d}"
    return made


def _zone_name(time: datetime) -> str:
    name = time.tzname() or ""
    if not name or (name.startswith("UTC") and name != "UTC"):
        hours = _offset("-0700", time)
        return hours[:3] if hours.endswith("00") else hours
    return name


_PATTERNS = {
    "2006": r"\d{4}",
    "06": r"\d\d",
    "01": r"\d\d",
    "1": r"\d\d?",
    "02": r"[ ]?\d\d?",
    "_2": r"[ ]?\d\d?",
    "2": r"[ ]?\d\d?",
    "002": r"\d{3}",
    "__2": r"[ ]{0,2}\d{1,3}",
    "15": r"\d\d?",
    "03": r"\d\d",
    "3": r"\d\d?",
    "04": r"\d\d",
    "4": r"\d\d?",
    "05": r"\d\d",
    "5": r"\d\d?",
    "PM": "AM|PM",
    "pm": "am|pm",
    "MST": r"[A-Z]{3,5}|[+-]\d\d(?:\d\d)?",
}


@lru_cache(maxsize=256)
def _reader(layout: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    parts = elements(layout)
    pattern: list[str] = []
    names: list[str] = []
    for n, part in enumerate(parts):
        if n % 2 == 0:
            # A run of spaces in the layout reads any run of spaces.
            pattern.append(re.sub(r"(?:\\ )+", "[ ]*", re.escape(part)))
            continue
        names.append(part)
        pattern.append(f"({_pattern(part)})")
        fraction_follows = not parts[n + 1] and "".join(parts[n + 2 : n + 3])[:1] in (".", ",")
        if part in ("05", "5") and not fraction_follows:
            # Go reads a fraction behind the seconds even where the layout has none.
            names.append(".9")
            pattern.append(r"([.,]\d{1,9})?")
    return re.compile("".join(pattern), re.ASCII), tuple(names)


def _pattern(element: str) -> str:
    if element in _PATTERNS:
        return _PATTERNS[element]
    if element in ("January", "Monday"):
        return "|".join(_MONTHS if element == "January" else _DAYS) + "|(?!)"
    if element in ("Jan", "Mon"):
        return "|".join(name[:3] for name in (_MONTHS if element == "Jan" else _DAYS))
    if element[0] in ".,":
        count = len(element) - 1
        return rf"[.,]\d{{{count}}}" if element[1] == "0" else r"(?:[.,]\d{1,9})?"
    colon = ":" if ":" in element else ""
    digits = len(element.replace(":", "")) - 1
    made = r"[+-]\d\d"
    for _ in range(digits // 2 - 1):
        made += colon + r"\d\d"
    return f"Z|{made}" if element[0] == "Z" else made


def parse_time(layout: str, source: str) -> datetime:
    """The time that the text means by the layout; UTC unless it says otherwise.

    Raises ValueError with a sentence.
    """
    if len(layout) > 1_000 or len(source) > 1_000:
        raise ValueError("the text is too long for a time")
    pattern, names = _reader(layout)
    lowered = re.compile(pattern.pattern, re.ASCII | re.IGNORECASE)
    found = lowered.fullmatch(source)
    if found is None:
        raise ValueError(f'"{source}" does not look like "{layout}"')
    fields: dict[str, int] = {}
    zone: timezone = UTC
    afternoon: bool | None = None
    for name, value in zip(names, found.groups(), strict=True):
        if not value:
            continue
        if name in ("January", "Jan"):
            known = [m[:3].lower() for m in _MONTHS]
            fields["month"] = known.index(value[:3].lower()) + 1
        elif name in ("PM", "pm"):
            afternoon = value.lower() == "pm"
        elif name[0] in ".,":
            fields["microsecond"] = int(value[1:].ljust(6, "0")[:6])
        elif name[0] in "Z-":
            zone = _zone(value)
        elif name in ("MST", "Monday", "Mon"):
            continue  # a name says no offset, and a weekday no date
        else:
            fields[_FIELDS[name]] = int(value)
    return _built(fields, zone, afternoon)


_FIELDS = {
    "2006": "year",
    "06": "short_year",
    "01": "month",
    "1": "month",
    "02": "day",
    "_2": "day",
    "2": "day",
    "002": "yday",
    "__2": "yday",
    "15": "hour",
    "03": "hour",
    "3": "hour",
    "04": "minute",
    "4": "minute",
    "05": "second",
    "5": "second",
}


def _zone(value: str) -> timezone:
    if value in ("Z", "z"):
        return UTC
    digits = value[1:].replace(":", "").ljust(6, "0")
    shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]), seconds=int(digits[4:]))
    if shift >= timedelta(hours=24):
        raise ValueError(f"the zone {value} is out of range")
    return timezone(-shift if value[0] == "-" else shift)


def _built(fields: dict[str, int], zone: timezone, afternoon: bool | None) -> datetime:
    if (short := fields.pop("short_year", None)) is not None:
        fields["year"] = short + (1900 if short >= 69 else 2000)
    hour = fields.get("hour", 0)
    if afternoon is not None:
        if not 0 <= hour <= 12:
            raise ValueError(f"the hour {hour} is out of range")
        fields["hour"] = hour % 12 + (12 if afternoon else 0)
    yday = fields.pop("yday", None)
    year = fields.pop("year", 0) or 1  # Go's year 0 is not among Python's
    if yday is not None:
        first = datetime(year, 1, 1, tzinfo=zone) + timedelta(days=yday - 1)
        if not yday >= 1 or first.year != year:
            raise ValueError(f"the day {yday} of the year is out of range")
        fields.setdefault("month", first.month)
        fields.setdefault("day", first.day)
    return datetime(
        year,
        fields.get("month", 1),
        fields.get("day", 1),
        fields.get("hour", 0),
        fields.get("minute", 0),
        fields.get("second", 0),
        fields.get("microsecond", 0),
        tzinfo=zone,
    )
