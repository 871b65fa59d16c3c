"""An expression → the shape of its value, by the shape of the context that it stands in.

One walk over the syntax tree, with the dot and the variables as `range`, `with` and the macros of
conditions bind them (language.md §11.1). On the way it finds fields that cannot be there (CZ503,
CZ504) and comparisons that never hold (CZ505).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compozy_prefect.compiler.comparisons import impossible
from compozy_prefect.compiler.env import Argument, Env, dotted, known_key
from compozy_prefect.compiler.results import result
from compozy_prefect.compiler.values import (
    BOOLEAN,
    NUMBER,
    TEXT,
    UNKNOWN,
    Segment,
    Shape,
    either,
    element,
    entry,
    list_of,
    literal,
)
from compozy_prefect.expressions import Template
from compozy_prefect.expressions.functions import FUNCTIONS
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
    ListOf,
    Literal,
    Node,
    Not,
    Output,
    Path,
    Range,
    Subscript,
    With,
)
from compozy_prefect.expressions.syntax import LAZY


def infer(node: Node, env: Env, guarded: bool = False) -> Shape:
    """The shape of an expression's value. `guarded`: what is missing reads as null (§11.5)."""
    if isinstance(node, Literal):
        return literal(node.value)
    if isinstance(node, Path):
        return _path(node, env, guarded)
    if isinstance(node, Call):
        return _call(node, env, guarded)
    if isinstance(node, Binary):
        return _binary(node, env, guarded)
    if isinstance(node, Not):
        infer(node.operand, env, True)
        return BOOLEAN
    if isinstance(node, ListOf):
        items = [infer(item, env, guarded) for item in node.items]
        return list_of(either(items))
    if isinstance(node, Choice):
        infer(node.condition, env, True)
        return either((infer(node.yes, env, guarded), infer(node.no, env, guarded)))
    return _each(node, env) if isinstance(node, Each) else UNKNOWN


def walk(template: Template, env: Env, guarded: bool = False) -> Shape:
    """The shape of what a template renders to, were it text only, and all that is found in it."""
    env.reassigned = frozenset(_reassigned(template.body))
    _body(template.body, env, guarded)
    return TEXT


def _body(nodes: Iterable[Node], env: Env, guarded: bool = False) -> None:
    for node in nodes:
        _statement(node, env, guarded)


def _statement(node: Node, env: Env, guarded: bool) -> None:
    if isinstance(node, Output):
        infer(node.value, env, guarded)
    elif isinstance(node, Assign):
        env.declare(node.name, infer(node.value, env))
    elif isinstance(node, If):
        block = env.inside()
        block.declare(node.variable, infer(node.condition, env, True))
        _body(node.body, block.inside())
        _body(node.otherwise, block)
    elif isinstance(node, With):
        value, block = infer(node.value, env, True), env.inside()
        block.declare(node.variable, value)
        _body(node.body, block.inside(value, env.holder(node.value)))
        _body(node.otherwise, block)
    elif isinstance(node, Range):
        items = infer(node.items, env, True)
        if isinstance(node.items, Path):
            _gone(node.items, env)
        key, value = _elements(items)
        block = env.inside(value, env.holder(node.items) + dotted(None))
        block.declare(node.key_variable, key)
        block.declare(node.value_variable, value)
        _body(node.body, block)
        _body(node.otherwise, env.inside())
    elif isinstance(node, Define):
        _body(node.body, env.inside(UNKNOWN, root=UNKNOWN))
    elif isinstance(node, Invoke) and node.value is not None:
        infer(node.value, env)


def _gone(items: Path, env: Env) -> None:
    """What can never be there is no list to go by; that nothing may be there is what is guarded."""
    probe = env.inside()
    probe.found = []
    infer(items, probe)
    env.found += [one for one in probe.found if one.code == "CZ503" and one not in env.found]


def _elements(shape: Shape) -> tuple[Shape, Shape]:
    """What `range` goes by: keys and values."""
    kinds = shape.kinds
    if not kinds or "string" in kinds:
        return UNKNOWN, UNKNOWN
    values = [element(shape)] if "array" in kinds else []
    values += [entry(shape)] if "object" in kinds else []
    values += [NUMBER] if "number" in kinds else []
    return TEXT if kinds == {"object"} else UNKNOWN, either(values)


def _reassigned(nodes: Iterable[Node]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Assign) and not node.declares:
            yield node.name
        elif isinstance(node, (If, With, Range)):
            yield from _reassigned((*node.body, *node.otherwise))
        elif isinstance(node, Define):
            yield from _reassigned(node.body)


# Expressions


def _path(node: Path, env: Env, guarded: bool) -> Shape:
    if isinstance(node.base, Node):
        shape, what = infer(node.base, env, guarded), env.holder(node.base)
    else:
        shape, what = env.base(node.base, node.start)
    for segment in node.segments:
        if isinstance(segment, Arguments):
            for item in segment.items:
                infer(item, env)
            shape = UNKNOWN
            continue
        name: Segment
        start, end = segment.start, segment.end
        if isinstance(segment, Subscript):
            index = infer(segment.index, env)
            name = known_key(segment.index)
            if name is None and index.kinds == {"number"} and shape.kinds == {"array"}:
                shape = element(shape)
                what += dotted(None)
                continue
        else:
            name = segment.name
            start += env.text[start : start + 1] == "."
        shape = env.step(shape, name, what or ".", start, end, guarded)
        what += dotted(name)
    return shape


def _call(node: Call, env: Env, guarded: bool) -> Shape:
    operands = [*node.args, *((node.piped,) if node.piped is not None else ())]
    if node.name in LAZY:
        shapes = [infer(operand, env, True) for operand in operands]
        return BOOLEAN if node.name == "not" else either(shapes)
    inner = guarded or FUNCTIONS[node.name].guard
    args = [Argument(arg, infer(arg, env, inner)) for arg in node.args]
    piped = Argument(node.piped, infer(node.piped, env, inner)) if node.piped is not None else None
    for _, value in node.keywords:
        infer(value, env, inner)
    return result(node, args, piped, env, inner)


def _binary(node: Binary, env: Env, guarded: bool) -> Shape:
    if node.op in ("&&", "||"):
        return either((infer(node.left, env, True), infer(node.right, env, True)))
    left = Argument(node.left, infer(node.left, env, guarded))
    right = Argument(node.right, infer(node.right, env, guarded))
    if node.op not in ("+", "-", "*", "/", "%"):
        impossible(node.op, left, right, env)
        return BOOLEAN
    if node.op != "+" or {"number"} in (left.shape.kinds, right.shape.kinds):
        return NUMBER
    return TEXT if {"string"} in (left.shape.kinds, right.shape.kinds) else UNKNOWN


def _each(node: Each, env: Env) -> Shape:
    """CEL's macros: over a map they go by its keys."""
    items = infer(node.items, env, True)
    block = env.inside()
    if items.kinds == {"array"}:
        one = element(items)
    else:
        one = TEXT if items.kinds == {"object"} else UNKNOWN
    block.declare(node.variable, one)
    body = infer(node.body, block, True)
    if node.kind in ("map", "filter"):
        return list_of(body if node.kind == "map" else one)
    return BOOLEAN
