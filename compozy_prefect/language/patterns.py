"""The regular expressions of JSON Schemas: ECMA-262, found anywhere in a text, within a bound.

In: a pattern as a schema writes it, and a text. Out: whether it is found, or why it cannot be.

RE2 matches in linear time, but knows neither look-around nor back-references; what it refuses goes
to `regex`, which backtracks and can be stopped. Both get the pattern in a spelling that means to
them what it means in ECMA-262: digits and words are ASCII, white space is Unicode's, `.` stops at
each of four line breaks, `$` is the very end. Beyond the standard, what the engines know passes:
`(?i)`, `\\A`, `\\z`, `[[:alpha:]]`. Neither engine is imported before the first pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from time import thread_time
from typing import Any

SEARCH_SECONDS = 0.05
"""Seconds that one search may take in the engine that backtracks."""

TOTAL_SECONDS = 2.0
"""Seconds of processor time that all searches inside of one `bounded()` may take."""

LONGEST = 10_000
"""Characters of a pattern: `regex` compiles so many in some 50 ms."""

_LARGEST = 20_000
"""Parts that `regex` may make of a pattern, at 250 bytes and 1 µs each: it unrolls repetitions."""

_STEPS = 10_000_000
"""Instructions times characters up to which RE2 is asked: it cannot be stopped, and does one such
step in 8 ns when its cache of states overflows."""


class PatternError(ValueError):
    """A text is no regular expression; `position` is the character where that shows, from 0."""

    def __init__(self, pattern: str, reason: str, position: int) -> None:
        self.reason = reason
        self.position = max(0, min(position, len(pattern) - 1))
        super().__init__(f"no regular expression: {reason} at character {self.position + 1}")


class PatternTimeout(Exception):
    """A search took longer than it may; whether the pattern matches is not known."""

    def __init__(self, pattern: str, text: str) -> None:
        shown = pattern if len(pattern) <= 80 else pattern[:79] + "…"
        super().__init__(
            f"the pattern `{shown}` takes too long on a text of {len(text):,} characters"
        )


def search(pattern: str, text: str) -> bool:
    """Whether `pattern` is found anywhere in `text`.

    Raises PatternError, and PatternTimeout after some 0.1 s, or sooner when the searches of
    `bounded()` have used up their time.
    """
    spent = _spent.get()
    text = _whole(text)
    begin = thread_time()
    linear = _linear(pattern)
    if linear is not None and linear.programsize * len(text) <= _STEPS:
        found = linear.search(text) is not None
    else:
        try:
            # The clock of `timeout` counts what other threads do, hence they have to wait.
            hit = _backtracking(pattern).search(text, timeout=SEARCH_SECONDS, concurrent=False)
        except TimeoutError:
            raise PatternTimeout(pattern, text) from None
        found = hit is not None
    if spent is not None:
        spent[0] += thread_time() - begin
        if spent[0] > TOTAL_SECONDS:
            raise PatternTimeout(pattern, text)
    return found


def check(pattern: str) -> None:
    """Raises PatternError for what is no regular expression."""
    if _linear(pattern) is None:
        _backtracking(pattern)


@contextmanager
def bounded() -> Iterator[None]:
    """Holds all searches of the block together to TOTAL_SECONDS."""
    token = _spent.set([0.0])
    try:
        yield
    finally:
        _spent.reset(token)


_spent: ContextVar[list[float] | None] = ContextVar("spent", default=None)


@lru_cache(maxsize=512)
def _linear(pattern: str) -> Any:
    """RE2's compiled pattern; None for one that it does not take."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile("".join(part for _, part in _spelling(pattern, "re2")), options)
    except re2.error:
        return None


@lru_cache(maxsize=128)
def _backtracking(pattern: str) -> Any:
    import regex

    parts = _spelling(pattern, "regex")
    try:
        return regex.compile("".join(part for _, part in parts))
    except regex.error as fault:
        # Its place is often behind what is wrong.
        behind = fault.msg.startswith(("bad escape", "unknown property", "undefined"))
        place = _place(parts, (fault.pos or 0) - behind)
        raise PatternError(pattern, fault.msg, place) from None
    except RecursionError:
        raise PatternError(pattern, "nested too deeply", 0) from None


# --- from ECMA-262 to the engines ----------------------------------------------------------------

