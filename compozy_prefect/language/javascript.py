"""The code of tools: a text → its syntax tree, or the place where it is no JavaScript (§6.3, §6.4).

Read by tree-sitter, which starts nothing and runs nothing of it; its grammars are imported when
there is code to read. TypeScript is read too, as by the engine that runs tools. Both grammars take
somewhat more than the engine will.

The code is untrusted, and what a parser like this one spends on recovering from mistakes grows out
of all bounds: 60 KB can take minutes, and gigabytes. Hence it stops at the first mistake, and code
that is long, or takes long, is not read at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from time import thread_time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tree_sitter import Language, Node, Tree

PATH = re.compile(r"\.{0,2}/?[\w./-]+\.[jt]s")
"""The `execute` of older projects: a file with the code (§6.1)."""

LONGEST = 32 * 1024
"""Bytes of one piece of code, some thousand lines."""

READ_SECONDS = 1.0
"""Seconds of processor time that one reading may take; a thousand lines take 0.01."""

TOTAL_SECONDS = 4.0
"""Seconds of processor time that all readings of one `Reader` may take."""

_QUICK, _QUICK_SECONDS = 8 * 1024, 0.1
"""Bytes that a parser first reads without a log, which takes ten times as long, and how long it may
read them. What it does in one step, where nothing stops it, takes a quarter of a second at most."""

_OPENED = {"}": ("{", "${"), ")": ("(",), "]": ("[",), "`": ("`",), '"': ('"',), "'": ("'",)}
_UNCLOSED = {'"': "text", "'": "text", "/": "regular expression", "/*": "comment"}
_WORD = re.compile(r"""\s*([\w$]+|'[^'\n]*'|"[^"\n]*"|=>|[^\s])?""")
_ENDED = re.compile(rb"(?<=\})(?=[^\S\n]*\n)\s(?=\s*(?:[\[(`]|/(?![/*])))")
_AT = re.compile(r"row:([0-9]+), col:([0-9]+)")


class Unread(Exception):
    """Code that was not read, and why: `it is …`."""


class Fault(Exception):
    """Code that is no JavaScript: what is wrong from `start` to `end`, in characters.

    `opened` is where a bracket, a text or a comment begins that is not closed.
    """

    def __init__(self, message: str, start: int, end: int, opened: int | None = None) -> None:
        super().__init__(message)
        self.message, self.start, self.end, self.opened = message, start, end, opened


class Code(NamedTuple):
    """Code that was read. The nodes of its tree count bytes; `place` counts characters."""

    raw: bytes
    root: Node
    is_typescript: bool = False

    def place(self, node: Node) -> tuple[int, int]:
        """Where a node begins and ends in the text."""
        return _characters(self.raw, node.start_byte), _characters(self.raw, node.end_byte)

    def of(self, node: Node) -> str:
        """The text of a node."""
        return self.raw[node.start_byte : node.end_byte].decode()


