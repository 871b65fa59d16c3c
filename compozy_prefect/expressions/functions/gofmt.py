"""Go's `fmt`: `printf`, `print`, `println` and the `%v` and `%q` forms of a value.

In: a format and values. Out: what Go prints, its `%!d(string=x)` notes on wrong verbs included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from math import frexp, isfinite
from typing import Any

from compozy_prefect.expressions.functions.contract import (
    MAX_DEPTH,
    MAX_TEXT,
    Function,
    octets,
    text,
    too_long,
)
from compozy_prefect.expressions.functions.values import (
    Version,
    float_text,
    int_text,
    sorted_keys,
    to_text,
    too_deep,
)

_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>(?:\[\d*\])?\*|\d*)"
    r"(?:(?P<dot>\.)(?P<precision>(?:\[\d*\])?\*|\d*))?(?P<index>\[[^\]]*\]?)?(?P<verb>.)?",
    re.DOTALL,
)
_TYPES = {bool: "bool", int: "int", float: "float64", str: "string"}
_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}


def type_name(value: object) -> str:
    """The type as Go's `%T` names it."""
    if value is None:
        return "<nil>"
    if isinstance(value, Version):
        return "*semver.Version"
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, (list, tuple)):
        return "[]interface {}"
    if isinstance(value, datetime):
        return "time.Time"
    return _TYPES.get(type(value), type(value).__name__)


def go_text(value: object) -> str:
    """A value as Sprig's functions read it as text: Go's form of lists and maps, `[a b]`.

    Null is empty, and numbers and times are as everywhere in the language (§11.4).
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple, dict)) or isinstance(value, Version):
        return to_text(value)
    return _Formatter(float_style="plain").collection(value, _Spec("v"), 0)


def quoted(value: str, mark: str = '"', ascii_only: bool = False) -> str:
    """A Go string literal of the text, as `%q` prints it."""
    parts = [mark]
    for c in value:
        if c == mark:
            parts.append("\\" + mark)
        elif c in _ESCAPES:
            parts.append(_ESCAPES[c])
        elif "\ud800" <= c <= "\udfff":
            parts.append("\\ufffd" if ascii_only else "\ufffd")
        elif " " <= c <= "~" or (c.isprintable() and not ascii_only):
            parts.append(c)
        elif c < " " or c == "\x7f":
            parts.append(f"\\x{ord(c):02x}")
        else:
            parts.append(f"\\u{ord(c):04x}" if c <= "\uffff" else f"\\U{ord(c):08x}")
    parts.append(mark)
    return "".join(parts)


def go_time(value: datetime) -> str:
    """`time.Time.String()`."""
    seconds = value.utcoffset()
    minutes = int(seconds.total_seconds() // 60) if seconds is not None else 0
    sign = "-" if minutes < 0 else "+"
    offset = f"{sign}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"
    zone = "UTC" if minutes == 0 else (value.tzname() or offset)
    fraction = f".{value.microsecond:06d}".rstrip("0") if value.microsecond else ""
    return f"{value.year:04d}-{value:%m-%d %H:%M:%S}{fraction} {offset} {zone}"


@dataclass(slots=True)
class _Spec:
    """One directive: `%-8.3f`."""

    verb: str
    flags: str = ""
    width: int | None = None
    precision: int | None = None

    def pad(self, shown: str, number: bool = False) -> str:
        """The text in its width; zeros go before any text, but behind a number's sign."""
        width = self.width or 0
        if "-" in self.flags:
            return shown.ljust(width)
        if "0" not in self.flags:
            return shown.rjust(width)
        sign = shown[:1] if number and shown[:1] in ("+", "-", " ") else ""
        return sign + shown[len(sign) :].rjust(width - len(sign), "0")


