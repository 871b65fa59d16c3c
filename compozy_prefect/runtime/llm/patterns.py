"""A regular expression → a text that it matches, the same one for the same number.

For offline answers to schemas with a `pattern`. Looks at the parsed expression and writes the
shortest thing it can; look-arounds and back references are beyond it, the caller checks.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

# The parser of `re` has no public name since 3.11, and no types.
_parser: Any = importlib.import_module("re._parser")
codes: Any = importlib.import_module("re._constants")

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CLASSES = {
    "CATEGORY_DIGIT": "0123456789",
    "CATEGORY_WORD": _LETTERS,
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_DIGIT": _LETTERS,
    "CATEGORY_NOT_WORD": "-",
    "CATEGORY_NOT_SPACE": _LETTERS,
}
_OTHERS = _LETTERS + "0123456789-_ ." + _LETTERS.upper()
_LONGEST = 2000


def matching(pattern: str, number: int, extra: int = 0) -> str | None:
    """A text that `pattern` finds itself in; None for a pattern that is none.

    `extra` says how many more repetitions than the fewest are written, where more are allowed.
    """
    try:
        parsed = _parser.parse(pattern)
    except (re.error, RecursionError, OverflowError):
        return None
    return _Writer(number, extra).text(parsed)[:_LONGEST]


class _Writer:
    def __init__(self, number: int, extra: int) -> None:
        self.number = number
        self.extra = extra

    def pick(self, letters: str) -> str:
        # A linear congruence over the 64 bits of the seed: letters that vary, and never differ.
        self.number = (self.number * 6364136223846793005 + 1442695040888963407) % 2**64
        return letters[(self.number >> 33) % len(letters)] if letters else ""

    def text(self, parsed: Any) -> str:
        out = ""
        for op, arg in parsed:
            out += self.one(op, arg)
            if len(out) > _LONGEST:
                break
        return out

    def one(self, op: Any, arg: Any) -> str:
        if op is codes.LITERAL:
            return chr(arg)
        if op is codes.NOT_LITERAL:
            return self.pick(_OTHERS.replace(chr(arg), ""))
        if op is codes.ANY:
            return self.pick(_LETTERS)
        if op is codes.IN:
            return self.pick(self.letters(arg))
        if op is codes.BRANCH:
            return self.text(arg[1][0])
        if op is codes.SUBPATTERN:
            return self.text(arg[-1])
        if op.name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            low, high, inner = arg
            times = min(int(low) + self.extra, int(high), int(low) + _LONGEST)
            out = ""
            for _ in range(times):
                out += self.text(inner)
                if len(out) > _LONGEST:
                    break
            return out
        if op.name == "ATOMIC_GROUP":
            return self.text(arg)
        return ""  # anchors match nothing; look-arounds and references are left to luck

    def letters(self, members: Any) -> str:
        negated = members[0][0] is codes.NEGATE
        found = ""
        for op, arg in members:
            if op is codes.LITERAL:
                found += chr(arg)
            elif op is codes.RANGE:
                found += "".join(map(chr, range(arg[0], min(arg[1], arg[0] + 127) + 1)))
            elif op is codes.CATEGORY:
                found += _CLASSES.get(arg.name, "")
        if negated:
            return "".join(letter for letter in _OTHERS if letter not in found)
        return found
