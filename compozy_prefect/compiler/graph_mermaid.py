"""A graph → a Mermaid flowchart, as GitHub, GitLab and most editors draw it.

Names in it are our own, so that no id of a step can be a word of the language, and text is written
with entities wherever Mermaid or its Markdown could see more than text in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.graph import Box, Edge, Node, names

_SHAPES = {
    "start": ("([", "])"),
    "end": ("([", "])"),
    "router": ("{", "}"),
    "aggregate": ("[[", "]]"),
    "wait": ("{{", "}}"),
    "signal": (">", "]"),
    "memory": ("[(", ")]"),
    "chosen": ("(", ")"),
}
_ARROWS = {"error": "-.->", "timeout": "-.->", "signal": "-.->"}

# Lines only: what they stand on is light or dark as the reader has it.
_CLASSES = {
    "start": "stroke:#6b7280,stroke-width:2px",
    "end": "stroke:#6b7280,stroke-width:2px",
    "agent": "stroke:#7c3aed,stroke-width:2px",
    "tool": "stroke:#0f766e,stroke-width:2px",
    "router": "stroke:#b45309,stroke-width:2px",
    "wait": "stroke:#be185d,stroke-width:2px",
    "signal": "stroke:#be185d,stroke-width:2px",
    "memory": "stroke:#1d4ed8,stroke-width:2px",
    "chosen": "stroke-dasharray:4 3",
}
_EDGES = {
    "error": "stroke:#dc2626,stroke-dasharray:6 4",
    "timeout": "stroke:#d97706,stroke-dasharray:6 4",
    "signal": "stroke:#be185d,stroke-dasharray:2 3",
}

# Not `:`, which Mermaid takes for a style in some lines.
_PLAIN = frozenset(" ,./=?!%@$^~'-+_()[]{}|")


def mermaid(root: Box) -> str:
    """The text of the flowchart, ending in a newline."""
    drawn = names(root)
    lines = [f"%% {_comment(root.title)}", "flowchart TD"]
    lines += _inside(root, drawn, 1)
    edges = list(_edges(root))
    lines += [f"  {_edge(edge, drawn)}" for edge in edges]
    by_kind: dict[str, list[str]] = {}
    for part in root.all_parts:
        if isinstance(part, Node):
            by_kind.setdefault(part.kind, []).append(drawn[part.id])
    for kind, style in _CLASSES.items():
        if kind in by_kind:
            lines.append(f"  classDef {kind}_step {style}")
            lines.append(f"  class {','.join(by_kind[kind])} {kind}_step")
    for kind, style in _EDGES.items():
        numbers = [str(i) for i, edge in enumerate(edges) if edge.kind == kind]
        if numbers:
            lines.append(f"  linkStyle {','.join(numbers)} {style}")
    return "\n".join(lines) + "\n"


def _inside(box: Box, drawn: dict[str, str], level: int) -> Iterator[str]:
    indent = "  " * level
    for part in box.parts:
        name = drawn[part.id]
        if isinstance(part, Box):
            title = " — ".join((f"<b>{_text(part.title)}</b>", *map(_text, part.details)))
            yield f'{indent}subgraph {name}["{title}"]'
            yield f"{indent}  direction TB"
            yield from _inside(part, drawn, level + 1)
            yield f"{indent}end"
        else:
            opened, closed = _SHAPES.get(part.kind, ("[", "]"))
            small = [f"<small>{_text(detail)}</small>" for detail in part.details]
            label = "<br/>".join((f"<b>{_text(part.title)}</b>", *small))
            yield f'{indent}{name}{opened}"{label}"{closed}'


def _edges(box: Box) -> Iterator[Edge]:
    yield from box.edges
    for part in box.parts:
        if isinstance(part, Box):
            yield from _edges(part)


def _edge(edge: Edge, drawn: dict[str, str]) -> str:
    arrow = _ARROWS.get(edge.kind, "-->")
    label = f'|"{_text(edge.label)}"|' if edge.label else ""
    return f"{drawn[edge.source]} {arrow}{label} {drawn[edge.target]}"


def _text(text: str) -> str:
    """As the text of a label; `#35;` is how Mermaid writes a character by its number."""
    return "".join(c if c in _PLAIN or c.isalnum() or ord(c) > 127 else f"#{ord(c)};" for c in text)


def _comment(text: str) -> str:
    """As a comment; braces after `%%` would be a directive."""
    return text.replace("{", "(").replace("}", ")")
