"""Regular expressions in Go's syntax, matched by RE2 in linear time.

In: a pattern and text. Out: text, lists, booleans. Python's `re` would let a pattern of a template
run for ever, so there is no fallback to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from time import thread_time
from typing import Any

from compozy_prefect.expressions.functions.contract import (
    MAX_ITEMS,
    MAX_SECONDS,
    MAX_TEXT,
    Function,
    FunctionError,
    aliases,
    describe,
    integer,
    octets,
    text,
    too_long,
)

MAX_PATTERN = 4096
"""Characters of a pattern: the time to match grows with them and with those of the text."""

_LOOK_EVERY = 512  # matches between two looks at the clock

_REFERENCE = r"\$(?:(\$)|([0-9A-Za-z_]+)|\{([0-9A-Za-z_]+)\})"
_META = r"([\\.+*?()|\[\]{}^$])"


@lru_cache(maxsize=256)
def _compiled(where: str, pattern: str) -> Any:
    try:
        import re2
    except ImportError:
        raise FunctionError(f"{where}: needs the package google-re2") from None
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = str(error).removeprefix("b'").removesuffix("'")
        raise FunctionError(f"{where}: {describe(pattern)} is no pattern: {reason}") from None


def _arguments(where: str, pattern: object, value: object) -> tuple[Any, str]:
    given = text(where, pattern, "a pattern as text")
    if len(given) > MAX_PATTERN:
        raise FunctionError(f"{where}: a pattern has at most {MAX_PATTERN:,} characters")
    compiled = _compiled(where, _whole(given))
    return compiled, _whole(text(where, value))


def _whole(source: str) -> str:
    """Text without halves of characters, which the engine does not take."""
    return source if source.isascii() else octets(source).decode()


def _matches(where: str, compiled: Any, source: str) -> Iterator[Any]:
    """Go's matches: none that is empty right behind another.

    A pattern of hundreds of groups takes a millisecond a match, so the clock is looked at here too.
    """
    behind, end = -1, thread_time() + MAX_SECONDS
    for count, found in enumerate(compiled.finditer(source), 1):
        if not count % _LOOK_EVERY and thread_time() > end:
            raise FunctionError(f"{where}: takes longer than {MAX_SECONDS:g} s")
        if found.end() == found.start() == behind:
            continue
        behind = found.end()
        yield found


def regex_match(pattern: object, value: object) -> bool:
    """Whether the text has a match; false if the pattern is none (Sprig)."""
    text("regexMatch", pattern, "a pattern as text")
    text("regexMatch", value)
    try:
        return must_regex_match(pattern, value)
    except FunctionError:
        return False


def must_regex_match(pattern: object, value: object) -> bool:
    compiled, source = _arguments("mustRegexMatch", pattern, value)
    return compiled.search(source) is not None


def regex_find(pattern: object, value: object) -> str:
    """The first match, or ""."""
    compiled, source = _arguments("regexFind", pattern, value)
    found = compiled.search(source)
    return str(found.group()) if found is not None else ""


def regex_find_all(pattern: object, value: object, count: object = -1) -> list[Any]:
    """The matches, at most `count` of them unless it is negative."""
    compiled, source = _arguments("regexFindAll", pattern, value)
    limit = integer("regexFindAll", count, "an integer count")
    made: list[Any] = []
    for found in _matches("regexFindAll", compiled, source):
        if 0 <= limit <= len(made):
            break
        made.append(found.group())
        if len(made) > MAX_ITEMS:
            raise FunctionError(f"regexFindAll: the result has more than {MAX_ITEMS:,} elements")
    return made


def _replaced(where: str, compiled: Any, source: str, replacement: str, literal: bool) -> str:
    parts: list[str] = []
    position = size = 0
    names = compiled.groupindex
    for found in _matches(where, compiled, source):
        new = replacement if literal else _expanded(replacement, found, names)
        parts += (source[position : found.start()], new)
        position = found.end()
        size += len(parts[-1]) + len(parts[-2])
        if size > MAX_TEXT:
            raise too_long(where)
    parts.append(source[position:])
    return "".join(parts)


def _expanded(template: str, found: Any, names: Any) -> str:
    """Go's `Expand`: `$1`, `${1}`, `$name`; an unknown group is empty, `$$` a dollar."""

    def group(reference: re.Match[str]) -> str:
        if reference[1]:
            return "$"
        name = reference[2] or reference[3]
        if name.isdigit():
            number = int(name[:6])
            return (found.group(number) or "") if number <= found.re.groups else ""
        return (found.group(names[name]) or "") if name in names else ""

    return re.sub(_REFERENCE, group, template)


def regex_replace_all(pattern: object, value: object, replacement: object) -> str:
    """Each match replaced; `$1`, `${1}` and `${name}` stand for groups."""
    compiled, source = _arguments("regexReplaceAll", pattern, value)
    new = text("regexReplaceAll", replacement, "a text as replacement")
    return _replaced("regexReplaceAll", compiled, source, new, literal=False)


def regex_replace_all_literal(pattern: object, value: object, replacement: object) -> str:
    compiled, source = _arguments("regexReplaceAllLiteral", pattern, value)
    new = text("regexReplaceAllLiteral", replacement, "a text as replacement")
    return _replaced("regexReplaceAllLiteral", compiled, source, new, literal=True)


def regex_split(pattern: object, value: object, count: object = -1) -> list[Any]:
    """The parts between matches, at most `count` unless it is negative."""
    compiled, source = _arguments("regexSplit", pattern, value)
    limit = integer("regexSplit", count, "an integer count")
    if limit == 0:
        return []
    if compiled.pattern and not source:
        return [""]
    parts: list[Any] = []
    begin = end = 0
    for found in _matches("regexSplit", compiled, source):
        if 0 < limit <= len(parts) + 1:
            break
        end = found.start()
        if found.end() != 0:
            parts.append(source[begin:end])
        begin = found.end()
        if len(parts) > MAX_ITEMS:
            raise FunctionError(f"regexSplit: the result has more than {MAX_ITEMS:,} elements")
    if end != len(source):
        parts.append(source[begin:])
    return parts


def regex_quote_meta(value: object) -> str:
    """The pattern that matches the text itself."""
    return re.sub(_META, r"\\\1", text("regexQuoteMeta", value))


REGEXES: tuple[Function, ...] = (
    Function("regexMatch", regex_match, 2, 2),
    Function("mustRegexMatch", must_regex_match, 2, 2),
    *aliases(Function("regexFind", regex_find, 2, 2), "mustRegexFind"),
    *aliases(Function("regexFindAll", regex_find_all, 2, 3, in_parentheses=1), "mustRegexFindAll"),
    *aliases(
        Function("regexReplaceAll", regex_replace_all, 3, 3, in_parentheses=1),
        "mustRegexReplaceAll",
    ),
    *aliases(
        Function("regexReplaceAllLiteral", regex_replace_all_literal, 3, 3, in_parentheses=1),
        "mustRegexReplaceAllLiteral",
    ),
    *aliases(Function("regexSplit", regex_split, 2, 3, in_parentheses=1), "mustRegexSplit"),
    Function("regexQuoteMeta", regex_quote_meta, 1, 1),
)
