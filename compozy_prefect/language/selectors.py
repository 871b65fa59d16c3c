"""A selector path, `agents.#(id=="x").config`, → the node it leads to.

The syntax is gjson's, with `&&` and `||` in conditions (language.md §10.1). `parse` reads a path
once; `select` follows it. A path that leads nowhere is a `Miss`, which knows the step and the
node where it ended, so that the message can name what would have been there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence, Value


class Malformed(ValueError):
    """A path that cannot be read; `start` and `end` are offsets into its text."""

    def __init__(self, message: str, start: int, end: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.start = start
        self.end = end
        self.hint = hint


class Key(NamedTuple):
    """A member of a map, or the position of an item in a list."""

    name: str
    start: int
    end: int


class Each(NamedTuple):
    """`#`: the length of a list, or in front of other steps all its items."""

    start: int
    end: int


class Test(NamedTuple):
    """One comparison of a condition: `path op literal`."""

    path: tuple[str, ...]
    op: str
    literal: Value

    def __str__(self) -> str:
        value = self.literal
        shown = f'"{value}"' if isinstance(value, str) else _text(value)
        return f"{'.'.join(self.path)} {self.op} {shown}"


class Query(NamedTuple):
    """`#(…)`, the first item that matches, or `#(…)#`, all of them; any of `tests`' rows."""

    tests: tuple[tuple[Test, ...], ...]
    every: bool
    start: int
    end: int

    def __str__(self) -> str:
        return " || ".join(" && ".join(map(str, row)) for row in self.tests)


Step = Key | Each | Query


class Miss(NamedTuple):
    """`step` has nothing to lead to in `node`."""

    step: Step
    node: Node


# --- reading --------------------------------------------------------------------------------------

_KEY = re.compile(r"(?:\\.|[^.\\])+", re.S)
_TEST = re.compile(
    r"""\s*(?P<path>(?:\\.|[^\s=<>!%&|"'()\\])+)\s*(?P<op>==|!=|<=|>=|!%|=|<|>|%)\s*"""
    r"""(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>[^\s"'&|]+))\s*"""
)
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "null": None}
_EXAMPLE = 'a condition is like #(id=="writer") or #(provider=="openai" && model=="gpt-4")'


@lru_cache(maxsize=4096)
def parse(text: str) -> tuple[Step, ...]:
    """The steps of a path. Raises `Malformed`."""
    if not text.strip():
        raise Malformed("the path is empty", 0, len(text))
    steps: list[Step] = []
    at = len(text) - len(text.lstrip())
    length = len(text.rstrip())
    while True:
        if text.startswith("#(", at):
            close = _closing(text, at + 2)
            every = text.startswith("#", close + 1)
            end = close + 1 + every
            steps.append(Query(_condition(text, at + 2, close), every, at, end))
        elif text.startswith("#", at) and text[at + 1 : at + 2] in (".", ""):
            end = at + 1
            steps.append(Each(at, end))
        else:
            key = _KEY.match(text, at, length)
            if key is None:
                raise Malformed("a step of the path is empty", at, min(at + 1, len(text)))
            end = key.end()
            if (bracket := text.find("[", at, end)) >= 0:
                hint = 'write list.0 for the first item, list.#(id=="x") to search'
                raise Malformed("a path has no brackets", bracket, end, hint)
            if (hash_ := text.find("#(", at, end)) >= 0:
                raise Malformed("a `.` is missing in front of `#(`", hash_, hash_ + 2, _EXAMPLE)
            steps.append(Key(re.sub(r"\\(.)", r"\1", key[0]), at, end))
        if end >= length:
            return tuple(steps)
        if text[end] != ".":
            raise Malformed(f"a `.` should follow instead of `{text[end]}`", end, end + 1)
        at = end + 1


def _closing(text: str, at: int) -> int:
    """Where the parenthesis closes that opened before `at`."""
    start = at - 2
    quote, depth = "", 1
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0:
                return at
        at += 1
    what = "the quote in the condition is not closed" if quote else "the `)` of `#(` is missing"
    raise Malformed(what, start, len(text), _EXAMPLE)


def _condition(text: str, at: int, end: int) -> tuple[tuple[Test, ...], ...]:
    rows: list[tuple[Test, ...]] = []
    row: list[Test] = []
    while True:
        match = _TEST.match(text, at, end)
        if match is None:
            raise Malformed("the condition cannot be read", at, max(end, at + 1), _EXAMPLE)
        row.append(_test(match))
        at = match.end()
        joint = text[at : min(at + 2, end)]
        if joint != "&&":
            rows.append(tuple(row))
            row = []
        if at == end:
            return tuple(rows)
        if joint not in ("&&", "||"):
            hint = "tests are joined with && or ||"
            raise Malformed(f"`{text[at:end].strip()}` follows the test", at, end, hint)
        at += 2


def _test(match: re.Match[str]) -> Test:
    path = tuple(re.sub(r"\\(.)", r"\1", key) for key in re.split(r"(?<!\\)\.", match["path"]))
    op = "==" if match["op"] == "=" else match["op"]
    bare = match["bare"]
    literal: Value
    if bare is None:
        quoted = match["double"] if match["double"] is not None else match["single"]
        literal = re.sub(r"\\(.)", r"\1", quoted)
    elif bare in _CONSTANTS:
        literal = _CONSTANTS[bare]
    elif _NUMBER.fullmatch(bare) and len(bare) < 100:
        literal = float(bare)
        literal = int(literal) if literal.is_integer() else literal
    else:
        raise Malformed(
            f"`{bare}` is no text, number, true, false or null",
            *match.span("bare"),
            f'write "{bare}"',
        )
    return Test(path, op, literal)


