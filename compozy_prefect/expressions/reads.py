"""Syntax tree → the paths that a template reads from its context, for the checks.

A path below a rebound dot (`range`, `with`) starts at a value that is not known here and is left
out; `$.path` is not. `index .tasks "a-b"` counts as the path it stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from compozy_prefect.expressions.nodes import (
    Arguments,
    Binary,
    Call,
    Choice,
    Define,
    Each,
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


class Read(NamedTuple):
    """A path from the root of the context: `.tasks.a.output` is `("tasks", "a", "output")`.

    None stands for a segment that is only known when it runs. `starts` gives the offset of each
    segment, `end` the end of the whole path. `guarded`: what is missing reads as null (§11.5).
    """

    segments: tuple[str | int | None, ...]
    starts: tuple[int, ...]
    start: int
    end: int
    guarded: bool


class Asked(NamedTuple):
    """`.<root>.<id>.<method>(…)`: the path, whose last segment is the call, and its arguments."""

    read: Read
    arguments: tuple[Node, ...]


class Use(NamedTuple):
    """A function and its literal text arguments: `validateSchema('ticket')`."""

    name: str
    texts: tuple[str, ...]
    start: int
    end: int


Guards = frozenset[str]


def reads_of(
    body: tuple[Node, ...], guards: Guards, guarded: bool = False
) -> tuple[tuple[Read, ...], tuple[Use, ...], tuple[Asked, ...]]:
    """Every read, use of a function and call of a method, in the order of the text."""
    walk = _Walk(guards)
    for node in body:
        walk.node(node, True, guarded)
    return tuple(walk.reads), tuple(walk.uses), tuple(walk.asked)


class _Walk:
    """`at_root`: the dot is the context. In a `define`, neither the dot nor `$` is."""

    def __init__(self, guards: Guards) -> None:
        self.reads: list[Read] = []
        self.uses: list[Use] = []
        self.asked: list[Asked] = []
        self._guards = guards
        self._defining = False

    def node(self, node: Node, at_root: bool, guarded: bool) -> None:
        if isinstance(node, Path):
            self._path(node, at_root, guarded)
        elif isinstance(node, Call):
            self._call(node, at_root, guarded)
        elif isinstance(node, (If, With, Range)):
            self._all((_head(node),), at_root, True)
            self._all(node.body, at_root and isinstance(node, If), False)
            self._all(node.otherwise, at_root, False)
        elif isinstance(node, Define):
            was, self._defining = self._defining, True
            self._all(node.body, False, False)
            self._defining = was
        elif isinstance(node, Choice):
            self._all((node.condition,), at_root, True)
            self._all((node.yes, node.no), at_root, guarded)
        else:
            guards = isinstance(node, (Not, Each))
            guards = guards or (isinstance(node, Binary) and node.op in ("&&", "||"))
            self._all(children(node), at_root, guarded or guards)

    def _all(self, nodes: Iterable[Node], at_root: bool, guarded: bool) -> None:
        for node in nodes:
            self.node(node, at_root, guarded)

    def _path(self, node: Path, at_root: bool, guarded: bool) -> None:
        read = self._read(node, at_root, guarded)
        if read is not None:
            self.reads.append(read)
            last = node.segments[-1]
            if isinstance(last, Arguments):
                self.asked.append(Asked(read, last.items))
        elif isinstance(node.base, Node):
            self.node(node.base, at_root, guarded)
        for segment in node.segments:
            self._all(children(segment), at_root, False)

    def _call(self, node: Call, at_root: bool, guarded: bool) -> None:
        texts = tuple(a.value for a in node.args if isinstance(a, Literal) and _is_text(a))
        self.uses.append(Use(node.name, texts, node.start, node.end))  # type: ignore[arg-type]
        inner = guarded or node.name in self._guards
        args = node.args
        indexed = self._indexed(node, at_root, inner)
        if indexed is not None:
            self.reads.append(indexed)
            assert isinstance(args[0], Path)
            for segment in args[0].segments:
                self._all(children(segment), at_root, False)
            args = args[1:]
        if node.piped is not None:
            self._all((node.piped,), at_root, inner)
        self._all((*args, *(value for _, value in node.keywords)), at_root, inner)

    def _read(self, path: Path, at_root: bool, guarded: bool) -> Read | None:
        root = path.base == "$" and not self._defining
        if not (root or (path.base == "." and at_root)) or not path.segments:
            return None
        names: list[str | int | None] = []
        starts: list[int] = []
        for segment in path.segments:
            starts.append(segment.start)
            if isinstance(segment, Key):
                names.append(segment.name)
            else:
                names.append(_known(segment.index) if isinstance(segment, Subscript) else None)
        return Read(tuple(names), tuple(starts), path.start, path.end, guarded)

    def _indexed(self, call: Call, at_root: bool, guarded: bool) -> Read | None:
        """`index .path "key" …` as the path it reads; the last segment is lenient (§11.6)."""
        if call.name != "index" or call.piped is not None or not call.args:
            return None
        base = call.args[0]
        read = self._read(base, at_root, guarded) if isinstance(base, Path) else None
        if read is None:
            return None
        names, starts = list(read.segments), list(read.starts)
        for arg in call.args[1:]:
            names.append(_known(arg))
            starts.append(arg.start)
        return Read(tuple(names), tuple(starts), call.start, call.end, guarded)


def _known(index: Node) -> str | int | None:
    value = index.value if isinstance(index, Literal) else None
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _head(node: If | With | Range) -> Node:
    if isinstance(node, Range):
        return node.items
    return node.condition if isinstance(node, If) else node.value


def _is_text(node: Literal) -> bool:
    return isinstance(node.value, str)


def children(node: Node) -> Iterator[Node]:
    for name in node.fields:
        value = getattr(node, name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from (v for v in value if isinstance(v, Node))
