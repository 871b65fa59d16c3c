"""Maps and lists that are laid over one another, for `$ref` with siblings and `$merge`.

Nothing is copied that need not be: a value that only one side has is the same node afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence

MAP_STRATEGIES = ("deep", "shallow", "replace")
LIST_STRATEGIES = ("concat", "append", "prepend", "unique", "union", "replace")
CONFLICTS = ("replace", "first", "error")


class Collision(Exception):
    """Two sources have the same key where that is an error; the node is the later key."""

    def __init__(self, name: str, key: Scalar) -> None:
        super().__init__(name)
        self.name = name
        self.key = key


class Options(NamedTuple):
    """How to merge; `strategy` None means the default of the kind that is merged."""

    strategy: str | None = None
    conflict: str = "replace"


def merge_maps(maps: Iterable[Mapping], options: Options, place: Node) -> Mapping:
    """The maps as one that stands at `place`; later ones win unless `options` says otherwise.

    Raises `Collision` under `error`.
    """
    strategy = options.strategy or "deep"
    result: Mapping | None = None
    for each in maps:
        if result is None or strategy == "replace":
            result = each
        else:
            result = _merge_two(result, each, strategy == "deep", options.conflict, place)
    assert result is not None
    return result


def _merge_two(earlier: Mapping, later: Mapping, deep: bool, conflict: str, place: Node) -> Mapping:
    if not later.entries:
        return earlier
    if not earlier.entries:
        return later
    entries = dict(earlier.entries)
    keys = dict(earlier.keys)
    for name, value in later.entries.items():
        present = entries.get(name)
        if present is not None:
            if conflict == "error":
                raise Collision(name, later.keys[name])
            if deep and isinstance(present, Mapping) and isinstance(value, Mapping):
                winner = present if conflict == "first" else value
                entries[name] = _merge_two(present, value, deep, conflict, winner)
                keys[name] = keys[name] if conflict == "first" else later.keys[name]
                continue
            if conflict == "first":
                continue
        entries[name] = value
        keys[name] = later.keys[name]
    return Mapping(place.file, place.start, place.end, entries, keys)


def merge_lists(lists: Iterable[Sequence], options: Options, place: Node) -> Sequence:
    """The lists as one that stands at `place`."""
    strategy = options.strategy or "concat"
    items: tuple[Node, ...] = ()
    for each in lists:
        if strategy == "replace":
            items = each.items
        elif strategy == "prepend":
            items = each.items + items
        else:
            items = items + each.items
    if strategy in ("unique", "union"):
        # Compared by printed form: 1 and "1" differ, the order of keys does not count.
        printed = {json.dumps(item.data(), sort_keys=True): item for item in reversed(items)}
        kept = {id(item) for item in printed.values()}
        items = tuple(dict.fromkeys(item for item in items if id(item) in kept))
    return Sequence(place.file, place.start, place.end, items)
