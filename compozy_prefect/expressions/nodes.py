"""The syntax tree of templates. `start` and `end` are offsets into the template, end exclusive."""

from __future__ import annotations

from typing import Any, ClassVar, dataclass_transform


@dataclass_transform(frozen_default=True)
class _Value:
    """Like a frozen dataclass. The decorator would cost a millisecond a class at import, and every
    start of the command would pay for twenty of them.
    """

    fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.fields = (*cls.fields, *cls.__annotations__)

    def __init__(self, *values: Any) -> None:
        self.__dict__.update(zip(self.fields, values, strict=False))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.__dict__ == other.__dict__

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.fields[2:])
        return f"{type(self).__name__}({inner})"


class Node(_Value):
    start: int
    end: int


# Expressions


class Literal(Node):
    value: bool | int | float | str | None


class Key(Node):
    """`.name` or `.0` of a path."""

    name: str | int


class Subscript(Node):
    """`[expression]` of a path."""

    index: Node


class Arguments(Node):
    """`(…)` after a path: a method call, under `.tools` and `.mcps` only."""

    items: tuple[Node, ...]


class Path(Node):
    """A value and the segments that lead from it.

    `base` is "." for the dot, "$" for the root, "$name" for a variable, or an expression.
    """

    base: str | Node
    segments: tuple[Key | Subscript | Arguments, ...] = ()


class Call(Node):
    """A function with its arguments in the order written, and the value piped into it.

    `name_end` is the end of the function's name, for underlining. `parenthesised`: written
    `x | f(a)`, which can put the piped value elsewhere than `x | f a` (§11.1 rule 3).
    """

    name: str
    args: tuple[Node, ...]
    name_end: int
    keywords: tuple[tuple[str, Node], ...] = ()
    piped: Node | None = None
    parenthesised: bool = False


class Binary(Node):
    """`== != < <= > >= + -`, in conditions `* / %`, and the short-circuiting `&&` and `||`."""

    op: str
    left: Node
    right: Node


class Not(Node):
    operand: Node


class ListOf(Node):
    items: tuple[Node, ...]


class Choice(Node):
    """`condition ? yes : no` of a condition."""

    condition: Node
    yes: Node
    no: Node


class Each(Node):
    """`items.all(x, test)` and its kin, of a condition; `kind` is the macro's name."""

    kind: str
    items: Node
    variable: str
    body: Node


# Statements


class Text(Node):
    value: str


class Output(Node):
    value: Node


class Assign(Node):
    """`$name := value`, or `$name = value` for one that exists."""

    name: str
    value: Node
    declares: bool


class If(Node):
    condition: Node
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    variable: str | None = None


class With(Node):
    value: Node
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    variable: str | None = None


class Range(Node):
    items: Node
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]
    key_variable: str | None = None
    value_variable: str | None = None


class Break(Node):
    pass


class Continue(Node):
    pass


class Define(Node):
    name: str
    body: tuple[Node, ...]


class Invoke(Node):
    """`{{ template "name" value }}`."""

    name: str
    value: Node | None
