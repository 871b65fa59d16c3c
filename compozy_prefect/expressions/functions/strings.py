"""Text: trimming, case, cutting, searching, quoting, indenting (Sprig's strings).

In: text, and integers for widths. Out: text and booleans. Positions count bytes of UTF-8 as in Go;
a character cut in two prints as U+FFFD.
"""

from __future__ import annotations

from compozy_prefect.expressions.functions.contract import (
    MAX_TEXT,
    Function,
    FunctionError,
    aliases,
    from_octets,
    integer,
    joined,
    octets,
    text,
    too_long,
)
from compozy_prefect.expressions.functions.gofmt import go_text, quoted

# What Go calls white space; Python's own idea includes the separators \x1c to \x1f.
SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def upper_rune(c: str) -> str:
    """One character in upper case; Go maps one to one, so that "ß" stays."""
    upper = c.upper()
    if len(upper) != 1:
        upper = c.title()
    return upper if len(upper) == 1 else c


def lower_rune(c: str) -> str:
    return c.lower()[0]


def title_rune(c: str) -> str:
    title = c.title()
    return title if len(title) == 1 else c


def trim(value: object) -> str:
    return text("trim", value).strip(SPACE)


def trim_all(cutset: object, value: object) -> str:
    cut = text("trimAll", cutset)
    return text("trimAll", value).strip(cut) if cut else text("trimAll", value)


def trim_suffix(suffix: object, value: object) -> str:
    return text("trimSuffix", value).removesuffix(text("trimSuffix", suffix))


def trim_prefix(prefix: object, value: object) -> str:
    return text("trimPrefix", value).removeprefix(text("trimPrefix", prefix))


def upper(value: object) -> str:
    source = text("upper", value)
    return source.upper() if source.isascii() else "".join(map(upper_rune, source))


def lower(value: object) -> str:
    source = text("lower", value)
    return source.lower() if source.isascii() else "".join(map(lower_rune, source))


def title(value: object) -> str:
    """The first letter of each word in title case, the others as they are."""
    made: list[str] = []
    separated = True
    for c in text("title", value):
        made.append(title_rune(c) if separated else c)
        if c <= "\x7f":
            separated = not (c.isalnum() or c == "_")
        else:
            separated = not (c.isalpha() or c.isdecimal()) and c in SPACE
    return "".join(made)


def untitle(value: object) -> str:
    """The first letter of each word in lower case."""
    made: list[str] = []
    separated = True
    for c in text("untitle", value):
        if c in SPACE:
            separated = True
        elif separated:
            c, separated = lower_rune(c), False
        made.append(c)
    return "".join(made)


def swapcase(value: object) -> str:
    """Cases swapped; a lower-case letter that starts a word becomes title case."""
    made: list[str] = []
    separated = True
    for c in text("swapcase", value):
        if c.isupper() or c.istitle():
            c, separated = lower_rune(c), False
        elif c.islower():
            c, separated = (title_rune if separated else upper_rune)(c), False
        else:
            separated = c in SPACE
        made.append(c)
    return "".join(made)


def repeat(count: object, value: object) -> str:
    times, source = integer("repeat", count, "an integer count"), text("repeat", value)
    if times < 0:
        raise FunctionError(f"repeat: the count is negative: {times}")
    if times * len(source) > MAX_TEXT:
        raise too_long("repeat")
    return source * times


def substr(start: object, end: object, value: object) -> str:
    """From `start` to before `end`; a negative end, or one past the text, means its end."""
    first, last = integer("substr", start), integer("substr", end)
    raw = octets(text("substr", value))
    if first < 0:
        first = 0
        if last < 0:
            raise FunctionError(f"substr: {last} is out of range")
    elif last < 0 or last > len(raw):
        last = len(raw)
    if not first <= last <= len(raw):
        raise FunctionError(f"substr: {first} to {last} is out of range of {len(raw)} bytes")
    return from_octets(raw[first:last])


def trunc(count: object, value: object) -> str:
    """The first `count` bytes, or the last ones if it is negative."""
    size, source = integer("trunc", count), text("trunc", value)
    raw = octets(source)
    if len(raw) <= abs(size):
        return source
    return from_octets(raw[size:] if size < 0 else raw[:size])


def nospace(value: object) -> str:
    """Without white space. Sprig goes byte by byte; what it does to other letters is kept."""
    source = text("nospace", value)
    kept = bytes(b for b in octets(source) if chr(b) not in SPACE)
    if len(kept) == len(octets(source)):
        return source
    return kept.decode("latin-1")


def initials(value: object) -> str:
    """The first letter of each word, byte by byte as in Sprig."""
    made: list[str] = []
    separated = True
    for c in octets(text("initials", value)).decode("latin-1"):
        if c in SPACE:
            separated = True
        elif separated:
            made.append(c)
            separated = False
    return "".join(made)


def contains(part: object, value: object) -> bool:
    return text("contains", part) in text("contains", value)


