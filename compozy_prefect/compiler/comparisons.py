"""Comparisons that never hold: what a value may be against what is written out (CZ505).

The rules of `==`, `<` and `in` are those of language.md §11.1 rule 4: numbers equal their text, a
boolean or a map nothing else. Only a literal is compared, since of two values both may be null.
"""

from __future__ import annotations

from collections.abc import Sequence

from compozy_prefect.compiler.env import Argument, Env, Finding
from compozy_prefect.compiler.values import NOUNS, NULL, Shape, element, literal
from compozy_prefect.expressions.functions.values import equal, number
from compozy_prefect.expressions.nodes import ListOf, Literal
from compozy_prefect.language.names import nearest

_EQUAL = {"==", "!=", "eq", "ne"}


def impossible(op: str, left: Argument, right: Argument, env: Env) -> None:
    """Reports `left op right` when one side is a literal that the other side can never be."""
    for value, given in ((left, right), (right, left)):
        if not isinstance(given.node, Literal) or isinstance(value.node, Literal):
            continue
        what = env.written(value.node)
        if op in _EQUAL:
            never_equal(what, value.shape, [given], env)
        elif not any(_may_order(one, given.shape) for one in value.shape.alternatives or (NULL,)):
            message = f"is {_nouns(value.shape)} and has no order with {_said(given)}"
            _report(what, message, given, None, env)


def never_equal(what: str, shape: Shape, given: Sequence[Argument], env: Env) -> None:
    """Reports a value, written `what`, that can equal none of the given ones, all literals."""
    if not given or not all(isinstance(one.node, Literal) for one in given):
        return
    if any(may_equal(shape, one.shape) for one in given):
        return
    wrong, choices = given[0], shape.choices
    if choices is None:
        message = f"is {_nouns(shape)} and never equals {_said(wrong)}"
        _report(what, message, wrong, _unquoted(shape, wrong), env)
        return
    texts = [_text(choice) for choice in choices]
    near = nearest(_value(wrong), texts)
    listed = f"it is one of {', '.join(texts)}"
    hint = f"did you mean `{near}`? {listed}" if near else listed
    _report(what, f"is never `{_value(wrong)}`", wrong, hint, env)


def never_in(needle: Argument, haystack: Argument, env: Env) -> None:
    """Reports `needle in haystack` when no element can be the needle."""
    if isinstance(haystack.node, ListOf):
        if not isinstance(needle.node, Literal):
            listed = [
                Argument(item, literal(item.value) if isinstance(item, Literal) else NULL)
                for item in haystack.node.items
            ]
            never_equal(env.written(needle.node), needle.shape, listed, env)
        return
    is_list = haystack.shape.kinds == {"array"} and isinstance(needle.node, Literal)
    if is_list and not may_equal(element(haystack.shape), needle.shape):
        message = f"never has {_said(needle)} in it"
        _report(env.written(haystack.node), message, needle, None, env)


def may_equal(a: Shape, b: Shape) -> bool:
    """Whether values of the shapes can be equal; null, which may be anywhere, aside."""
    if not a.alternatives or not b.alternatives:
        return True
    return any(_may_equal(x, y) for x in a.alternatives for y in b.alternatives)


def _may_equal(a: Shape, b: Shape) -> bool:
    if "null" in (a.kind, b.kind):
        return True
    if a.kind != b.kind and not _numbers(a, b):
        return False
    if a.values is None or b.values is None:
        return True
    return any(equal(x, y) for x in a.values for y in b.values)


def _numbers(a: Shape, b: Shape) -> bool:
    """Whether both may be a number, or the text of one."""
    return {a.kind, b.kind} <= {"number", "string"} and _numeric(a) and _numeric(b)


def _numeric(shape: Shape) -> bool:
    return shape.values is None or any(number(value) is not None for value in shape.values)


def _may_order(a: Shape, b: Shape) -> bool:
    return "null" in (a.kind, b.kind) or a.kind == b.kind == "string" or _numbers(a, b)


def _nouns(shape: Shape) -> str:
    return " or ".join(NOUNS[one.kind] for one in shape.alternatives)


def _said(given: Argument) -> str:
    return f"the {NOUNS[given.shape.kind].partition(' ')[2]} `{_value(given)}`"


def _value(given: Argument) -> str:
    return _text(given.node.value if isinstance(given.node, Literal) else None)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unquoted(shape: Shape, given: Argument) -> str | None:
    if shape.kinds == {"boolean"} and _value(given) in ("true", "false"):
        return f"write `{_value(given)}` without quotes"
    return None


def _report(what: str, message: str, given: Argument, hint: str | None, env: Env) -> None:
    found = Finding("CZ505", f"`{what}` {message}", given.node.start, given.node.end, hint)
    env.found.append(found)
