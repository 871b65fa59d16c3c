"""Sizes and edges → places: a layered layout, from top to bottom, in which nothing overlaps.

The steps are those of Sugiyama and others: turn edges around until there is no loop, give each item
a layer below those that lead to it, put a point for each long edge and a place for each label into
the layers between, sort every layer so that few edges cross, and pull together what is connected.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

GAP_X, GAP_Y = 28.0, 30.0  # between neighbours, and between the layers
WIDEST = 1100.0  # of parts that are not connected and stand side by side, before a new row begins
_SWEEPS = 8
_PULLS = 200_000  # spots that are pulled, so that a huge graph takes seconds

Point = tuple[float, float]


class Size(NamedTuple):
    width: float
    height: float


class Line(NamedTuple):
    """An edge between two items. `label` is the size of its label, or nothing."""

    source: str
    target: str
    label: Size = Size(0, 0)


class Route(NamedTuple):
    """Where an edge runs, from its source to its target, and the middle of its label."""

    points: tuple[Point, ...]
    label: Point


@dataclass(frozen=True, slots=True)
class Layout:
    """The middle of each item, the way of each edge in the order of the edges, and the size."""

    middles: dict[str, Point]
    routes: tuple[Route, ...]
    size: Size


def layout(items: Mapping[str, Size], lines: Sequence[Line]) -> Layout:
    """Places of the items. What is not connected stands side by side."""
    middles: dict[str, Point] = {}
    routes: dict[int, Route] = {}
    x = y = row = width = 0.0
    for group in _groups(items, lines):
        own = [i for i, line in enumerate(lines) if line.source in group]
        placed = _Layers({k: items[k] for k in group}, [lines[i] for i in own]).placed()
        if x and x + placed.size.width > WIDEST:
            x, y, row = 0.0, y + row + GAP_Y, 0.0
        for key, (px, py) in placed.middles.items():
            middles[key] = (px + x, py + y)
        for i, route in zip(own, placed.routes, strict=True):
            points = tuple((px + x, py + y) for px, py in route.points)
            routes[i] = Route(points, (route.label[0] + x, route.label[1] + y))
        width = max(width, x + placed.size.width)
        x += placed.size.width + GAP_X
        row = max(row, placed.size.height)
    ways = tuple(routes[i] for i in range(len(lines)))
    return Layout(middles, ways, Size(width, y + row))


def _groups(items: Mapping[str, Size], lines: Sequence[Line]) -> list[list[str]]:
    """The items that are connected, each group and the groups in the order of the items."""
    leader = {key: key for key in items}

    def find(key: str) -> str:
        while leader[key] != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for line in lines:
        leader[find(line.target)] = find(line.source)
    out: dict[str, list[str]] = {}
    for key in items:
        out.setdefault(find(key), []).append(key)
    return list(out.values())


@dataclass(slots=True, eq=False)
class _Spot:
    """An item, a label, or a point of a long edge in its layer. `x` is the middle."""

    size: Size
    layer: int
    key: str = ""
    x: float = 0.0
    above: list[_Spot] = field(default_factory=list)
    below: list[_Spot] = field(default_factory=list)


class _Layers:
    """One connected group."""

    def __init__(self, items: Mapping[str, Size], lines: Sequence[Line]) -> None:
        self._lines = lines
        self._turned = _back_edges(items, lines)
        ends = [self._downwards(i) for i in range(len(lines))]
        depth = _depths(items, [(a, b) for a, b in ends if a != b])
        # A label stands in a layer of its own, below the source.
        labelled = {
            2 * depth[a] + 1 if i not in self._turned else 2 * depth[b] - 1
            for i, (a, b) in enumerate(ends)
            if lines[i].label.width and a != b
        }
        used = sorted({2 * d for d in depth.values()} | labelled)
        number = {layer: i for i, layer in enumerate(used)}
        self._items = {key: _Spot(size, number[2 * depth[key]], key) for key, size in items.items()}
        self._layers: list[list[_Spot]] = [[] for _ in used]
        for spot in self._items.values():
            self._layers[spot.layer].append(spot)
        self._chains: list[list[_Spot]] = []
        self._label_spots: list[_Spot | None] = []
        for i, (a, b) in enumerate(ends):
            self._chain(i, self._items[a], self._items[b])

    def _downwards(self, i: int) -> tuple[str, str]:
        line = self._lines[i]
        return (line.target, line.source) if i in self._turned else (line.source, line.target)

    def _chain(self, i: int, top: _Spot, bottom: _Spot) -> None:
        size = self._lines[i].label
        place = bottom.layer - 1 if i in self._turned else top.layer + 1
        chain, label = [top], None
        for layer in range(top.layer + 1, bottom.layer):
            holds = bool(size.width) and layer == place
            spot = _Spot(size if holds else Size(0, 0), layer)
            label = spot if holds else label
            self._layers[layer].append(spot)
            chain.append(spot)
        if top is not bottom:
            chain.append(bottom)
        for upper, lower in pairwise(chain):
            upper.below.append(lower)
            lower.above.append(upper)
        self._chains.append(chain)
        self._label_spots.append(label)

    def placed(self) -> Layout:
        self._sort()
        self._pull()
        self._straighten()
        left = min(spot.x - spot.size.width / 2 for layer in self._layers for spot in layer)
        for layer in self._layers:
            for spot in layer:
                spot.x -= left
        width = max(spot.x + spot.size.width / 2 for layer in self._layers for spot in layer)
        tops, y = [], 0.0
        for layer in self._layers:
            tops.append(y)
            y += max(spot.size.height for spot in layer) + GAP_Y
        tops.append(y)
        middles = {
            key: (spot.x, (tops[spot.layer] + tops[spot.layer + 1] - GAP_Y) / 2)
            for key, spot in self._items.items()
        }
        return Layout(middles, tuple(self._ways(tops)), Size(width, y - GAP_Y))

    def _sort(self) -> None:
        """The order within the layers: by the neighbours above, then below, and the best of all."""
        best, fewest = [list(layer) for layer in self._layers], self._crossings()
        position = {id(s): i for row in self._layers for i, s in enumerate(row)}
        for sweep in range(_SWEEPS):
            downwards = sweep % 2 == 0
            for layer in self._layers if downwards else reversed(self._layers):
                wanted = []
                for i, spot in enumerate(layer):
                    near = [position[id(s)] for s in (spot.above if downwards else spot.below)]
                    wanted.append((sum(near) / len(near) if near else float(i), i))
                layer[:] = [layer[i] for _, i in sorted(wanted)]
                position |= {id(s): i for i, s in enumerate(layer)}
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(layer) for layer in self._layers], crossings
        self._layers = best

    def _crossings(self) -> int:
        count = 0
        for upper, lower in pairwise(self._layers):
            position = {id(spot): i for i, spot in enumerate(lower)}
            passed: list[int] = []  # where the edges further left end, in order
            for spot in upper:
                ends = sorted(position[id(s)] for s in spot.below)
                count += sum(len(passed) - bisect_right(passed, end) for end in ends)
                for end in ends:
                    insort(passed, end)
        return count

    def _pull(self) -> None:
        """Each spot as near to the middle of its neighbours as the others of its layer allow."""
        for layer in self._layers:
            _spread(layer, [0.0] * len(layer))
        rounds = min(4 * _SWEEPS, max(4, _PULLS // sum(map(len, self._layers))))
        for sweep in range(rounds):
            downwards = sweep % 2 == 0
            for layer in self._layers if downwards else reversed(self._layers):
                wanted = []
                for spot in layer:
                    near = spot.above if downwards else spot.below
                    if sweep > rounds * 3 // 4:
                        near = spot.above + spot.below
                    # A long edge is to be straight before all else.
                    pulls = [(s.x, 1 if spot.key else 2 if s.key else 16) for s in near]
                    total = sum(weight for _, weight in pulls)
                    pulled = sum(x * weight for x, weight in pulls) / total if pulls else spot.x
                    wanted.append(pulled)
                _spread(layer, wanted)

    def _straighten(self) -> None:
        """The points of a long edge in one line, where there is room for it in every layer."""
        beside = {
            id(spot): (layer[i - 1] if i else None, layer[i + 1] if i + 1 < len(layer) else None)
            for layer in self._layers
            for i, spot in enumerate(layer)
        }
        for chain in self._chains * 2:
            least, most = float("-inf"), float("inf")
            for spot in chain[1:-1]:
                left, right = beside[id(spot)]
                if left is not None:
                    least = max(least, left.x + _apart(left, spot))
                if right is not None:
                    most = min(most, right.x - _apart(spot, right))
            if least <= most and len(chain) > 3:
                middle = sorted(spot.x for spot in chain[1:-1])[len(chain[1:-1]) // 2]
                for spot in chain[1:-1]:
                    spot.x = max(least, min(most, middle))

    def _ways(self, tops: list[float]) -> list[Route]:
        ports = self._ports()
        out = []
        for i, chain in enumerate(self._chains):
            points: list[Point] = []
            for spot in chain:
                x = ports.get((i, id(spot)), spot.x)
                top, bottom = tops[spot.layer], tops[spot.layer + 1] - GAP_Y
                if spot is not chain[0]:
                    points.append((x, top))
                if spot is not chain[-1]:
                    points.append((x, bottom))
            label = self._label_spots[i]
            middle = (0.0, 0.0)
            if label is not None:
                middle = (label.x, (tops[label.layer] + tops[label.layer + 1] - GAP_Y) / 2)
            out.append(Route(tuple(points[::-1] if i in self._turned else points), middle))
        return out

    def _ports(self) -> dict[tuple[int, int], float]:
        """Where edges leave and reach an item: side by side, in the order of where they lead."""
        found: dict[tuple[int, bool], list[tuple[float, int]]] = {}
        for i, chain in enumerate(self._chains):
            if len(chain) > 1:
                found.setdefault((id(chain[0]), True), []).append((chain[1].x, i))
                found.setdefault((id(chain[-1]), False), []).append((chain[-2].x, i))
        spots = {id(spot): spot for spot in self._items.values()}
        ports: dict[tuple[int, int], float] = {}
        for (which, _), ends in found.items():
            spot, ends = spots[which], sorted(ends)
            room = spot.size.width * 0.7
            step = min(room / len(ends), 36.0)
            free = room / 2 - step * (len(ends) - 1) / 2
            middle = sum(x for x, _ in ends) / len(ends)
            # A wide box is reached from straight above.
            shift = max(-free, min(free, middle - spot.x)) if spot.size.width > 420 else 0.0
            for k, (_, i) in enumerate(ends):
                ports[i, which] = spot.x + shift + step * (k - (len(ends) - 1) / 2)
        return ports


def _back_edges(items: Mapping[str, Size], lines: Sequence[Line]) -> set[int]:
    """The edges that lead back to where a way from the first items has come by."""
    leaving: dict[str, list[int]] = {key: [] for key in items}
    for i, line in enumerate(lines):
        leaving[line.source].append(i)
    state = dict.fromkeys(items, 0)  # 1 on the way, 2 done
    back: set[int] = set()
    for first in items:
        stack = [(first, iter(leaving[first]))] if not state[first] else []
        state[first] = state[first] or 1
        while stack:
            key, further = stack[-1]
            for i in further:
                target = lines[i].target
                if state[target] == 1:
                    if target != key:
                        back.add(i)
                elif not state[target]:
                    state[target] = 1
                    stack.append((target, iter(leaving[target])))
                    break
            else:
                state[key] = 2
                stack.pop()
    return back


def _depths(items: Mapping[str, Size], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The length of the longest way to each item."""
    depth = dict.fromkeys(items, 0)
    waiting = dict.fromkeys(items, 0)
    leaving: dict[str, list[str]] = {key: [] for key in items}
    for source, target in edges:
        waiting[target] += 1
        leaving[source].append(target)
    ready = [key for key in items if not waiting[key]]
    for key in ready:
        for target in leaving[key]:
            depth[target] = max(depth[target], depth[key] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return depth


def _apart(left: _Spot, right: _Spot) -> float:
    """How far the middles of two neighbours are apart, at least."""
    gap = GAP_X if left.key or right.key else GAP_X / 2
    return (left.size.width + right.size.width) / 2 + gap


def _spread(layer: list[_Spot], wanted: list[float]) -> None:
    """Sets `x` as near to what is wanted, in squares, as the widths and the gaps allow."""
    offsets = [0.0]
    for left, right in pairwise(layer):
        offsets.append(offsets[-1] + _apart(left, right))
    # Pool adjacent violators: neighbours that would overlap move as one.
    blocks: list[tuple[float, float, int]] = []  # mean, weight, count
    for spot, want, offset in zip(layer, wanted, offsets, strict=True):
        mean, weight, count = want - offset, 1.0 if spot.key else 4.0, 1
        while blocks and blocks[-1][0] > mean:
            other, more, number = blocks.pop()
            mean = (mean * weight + other * more) / (weight + more)
            weight, count = weight + more, count + number
        blocks.append((mean, weight, count))
    shifts = [mean for mean, _, count in blocks for _ in range(count)]
    for spot, shift, offset in zip(layer, shifts, offsets, strict=True):
        spot.x = shift + offset
