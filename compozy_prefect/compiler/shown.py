"""What a template gives on of what it reads: `shown(template)`, for the traces of secrets.

A path whose value only decides something, in a test or in a comparison, is not shown; one that is
kept in a variable or bound to the dot is, where that is shown (language.md §11.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from compozy_prefect.expressions import Template
from compozy_prefect.expressions.nodes import (
    Arguments,
    Assign,
    Binary,
    Call,
    Choice,
    Define,
    Each,
    If,
    Invoke,
    Key,
    ListOf,
    Literal,
    Node,
    Output,
    Path,
    Range,
    With,
)

Segment = str | int | None

# Functions that tell of a value, and do not give it on.
_TELLING = (
    "eq ne lt le gt ge not empty len length has hasKey contains hasPrefix hasSuffix regexMatch "
    "mustRegexMatch kindOf kindIs typeOf typeIs typeIsLike deepEqual any all semverCompare keys"
)
_TESTS = frozenset(_TELLING.split())
# Those that give one of their arguments as it is, and those that reach into one.
_PASSING = frozenset(("default", "coalesce", "and", "or", "required"))
_ENDS = frozenset(("first", "mustFirst", "last", "mustLast"))
_REACHING = _ENDS | {"index", "get", "dig", "pick", "pluck"}
_COMPARISONS = frozenset(("==", "!=", "<", "<=", ">", ">="))
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Shown(NamedTuple):
    """A path from the root of the context, and where the template reads it.

    None stands for a segment that is only known when it runs. `whole`: the template gives what is
    there as it is, so that a path into its value leads on in it.
    """

    segments: tuple[Segment, ...]
    start: int
    end: int
    whole: bool = True


Flows = list[Shown]


def shown(template: Template) -> list[Shown]:
    """What is given on, in the order of the text, each path once."""
    walk = _Walk()
    walk.body(template.body, _Block([Shown((), 0, 0)], [Shown((), 0, 0)], {}))
    whole = isinstance(template.whole, Node)
    return [flow._replace(whole=flow.whole and whole) for flow in walk.given]


class _Block(NamedTuple):
    """What the dot, the root and the variables hold; blocks share their variables."""

    dot: Flows
    root: Flows
    variables: dict[str, Flows]

    def inside(self, dot: Flows | None = None) -> _Block:
        return _Block(self.dot if dot is None else dot, self.root, dict(self.variables))

    def declare(self, name: str | None, flows: Flows) -> None:
        if name is not None:
            self.variables[name] = list(flows)


class _Walk:
    def __init__(self) -> None:
        self.given: dict[Shown, None] = {}

    def body(self, nodes: Iterable[Node], block: _Block) -> None:
        for node in nodes:
            self._statement(node, block)

    def _statement(self, node: Node, block: _Block) -> None:
        if isinstance(node, Output):
            self.given |= dict.fromkeys(_flows(node.value, block))
        elif isinstance(node, Assign):
            flows = _flows(node.value, block)
            if node.declares:
                block.declare(node.name, flows)
            else:  # in a block that may not run
                held = block.variables.setdefault(node.name, [])
                held += [flow for flow in flows if flow not in held]
        elif isinstance(node, If):
            inner = block.inside()
            inner.declare(node.variable, _flows(node.condition, block))
            self.body(node.body, inner.inside())
            self.body(node.otherwise, inner)
        elif isinstance(node, With):
            flows = _flows(node.value, block)
            inner = block.inside()
            inner.declare(node.variable, flows)
            self.body(node.body, inner.inside(flows))
            self.body(node.otherwise, inner)
        elif isinstance(node, Range):
            items = _extended(_flows(node.items, block), node, None)
            for _ in range(2):  # what one round keeps, the next one may show
                inner = block.inside(items)
                inner.declare(node.key_variable, [])
                inner.declare(node.value_variable, items)
                self.body(node.body, inner)
            self.body(node.otherwise, block.inside())
        elif isinstance(node, Define):
            self.body(node.body, _Block([], [], {}))
        elif isinstance(node, Invoke) and node.value is not None:
            self.given |= dict.fromkeys(_derived(_flows(node.value, block)))


def _flows(node: Node | None, block: _Block) -> Flows:
    """What the value of an expression is, or is made of."""
    if isinstance(node, Path):
        return _path(node, block)
    if isinstance(node, Call):
        return _call(node, block)
    if isinstance(node, Choice):
        return _flows(node.yes, block) + _flows(node.no, block)
    if isinstance(node, Binary):
        if node.op in _COMPARISONS:
            return []
        flows = _flows(node.left, block) + _flows(node.right, block)
        return flows if node.op in ("&&", "||") else _derived(flows)
    if isinstance(node, ListOf):
        return _derived(flow for item in node.items for flow in _flows(item, block))
    if isinstance(node, Each) and node.kind in ("map", "filter"):
        items = _extended(_flows(node.items, block), node, None)
        if node.kind == "filter":
            return _derived(items)
        inner = block.inside()
        inner.declare(node.variable, items)
        return _derived(_flows(node.body, inner))
    return []


def _path(node: Path, block: _Block) -> Flows:
    if isinstance(node.base, Node):
        flows = _flows(node.base, block)
    elif node.base == ".":
        flows = block.dot
    else:
        flows = block.root if node.base == "$" else block.variables.get(node.base[1:], [])
    for segment in node.segments:
        if isinstance(segment, Arguments):
            return _extended(flows, node, None)
        name = segment.name if isinstance(segment, Key) else _known(segment.index)
        flows = _extended(flows, node, name)
    return [_placed(flow, node) for flow in flows]


def _extended(flows: Flows, node: Node, *names: Segment) -> Flows:
    """What stands under keys of what flows; of what was made of something all of it stays."""
    return [
        _placed(f._replace(segments=(*f.segments, *names)) if f.whole else f, node) for f in flows
    ]


def _placed(flow: Shown, node: Node) -> Shown:
    """The first expression that names something of the context is where it is read."""
    return flow if flow.end else flow._replace(start=node.start, end=node.end)


def _derived(flows: Iterable[Shown]) -> Flows:
    return [flow._replace(whole=False) for flow in flows]


def _call(node: Call, block: _Block) -> Flows:
    name = node.name
    if name in _TESTS:
        return []
    piped = [] if node.piped is None else [node.piped]
    args = [*piped, *node.args] if node.parenthesised else [*node.args, *piped]
    if name in ("env", "expandenv"):
        given = _flows(args[0], block) if args and name == "expandenv" else []
        return _derived(given) + [flow for arg in args[:1] for flow in _variables(name, arg, node)]
    if name == "ternary":
        chosen = node.args[:2]
        return [flow for arg in chosen for flow in _flows(arg, block)]
    if name in _PASSING:
        return [flow for arg in args for flow in _flows(arg, block)]
    if name in _REACHING and args:
        return _reached(node, block)
    every = (*args, *(value for _, value in node.keywords))
    return _derived(flow for arg in every for flow in _flows(arg, block))


def _reached(node: Call, block: _Block) -> Flows:
    """What a function takes out of a map or a list by keys that are written out."""
    args = list(node.args)
    if node.name in _ENDS:
        source = args[-1] if args else node.piped
        return _extended(_flows(source, block), node, None)
    if node.name == "pluck":
        held = [*args[1:], *([node.piped] if node.piped is not None else [])]
        flows = [flow for one in held for flow in _flows(one, block)]
        return _derived(_extended(flows, node, _known(args[0]) if args else None))
    if node.piped is not None:
        source, keys = node.piped, args
    elif node.name == "dig":
        source, keys = args[-1], args[:-1]
    else:
        source, keys = args[0], args[1:]
    flows = _flows(source, block)
    if node.name == "pick":
        return _derived(flow for key in keys for flow in _extended(flows, node, _known(key)))
    if node.name == "dig":
        found = _extended(flows, node, *map(_known, keys[:-1]))
        return found + (_flows(keys[-1], block) if keys else [])
    found = _extended(flows, node, *map(_known, keys))
    if node.piped is not None:
        return found
    # A key that stands beside the path belongs to it.
    own = (source.start, source.end) if isinstance(source, Path) else None
    return [
        f._replace(start=node.start, end=node.end) if (f.start, f.end) == own else f for f in found
    ]


def _variables(name: str, arg: Node, node: Call) -> Flows:
    """What `env` and `expandenv` read of the environment."""
    if not isinstance(arg, Literal) or not isinstance(arg.value, str):
        return [Shown(("env", None), node.start, node.end, False)]
    names = [arg.value]
    if name == "expandenv":
        names = [found[1] or found[2] for found in _VARIABLE.finditer(arg.value)]
    return [Shown(("env", one), node.start, node.end, False) for one in names]


def _known(index: Node) -> Segment:
    value = index.value if isinstance(index, Literal) else None
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) else None
