"""Every path followed through the schemas it passes.

A field that a schema does not list is a warning, since most schemas are open; one that is read
from a text or a number can only fail, and is an error. What is unknown is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.places import Place, places
from compozy_prefect.compiler.shapes import Schema, Segment, Shapes, Stop, follow
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse, parse_condition
from compozy_prefect.expressions.nodes import Binary, Call, Literal, Node, Path
from compozy_prefect.expressions.reads import Read
from compozy_prefect.language.names import nearest

# A path → the schema it starts from, and how many of its segments lead there.
Origin = Callable[[tuple[Segment, ...]], tuple[Schema, int]]

_NOUNS = {
    "string": "a text",
    "number": "a number",
    "integer": "a number",
    "boolean": "a boolean",
    "array": "a list",
    "null": "null",
}


def fields(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        shapes = Shapes(checked)
        for place in places(checked.scope):
            yield from _place(place, shapes)


def _place(place: Place, shapes: Shapes) -> Iterator[Diagnostic]:
    text = str(place.node.value)
    if "{{" not in text and not place.condition:
        return
    try:
        template = parse_condition(text) if place.condition else parse(text)
    except TemplateError:
        return  # said by the pass over templates
    step = place.step if place.sees == "outputs" else None
    if step is not None and place.field == "on_error":
        return  # what a failed task leaves behind has no schema
    ended = place.ended
    reader = place.readers[0] if place.readers else None

    def origin(segments: tuple[Segment, ...]) -> tuple[Schema, int]:
        return shapes.at(segments, step, reader=reader, ended=ended)

    for read in template.reads:
        yield from _read(read, place, origin)
    for node in template.body:
        yield from _comparisons(node, place, origin)


def _read(read: Read, place: Place, origin: Origin) -> Iterator[Diagnostic]:
    schema, used = origin(read.segments)
    found = follow(schema, read.segments[used:])
    if not isinstance(found, Stop):
        return
    at = used + found.at
    name = str(read.segments[at])
    what = _written(read.segments[:at])
    span = place.span(read, at)
    if found.kind:
        if not read.guarded:
            yield error(
                "CZ504",
                f"`{what}` is {_NOUNS.get(found.kind, found.kind)} and has no field `{name}`",
                span,
            )
        return
    near = nearest(name, found.known)
    if near is None and (read.guarded or not found.closed):
        return
    listed = ", ".join(found.known) or "no fields at all"
    yield warning(
        "CZ503",
        f"`{what}` has no field `{name}`, as far as its schema says",
        span,
        f"did you mean `{near}`?" if near else f"it has {listed}",
    )


def _comparisons(node: Node, place: Place, origin: Origin) -> Iterator[Diagnostic]:
    """`==` with a value that the schema of the other side rules out."""
    pairs: list[tuple[Node, Node]] = []
    if isinstance(node, Binary) and node.op in ("==", "!="):
        pairs = [(node.left, node.right), (node.right, node.left)]
    elif isinstance(node, Call) and node.name in ("eq", "ne") and len(node.args) == 2:
        pairs = [(node.args[0], node.args[1]), (node.args[1], node.args[0])]
    for path, literal in pairs:
        if isinstance(path, Path) and isinstance(literal, Literal):
            yield from _comparison(path, literal, place, origin)
    for name in node.fields:
        value = getattr(node, name)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, Node):
                yield from _comparisons(child, place, origin)


def _comparison(path: Path, literal: Literal, place: Place, origin: Origin) -> Iterator[Diagnostic]:
    names = [getattr(segment, "name", None) for segment in path.segments]
    if path.base not in (".", "$") or None in names or not names or literal.value is None:
        return
    segments: tuple[Segment, ...] = tuple(names)
    schema, used = origin(segments)
    found = follow(schema, segments[used:])
    if isinstance(found, Stop) or not isinstance(found.get("enum"), list):
        return
    choices = found["enum"]
    if literal.value in choices or str(literal.value) in map(str, choices):
        return
    near = nearest(str(literal.value), map(str, choices))
    listed = ", ".join(map(str, choices))
    yield warning(
        "CZ505",
        f"`{_written(segments)}` is never `{literal.value}`",
        place.node.span_of(literal.start, literal.end),
        f"did you mean `{near}`? it is one of {listed}" if near else f"it is one of {listed}",
    )


def _written(segments: tuple[Segment, ...]) -> str:
    return "".join(f".{'…' if segment is None else segment}" for segment in segments)
