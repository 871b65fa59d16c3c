"""A `wait` task → the form in which a person gives its signal (language.md §3.8).

The language has no schema for the payload of such a signal. What the task reads of it are the
fields, and what it compares them with tells their types; where nothing tells, anything may stand.
"""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.plan import Json, StepPlan
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse, parse_condition
from compozy_prefect.expressions.nodes import Binary, Call, Key, Literal, Node, Path
from compozy_prefect.expressions.reads import children
from compozy_prefect.language.texts import Path as Keys
from compozy_prefect.language.texts import texts

_COMPARISONS = {"==", "!=", "<", "<=", ">", ">=", "eq", "ne", "lt", "le", "gt", "ge"}


def form(wait: StepPlan) -> Json:
    """A JSON Schema of the payload: an object, which may have more than the listed properties."""
    assert wait.wait is not None
    fields: dict[str, dict[str, Json]] = {}
    trees = [parse_condition(wait.wait.condition).body] if wait.wait.condition else []
    trees += [_parsed(text) for _, text in (*texts(wait.outputs), *_of_steps(wait.steps))]
    for tree in trees:
        for node in tree:
            _read(node, fields)
    properties = {
        name: {"title": name.replace("_", " ").capitalize(), **found}
        for name, found in fields.items()
    }
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": True,
    }


def _read(node: Node, fields: dict[str, dict[str, Json]]) -> None:
    """Adds the fields that the tree reads, in the order of the text."""
    names = _field(node)
    if names:
        fields.setdefault(names[0], {})
    sides: tuple[Node, ...] = ()
    if isinstance(node, Binary) and node.op in _COMPARISONS:
        sides = (node.left, node.right)
    elif isinstance(node, Call) and (node.name in _COMPARISONS or node.name == "default"):
        sides = node.args if node.piped is None else (*node.args, node.piped)
    for child in children(node):
        _read(child, fields)
    values = [side.value for side in sides if isinstance(side, Literal)]
    for side in sides:
        names, type_ = _field(side), _type(values[0]) if values else None
        if len(names) == 1 and type_ is not None:
            fields[names[0]].setdefault("type", type_)


def _field(node: Node) -> list[str]:
    """`x`, `y` of `signal.payload.x.y`, `signal.x.y` and `output.signal.payload.x.y`."""
    if not isinstance(node, Path) or node.base not in (".", "$"):
        return []
    names = [str(one.name) if isinstance(one, Key) else "" for one in node.segments]
    if names[:2] == ["output", "signal"]:
        names = names[1:]
    if names[:1] != ["signal"] or names[1:2] == ["metadata"]:
        return []
    rest = names[2:] if names[1:2] == ["payload"] else names[1:]
    return rest if rest and rest[0] else []


def _type(value: object) -> str | None:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else None


def _parsed(text: str) -> tuple[Node, ...]:
    try:
        return parse(text).body
    except TemplateError:  # reported where the template stands
        return ()


def _of_steps(steps: tuple[StepPlan, ...]) -> Iterator[tuple[Keys, str]]:
    for step in steps:
        yield from texts([step.with_, step.outputs, step.env])
        yield from _of_steps(step.steps)
