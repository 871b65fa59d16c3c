"""The layout: whatever the graph is, nothing overlaps and every edge ends where it should."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from compozy_prefect.compiler.graph_layout import Layout, Line, Size, layout

_SIZES = st.builds(Size, st.floats(20, 400), st.floats(10, 300))
_LABELS = st.one_of(st.just(Size(0, 0)), st.builds(Size, st.floats(10, 200), st.just(16.0)))


@st.composite
def _graphs(draw: st.DrawFn) -> tuple[dict[str, Size], list[Line]]:
    names = [f"n{i}" for i in range(draw(st.integers(1, 9)))]
    items = {name: draw(_SIZES) for name in names}
    ends = st.sampled_from(names)
    return items, draw(st.lists(st.builds(Line, ends, ends, _LABELS), max_size=14))


def _rectangles(items: dict[str, Size], lines: list[Line], made: Layout) -> list[tuple[float, ...]]:
    boxes = [(made.middles[name], size) for name, size in items.items()]
    boxes += [
        (route.label, line.label)
        for line, route in zip(lines, made.routes, strict=True)
        if line.label.width and line.source != line.target
    ]
    return [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in boxes]


@settings(max_examples=150, deadline=None)
@given(_graphs())
def test_nothing_overlaps_and_all_is_inside(graph: tuple[dict[str, Size], list[Line]]) -> None:
    items, lines = graph
    made = layout(items, lines)
    found = _rectangles(items, lines, made)
    for one, other in combinations(found, 2):
        apart_x = one[2] <= other[0] + 1e-6 or other[2] <= one[0] + 1e-6
        apart_y = one[3] <= other[1] + 1e-6 or other[3] <= one[1] + 1e-6
        assert apart_x or apart_y
    for left, top, right, bottom in found:
        assert min(left, top) >= -1e-6
        assert right <= made.size.width + 1e-6
        assert bottom <= made.size.height + 1e-6


@settings(max_examples=150, deadline=None)
@given(_graphs())
def test_edges_reach_their_ends(graph: tuple[dict[str, Size], list[Line]]) -> None:
    items, lines = graph
    made = layout(items, lines)
    for line, route in zip(lines, made.routes, strict=True):
        if line.source == line.target:
            continue
        for name, (x, y) in ((line.source, route.points[0]), (line.target, route.points[-1])):
            middle, size = made.middles[name], items[name]
            assert abs(x - middle[0]) <= size.width / 2
            assert abs(y - middle[1]) >= size.height / 2 - 1e-6
        ys = [y for _, y in route.points]
        falls = all(a <= b for a, b in pairwise(ys))
        assert falls or all(a >= b for a, b in pairwise(ys))


def test_a_chain_is_straight() -> None:
    items = {name: Size(100, 30) for name in "abc"}
    made = layout(items, [Line("a", "b"), Line("b", "c")])
    assert len({x for x, _ in made.middles.values()}) == 1
    assert [y for _, y in made.middles.values()] == sorted(y for _, y in made.middles.values())


def test_an_edge_back_points_up() -> None:
    items = {name: Size(100, 30) for name in "ab"}
    made = layout(items, [Line("a", "b"), Line("b", "a", Size(50, 16))])
    down, up = made.routes
    assert down.points[0][1] < down.points[-1][1]
    assert up.points[0][1] > up.points[-1][1]


def test_what_is_not_connected_stands_in_rows() -> None:
    items = {f"n{i}": Size(200, 40) for i in range(12)}
    made = layout(items, [])
    assert made.size.width <= 1100
    assert len({y for _, y in made.middles.values()}) == 3