def has_prefix(prefix: object, value: object) -> bool:
    return text("hasPrefix", value).startswith(text("hasPrefix", prefix))


def has_suffix(suffix: object, value: object) -> bool:
    return text("hasSuffix", value).endswith(text("hasSuffix", suffix))


def quote(*values: object) -> str:
    """Each value in double quotes, with Go's escapes; nulls are left out."""
    return joined("quote", " ", [quoted(go_text(v)) for v in values if v is not None])


def squote(*values: object) -> str:
    return joined("squote", " ", [f"'{go_text(v)}'" for v in values if v is not None])


def cat(*values: object) -> str:
    """The values with a space between; nulls are left out."""
    return joined("cat", " ", [go_text(v) for v in values if v is not None])


def indent(spaces: object, value: object) -> str:
    width, source = integer("indent", spaces, "an integer width"), text("indent", value)
    if width < 0:
        raise FunctionError(f"indent: the width is negative: {width}")
    if len(source) + width * (source.count("\n") + 1) > MAX_TEXT:
        raise too_long("indent")
    pad = " " * width
    return pad + source.replace("\n", "\n" + pad)


def nindent(spaces: object, value: object) -> str:
    return "\n" + indent(spaces, value)


def replace(old: object, new: object, value: object) -> str:
    before, after = text("replace", old), text("replace", new)
    source = text("replace", value)
    if len(source) + source.count(before) * max(len(after) - len(before), 0) > MAX_TEXT:
        raise too_long("replace")
    return source.replace(before, after)


def plural(one: object, many: object, count: object) -> str:
    """`one` when the count is 1, else `many`."""
    word, words = text("plural", one), text("plural", many)
    return word if integer("plural", count, "an integer count") == 1 else words


def abbrev(width: object, value: object) -> str:
    """At most `width` bytes, the last three of them dots."""
    size, source = integer("abbrev", width), text("abbrev", value)
    return source if size < 4 else from_octets(_abbreviated(octets(source), 0, size))


def abbrevboth(left: object, right: object, value: object) -> str:
    """At most `right` bytes from near `left`, with dots at both ends."""
    offset, size = integer("abbrevboth", left), integer("abbrevboth", right)
    source = text("abbrevboth", value)
    if size < 4 or (offset > 0 and size < 7):
        return source
    return from_octets(_abbreviated(octets(source), offset, size))


def _abbreviated(raw: bytes, offset: int, size: int) -> bytes:
    if len(raw) <= size:
        return raw
    offset = min(offset, len(raw))
    if len(raw) - offset < size - 3:
        offset = len(raw) - (size - 3)
    if offset <= 4:
        return raw[: size - 3] + b"..."
    if size < 7:
        return b""
    if offset + size - 3 < len(raw):
        return b"..." + (_abbreviated(raw[offset:], 0, size - 3) if size >= 7 else b"")
    return b"..." + raw[len(raw) - (size - 3) :]


def length(value: object) -> int:
    """Characters of text, elements of a list or map; 0 for null (the brief's `length`)."""
    if value is None:
        return 0
    if isinstance(value, (str, list, dict)):
        return len(value)
    raise FunctionError(f"length: wants text, a list or a map, got {go_text(value)[:40]}")


def len_(value: object) -> int:
    """Go's `len`: like `length`, but text counts bytes."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(octets(value))
    try:
        return length(value)
    except FunctionError as error:
        raise FunctionError(str(error).replace("length", "len", 1)) from None


STRINGS: tuple[Function, ...] = (
    Function("trim", trim, 1, 1),
    *aliases(Function("trimAll", trim_all, 2, 2), "trimall"),
    Function("trimSuffix", trim_suffix, 2, 2),
    Function("trimPrefix", trim_prefix, 2, 2),
    Function("upper", upper, 1, 1),
    Function("lower", lower, 1, 1),
    Function("title", title, 1, 1),
    Function("untitle", untitle, 1, 1),
    Function("swapcase", swapcase, 1, 1),
    Function("repeat", repeat, 2, 2),
    Function("substr", substr, 3, 3),
    Function("trunc", trunc, 2, 2),
    Function("nospace", nospace, 1, 1),
    Function("initials", initials, 1, 1),
    Function("contains", contains, 2, 2),
    Function("hasPrefix", has_prefix, 2, 2),
    Function("hasSuffix", has_suffix, 2, 2),
    Function("quote", quote, 0, None),
    Function("squote", squote, 0, None),
    Function("cat", cat, 0, None),
    Function("indent", indent, 2, 2),
    Function("nindent", nindent, 2, 2),
    Function("replace", replace, 3, 3),
    Function("plural", plural, 3, 3),
    Function("abbrev", abbrev, 2, 2),
    Function("abbrevboth", abbrevboth, 3, 3),
    Function("length", length, 1, 1),
    Function("len", len_, 1, 1),
)