class Reader:
    """Reads pieces of code within a common bound."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._known: dict[str, Code | Fault | Unread] = {}

    def read(self, text: str) -> Code:
        """The tree of a text. Raises Fault, and Unread."""
        found = self._known.get(text)
        if found is None:
            try:
                found = self._read(text)
            except (Fault, Unread) as fault:
                found = fault
            self._known[text] = found
        if isinstance(found, Code):
            return found
        raise found from None

    def _read(self, text: str) -> Code:
        raw = text.encode("utf-8", "replace")  # halves of surrogate pairs, one byte each
        if len(raw) > LONGEST:
            raise Unread(f"it is longer than {LONGEST // 1024} KiB")
        stopped = []
        # An arrow function ends with its line, which the grammars know of no function.
        for read in dict.fromkeys((raw, _ENDED.sub(b";", raw))):
            for language in _languages():
                tree, place = self._parsed(read, language)
                if tree is not None:
                    return Code(raw, tree.root_node, language is not _languages()[0])
                if read is raw:
                    stopped.append((place, language))
        # TypeScript is what it was meant as when it is understood further.
        place, language = max(stopped, key=lambda one: one[0])
        raise self._fault(raw, place, language)

    def _parsed(self, raw: bytes, language: Language) -> tuple[Tree | None, int]:
        """The tree; or None, and the byte where the text stops to be of the language."""
        if len(raw) <= _QUICK:
            tree = self._parse(raw, language, _QUICK_SECONDS)
            if tree is not None and not tree.root_node.has_error:
                return tree, 0
        log = _Log()
        tree = self._parse(raw, language, READ_SECONDS, log)
        if tree is not None and not tree.root_node.has_error:
            return tree, 0
        if tree is None and not log.is_recovering:
            raise Unread("reading it takes too long")
        row, column = log.furthest
        return None, sum(len(line) + 1 for line in raw.split(b"\n")[:row]) + column

    def _parse(
        self, raw: bytes, language: Language, seconds: float, log: _Log | None = None
    ) -> Tree | None:
        """The tree, be it faulty; None when time is over, or the log has heard of a mistake."""
        from tree_sitter import Parser

        parser = Parser(language)
        if log is not None:
            parser.logger = log
        begin = thread_time()
        end = begin + min(seconds, TOTAL_SECONDS - self._spent)

        def part(byte: int, point: object) -> bytes:
            # It is asked whether to go on every hundred steps, and each may read to the end. The
            # whole rest: an end in the middle of a character takes the interpreter down.
            return b"" if log is not None and log.is_recovering else raw[byte:]

        def is_over(byte: int, has_error: bool) -> bool:
            return (log is not None and log.is_recovering) or thread_time() > end

        try:
            return parser.parse(part, progress_callback=is_over)
        except ValueError:
            return None
        finally:
            self._spent += thread_time() - begin

    def _fault(self, raw: bytes, place: int, language: Language) -> Fault:
        """What is wrong at the byte where the reading stopped."""
        begun = raw[:place].decode("utf-8", "replace")
        opener, opened = self._opened(raw[:place], language)
        if opener in _UNCLOSED:
            end = len(begun)
            return Fault(f"a {_UNCLOSED[opener]} is not closed", end, end, opened)
        found = _WORD.match(raw[place:].decode("utf-8", "replace"))
        assert found is not None
        word = found[1]
        if word is None:
            end = len(begun.rstrip())
            return Fault("the code ends too early", end, end, opened)
        start = len(begun) + found.start(1)
        wanted = ("{", "${", "") if word == ";" else _OPENED.get(word, (opener,))
        message = f"`{word}` is not expected here"
        return Fault(message, start, start + len(word), opened if opener not in wanted else None)

    def _opened(self, begun: bytes, language: Language) -> tuple[str, int | None]:
        """What is open where code breaks off, and where it begins in characters."""
        tree = self._parse(begun, language, _QUICK_SECONDS)
        open_: list[tuple[str, int]] = []
        for leaf in _leaves(tree) if tree is not None else ():
            kind = leaf.type
            if open_ and (open_[-1][0] in _OPENED.get(kind, ()) or kind == "/" == open_[-1][0]):
                open_.pop()
            elif kind in ("(", "[", "{", "${", "`", '"', "'"):
                open_.append((kind, leaf.start_byte))
            elif kind == "regex_pattern":
                # What could not become a comment is read as one of these.
                comment = begun.startswith(b"*", leaf.start_byte)
                open_.append(("/*" if comment else "/", leaf.start_byte - 1))
        return (open_[-1][0], _characters(begun, open_[-1][1])) if open_ else ("", None)


class _Log:
    """Hears from a parser how far its readings of a text came, until it recovers from a mistake."""

    def __init__(self) -> None:
        self.is_recovering = False
        self.furthest = (0, 0)  # row and byte in it, from 0
        self._here = (0, 0)
        self._is_read = False

    def __call__(self, kind: int, message: str) -> None:
        if kind or self.is_recovering:  # 1 is the lexer
            return
        if message.startswith("process version"):
            at = _AT.search(message)
            assert at is not None
            self._here = int(at[1]), int(at[2])
        elif message.startswith("detect_error"):
            self.furthest = max(self.furthest, self._here)
        elif message.startswith("accept"):
            self._is_read = True
        elif message.startswith("resume version"):
            # Beside a reading that came to the end, others do not matter.
            self.is_recovering = not self._is_read


@lru_cache(maxsize=1)
def _languages() -> tuple[Language, Language]:
    import tree_sitter_javascript
    import tree_sitter_typescript
    from tree_sitter import Language

    return (
        Language(tree_sitter_javascript.language()),
        Language(tree_sitter_typescript.language_typescript()),
    )


def _leaves(tree: Tree) -> Iterator[Node]:
    """The tokens that stand in the text, in its order."""
    cursor = tree.walk()
    while True:
        if cursor.goto_first_child():
            continue
        if cursor.node is not None and not cursor.node.is_missing:
            yield cursor.node
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return


def _characters(raw: bytes, at: int) -> int:
    """How many characters stand in front of a byte."""
    return len(raw[:at].decode("utf-8", "ignore"))
