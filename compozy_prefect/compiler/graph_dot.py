"""A graph → the DOT language of Graphviz."""

from __future__ import annotations

import html
from collections.abc import Iterator

from compozy_prefect.compiler.graph import Box, Edge, Node, names

_NODES = {
    "start": 'shape=box style="rounded,bold"',
    "end": 'shape=box style="rounded,bold"',
    "agent": 'color="#7c3aed"',
    "tool": 'color="#0f766e"',
    "router": 'shape=diamond color="#b45309" margin="0.02,0.02"',
    "aggregate": "shape=box peripheries=2",
    "wait": 'shape=hexagon color="#be185d"',
    "signal": 'shape=cds color="#be185d"',
    "memory": 'shape=cylinder color="#1d4ed8"',
    "chosen": 'style="rounded,dashed"',
}
_EDGES = {
    "error": 'style=dashed color="#dc2626" fontcolor="#dc2626"',
    "timeout": 'style=dashed color="#d97706" fontcolor="#d97706"',
    "signal": 'style=dotted color="#be185d" fontcolor="#be185d"',
}


def dot(root: Box) -> str:
    """The text of the digraph, ending in a newline."""
    drawn = names(root)
    lines = [
        f"digraph {_quoted(root.title)} {{",
        '  graph [compound=true fontname="Helvetica" fontsize=12 nodesep=0.4 ranksep=0.5]',
        '  node [shape=box style=rounded fontname="Helvetica" fontsize=12 margin="0.15,0.08"]',
        '  edge [fontname="Helvetica" fontsize=10]',
        *_inside(root, drawn, 1),
    ]
    return "\n".join(lines) + "\n}\n"


def _inside(box: Box, drawn: dict[str, str], level: int) -> Iterator[str]:
    indent = "  " * level
    for part in box.parts:
        name = drawn[part.id]
        if isinstance(part, Box):
            yield f"{indent}subgraph cluster_{name} {{"
            yield f'{indent}  label={_label(part)}; style="rounded"; color="#9ca3af"'
            yield from _inside(part, drawn, level + 1)
            yield f"{indent}}}"
        else:
            style = _NODES.get(part.kind, "")
            yield f"{indent}{name} [label={_label(part)}{' ' if style else ''}{style}]"
    parts = {part.id: part for part in box.parts}
    for edge in box.edges:
        yield indent + _edge(edge, parts, drawn)


def _edge(edge: Edge, parts: dict[str, Node | Box], drawn: dict[str, str]) -> str:
    """An edge of a box runs between nodes inside, and is cut off at the border."""
    ends = []
    attributes = [f"label={_quoted(edge.label)}"] if edge.label else []
    for id, place, which in ((edge.source, "ltail", -1), (edge.target, "lhead", 0)):
        part = parts[id]
        if isinstance(part, Box):
            if edge.source != edge.target:
                attributes.append(f"{place}=cluster_{drawn[id]}")
            part = [inner for inner in part.all_parts if isinstance(inner, Node)][which]
        ends.append(drawn[part.id])
    if style := _EDGES.get(edge.kind):
        attributes.append(style)
    listed = f" [{' '.join(attributes)}]" if attributes else ""
    return f"{ends[0]} -> {ends[1]}{listed}"


def _label(part: Node | Box) -> str:
    small = "".join(
        f'<br/><font point-size="10">{_escaped(detail)}</font>' for detail in part.details if detail
    )
    title = f"<b>{_escaped(part.title)}</b>" if part.title else ""
    return f"<{title}{small}>"


def _escaped(text: str) -> str:
    """As the HTML of a label, in which Graphviz stumbles over a lone `]` (as of version 2)."""
    return html.escape(text).replace("]", "&#93;")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
