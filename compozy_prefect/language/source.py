"""The bytes of one YAML file → a tree of nodes, or the diagnostics that say why not.

The file is untrusted: size, depth and what aliases multiply to are bounded, and nothing in it
makes this module raise (language.md §0; reliability.md table F). Plain scalars mean what the
YAML 1.2 core schema says, as in Go's yaml.v3: `on`, `yes`, `12:30` and `2025-03-26` are text.

The tree is built from the C parser's events in one loop. Its composer recurses without a limit,
and 200,000 brackets kill the interpreter.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

from yaml._yaml import CParser
from yaml.error import MarkedYAMLError
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from compozy_prefect.diagnostics import Diagnostic, SourceText, error
from compozy_prefect.language import mistakes
from compozy_prefect.language.encoding import bad_character, bad_place, decode, hide_breaks
from compozy_prefect.language.nodes import File, Mapping, Node, Scalar, Sequence, Style, Value
from compozy_prefect.language.scalars import MAYBE_TYPED, plain_value

MAX_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 100
MAX_ALIASED = 100_000  # nodes that aliases may add to the tree, counted as if they were copies
MAX_FOUND = 100  # diagnostics of one file

Parsed = tuple[Node | None, list[Diagnostic], SourceText]


def read(path: Path, name: str, *, any_root: bool = False) -> Parsed:
    """Parses the file at `path`; `name` is what its spans call it.

    A file that cannot be opened is the caller's to explain: `OSError` passes through. What is
    no regular file counts as such (`OSError` too), so that a pipe or a device is never read.
    """
    return parse(contents(path, MAX_BYTES), name, any_root=any_root)


def contents(path: Path, most: int) -> bytes:
    """The bytes of a regular file, one more than `most` of them if there are so many."""
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError("it is not a regular file")
        return stream.read(most + 1)


def parse(text: str | bytes, name: str, *, any_root: bool = False) -> Parsed:
    """The tree of a YAML text, what is wrong with it, and the text its spans count in.

    The tree is None when the text could not be parsed to its end. Its root is a `Mapping` if
    there is no error; with `any_root` (input and mock files) it may be any node.
    """
    if len(text) > MAX_BYTES:
        file = File(SourceText(name, ""))
        limit = f"the file is larger than {MAX_BYTES // 2**20} MiB"
        return None, [error("CZ103", limit, file.span(0, 0))], file.source
    problem: str | None = None
    if isinstance(text, bytes):
        text, problem, at = decode(text)
    text = text.removeprefix("\ufeff")
    file = File(SourceText(name, text))
    if problem is None and (bad := bad_place(text)) is not None:
        problem, at = bad_character(text[bad]), bad
    if problem is not None:
        return None, [error("CZ104", problem, file.span(at, min(at + 1, len(text))))], file.source
    found: list[Diagnostic] = []
    root = _Builder(file, found).run()
    if not any_root and not isinstance(root, Mapping) and not found:
        found.append(_no_map(root, file))
    return root, found, file.source


def _no_map(root: Node | None, file: File) -> Diagnostic:
    hint = "a file of the project starts with a key, as in `name: my-project`"
    if root is None or (isinstance(root, Scalar) and root.value is None):
        return error("CZ105", "the file is empty", file.span(0, 0), hint)
    return error("CZ105", f"the file holds a {root.kind} where a map is expected", root.span, hint)


# --- events to nodes ------------------------------------------------------------------------------

_STYLES: dict[str | None, Style] = {"'": "single", '"': "double", "|": "literal", ">": "folded"}
_PROPERTIES = re.compile(r"(?:[&!][^\s]*|#[^\r\n]*|\s+)*")
_CORE = "tag:yaml.org,2002:"


class _Stop(Exception):
    """The rest of the file is not worth reading; why is in the list of diagnostics."""


class _Open:
    """A map or list whose end has not come yet."""

    __slots__ = (
        "anchor",
        "count",
        "entries",
        "found",
        "height",
        "items",
        "key",
        "keys",
        "merged",
        "name",
        "start",
        "tag",
        "template",
    )

    def __init__(self, start: int, is_map: bool, anchor: str | None, tag: str | None) -> None:
        self.start = start
        self.items: list[Node] | None = None if is_map else []
        self.entries: dict[str, Node] = {}
        self.keys: dict[str, Scalar] = {}
        self.key: Scalar | None = None  # the key that waits for its value …
        self.name = ""  # … and the text it stands under
        self.merged: list[Mapping] | None = None  # what `<<` brought, nearest first
        self.anchor = anchor
        self.tag = tag
        self.template = False  # opened by `{{`
        self.height = 1  # levels from here down
        self.count = 0  # the builder's counters when it was opened
        self.found = 0


class _Builder:
    def __init__(self, file: File, found: list[Diagnostic]) -> None:
        self.file = file
        self.text = file.source.text
        self.found = found
        self.root: Node | None = None
        self.stack: list[_Open] = []
        self.count = 0  # nodes so far, as if aliases were copies; long texts count as several
        self.aliased = 0
        self.anchors: dict[str, tuple[Node, int, int]] = {}  # node, its count, its height
        self.end = 0  # where the last value ended
        self.last = 0  # where the last event started, for syntax errors

    def run(self) -> Node | None:
        text, self.hidden = hide_breaks(self.text)
        parser: Any = CParser(text)
        try:
            self._read(parser.get_event)
        except _Stop:
            return None
        except MarkedYAMLError as problem:
            mistake = mistakes.explain(problem, self.file, self.last)
            if mistake.code == "CZ106":  # the whole value; the map it began as may be known already
                self.found[:] = [f for f in self.found if not _same_start(f, mistake)]
            self.found.append(mistake)
            return None
        finally:
            parser.dispose()
        return self.root

    def _read(self, get: Any) -> None:
        file, stack = self.file, self.stack
        while True:
            event = get()
            kind = type(event)
            height = 0
            if kind is ScalarEvent:
                start = event.start_mark.index
                self.end = end = event.end_mark.index
                value = event.value
                self.count += 1 + (len(value) >> 7)
                style = _STYLES.get(event.style, "plain")
                if event.anchor or event.tag or self.hidden or style in ("literal", "folded"):
                    node: Node = self._scalar(event, start, end, value, style)
                elif style == "plain" and (not value or value[0] in MAYBE_TYPED):
                    node = Scalar(file, start, end, self._plain(value, start, end), style)
                else:
                    node = Scalar(file, start, end, value, style)
                self.last = start
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                self._open(event, kind is MappingStartEvent)
                continue
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                node, height = self._close(event)
            elif kind is AliasEvent:
                node, height = self._alias(event)
            elif kind is StreamEndEvent:
                return
            else:
                if kind is DocumentStartEvent and self.root is not None:
                    self._report(
                        "CZ105",
                        "a second YAML document starts here; one file holds one",
                        event.start_mark.index,
                        event.end_mark.index,
                    )
                    raise _Stop
                continue
            if not stack:
                self.root = node
                continue
            top = stack[-1]
            if height >= top.height:
                top.height = height + 1
            if top.items is not None:
                top.items.append(node)
            elif top.key is None:
                self._key(top, node, event)
            else:
                self._value(top, node)

    # One handler an event ------------------------------------------------------------------------

    def _scalar(self, event: Any, start: int, end: int, value: str, style: Style) -> Scalar:
        """A scalar that is more than its characters: tagged, anchored, a block."""
        if event.anchor or event.tag:
            start = self._skip_properties(start, end)
        if style in ("literal", "folded"):
            # The event ends where the next token starts.
            end = start + len(self.text[start:end].rstrip())
            self.end = end
        if self.hidden:
            value = value.translate(self.hidden)
        typed: Value = value
        tag = event.tag
        if tag is None or tag == "!":
            if tag is None and style == "plain":
                typed = self._plain(value, start, end)
        elif tag != _CORE + "str":
            typed = self._tagged(tag, value, start, end)
        node = Scalar(self.file, start, end, typed, style)
        if event.anchor:
            self.anchors[event.anchor] = (node, 1 + (len(value) >> 7), 0)
        return node

    def _plain(self, value: str, start: int, end: int) -> Value:
        try:
            return plain_value(value)
        except ValueError as problem:
            self._report("CZ107", str(problem), start, end, "quote it if it is meant as text")
            return value

    def _tagged(self, tag: str, value: str, start: int, end: int) -> Value:
        kinds = {"int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),)}
        wanted = kinds.get(tag.removeprefix(_CORE)) if tag.startswith(_CORE) else None
        if wanted is None:
            self._unknown_tag(tag, start)
            return value
        typed = self._plain(value, start, end)
        if type(typed) not in wanted:
            self._report("CZ107", f"`{value[:40]}` is no {tag.removeprefix(_CORE)}", start, end)
            return value
        return float(typed) if tag == _CORE + "float" and isinstance(typed, int) else typed

    def _unknown_tag(self, tag: str, start: int) -> None:
        shown = "!!" + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag
        at = self.text.rfind("!", 0, start)
        at = self.text.rfind(shown, 0, start) if shown in self.text[:start] else max(at, 0)
        hint = "quote the value if the `!` belongs to it"
        self._report("CZ107", f"the tag {shown} has no meaning here", at, at + len(shown), hint)

    def _open(self, event: Any, is_map: bool) -> None:
        start = self.last = event.start_mark.index
        if event.anchor or event.tag:
            start = self._skip_properties(start, len(self.text))
        if len(self.stack) >= MAX_DEPTH:
            self._report("CZ103", f"nested more than {MAX_DEPTH} levels deep", start, start + 1)
            raise _Stop
        top = _Open(start, is_map, event.anchor, event.tag)
        self.count += 1
        top.count = self.count
        top.found = len(self.found)
        top.template = is_map and event.flow_style and self.text.startswith("{{", start)
        if event.flow_style:
            self.end = start + 1
        if event.anchor:
            self.anchors.pop(event.anchor, None)
        self.stack.append(top)

    def _close(self, event: Any) -> tuple[Node, int]:
        top = self.stack.pop()
        if event.end_mark.index > event.start_mark.index:  # a closing bracket
            self.end = event.end_mark.index
        end = max(self.end, top.start)
        node: Node
        if top.template:
            node = self._template(top, end)
        elif top.items is not None:
            node = Sequence(self.file, top.start, end, tuple(top.items))
        else:
            if top.merged is not None:
                _merge(top)
            node = Mapping(self.file, top.start, end, top.entries, top.keys)
        wanted = _CORE + ("map" if top.items is None else "seq")
        if top.tag is not None and top.tag not in ("!", wanted):
            self._unknown_tag(top.tag, top.start)
        if top.anchor:
            self.anchors[top.anchor] = (node, 1 + self.count - top.count, top.height)
        return node, top.height

    def _template(self, top: _Open, end: int) -> Scalar:
        """`{{ x }}` without quotes is a map with a map for a key; taken for the text it means."""
        del self.found[top.found :]  # what was found inside is a consequence
        template = self.text[top.start : end]
        self._report("CZ106", mistakes.UNQUOTED, top.start, end, mistakes.quoted_hint(template))
        return Scalar(self.file, top.start, end, template, "plain")

    def _alias(self, event: Any) -> tuple[Node, int]:
        start, end = event.start_mark.index, event.end_mark.index
        self.last, self.end = start, end
        known = self.anchors.get(event.anchor)
        if known is None:
            inside = any(top.anchor == event.anchor for top in self.stack)
            why = "stands inside the value that it names" if inside else "names no anchor above it"
            self._report(
                "CZ101",
                f"the alias *{event.anchor} {why}",
                start,
                end,
                mistakes.alias_hint(event.anchor, self.anchors),
            )
            raise _Stop
        node, count, height = known
        self.count += count
        self.aliased += count
        if self.aliased > MAX_ALIASED:
            self._report(
                "CZ103",
                f"aliases blow this file up to more than {MAX_ALIASED:,} values",
                start,
                end,
            )
            raise _Stop
        if len(self.stack) + height > MAX_DEPTH:
            self._report(
                "CZ103", f"with its aliases, nested more than {MAX_DEPTH} levels deep", start, end
            )
            raise _Stop
        return node, height

    # Into the map ---------------------------------------------------------------------------------

    def _key(self, top: _Open, node: Node, event: Any) -> None:
        if not isinstance(node, Scalar):
            if not top.template:
                self._report(
                    "CZ101",
                    f"a {node.kind} cannot be a key",
                    node.start,
                    node.end,
                    "quote the key if it is meant as text",
                )
            node = Scalar(self.file, node.start, node.end, "", "plain")
        value = node.value
        if isinstance(value, str):
            top.name = value
        elif value is None:
            top.name = "null"
        elif isinstance(value, bool):
            top.name = "true" if value else "false"
        else:
            top.name = node.text  # as written: the key 1.10 is not 1.1
        top.key = node

    def _value(self, top: _Open, node: Node) -> None:
        key, name = top.key, top.name
        assert key is not None
        top.key = None
        if name == "<<" and key.style == "plain":
            self._merge_key(top, node)
        elif name in top.entries:
            first = top.keys[name].span.line
            self._report(
                "CZ102",
                f'the key "{name}" stands twice in this map, first in line {first}',
                key.start,
                key.end,
                "remove one of the two, or rename it",
            )
        else:
            top.entries[name] = node
            top.keys[name] = key

    def _merge_key(self, top: _Open, node: Node) -> None:
        sources = node.items if isinstance(node, Sequence) else (node,)
        maps = [source for source in sources if isinstance(source, Mapping)]
        if len(maps) != len(sources):
            self._report(
                "CZ101",
                "`<<` takes a map or a list of maps, such as `<<: *defaults`",
                node.start,
                node.end,
            )
        top.merged = (top.merged or []) + maps

    # ---------------------------------------------------------------------------------------------

    def _skip_properties(self, start: int, end: int) -> int:
        """Past the anchor and the tag in front of a value."""
        match = _PROPERTIES.match(self.text, start, end)
        return match.end() if match else start

    def _report(
        self, code: str, message: str, start: int, end: int, hint: str | None = None
    ) -> None:
        self.found.append(error(code, message, self.file.span(start, end), hint))
        if len(self.found) >= MAX_FOUND:
            raise _Stop


def _same_start(one: Diagnostic, other: Diagnostic) -> bool:
    a, b = one.span, other.span
    return a is not None and b is not None and a.line == b.line and a.column == b.column


def _merge(top: _Open) -> None:
    """What `<<` brings goes in front; own keys win, then the map that was named first."""
    entries: dict[str, Node] = {}
    keys: dict[str, Scalar] = {}
    for source in reversed(top.merged or []):
        entries.update(source.entries)
        keys.update(source.keys)
    top.entries = entries | top.entries
    top.keys = keys | top.keys
