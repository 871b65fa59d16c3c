"""What evaluating may cost: limits, and the steps that a call takes (reliability.md F5).

A step is a pass through a loop or a call; a call with large arguments, or one that makes much,
takes more of them, so that a loop over `toJson .everything` ends too. Counting is deterministic,
and is what ends a template that does too much. The clock stands behind it: it is looked at every
LOOK_EVERY steps and before every call that costs as many, and counts the seconds that the thread
computes, so that neither a busy machine nor a tool that a prompt waits for makes a template fail.
"""

from __future__ import annotations

from collections.abc import Sequence

LIMIT = "CZ407"
MAX_STEPS = 100_000
MAX_OUTPUT = 1 << 20  # characters
LOOK_EVERY = 256

_ELEMENTS = 8  # elements that a step pays for
_DEAR_ELEMENTS = 2  # the same where they are compared or copied
_CHARACTERS = 1024
_DEAR_CHARACTERS = 64  # where each one is looked at by itself

# Look at one element at most, however large the argument.
_CONSTANT_NAMES = """
    index get hasKey len length first last default coalesce empty ternary required
    list tuple kindOf kindIs typeOf typeIs typeIsLike eq ne lt le gt ge
"""
_DEAR_NAMES = """
    sort sortAlpha range uniq mustUniq unique without mustWithout group deepCopy mustDeepCopy
    merge mustMerge mergeOverwrite mustMergeOverwrite
"""
_DEAR_TEXT_NAMES = """
    camelcase snakecase kebabcase initials untitle title swapcase abbrev abbrevboth wrap wrapWith
    shuffle html htmlEscape htmlAttrEscape js jsEscape urlquery b32enc b32dec plural indent nindent
    regexFindAll mustRegexFindAll regexReplaceAll mustRegexReplaceAll regexReplaceAllLiteral
    mustRegexReplaceAllLiteral regexSplit mustRegexSplit regexQuoteMeta printf randAlphaNum
    randAlpha randNumeric randAscii
"""
# May make much of little: what they make is paid for as well.
_MAKING_NAMES = """
    until untilStep seq repeat indent nindent printf randAlphaNum randAlpha randNumeric randAscii
    replace join cat wrapWith regexReplaceAll mustRegexReplaceAll regexReplaceAllLiteral
    mustRegexReplaceAllLiteral concat flatten toPrettyJson mustToPrettyJson
"""
# Walk into the elements of their arguments.
_DEEP_NAMES = """
    toJson mustToJson toPrettyJson mustToPrettyJson toRawJson mustToRawJson deepCopy mustDeepCopy
    merge mustMerge mergeOverwrite mustMergeOverwrite deepEqual dict has mustHas in uniq mustUniq
    unique without mustWithout compact mustCompact flatten print println printf toString toStrings
    quote squote join cat html js urlquery htmlEscape htmlAttrEscape jsEscape validateSchema
"""
_CONSTANT = frozenset(_CONSTANT_NAMES.split())
_DEAR = frozenset(_DEAR_NAMES.split())
_DEEP = frozenset(_DEEP_NAMES.split())
_DEAR_TEXT = frozenset(_DEAR_TEXT_NAMES.split())
MAKING = frozenset(_MAKING_NAMES.split())


def steps_of(name: str, values: Sequence[object]) -> int:
    """The steps that a call of the function takes with these arguments."""
    if name in _CONSTANT:
        return 1
    if name == "dict":
        values = values[::2]  # the keys are made text; the values are as they were
    characters = _DEAR_CHARACTERS if name in _DEAR_TEXT else _CHARACTERS
    steps = 1
    for value in values:
        if isinstance(value, str):
            steps += len(value) // characters
        elif isinstance(value, (list, dict)):
            size = _nodes(value) if name in _DEEP else len(value)
            steps += size // (_DEAR_ELEMENTS if name in _DEAR else _ELEMENTS)
    return steps


def steps_for(name: str, made: object) -> int:
    """The steps for what a call of MAKING made, beside those for its arguments."""
    if isinstance(made, str):
        return len(made) // (_DEAR_CHARACTERS if name in _DEAR_TEXT else _CHARACTERS)
    return len(made) // _ELEMENTS if isinstance(made, (list, dict)) else 0


def _nodes(value: object) -> int:
    """How many values there are in the value, up to what all steps together pay for."""
    count, waiting = 0, [value]
    while waiting and count < MAX_STEPS * _ELEMENTS:
        inner = waiting.pop()
        count += 1
        if isinstance(inner, dict):
            waiting.extend(inner.values())
        elif isinstance(inner, list):
            waiting.extend(inner)
    return count
