"""What evaluating may cost: limits, and the steps that a call takes (reliability.md F5).

A step is a pass through a loop or a call; a call with large arguments takes more of them, so that
a loop over `toJson .everything` ends too. Counting is deterministic: a clock would make the same
template fail on a busy machine.
"""

from __future__ import annotations

from collections.abc import Sequence

LIMIT = "CZ407"
MAX_STEPS = 100_000
MAX_OUTPUT = 1 << 20  # characters

_ELEMENTS = 8  # elements that a step pays for
_DEAR_ELEMENTS = 2  # the same where they are compared or copied
_CHARACTERS = 1024

# Look at one element at most, however large the argument.
_CONSTANT_NAMES = """
    index get hasKey len length first last default coalesce empty ternary required
    list tuple dict kindOf kindIs typeOf typeIs typeIsLike eq ne lt le gt ge
"""
_DEAR_NAMES = """
    sort sortAlpha range uniq mustUniq unique without mustWithout group deepCopy mustDeepCopy
    merge mustMerge mergeOverwrite mustMergeOverwrite
"""
# Walk into the elements of their arguments.
_DEEP_NAMES = """
    toJson mustToJson toPrettyJson mustToPrettyJson toRawJson mustToRawJson deepCopy mustDeepCopy
    merge mustMerge mergeOverwrite mustMergeOverwrite deepEqual has mustHas in uniq mustUniq unique
    without mustWithout compact mustCompact flatten print println printf toString toStrings quote
    squote join cat html js urlquery htmlEscape htmlAttrEscape jsEscape validateSchema
"""
_CONSTANT = frozenset(_CONSTANT_NAMES.split())
_DEAR = frozenset(_DEAR_NAMES.split())
_DEEP = frozenset(_DEEP_NAMES.split())


def steps_of(name: str, values: Sequence[object]) -> int:
    """The steps that a call of the function takes with these arguments."""
    if name in _CONSTANT:
        return 1
    steps = 1
    for value in values:
        if isinstance(value, str):
            steps += len(value) // _CHARACTERS
        elif isinstance(value, (list, dict)):
            size = _nodes(value) if name in _DEEP else len(value)
            steps += size // (_DEAR_ELEMENTS if name in _DEAR else _ELEMENTS)
    return steps


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