# --- following ------------------------------------------------------------------------------------


# By the identity of a list and a key: the list, and its first items by the text of that key.
Indexes = dict[tuple[int, str], tuple[Sequence, dict[str, Node] | None]]


def select(
    steps: tuple[Step, ...],
    root: Node,
    *,
    enter: Callable[[Node], Node],
    origin: Node,
    indexes: Indexes | None = None,
) -> Node | Miss:
    """The node that `steps` lead to from `root`.

    `enter` is asked for what a map stands for before a step into it: a map may be a directive.
    What the path makes itself (a length, a list of matches) stands where `origin` does.
    `indexes`, kept between calls on one project, spare the search of long lists.
    """
    node = root
    for i, step in enumerate(steps):
        node = enter(node)
        if isinstance(step, Key):
            below = _member(node, step.name)
            if below is None:
                return Miss(step, node)
            node = below
            continue
        if not isinstance(node, Sequence):
            return Miss(step, node)
        if isinstance(step, Query):
            items = node.items
            if not step.every:
                first = _indexed(step, node, indexes)
                if first is None:
                    first = next((item for item in items if matches(step, item, enter)), None)
                if first is None:
                    return Miss(step, node)
                node = first
                continue
            items = tuple(item for item in items if matches(step, item, enter))
        elif i + 1 == len(steps):
            return Scalar(origin.file, origin.start, origin.end, len(node.items), "plain")
        else:
            items = node.items
        rest = steps[i + 1 :]
        if rest:
            below_all = [select(rest, item, enter=enter, origin=origin) for item in items]
            items = tuple(item for item in below_all if not isinstance(item, Miss))
        return Sequence(origin.file, origin.start, origin.end, items)
    return node


def _indexed(query: Query, node: Sequence, indexes: Indexes | None) -> Node | None:
    """The item that `#(key=="text")` finds; None when it has to be searched for.

    Only lists whose items all have the key as text are indexed: then the first item with a
    text is the first match.
    """
    if indexes is None or len(query.tests) != 1 or len(query.tests[0]) != 1:
        return None
    test = query.tests[0][0]
    if test.op != "==" or len(test.path) != 1 or not isinstance(test.literal, str):
        return None
    key = test.path[0]
    known = indexes.get((id(node), key))
    if known is None:
        known = indexes[id(node), key] = (node, _index(node, key))
    return known[1].get(test.literal) if known[1] is not None else None


def _index(node: Sequence, key: str) -> dict[str, Node] | None:
    index: dict[str, Node] = {}
    for item in node.items:
        value = item.entries.get(key) if isinstance(item, Mapping) else None
        if not isinstance(value, Scalar) or not isinstance(value.value, str):
            return None
        index.setdefault(value.value, item)
    return index


def matches(query: Query, item: Node, enter: Callable[[Node], Node]) -> bool:
    """Whether the condition holds for an item of a list. A key that it lacks holds no test."""
    return any(all(_holds(test, item, enter) for test in row) for row in query.tests)


def _member(node: Node, name: str) -> Node | None:
    if isinstance(node, Mapping):
        return node.entries.get(name)
    if isinstance(node, Sequence) and name.isascii() and name.isdigit() and len(name) < 10:
        return node.items[int(name)] if int(name) < len(node.items) else None
    return None


def _holds(test: Test, item: Node, enter: Callable[[Node], Node]) -> bool:
    node: Node | None = item
    for key in test.path:
        assert node is not None
        # What is written beside a directive wins over what it brings, so it is enough.
        below = _member(node, key)
        node = below if below is not None else _member(enter(node), key)
        if node is None:
            return False
    return isinstance(node, Scalar) and compare(node, test.op, test.literal)


def compare(scalar: Scalar, op: str, literal: Value) -> bool:
    """gjson's comparison: numbers as numbers where both are, text otherwise."""
    value = scalar.value
    left: float | str
    right: float | str
    if _is_number(value) and _NUMBER.fullmatch(_text(literal)):
        left, right = float(_text(value)), float(_text(literal))
    else:
        left = scalar.text if _is_number(value) else _text(value)
        right = _text(literal)
    match op:
        case "==":
            return left == right
        case "!=":
            return left != right
        case "%":
            return like(_text(value), _text(literal))
        case "!%":
            return not like(_text(value), _text(literal))
    if isinstance(left, float) and isinstance(right, float):
        sign = (left > right) - (left < right)
    else:
        sign = (str(left) > str(right)) - (str(left) < str(right))
    return {"<": sign < 0, "<=": sign <= 0, ">": sign > 0, ">=": sign >= 0}[op]


def like(text: str, pattern: str) -> bool:
    """`*` is any text, `?` one character. Linear but for one step back; no regular expression."""
    at = i = 0
    star, retry = -1, 0
    while at < len(text):
        if i < len(pattern) and pattern[i] == "*":
            star, retry = i, at
            i += 1
        elif i < len(pattern) and pattern[i] in ("?", text[at]):
            at += 1
            i += 1
        elif star >= 0:
            retry += 1
            at, i = retry, star + 1
        else:
            return False
    return not pattern[i:].strip("*")


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Value) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)
