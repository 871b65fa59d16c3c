"""What the expressions of one template see, and what is found in them.

`infer` walks the syntax tree with an `Env` in hand; `results` and `comparisons` report into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from compozy_prefect.compiler.values import UNKNOWN, Segment, Shape, Stop, member
from compozy_prefect.expressions.nodes import Arguments, Key, Literal, Node, Path
from compozy_prefect.language.names import nearest


class Finding(NamedTuple):
    """What a template does that cannot work; `start` and `end` are offsets into it."""

    code: str
    message: str
    start: int
    end: int
    hint: str | None = None


class Argument(NamedTuple):
    """An expression and the shape of its value."""

    node: Node
    shape: Shape


class Env:
    """What the expressions at one place see, and what was found there.

    `named` gives the shape of a schema by its id. `reassigned` are the variables that change
    while the template runs, of which nothing is said.
    """

    def __init__(self, text: str, context: Shape, named: Callable[[str], Shape]) -> None:
        self.text = text
        self.root = self.dot = context
        self.dot_said = ""
        self.named = named
        self.variables: dict[str, Shape] = {}
        self.reassigned: frozenset[str] = frozenset()
        self.found: list[Finding] = []

    def inside(self, dot: Shape | None = None, said: str = "", root: Shape | None = None) -> Env:
        """The same for a block, with the dot bound anew if it is given; `said` names it."""
        inner = Env(self.text, self.root if root is None else root, self.named)
        inner.dot = self.dot if dot is None else dot
        inner.dot_said = self.dot_said if dot is None else said
        inner.variables = {} if root is not None else dict(self.variables)
        inner.reassigned, inner.found = self.reassigned, self.found
        return inner

    def base(self, name: str, start: int) -> tuple[Shape, str]:
        """The dot, the root or a variable at an offset, and how a message writes it."""
        if name == ".":
            return self.dot, self.dot_said
        if name == "$":
            return self.root, ""
        # In conditions variables stand without the dollar.
        said = name if self.text[start : start + 1] == "$" else name[1:]
        return self.variables.get(name[1:], UNKNOWN), said

    def declare(self, name: str | None, shape: Shape) -> None:
        if name is not None:
            self.variables[name] = UNKNOWN if name in self.reassigned else shape

    def step(
        self, shape: Shape, segment: Segment, what: str, start: int, end: int, guarded: bool
    ) -> Shape:
        """What stands under a key; a finding where it cannot be there.

        `what` names the value that has the shape, `start` and `end` the key.
        """
        found = member(shape, segment)
        if not isinstance(found, Stop):
            return found
        name = "…" if segment is None else str(segment)
        if found.kinds:
            if not guarded:
                message = f"`{what}` is {found.nouns} and has no field `{name}`"
                near = nearest(name, found.also)
                hint = f"did you mean `{near}`?" if near else None
                self.found.append(Finding("CZ504", message, start, end, hint))
            return UNKNOWN
        self.missing(what, found, name, start, end, guarded)
        return UNKNOWN

    def missing(
        self, what: str, stop: Stop, name: str, start: int, end: int, guarded: bool = False
    ) -> None:
        """Reports a field that a map does not list, unless it may well be there."""
        # Where other fields may be, one word may be one of them.
        also = [one for one in stop.also if stop.closed or "_" in one]
        near = nearest(name, [*stop.known, *also])
        if near is None and (guarded or not stop.closed):
            return
        listed = ", ".join(stop.known) or "no fields at all"
        self.found.append(
            Finding(
                "CZ503",
                f"`{what}` has no field `{name}`, as far as its schema says",
                start,
                end,
                f"did you mean `{near}`?" if near else f"it has {listed}",
            )
        )

    def written(self, node: Node) -> str:
        """An expression the way a message names it."""
        if isinstance(node, Path) and isinstance(node.base, str):
            names = [
                segment.name if isinstance(segment, Key) else known_key(segment.index)
                for segment in node.segments
                if not isinstance(segment, Arguments)
            ]
            return self.base(node.base, node.start)[1] + "".join(map(dotted, names)) or "."
        text = " ".join(self.text[node.start : node.end].split())
        if len(text) > 60:
            return text[:59] + "…"
        # An expression in parentheses stands between them.
        opened, closed = text.count("("), text.count(")")
        return "(" * (closed - opened) + text + ")" * (opened - closed)

    def holder(self, node: Node) -> str:
        """The same for one whose fields are named behind it."""
        text = self.written(node)
        return text if isinstance(node, (Path, Literal)) else f"({text})"


def dotted(segment: Segment) -> str:
    return f".{'…' if segment is None else segment}"


def known_key(index: Node) -> Segment:
    """The key that is written out, or None."""
    value = index.value if isinstance(index, Literal) else None
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) else None