class _Formatter:
    """Formats one value; counts what it makes so that nested widths stay bounded."""

    def __init__(self, float_style: str = "go") -> None:
        self.plain_floats = float_style == "plain"
        self.left = MAX_TEXT

    def format(self, value: object, spec: _Spec, depth: int = 0) -> str:
        shown = self._format(value, spec, depth)
        self.left -= len(shown) if not isinstance(value, (list, dict)) else 2
        if self.left < 0:
            raise too_long("printf")
        return shown

    def _format(self, value: object, spec: _Spec, depth: int) -> str:
        verb = spec.verb
        if verb == "T":
            return spec.pad(type_name(value))
        if isinstance(value, Version):
            value = str(value)
        if value is None:
            if depth:
                return "interface {}(nil)" if verb == "v" and "#" in spec.flags else "<nil>"
            return spec.pad("<nil>") if verb == "v" else f"%!{verb}(<nil>)"
        if isinstance(value, datetime):
            value = go_time(value)
        if isinstance(value, bool):
            if verb in "vt":
                return spec.pad("true" if value else "false")
        elif isinstance(value, str):
            if verb in "vsqxX":
                return self.string(value, spec)
        elif isinstance(value, int):
            if verb in "vdboOxXcqU":
                return self.integer(value, spec)
        elif isinstance(value, float):
            if verb in "vbgGxXfFeE":
                return self.floating(value, spec)
        elif isinstance(value, (list, tuple, dict)):
            return self.collection(value, spec, depth)
        flags = spec.flags.replace("#", "")
        shown = self._format(value, _Spec("v", flags, spec.width, spec.precision), depth)
        return f"%!{verb}({type_name(value)}={shown})"

    def plain(self, value: object) -> str:
        return self._format(value, _Spec("v"), 0)

    def collection(self, value: Any, spec: _Spec, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise too_deep("printf")
        if isinstance(value, dict):
            pairs = (
                self.format(to_text(k), spec) + ":" + self.format(value[k], spec, depth + 1)
                for k in sorted_keys(value)
            )
            if spec.verb == "v" and "#" in spec.flags:
                return "map[string]interface {}{" + ", ".join(pairs) + "}"
            return "map[" + " ".join(pairs) + "]"
        elements = (self.format(element, spec, depth + 1) for element in value)
        if spec.verb == "v" and "#" in spec.flags:
            return "[]interface {}{" + ", ".join(elements) + "}"
        return "[" + " ".join(elements) + "]"

    def string(self, value: str, spec: _Spec) -> str:
        verb, flags = spec.verb, spec.flags
        if spec.precision is not None and verb not in "xX":
            value = value[: spec.precision]
        if verb == "q" or (verb == "v" and "#" in flags):
            if verb == "q" and "#" in flags and "`" not in value and value.isprintable():
                return spec.pad(f"`{value}`")
            return spec.pad(quoted(value, ascii_only=verb == "q" and "+" in flags))
        if verb in "xX":
            raw = octets(value)[: spec.precision]
            digits = raw.hex(" ") if " " in flags else raw.hex()
            prefix = "0x" if "#" in flags and raw else ""
            if prefix and " " in flags:
                digits = " ".join(prefix + pair for pair in digits.split(" "))
            else:
                digits = prefix + digits
            return spec.pad(digits.upper() if verb == "X" else digits)
        return spec.pad(value)

    def integer(self, value: int, spec: _Spec) -> str:
        verb, flags = spec.verb, spec.flags
        if verb in "cqU":
            point = value if 0 <= value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF else 0xFFFD
            if verb == "c":
                return spec.pad(chr(point))
            if verb == "q":
                return spec.pad(quoted(chr(point), "'", "+" in flags))
            shown = f"U+{value:04X}" if value >= 0 else f"U+{value & (1 << 64) - 1:X}"
            if "#" in flags and 0 <= value <= 0x10FFFF and chr(point).isprintable():
                shown += f" '{chr(point)}'"
            return spec.pad(shown)
        digits = {
            "b": lambda n: f"{n:b}",
            "o": lambda n: f"{n:o}",
            "O": lambda n: f"{n:o}",
            "x": lambda n: f"{n:x}",
            "X": lambda n: f"{n:X}",
        }.get(verb, int_text)(abs(value))
        if spec.precision is not None:
            digits = "" if spec.precision == 0 and value == 0 else digits.zfill(spec.precision)
            if not digits:
                return " " * (spec.width or 0)
        sign = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
        # Zero padding counts the sign but not the prefix, as in Go.
        fill = "0" in flags and "-" not in flags and spec.precision is None and spec.width
        if fill:
            digits = digits.zfill((spec.width or 0) - len(sign))
        prefix = "0o" if verb == "O" else ""
        if "#" in flags:
            if verb in "xX":
                prefix = f"0{verb}"
            elif verb == "b":
                prefix = "0b"
            elif verb == "o" and not digits.startswith("0"):
                prefix = "0"
        if spec.precision is not None:  # asks for digits, so the width is filled with spaces
            spec = _Spec(verb, flags.replace("0", ""), spec.width)
        return spec.pad(sign + prefix + digits)

    def floating(self, value: float, spec: _Spec) -> str:
        if self.plain_floats:
            return float_text(value)
        verb, precision, flags = spec.verb, spec.precision, spec.flags
        if not isfinite(value):
            shown = float_text(value)
            if shown == "+Inf" and "+" not in flags:
                shown = " Inf" if " " in flags else "+Inf"
            elif shown == "NaN" and ("+" in flags or " " in flags):
                shown = ("+" if "+" in flags else " ") + shown
            return spec.pad(shown)
        if verb in "vg":
            shown = general(value, precision, "e", "#" in flags and verb == "g")
        elif verb == "G":
            shown = general(value, precision, "E", "#" in flags)
        elif verb in "fF":
            shown = fixed(value, 6 if precision is None else precision)
        elif verb in "eE":
            shown = format(value, f".{6 if precision is None else precision}{verb}")
        elif verb in "xX":
            shown = hexadecimal(value, precision)
            shown = shown.upper() if verb == "X" else shown
        else:
            mantissa, exponent = frexp(value)
            shown = f"{int(mantissa * (1 << 53))}p{exponent - 53:+d}"
        if not shown.startswith("-"):
            shown = ("+" if "+" in flags else " " if " " in flags else "") + shown
        return spec.pad(shown, number=True)


def fixed(value: float, precision: int) -> str:
    """`%.<precision>f`, exact for every double."""
    return format(value, f".{precision}f")


def hexadecimal(value: float, precision: int | None) -> str:
    """`%x` of a float: `0x1.8p+00`."""
    mantissa, exponent = frexp(abs(value))
    bits, exponent = int(mantissa * (1 << 53)), exponent - 1 if value else 0
    if precision is not None and precision < 13:
        drop = 4 * (13 - precision)
        half, rest = 1 << (drop - 1), bits & ((1 << drop) - 1)
        bits = (bits >> drop) + (rest > half or (rest == half and (bits >> drop) & 1))
        bits <<= drop
        if bits >= 1 << 53:
            bits, exponent = bits >> 1, exponent + 1
    digits = f"{bits & ((1 << 52) - 1):013x}"
    digits = digits.rstrip("0") if precision is None else digits[:precision].ljust(precision, "0")
    sign = "-" if str(value)[0] == "-" else ""
    point = f".{digits}" if digits else ""
    return f"{sign}0x{bits >> 52}{point}p{exponent:+03d}"


def general(value: float, precision: int | None, e: str, sharp: bool = False) -> str:
    """`%g`: with the shortest digits when no precision is given."""
    if value == 0:
        return "-0" if str(value)[0] == "-" else "0"
    exact = Decimal(repr(value)) if precision is None else Decimal(value)
    if precision is not None:
        precision = max(precision, 1)
        exact = exact.quantize(
            Decimal((0, (1,), exact.adjusted() - precision + 1)),
            ROUND_HALF_EVEN,
            context=_context(),
        )
    sign, digits, _ = exact.as_tuple()
    shown = "".join(map(str, digits)).rstrip("0") or "0"
    exponent = exact.adjusted()
    return ("-" if sign else "") + _placed(shown, exponent, precision, e, sharp)


def _placed(shown: str, exponent: int, precision: int | None, e: str, sharp: bool) -> str:
    """`%g` of the digits: with or without an exponent, and padded with zeros for `%#g`."""
    limit = 6 if precision is None else precision
    if precision is not None and limit > len(shown) >= exponent + 1:
        limit = len(shown)
    if sharp:
        shown = shown.ljust(6 if precision is None else precision, "0")
    if exponent < -4 or exponent >= limit:
        point = "." if len(shown) > 1 or sharp else ""
        sign = "-" if exponent < 0 else "+"
        return f"{shown[0]}{point}{shown[1:]}{e}{sign}{abs(exponent):02d}"
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + shown
    whole, rest = shown[: exponent + 1].ljust(exponent + 1, "0"), shown[exponent + 1 :]
    return f"{whole}.{rest}" if rest or sharp else whole


def _context() -> Any:
    from decimal import Context

    return Context(prec=1_200)


def printf(template: object, *values: object) -> str:
    """Go's `fmt.Sprintf`."""
    source = text("printf", template, "a format text")
    formatter = _Formatter()
    parts: list[str] = []
    position, used, reordered, length = 0, 0, False, 0

    def take_index(index: str | None) -> bool:
        """Follows an explicit argument index `[n]`; false if it is no good."""
        nonlocal used, reordered
        if index is None:
            return True
        reordered = True
        inner = index[1:-1] if index.endswith("]") else ""
        if not inner.isdigit() or not 1 <= int(inner[:9]) <= len(values):
            return False
        used = int(inner) - 1
        return True

    def star(field: str | None) -> tuple[int | None, bool]:
        """A width or precision: digits, or `*` that takes an argument."""
        nonlocal used
        if not field:
            return None, True
        if not field.endswith("*"):
            if len(field) > 7 or int(field) > 1_000_000:
                raise too_long("printf")
            return int(field), True
        if not take_index(field[:-1] or None) or used >= len(values):
            return None, False
        value = values[used]
        used += 1
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > 1_000_000:
            return None, False
        return value, True

    for found in _VERB.finditer(source):
        parts.append(source[position : found.start()])
        position = found.end()
        flags, verb = found["flags"], found["verb"]
        width, good_width = star(found["width"])
        precision: int | None = None
        good_precision = True
        if found["dot"]:
            precision, good_precision = star(found["precision"])
            if precision is None and good_precision:
                precision = 0
            elif precision is not None and precision < 0:
                precision, good_precision = None, False
        if not good_width:
            parts.append("%!(BADWIDTH)")
        if not good_precision:
            parts.append("%!(BADPREC)")
        good_index = take_index(found["index"])
        if width is not None and width < 0:
            width, flags = -width, flags + "-"
        if verb == "v":  # %+v would name the fields of structs, of which there are none
            flags = flags.replace("+", "")
        if verb is None:
            parts.append("%!(NOVERB)")
        elif verb == "%":
            parts.append("%")
        elif not good_index:
            parts.append(f"%!{verb}(BADINDEX)")
        elif used >= len(values):
            parts.append(f"%!{verb}({'BADINDEX' if reordered and found['index'] else 'MISSING'})")
        else:
            parts.append(formatter.format(values[used], _Spec(verb, flags, width, precision)))
            used += 1
        length += len(parts[-1])
        if length > MAX_TEXT:
            raise too_long("printf")
    parts.append(source[position:])
    if not reordered and used < len(values):
        extra = ", ".join(
            "<nil>" if v is None else f"{type_name(v)}={formatter.plain(v)}" for v in values[used:]
        )
        parts.append(f"%!(EXTRA {extra})")
    return _whole("printf", parts)


def print_(*values: object) -> str:
    """Go's `fmt.Sprint`: a space between two operands of which neither is text."""
    parts: list[str] = []
    for n, value in enumerate(values):
        if n and not isinstance(value, str) and not isinstance(values[n - 1], str):
            parts.append(" ")
        parts.append(go_text(value))
    return _whole("print", parts)


def println(*values: object) -> str:
    """Go's `fmt.Sprintln`."""
    return _whole("println", [" ".join(map(go_text, values)), "\n"])


def _whole(where: str, parts: list[str]) -> str:
    if sum(map(len, parts)) > MAX_TEXT:
        raise too_long(where)
    return "".join(parts)


FORMATTING: tuple[Function, ...] = (
    Function("printf", printf, 1, None),
    Function("print", print_, 0, None),
    Function("println", println, 0, None),
)
