"""One edit of a valid project, and the lines at which it is honest to report it.

The rule: a finding counts when it stands
 - at the line that was edited, or at a line that now says something twice; in a template over
   several lines, at any of them;
 - where the map begins that was edited, at its `id`, or at the key that holds it: what is missing
   has no place of its own;
 - at a line that refers to what was edited, by name: the definition may be what is right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from compozy_prefect.diagnostics import Span
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence
from compozy_prefect.language.source import parse


class Mutation(NamedTuple):
    """`text` is what the file says now. `breaks`: it no longer means what it meant.

    `name`: what other files may refer to, so that a finding is honest there too.
    """

    project: str
    file: str
    kind: str
    what: str
    text: str
    lines: frozenset[int]
    breaks: bool = True
    name: str = ""

    def is_told(self, file: str, line: int, text: str) -> bool:
        """Whether a finding at a line, which says `text`, is honest."""
        if file == self.file:
            return line in self.lines
        return bool(self.name and re.search(rf"(?<![\w-]){re.escape(self.name)}(?![\w-])", text))


class Source:
    """A file of a valid project, with what the edits need to know of it."""

    def __init__(self, project: str, file: str, text: str) -> None:
        self.project, self.file, self.text = project, file, text
        root = parse(text, file)[0]
        assert isinstance(root, Mapping)
        self.root = root

    @cached_property
    def nodes(self) -> list[tuple[tuple[str | int, ...], Node]]:
        """Every node with its path, each before those in it."""
        return list(_walk(self.root, ()))

    @cached_property
    def holders(self) -> dict[int, Scalar]:
        """The key that holds a map or a list, by where the value starts."""
        found: dict[int, Scalar] = {}
        for _, node in self.nodes:
            if isinstance(node, Mapping):
                for name, value in node.entries.items():
                    found.setdefault(value.start, node.keys[name])
        return found

    @cached_property
    def described(self) -> Counter[str]:
        """How often a name is that of a property, or of a value that a task gives."""
        maps = (
            node.entries
            for path, node in self.nodes
            if isinstance(node, Mapping) and path[-1:] in (("properties",), ("with",), ("outputs",))
        )
        return Counter(name for entries in maps for name in entries)

    def offset(self, span: Span) -> int:
        lines = self.text.split("\n")
        return sum(len(line) + 1 for line in lines[: span.line - 1]) + span.column - 1

    def edit(
        self,
        kind: str,
        what: str,
        start: int,
        end: int,
        new: str,
        also: Iterable[int] = (),
        breaks: bool = True,
    ) -> Mutation:
        """`also`: offsets of the other places where a finding is honest."""
        text = self.text[:start] + new + self.text[end:]
        shift = len(new) - (end - start)
        places = {start, start + len(new)}
        places |= {at if at <= start else max(start, at + shift) for at in also}
        lines = frozenset(text.count("\n", 0, at) + 1 for at in places)
        return Mutation(self.project, self.file, kind, what, text, lines, breaks)

    def around(self, node: Mapping) -> list[int]:
        """Where a map begins, its id, and the key that holds it."""
        found = [node.start]
        if node.start in self.holders:
            found.append(self.holders[node.start].start)
        if (own := node.get("id")) is not None:
            found.append(own.start)
        return found

    def mentions(self, name: str) -> list[int]:
        """Where a name stands by itself, be it in a template or in a selector."""
        return [m.start() for m in re.finditer(rf"(?<![\w-]){re.escape(name)}(?![\w-])", self.text)]

    def without(self, kind: str, node: Mapping, name: str, also: Iterable[int] = ()) -> Mutation:
        """The map without a key."""
        names = list(node.entries)
        at = names.index(name)
        key, value = node.keys[name], node.entries[name]
        start, end = key.start, self.stop(value)
        if at + 1 < len(names):
            end = node.keys[names[at + 1]].start
        elif at:
            start = self.stop(node.entries[names[at - 1]])
        also = [*also, *self.around(node)]
        return self.edit(
            kind, f"without `{name}`", start, end, "" if len(names) > 1 else "{}", also
        )

    def stop(self, value: Node) -> int:
        """Where a value ends, without the white space that a block text has behind it."""
        return value.start + len(self.text[value.start : value.end].rstrip())


def misspelt(word: str, known: Iterable[str] = ()) -> str:
    """A word with two letters swapped, or one more where that gives a word that is known."""
    taken = {*known, word}
    for at in range(len(word) // 2, len(word) - 1):
        swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        if word[at].isalnum() and word[at + 1].isalnum() and swapped not in taken:
            return swapped
    return word + word[-1] if word[-1].isalpha() else word + "q"


def sources(directory: Path) -> list[Source]:
    """The files of a project, or the project that is one file."""
    files = [directory] if directory.is_file() else sorted(directory.rglob("*.yaml"))
    root = directory.parent if directory.is_file() else directory
    return [
        Source(directory.stem, file.relative_to(root).as_posix(), file.read_text("utf-8"))
        for file in files
        if file.name != "mocks.yaml" and not file.name.endswith(".test.yaml")
    ]


def _walk(node: Node, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Node]]:
    yield path, node
    if isinstance(node, Mapping):
        for name, value in node.entries.items():
            yield from _walk(value, (*path, name))
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from _walk(item, (*path, index))
