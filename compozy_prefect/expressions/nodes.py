"""The syntax tree of templates. `start` and `end` are offsets into the template, end exclusive."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    start: int
    end: int


# Expressions


@dataclass(frozen=True, slots=True)
class Literal(Node):
    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Key(Node):
    """`.name` or `.0` of a path."""

    name: str | int


@dataclass(frozen=True, slots=True)
class Subscript(Node):
    """`[expression]` of a path."""

    index: Node


@dataclass(frozen=True, slots=True)
class Arguments(Node):
    """`(…)` after a path: a method call, under `.tools` only."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Path(Node):
    """A value and the segments that lead from it.

    `base` is "." for the dot, "$" for the root, "$name" for a variable, or an expression.
    """

    base: str | Node
    segments: tuple[Key | Subscript | Arguments, ...] = ()


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function with its arguments in the order written, and the value piped into it.

    `name_end` is the end of the function's name, for underlining.
    """

    name: str
    args: tuple[Node, ...]
    name_end: int
    keywords: tuple[tuple[str, Node], ...] = ()
    piped: Node | None = None


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """`== != < <= > >= + -` and the short-circuiting `&&` and `||`."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Not(Node):
    operand: Node


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    items: tuple[Node, ...]


# Statements


@dataclass(frozen=True, slots=True)
class Text(Node):
    value: str


@dataclass(frozen=True, slots=True)
class Output(Node):
    value: Node


@dataclass(frozen=True, slots=True)
class Assign(Node):
    """`$name := value`, or `$name = value` for one that exists."""

    name: str
    value: Node
    declares: bool


@dataclass(frozen=True, slots=True)
class If(Node):
    condition: Node
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    variable: str | None = None


@dataclass(frozen=True, slots=True)
class With(Node):
    value: Node
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    variable: str | None = None


@dataclass(frozen=True, slots=True)
class Range(Node):
    items: Node
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    key_variable: str | None = None
    value_variable: str | None = None


@dataclass(frozen=True, slots=True)
class Break(Node):
    pass


@dataclass(frozen=True, slots=True)
class Continue(Node):
    pass


@dataclass(frozen=True, slots=True)
class Define(Node):
    name: str
    body: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Invoke(Node):
    """`{{ template "name" value }}`."""

    name: str
    value: Node | None
