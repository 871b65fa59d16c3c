"""The tree of one YAML file: what `source` builds, `references` rewires and every later pass reads.

A node is a scalar, a sequence or a mapping. It knows the file it was written in and the two
character offsets it lies between; lines and columns are counted when somebody asks for a span.
Nodes are never changed after they are built, and they are compared by identity: what is
referenced twice is one object, so that passes can remember what they did with it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Literal

from compozy_prefect.diagnostics import SourceText, Span

Value = None | bool | int | float | str
Style = Literal["plain", "single", "double", "literal", "folded"]

_BREAK = re.compile(r"\r\n|\n|\r")


class File:
    """A source text and, once asked for, the offsets at which its lines start."""

    __slots__ = ("_starts", "source")

    def __init__(self, source: SourceText) -> None:
        self.source = source
        self._starts: list[int] | None = None

    def span(self, start: int, end: int) -> Span:
        """The span between two offsets in characters, end exclusive."""
        if self._starts is None:
            text = self.source.text
            if "\r" in text:
                self._starts = [0, *(m.end() for m in _BREAK.finditer(text))]
            else:
                self._starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
        starts = self._starts
        line = bisect_right(starts, start)
        end_line = bisect_right(starts, end)
        return Span(
            self.source.name,
            line,
            start - starts[line - 1] + 1,
            end_line,
            end - starts[end_line - 1] + 1,
        )


class Node:
    """A part of a file: `start` and `end` are offsets in characters into its text, end exclusive.

    Anchors and tags in front of a value are not part of it; a block map or list ends where its
    last value ends.
    """

    __slots__ = ("end", "file", "start")

    def __init__(self, file: File, start: int, end: int) -> None:
        self.file = file
        self.start = start
        self.end = end

    @property
    def source(self) -> SourceText:
        return self.file.source

    @property
    def span(self) -> Span:
        return self.file.span(self.start, self.end)

    @property
    def kind(self) -> str:
        """The word for this node in a message: `map`, `list`, `text`, `number`, …"""
        raise NotImplementedError

    def at(self, *path: str | int) -> Node:
        """The deepest node that exists along `path`; this node if not even the first step does."""
        node: Node = self
        for step in path:
            below: Node | None = None
            if isinstance(node, Mapping):
                below = node.entries.get(str(step))
            elif isinstance(node, Sequence) and isinstance(step, int):
                below = node.items[step] if 0 <= step < len(node.items) else None
            if below is None:
                break
            node = below
        return node

    def data(self) -> Any:
        """Plain Python: dict (a `LocatedDict`), list, str, int, float, bool, None.

        Built once and kept; the caller must not change it.
        """
        raise NotImplementedError


class Scalar(Node):
    """A single value; `value` is typed by the YAML 1.2 core schema."""

    __slots__ = ("style", "value")

    def __init__(self, file: File, start: int, end: int, value: Value, style: Style) -> None:
        self.file = file
        self.start = start
        self.end = end
        self.value = value
        self.style: Style = style

    @property
    def kind(self) -> str:
        if self.value is None:
            return "null"
        if isinstance(self.value, str):
            return "text"
        return "true/false" if isinstance(self.value, bool) else "number"

    @property
    def text(self) -> str:
        """The value as text. A number or boolean as it was written: `version: 1.10` is `1.10`."""
        if isinstance(self.value, str):
            return self.value
        written = self.file.source.text[self.start : self.end]
        return _NOT_PLAIN.sub("", written) if written[:1] in ("'", '"') else written

    def span_of(self, start: int, end: int) -> Span:
        """Where `value[start:end]` of a text stands in the file.

        Exact for every style: quotes and escapes are stepped over, the indentation of blocks and
        the folding of lines undone. Of a value that is no text, the whole.
        """
        value = self.value
        if not isinstance(value, str):
            return self.span
        start = max(0, min(start, len(value)))
        end = max(start, min(end, len(value)))
        offset = self._shift()
        if offset is not None:
            return self.file.span(offset + start, offset + end)
        places = list(self._places())
        if len(places) != len(value):  # a text this module decodes otherwise than the parser
            return self.span
        if start == len(places):
            after = places[-1][1] if places else self.start
            return self.file.span(after, after)
        first = places[start][0]
        return self.file.span(first, places[end - 1][1] if end > start else first)

    def _shift(self) -> int | None:
        """What to add to an offset in the value, if that is all there is to do."""
        assert isinstance(self.value, str)
        quote = 1 if self.style in ("single", "double") else 0
        start, end = self.start + quote, self.end - quote
        # Decoding never lengthens a flow scalar: of equal length, nothing was decoded but
        # line breaks, and those one for one.
        if self.style in ("literal", "folded") or end - start != len(self.value):
            return None
        return start

    def _places(self) -> Iterator[tuple[int, int]]:
        """For each character of the value the offsets in the file that it was decoded from."""
        assert isinstance(self.value, str)
        text = self.file.source.text
        match self.style:
            case "literal" | "folded":
                return _block_places(text, self.start, self.value, self.style == "folded")
            case "plain":
                return _flow_places(text, self.start, self.end, _PLAIN)
            case "single":
                return _flow_places(text, self.start + 1, self.end - 1, _SINGLE)
            case "double":
                return _flow_places(text, self.start + 1, self.end - 1, _DOUBLE)

    def data(self) -> Value:
        return self.value

    def __repr__(self) -> str:
        return f"Scalar({self.value!r})"


class Sequence(Node):
    """A list."""

    __slots__ = ("_data", "items")

    def __init__(self, file: File, start: int, end: int, items: tuple[Node, ...]) -> None:
        self.file = file
        self.start = start
        self.end = end
        self.items = items
        self._data: list[Any] | None = None

    @property
    def kind(self) -> str:
        return "list"

    def data(self) -> list[Any]:
        if self._data is None:
            self._data = [item.data() for item in self.items]
        return self._data

    def __repr__(self) -> str:
        return f"Sequence({list(self.items)!r})"


class Mapping(Node):
    """A map: `entries` and `keys` have the same keys in the same order, that of the file.

    A key that is a number, a boolean or null stands under its text; `keys` has the key's node.
    """

    __slots__ = ("_data", "entries", "keys")

    def __init__(
        self, file: File, start: int, end: int, entries: dict[str, Node], keys: dict[str, Scalar]
    ) -> None:
        self.file = file
        self.start = start
        self.end = end
        self.entries = entries
        self.keys = keys
        self._data: LocatedDict | None = None

    @property
    def kind(self) -> str:
        return "map"

    def get(self, name: str) -> Node | None:
        return self.entries.get(name)

    def key_span(self, name: str) -> Span:
        """Where the key is written; the span of the whole map if it has no such key."""
        key = self.keys.get(name)
        return self.span if key is None else key.span

    def data(self) -> LocatedDict:
        if self._data is None:
            self._data = LocatedDict(self)
        return self._data

    def __repr__(self) -> str:
        return f"Mapping({self.entries!r})"


class LocatedDict(dict[str, Any]):
    """The plain data of a mapping that remembers its node, for validators that report a place."""

    __slots__ = ("node",)

    def __init__(self, node: Mapping) -> None:
        super().__init__({key: value.data() for key, value in node.entries.items()})
        self.node = node


# --- from a place in a decoded text back to the place in the file --------------------------------

_NOT_PLAIN = re.compile(r"^['\"]|['\"]$")

# A fold is a line break in a flow scalar with the white space around it (YAML 1.2, 7.3).
_JOIN = r"(?:\r\n|\n|\r)[ \t\r\n]*"
_FOLD = rf"[ \t]*{_JOIN}"
_PLAIN = re.compile(rf"(?P<fold>{_FOLD})|.", re.S)
_SINGLE = re.compile(rf"(?P<fold>{_FOLD})|''|.", re.S)
_DOUBLE = re.compile(
    rf"(?P<fold>{_FOLD})|\\(?P<joined>{_JOIN})|"
    r"\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\.|.",
    re.S,
)


def _flow_places(
    text: str, start: int, end: int, token: re.Pattern[str]
) -> Iterator[tuple[int, int]]:
    for match in token.finditer(text, start, end):
        group = match.lastgroup
        if group is None:
            yield match.span()
            continue
        # One break is a space, or nothing behind a backslash; each further one is a line feed.
        breaks = [b.span() for b in _BREAK.finditer(text, *match.span(group))]
        if group == "fold" and len(breaks) == 1:
            yield match.span()
        yield from breaks[1:]


def _block_places(text: str, start: int, value: str, folded: bool) -> Iterator[tuple[int, int]]:
    """The places of a `|` or `>` scalar, found by laying the lines of the value on those of the
    file: the file alone does not say how far an explicitly indented block is indented."""
    lines = _lines_after(text, start)
    indent = _indentation(text, start, value)
    at = 0
    begun = False
    end = start
    while at < len(value):
        try:
            start, end, after = next(lines)
        except StopIteration:  # `|+` at the end of a file without a last line break
            yield from [(end, end)] * (len(value) - at)
            return
        content = text[start + indent : end]
        if content and not value.startswith(content, at):
            return
        begun = begun or bool(content)
        for i in range(len(content)):
            yield start + indent + i, start + indent + i + 1
        at += len(content)
        if not folded:
            if at < len(value):
                yield end, after
                at += 1
            continue
        # Between two lines of a folded text stands one space, or the line feeds that are left.
        rest = 0
        while value.startswith("\n", at + rest):
            rest += 1
        if content and rest == 0 and value.startswith(" ", at):
            yield end, after
            at += 1
        elif content and rest:
            yield from [(end, after)] * rest
            at += rest
        elif not begun and rest:  # blank lines in front of the first
            yield end, after
            at += 1


def _lines_after(text: str, start: int) -> Iterator[tuple[int, int, int]]:
    """The lines behind the one of `start`: where each starts, ends, and where the next starts."""
    header = _BREAK.search(text, start)
    at = header.end() if header else len(text)
    while at < len(text):
        found = _BREAK.search(text, at)
        end, after = found.span() if found else (len(text), len(text))
        yield at, end, after
        at = after


def _indentation(text: str, start: int, value: str) -> int:
    """How far a block is indented: by the first line that has more than blanks."""
    blank = len(value) - len(value.lstrip(" \n"))
    extra = blank - (value.rfind("\n", 0, blank) + 1)
    for first, end, _ in _lines_after(text, start):
        line = text[first:end]
        if line.strip(" "):
            return max(0, len(line) - len(line.lstrip(" ")) - extra)
    return 0
