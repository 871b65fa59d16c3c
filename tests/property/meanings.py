"""Valid projects → edits of what the data means: names in filters, values that are compared, parts
that others read and that are gone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edits import Mutation, Source, misspelt

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence

_PLAIN = re.compile(r"[A-Za-z][\w-]{2,}")
# A function that takes the name of a field, and the name.
_FIELD_OF = re.compile(
    r"\b(?:map|filter|sort|unique|group|selectattr|rejectattr)(?:\(| )['\"]([\w.-]+)['\"]"
)
_COMPARED = re.compile(r"[!=]= ?['\"]([\w -]+)['\"]")


def keys_of_filters(source: Source, _: Project) -> Iterator[Mutation]:
    """`map('score')`, where a schema or a task of the file says that there is a `score`."""
    for found in _FIELD_OF.finditer(source.text):
        name = found[1]
        if _is_declared(source, name):
            also = source.mentions(name)
            yield source.edit("filter misspelt", name, *found.span(1), misspelt(name), also)


def compared(source: Source, _: Project) -> Iterator[Mutation]:
    """A text that a value is compared with, and that an enumeration or a route of the file has."""
    listed: dict[str, None] = {}
    for path, node in source.nodes:
        if path[-1:] == ("enum",) and isinstance(node, Sequence):
            listed |= {item.text: None for item in node.items if isinstance(item, Scalar)}
    for found in _COMPARED.finditer(source.text):
        if found[1] in listed and _PLAIN.fullmatch(found[1]):
            wrong = misspelt(found[1], listed)
            yield source.edit("comparison misspelt", found[1], *found.span(1), wrong)


def routes(source: Source, _: Project) -> Iterator[Mutation]:
    """The key of a route that an enumeration of the file has, where a path decides."""
    enums = [
        [item.text for item in node.items if isinstance(item, Scalar)]
        for path, node in source.nodes
        if path[-1:] == ("enum",) and isinstance(node, Sequence)
    ]
    for path, node in source.nodes:
        above = source.root.at(*path[:-1])
        condition = above.get("condition") if isinstance(above, Mapping) else None
        if path[-1:] == ("routes",) and isinstance(node, Mapping) and _is_path(condition):
            for name in node.entries:
                if name != "default" and any(name in values for values in enums):
                    key = node.keys[name]
                    start = key.start + (key.style in ("single", "double"))
                    wrong = misspelt(name, node.entries)
                    also = [source.holders[node.start].start]
                    yield source.edit("route misspelt", name, start, start + len(name), wrong, also)


def variables_of_items(source: Source, _: Project) -> Iterator[Mutation]:
    """`item_var` and `index_var` under another name than the one that is read."""
    for _path, node in source.nodes:
        if not isinstance(node, Mapping):
            continue
        for field in ("item_var", "index_var"):
            value = node.get(field)
            if isinstance(value, Scalar) and re.search(rf"\.{value.text}\b", source.text):
                wrong, also = misspelt(value.text), source.mentions(value.text)
                yield source.edit("item misspelt", value.text, value.start, value.end, wrong, also)


def gone(source: Source, _: Project) -> Iterator[Mutation]:
    """A task, a value or a property that the file reads is not there any more."""
    for path, node in source.nodes:
        if path[-1:] == ("tasks",) and isinstance(node, Sequence) and len(node.items) > 1:
            yield from _tasks_gone(source, node)
        if not isinstance(node, Mapping) or len(node.entries) < 2 or len(path) < 2:
            continue
        above = source.root.at(*path[:-1])
        id_ = above.get("id") if isinstance(above, Mapping) else None
        if path[-1] == "outputs" and isinstance(id_, Scalar):
            for name in node.entries:
                read = re.compile(rf"\btasks\.{re.escape(id_.text)}\.output\.{re.escape(name)}\b")
                if also := [found.start() for found in read.finditer(source.text)]:
                    yield source.without("output dropped", node, name, also)


def _tasks_gone(source: Source, tasks: Sequence) -> Iterator[Mutation]:
    for one, after in zip(tasks.items, [*tasks.items[1:], None], strict=True):
        id_ = one.get("id") if isinstance(one, Mapping) else None
        if not isinstance(id_, Scalar) or after is None or "{{" in id_.text:
            continue
        inside = range(one.start, one.end)
        read = re.compile(rf"\btasks\.{re.escape(id_.text)}\b|\bnext: {re.escape(id_.text)}\b")
        also = [m.start() for m in read.finditer(source.text) if m.start() not in inside]
        # What its own text refers to may be left without a use; that is another mistake.
        if also and "\n" in source.text[one.start : after.start]:
            also += [at for at in source.mentions(id_.text) if at not in inside]
            made = source.edit("task dropped", id_.text, one.start, after.start, "", also)
            yield made


def schemas(source: Source, _: Project) -> Iterator[Mutation]:
    """The schema of a value whose fields or elements are read becomes one of a plain text."""
    for path, node in source.nodes:
        if len(path) < 2 or path[-2] != "properties" or not isinstance(node, Mapping):
            continue
        kind, name = node.get("type"), str(path[-1])
        if not isinstance(kind, Scalar) or kind.text != "object":
            continue
        inner = node.get("properties")
        if not isinstance(inner, Mapping):
            continue
        names = "|".join(map(re.escape, inner.entries))
        read = re.compile(rf"\.{re.escape(name)}\.(?:{names})\b")
        if also := [found.start() for found in read.finditer(source.text)]:
            also += source.around(node)
            yield source.edit("schema changed", name, kind.start, kind.end, "string", also)


def _is_path(node: Node | None) -> bool:
    return (
        isinstance(node, Scalar) and re.fullmatch(r"\{\{ *\.[\w.-]+ *\}\}", node.text) is not None
    )


def _is_declared(source: Source, name: str) -> bool:
    """Whether a schema lists a property of that name, or a task gives a value of it."""
    return any(
        isinstance(node, Mapping)
        and path[-1:] in (("properties",), ("outputs",))
        and name in node.entries
        for path, node in source.nodes
    )


MEANINGS = (keys_of_filters, compared, routes, variables_of_items, gone, schemas)