_CHARACTER = r"""
      \\u(?P<pair>[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})
    | \\(?:u\{(?P<long>[0-9a-fA-F]{1,6})\} | u(?P<hex>[0-9a-fA-F]{4}) | x(?P<byte>[0-9a-fA-F]{2}))
    | \\c(?P<control>[A-Za-z])
    | \\(?P<kind>[dDwWsS])
    | \\(?P<edge>[bB])
    | (?P<named>\\[pP](?:\{[^}]*\}|[A-Z]) | \[:\^?[a-z]+:\])
    | \\(?P<escape>.)
    | (?P<plain>.)
"""
_IN_SET = re.compile(_CHARACTER, re.VERBOSE | re.DOTALL)
_TOKEN = re.compile(
    r"""
      (?P<set>\[ (?: \\. | \[:\^?[a-z]+:\] | [^\]\\] )* \])
    | (?P<group>\( (?: \?(?: [:=!] | <[=!] | P?<[^>]*> | [imsU-]+: ) | (?!\?) ) )
    | (?P<flags>\( \?[imsU-]+ \))
    | (?P<unknown>\[ | \(\?)
    | (?P<repeat>[*+?] | \{(?P<least>[0-9]+)(?:,[0-9]*)?\})
    | \\(?: (?P<number>[1-9][0-9]*) | k<(?P<name>[^>]*)> )
    | """
    + _CHARACTER,
    re.VERBOSE | re.DOTALL,
)
_FLAGS = re.compile(r"\(\?([ims]+)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROLS = {"0": 0, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_LAST = "\U0010ffff"
_BREAKS = "\n\r\u2028\u2029"
_WORD = "0-9A-Z_a-z"
_KINDS = {
    "d": "0-9",
    "D": rf"\x00-/:-{_LAST}",
    "w": _WORD,
    "W": rf"\x00-/:-@\x5b-\x5e`\x7b-{_LAST}",
    "s": "\t-\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff",
    "S": "\\x00-\b\\x0e-\x1f!-\x9f\xa1-\u167f\u1681-\u1fff\u200b-\u2027\u202a-\u202e"
    f"\u2030-\u205e\u2060-\u2fff\u3001-\ufefe\uff00-{_LAST}",
}
_ASSERTIONS = {
    "re2": {"b": r"\b", "B": r"\B", "$": r"\z"},
    "regex": {
        "b": f"(?:(?<=[{_WORD}])(?![{_WORD}])|(?<![{_WORD}])(?=[{_WORD}]))",
        "B": f"(?:(?<=[{_WORD}])(?=[{_WORD}])|(?<![{_WORD}])(?![{_WORD}]))",
        "$": r"\Z",
    },
}


def _spelling(pattern: str, engine: str) -> list[tuple[int, str]]:
    """The pattern in the spelling of an engine, in parts, each with where it begins in `pattern`.

    Raises PatternError for what does not even come apart.
    """
    if len(pattern) > LONGEST:
        raise PatternError(pattern, f"longer than {LONGEST:,} characters", LONGEST)
    tokens = list(_TOKEN.finditer(_whole(pattern)))
    for token in tokens:
        if token["unknown"]:
            reason = "unterminated character set" if token[0] == "[" else "unknown kind of group"
            raise PatternError(pattern, reason, token.start())
    if engine == "regex" and _size(tokens) > _LARGEST:
        raise PatternError(pattern, "repeats too much in front of what RE2 cannot match", 0)
    flags = "".join(_FLAGS.findall(pattern))
    return [(token.start(), _part(token, engine, flags)) for token in tokens]


def _size(tokens: list[re.Match[str]]) -> int:
    """How many parts `regex` makes of a pattern: of `(ab){3}` six."""
    groups = [0]
    last = 0
    for token in tokens:
        if token["group"]:
            groups.append(0)
        elif token[0] == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] += last
        elif token["repeat"]:
            more = last * (int(token["least"] or 1) - 1)
            groups[-1] += max(more, 0)
            last += max(more, 0)
        else:
            last = 1
            groups[-1] += 1
    return sum(groups)


def _place(parts: list[tuple[int, str]], position: int) -> int:
    """The character of the pattern that stands at `position` in the spelling."""
    for begin, part in parts:
        if position < len(part):
            return begin
        position -= len(part)
    return LONGEST


def _part(token: re.Match[str], engine: str, flags: str) -> str:
    """One token outside of a set. With `flags`, which no draft knows, `.` and `$` stay as they
    are: they mean what they mean to the engine."""
    kind, value = token.lastgroup, token[token.lastgroup or 0]
    if kind == "set":
        return _set(value)
    if kind == "kind":
        return f"[{_KINDS[value]}]"
    if kind == "edge":
        return _ASSERTIONS[engine][value]
    if kind in ("number", "name"):
        # In ECMA-262 a group that took no part matches nothing, and does not fail.
        return f"(?({value})\\g<{value}>)"
    if kind == "plain":
        if value == "$" and "m" not in flags:
            return _ASSERTIONS[engine][value]
        if value == "." and "s" not in flags:
            return f"[^{_BREAKS}]"
        return r"\x7b" if value == "{" else value  # in `regex` it begins a fuzzy match
    code = _code(token)
    return token[0] if code is None else _literal(code)


def _set(text: str) -> str:
    """A set with its brackets. A `-` is itself where a range has no character on either side."""
    negated = "^" if text[1] == "^" else ""
    tokens = list(_IN_SET.finditer(text, 1 + len(negated), len(text) - 1))
    if not tokens:
        return rf"[\x00-{_LAST}]" if negated else rf"[^\x00-{_LAST}]"
    out = ""
    while tokens:
        token = tokens.pop(0)
        first, last = _code(token), None
        if first is not None and len(tokens) > 1 and tokens[0][0] == "-":
            last = _code(tokens[1])
        if first is None:
            out += _KINDS[token["kind"]] if token["kind"] else token[0]
        elif last is None:
            out += _literal(first)
        else:
            out += f"{_literal(first)}-{_literal(last)}"
            del tokens[:2]
    return f"[{negated}{out}]"


def _code(token: re.Match[str]) -> int | None:
    """The character that a token of a set stands for; None when it is none, or several."""
    kind, value = token.lastgroup, token[token.lastgroup or 0]
    if kind == "pair":
        return 0x10000 + (int(value[:4], 16) % 0x400 << 10) + int(value[6:], 16) % 0x400
    if kind in ("long", "hex", "byte"):
        return int(value, 16)
    if kind == "control":
        return ord(value) % 32
    if kind == "edge" and value == "b":
        return 8
    if kind == "escape" and value.isascii() and value.isalnum():
        return _CONTROLS.get(value)
    return ord(value) if kind in ("escape", "plain") else None


def _literal(code: int) -> str:
    """A character as itself, in a set or not, to both engines."""
    letter = chr(code) if code < 0x110000 else "\ufffd"
    return _whole(letter) if code > 127 or letter.isalnum() else f"\\x{code:02x}"


def _whole(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs, which UTF-8 has no room for."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
