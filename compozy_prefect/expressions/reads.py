"""Syntax tree → the paths that a template reads from its context, for the checks.

A path below a rebound dot (`range`, `with`) starts at a value that is not known here and is left
out; `$.path` is not. `index .tasks "a-b"` counts as the path it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass

from compozy_prefect.expressions.nodes import (
    Binary,
    Call,
    Define,
    If,
    Key,
    Literal,
    Node,
    Not,
    Path,
    Range,
    Subscript,
    With,
)


@dataclass(frozen=True, slots=True)
class Read:
    """A path from the root of the context: `.tasks.a.output` is `("tasks", "a", "output")`.

    None stands for a segment that is only known when it runs. `starts` gives the offset of each
    segment, `end` the end of the whole path. `guarded`: what is missing reads as null (§11.5).
    """

    segments: tuple[str | int | None, ...]
    starts: tuple[int, ...]
    start: int
    end: int
    guarded: bool


@dataclass(frozen=True, slots=True)
class Use:
    """A function and its literal text arguments: `validateSchema('ticket')`."""

    name: str
    texts: tuple[str, ...]
    start: int
    end: int


Guards = frozenset[str]


def reads_of(body: tuple[Node, ...], guards: Guards) -> tuple[tuple[Read, ...], tuple[Use, ...]]:
    """Every read and every use of a function, in the order of the text."""
    out: list[Read] = []
    uses: list[Use] = []
    for node in body:
        _walk(node, True, False, guards, out, uses)
    return tuple(out), tuple(uses)


def _walk(
    node: Node, at_root: bool, guarded: bool, guards: Guards, out: list[Read], uses: list[Use]
) -> None:
    if isinstance(node, Path):
        read = _read(node, at_root, guarded)
        if read is not None:
            out.append(read)
        elif isinstance(node.base, Node):
            _walk(node.base, at_root, guarded, guards, out, uses)
        for segment in node.segments:
            for child in _children(segment):
                _walk(child, at_root, False, guards, out, uses)
    elif isinstance(node, Call):
        texts = tuple(a.value for a in node.args if isinstance(a, Literal) and _is_text(a))
        uses.append(Use(node.name, texts, node.start, node.end))  # type: ignore[arg-type]
        inner = guarded or node.name in guards
        indexed = _indexed(node, at_root, inner)
        if indexed is not None:
            out.append(indexed)
        args = node.args[1:] if indexed is not None else node.args
        if node.piped is not None:
            _walk(node.piped, at_root, inner, guards, out, uses)
        for arg in (*args, *(value for _, value in node.keywords)):
            _walk(arg, at_root, inner, guards, out, uses)
    elif isinstance(node, (If, With, Range)):
        head = node.items if isinstance(node, Range) else _head(node)
        _walk(head, at_root, True, guards, out, uses)
        for child in node.body:
            _walk(child, at_root and isinstance(node, If), False, guards, out, uses)
        for child in node.otherwise:
            _walk(child, at_root, False, guards, out, uses)
    elif isinstance(node, Define):
        for child in node.body:
            _walk(child, False, False, guards, out, uses)
    else:
        inner = guarded or isinstance(node, Not)
        inner = inner or (isinstance(node, Binary) and node.op in ("&&", "||"))
        for child in _children(node):
            _walk(child, at_root, inner, guards, out, uses)


def _head(node: If | With) -> Node:
    return node.condition if isinstance(node, If) else node.value


def _is_text(node: Literal) -> bool:
    return isinstance(node.value, str)


def _children(node: Node) -> Iterator[Node]:
    for item in fields(node):
        value = getattr(node, item.name)
        if is_dataclass(value):
            yield value  # type: ignore[misc]
        elif isinstance(value, tuple):
            yield from (v for v in value if isinstance(v, Node))


def _read(path: Path, at_root: bool, guarded: bool) -> Read | None:
    if not (path.base == "$" or (path.base == "." and at_root)) or not path.segments:
        return None
    names: list[str | int | None] = []
    starts: list[int] = []
    for segment in path.segments:
        starts.append(segment.start)
        if isinstance(segment, Key):
            names.append(segment.name)
        elif isinstance(segment, Subscript) and isinstance(segment.index, Literal):
            value = segment.index.value
            known = isinstance(value, (str, int)) and not isinstance(value, bool)
            names.append(value if known else None)  # type: ignore[arg-type]
        else:
            names.append(None)
    return Read(tuple(names), tuple(starts), path.start, path.end, guarded)


def _indexed(call: Call, at_root: bool, guarded: bool) -> Read | None:
    """`index .path "key" …` as the path it reads; the last segment is lenient (§11.6)."""
    if call.name != "index" or call.piped is not None or not call.args:
        return None
    base = call.args[0]
    read = _read(base, at_root, guarded) if isinstance(base, Path) else None
    if read is None:
        return None
    names, starts = list(read.segments), list(read.starts)
    for arg in call.args[1:]:
        value = arg.value if isinstance(arg, Literal) else None
        known = isinstance(value, (str, int)) and not isinstance(value, bool)
        names.append(value if known else None)  # type: ignore[arg-type]
        starts.append(arg.start)
    return Read(tuple(names), tuple(starts), call.start, call.end, guarded)
