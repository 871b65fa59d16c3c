"""A graph → an SVG picture, with nothing but what is here: no Graphviz, no script, no font.

Each box is laid out by itself and is then one item of the box around it. Colours are classes, and
follow the reader's light or dark setting.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from compozy_prefect.compiler.graph import Box, Node
from compozy_prefect.compiler.graph_layout import GAP_Y, Layout, Line, Point, Route, Size, layout

MARGIN, PAD = 24.0, 18.0
_TITLE, _SMALL, _EDGE = 13.0, 11.0, 11.0  # sizes of text
_ROW = 16.0

_STYLE = """
svg { --paper: #ffffff; --ink: #1f2937; --soft: #6b7280; --node: #f9fafb; --box: #6b728014;
  --line: #9ca3af; --agent: #7c3aed; --tool: #0f766e; --router: #b45309; --signal: #be185d;
  --memory: #1d4ed8; --error: #dc2626; --timeout: #b45309; }
@media (prefers-color-scheme: dark) { svg { --paper: #111827; --ink: #f3f4f6; --soft: #a3acba;
  --node: #1f2937; --box: #9ca3af1c; --line: #6b7280; --agent: #a78bfa; --tool: #2dd4bf;
  --router: #fbbf24; --signal: #f472b6; --memory: #60a5fa; --error: #f87171; --timeout: #fbbf24; } }
text { font-family: ui-sans-serif, system-ui, "Segoe UI", Helvetica, Arial, sans-serif;
  fill: var(--ink); text-anchor: middle; }
.paper { fill: var(--paper); }
.title { font-size: 13px; font-weight: 600; }
.small, .label { font-size: 11px; fill: var(--soft); }
.left text { text-anchor: start; }
.shape { fill: var(--node); stroke: var(--line); stroke-width: 1.5; }
.box { fill: var(--box); stroke: var(--line); }
.agent .shape { stroke: var(--agent); }
.tool .shape { stroke: var(--tool); }
.router .shape { stroke: var(--router); }
.wait .shape, .signal .shape { stroke: var(--signal); }
.memory .shape { stroke: var(--memory); }
.start .shape, .end .shape { stroke: var(--ink); }
.chosen .shape { stroke-dasharray: 4 3; }
.edge path { fill: none; stroke: var(--soft); stroke-width: 1.4; }
.edge polygon { fill: var(--soft); }
.edge.error path { stroke: var(--error); stroke-dasharray: 6 4; }
.edge.error polygon, .error .label { fill: var(--error); }
.edge.timeout path { stroke: var(--timeout); stroke-dasharray: 6 4; }
.edge.timeout polygon, .timeout .label { fill: var(--timeout); }
.edge.signal path { stroke: var(--signal); stroke-dasharray: 2 3; }
.edge.signal polygon, .edge.signal .label { fill: var(--signal); }
"""


def svg(root: Box) -> str:
    """The picture as one SVG document, ending in a newline."""
    drawn = _drawn(root)
    width, height = drawn.size.width + 2 * MARGIN, drawn.size.height + 2 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}"'
        f' width="{_n(width)}" height="{_n(height)}" role="img">',
        f"<title>{_escaped(root.title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_n(width)}" height="{_n(height)}"/>',
        *_header(root, MARGIN, MARGIN),
        *_content(drawn, MARGIN, MARGIN),
    ]
    return "\n".join(lines) + "\n</svg>\n"


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A box with its parts laid out below its header; `inner` has the boxes in it by id."""

    box: Box
    size: Size
    layout: Layout
    offset: Point
    inner: dict[str, _Drawn]


def _drawn(box: Box, pad: float = 0.0) -> _Drawn:
    inner = {part.id: _drawn(part, PAD) for part in box.parts if isinstance(part, Box)}
    sizes = {
        part.id: inner[part.id].size if isinstance(part, Box) else _size(part) for part in box.parts
    }
    for edge in box.edges:
        if edge.source == edge.target:  # room for the loop at its side
            size = sizes[edge.source]
            more = 2 * (GAP_Y + _width(edge.label, _EDGE))
            sizes[edge.source] = Size(size.width + more, size.height)
    lines = [
        Line(
            edge.source,
            edge.target,
            Size(_width(edge.label, _EDGE) + 8, _ROW) if edge.label else Size(0, 0),
        )
        for edge in box.edges
    ]
    placed = layout(sizes, lines)
    header = _ROW * (1 + len(box.details)) + 10
    texts = [_width(box.title, _TITLE), *(_width(detail, _SMALL) for detail in box.details)]
    width = max(placed.size.width, *texts)
    size = Size(width + 2 * pad, placed.size.height + header + 2 * pad)
    offset = (pad + (width - placed.size.width) / 2, pad + header)
    return _Drawn(box, size, placed, offset, inner)


def _size(node: Node) -> Size:
    texts = [_width(node.title, _TITLE), *(_width(detail, _SMALL) for detail in node.details)]
    width, height = max(texts) + 28, _ROW * len(texts) + 16
    match node.kind:
        case "router":  # a diamond holds a rectangle of half its width and height
            return Size(width * 1.55, height * 1.9)
        case "wait" | "signal":
            return Size(width + 24, height)
        case "memory":
            return Size(width, height + 14)
    return Size(max(width, 64), height)


def _content(drawn: _Drawn, x: float, y: float) -> Iterator[str]:
    x, y = x + drawn.offset[0], y + drawn.offset[1]
    parts = {part.id: part for part in drawn.box.parts}
    for part in drawn.box.parts:
        middle = drawn.layout.middles[part.id]
        px, py = middle[0] + x, middle[1] + y
        if isinstance(part, Box):
            inside = drawn.inner[part.id]
            left, top = px - inside.size.width / 2, py - inside.size.height / 2
            yield f'<g class="{part.kind}">'
            yield _rect("box", left, top, inside.size, 10)
            yield from _header(part, left + PAD, top + PAD)
            yield from _content(inside, left, top)
            yield "</g>"
        else:
            yield f'<g class="{part.kind}">{_shape(part, px, py)}'
            yield from _lines(part, px, py)
            yield "</g>"
    for edge, route in zip(drawn.box.edges, drawn.layout.routes, strict=True):
        ends = tuple(_outline(parts[id], drawn, id) for id in (edge.source, edge.target))
        yield f'<g class="edge {edge.kind}">'
        if edge.source == edge.target:
            middle = drawn.layout.middles[edge.source]
            yield from _loop(middle[0] + x, middle[1] + y, ends[0][1], edge.label)
        else:
            yield from _edge(route, ends, edge.label, x, y)
        yield "</g>"


_Outline = tuple[Point, Size, bool]  # the middle, the size, and whether it is a diamond


def _outline(part: Node | Box, drawn: _Drawn, id: str) -> _Outline:
    size = drawn.inner[id].size if isinstance(part, Box) else _size(part)
    return drawn.layout.middles[id], size, part.kind == "router"


def _border(point: Point, outline: _Outline) -> Point:
    """Where a vertical line from a point meets the shape that it leads to."""
    (mx, my), size, is_diamond = outline
    half = size.height / 2
    if is_diamond:
        half *= max(0.0, 1 - abs(point[0] - mx) / (size.width / 2))
    return (point[0], my + half if point[1] > my else my - half)


def _edge(
    route: Route, ends: tuple[_Outline, ...], label: str, x: float, y: float
) -> Iterator[str]:
    """The line, which is cut where its label stands, and its arrow."""
    points = list(route.points)
    first, last = _border(points[0], ends[0]), _border(points[-1], ends[1])
    at = [(px + x, py + y) for px, py in (first, *points, last)]
    path = f"M{_n(at[0][0])} {_n(at[0][1])}"
    for (ax, ay), (bx, by) in pairwise(at):
        if abs(ax - bx) < 0.5:
            is_cut = bool(label) and min(ay, by) < route.label[1] + y < max(ay, by)
            path += f" {'M' if is_cut else 'L'}{_n(bx)} {_n(by)}"
        else:
            bend = (ay + by) / 2
            path += f" C{_n(ax)} {_n(bend)} {_n(bx)} {_n(bend)} {_n(bx)} {_n(by)}"
    yield f'<path d="{path}"/>'
    from_above = points[-1][1] < ends[1][0][1]
    yield _arrow(at[-1], (0, -7 if from_above else 7))
    if label:
        yield _caption(label, route.label[0] + x, route.label[1] + y)


def _loop(mx: float, my: float, size: Size, label: str) -> Iterator[str]:
    right, out = mx + size.width / 2, mx + size.width / 2 + GAP_Y
    path = f"M{_n(right)} {_n(my - 8)} C{_n(out)} {_n(my - 24)} {_n(out)} {_n(my + 24)}"
    yield f'<path d="{path} {_n(right)} {_n(my + 8)}"/>'
    yield _arrow((right, my + 8), (7, 0))
    if label:
        yield _caption(label, out + _width(label, _EDGE) / 2, my)


def _arrow(tip: Point, back: Point) -> str:
    (x, y), (dx, dy) = tip, back
    wide, high = (0, 4) if dx else (4, 0)
    corners = ((x, y), (x + dx - wide, y + dy - high), (x + dx + wide, y + dy + high))
    return f'<polygon points="{" ".join(f"{_n(a)},{_n(b)}" for a, b in corners)}"/>'


def _caption(label: str, x: float, y: float) -> str:
    return f'<text class="label" x="{_n(x)}" y="{_n(y + 4)}">{_escaped(label)}</text>'


def _shape(node: Node, mx: float, my: float) -> str:
    size = _size(node)
    left, top = mx - size.width / 2, my - size.height / 2
    right, bottom = left + size.width, top + size.height
    match node.kind:
        case "router":
            return _polygon((mx, top), (right, my), (mx, bottom), (left, my))
        case "wait":
            corners = [(left + 14, top), (right - 14, top), (right, my), (right - 14, bottom)]
            return _polygon(*corners, (left + 14, bottom), (left, my))
        case "signal":
            corners = [(left, top), (right - 14, top), (right, my), (right - 14, bottom)]
            return _polygon(*corners, (left, bottom))
        case "memory":
            lid = f"a{_n(size.width / 2)} 7 0 0 0 {_n(size.width)} 0"
            side, back = _n(size.height - 14), f"a{_n(size.width / 2)} 7 0 0 0 {_n(-size.width)} 0"
            path = f"M{_n(left)} {_n(top + 7)} v{side} {lid} v-{side} {back} {lid}"
            return f'<path class="shape" d="{path}"/>'
        case "aggregate":
            inner = _rect("shape", left + 6, top, Size(size.width - 12, size.height), 0)
            return _rect("shape", left, top, size, 0) + inner
        case "start" | "end":
            return _rect("shape", left, top, size, 16)
    return _rect("shape", left, top, size, 6)


def _lines(node: Node, mx: float, my: float) -> Iterator[str]:
    rows = 1 + len(node.details)
    y = my - _ROW * rows / 2 + 12 + (5 if node.kind == "memory" else 0)
    yield f'<text class="title" x="{_n(mx)}" y="{_n(y)}">{_escaped(node.title)}</text>'
    for number, detail in enumerate(node.details, 1):
        at = f'x="{_n(mx)}" y="{_n(y + _ROW * number)}"'
        yield f'<text class="small" {at}>{_escaped(detail)}</text>'


def _header(box: Box, x: float, y: float) -> Iterator[str]:
    at = f'x="{_n(x)}" y="{_n(y + 10)}"'
    yield f'<g class="left"><text class="title" {at}>{_escaped(box.title)}</text>'
    for number, detail in enumerate(box.details, 1):
        at = f'x="{_n(x)}" y="{_n(y + 10 + _ROW * number)}"'
        yield f'<text class="small" {at}>{_escaped(detail)}</text>'
    yield "</g>"


def _rect(kind: str, x: float, y: float, size: Size, radius: float) -> str:
    at = f'x="{_n(x)}" y="{_n(y)}" width="{_n(size.width)}" height="{_n(size.height)}"'
    return f'<rect class="{kind}" {at} rx="{_n(radius)}"/>'


def _polygon(*points: Point) -> str:
    listed = " ".join(f"{_n(x)},{_n(y)}" for x, y in points)
    return f'<polygon class="shape" points="{listed}"/>'


def _width(text: str, size: float) -> float:
    """About the width of a text, rather too much: the reader's font is not known."""
    wide = sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.6 for c in text)
    return wide * size


def _escaped(text: str) -> str:
    return html.escape(text)


def _n(number: float) -> str:
    """A tenth of a pixel, the same on every machine."""
    return f"{round(number, 1) + 0.0:.1f}".removesuffix(".0")
