"""What is known of a value before a run: its shape.

A shape is unknown, of one kind, or one of several. Nothing is said of what is not known, and null
is no kind of its own: any value may turn out to be null (language.md §11.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Segment = str | int | None
"""A key, an index, or None for one that is only known when it runs."""

# More alternatives than this, or more values of an enumeration, are too many to reason about.
_MOST_ALTERNATIVES = 8
_MOST_VALUES = 200

NOUNS = {
    "string": "a text",
    "number": "a number",
    "boolean": "a boolean",
    "array": "a list",
    "object": "a map",
}


class Shape(NamedTuple):
    """`kind` is a key of `NOUNS`, "null", or empty where nothing or `any` of several is known.

    A map has `fields`; others do not exist if it is `closed`, have the shape `rest` if there is
    one, and are not listed otherwise. A list has `items`. `values` are the only ones that there
    are. `also` are fields that a value, a list too, answers besides those it has (§3.3, §3.4).
    """

    kind: str = ""
    fields: Mapping[str, Shape] = {}
    closed: bool = False
    rest: Shape | None = None
    items: Shape | None = None
    values: tuple[Any, ...] | None = None
    also: Mapping[str, Shape] = {}
    any: tuple[Shape, ...] = ()

    @property
    def alternatives(self) -> tuple[Shape, ...]:
        """The shapes of one kind that it may have; none when nothing is known."""
        return self.any or ((self,) if self.kind else ())

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(one.kind for one in self.alternatives)

    @property
    def choices(self) -> tuple[Any, ...] | None:
        """All values that there may be besides null, when they are known."""
        listed = [one.values for one in self.alternatives]
        if not listed or any(values is None for values in listed):
            return None
        return tuple(value for values in listed for value in values or ())


UNKNOWN = Shape()
NULL = Shape("null")
TEXT = Shape("string")
NUMBER = Shape("number")
BOOLEAN = Shape("boolean")
ANY_MAP = Shape("object", rest=UNKNOWN)


class Stop(NamedTuple):
    """Why a member cannot be there: `known` are the fields, or `kinds` those that have none.

    `also` are those that it answers besides. `closed`: the shape rules out any other field.
    """

    known: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    closed: bool = False
    also: tuple[str, ...] = ()

    @property
    def nouns(self) -> str:
        return " or ".join(NOUNS[kind] for kind in self.kinds)


class Lazy(Mapping[str, Shape]):
    """Fields whose shapes are made when they are asked for, and only once."""

    def __init__(self, makers: Mapping[str, Callable[[], Shape]]) -> None:
        self._makers = makers
        self._made: dict[str, Shape] = {}

    def __getitem__(self, name: str) -> Shape:
        if name not in self._made:
            maker = self._makers[name]
            self._made[name] = UNKNOWN  # for a value that is made of itself
            self._made[name] = maker()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


class Layers(Mapping[str, Shape]):
    """The fields of several maps, of which the first that has one counts."""

    def __init__(self, *layers: Mapping[str, Shape]) -> None:
        self._layers = layers

    def __getitem__(self, name: str) -> Shape:
        for layer in self._layers:
            if name in layer:
                return layer[name]
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return any(name in layer for layer in self._layers)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for layer in self._layers for name in layer))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def list_of(items: Shape) -> Shape:
    return Shape("array", items=items)


def map_of(
    fields: Mapping[str, Shape], *, closed: bool = False, rest: Shape | None = None
) -> Shape:
    return Shape("object", fields, closed, rest)


def one_of(*values: str) -> Shape:
    return Shape("string", values=values)


def literal(value: Any) -> Shape:
    """The shape of one value that is no container."""
    kind = kind_of(value)
    return NULL if kind == "null" else Shape(kind, values=(value,))


def kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Mapping) else "array"


def either(shapes: Iterable[Shape]) -> Shape:
    """What is known of a value that has one of the shapes; nothing if one of them is unknown."""
    found: dict[int, Shape] = {}
    scalars: dict[str, Shape] = {}
    null = False
    for shape in shapes:
        if not shape.alternatives:
            return UNKNOWN
        for one in shape.alternatives:
            if one.kind == "null":
                null = True
            elif one.kind in ("object", "array") or one.also:
                found[id(one)] = one
            else:
                scalars[one.kind] = _scalar(scalars.get(one.kind), one)
    alternatives = (*found.values(), *scalars.values())
    if len(alternatives) > _MOST_ALTERNATIVES:
        return UNKNOWN
    if len(alternatives) == 1:
        return alternatives[0]
    return Shape(any=alternatives) if alternatives else NULL if null else UNKNOWN


def _scalar(known: Shape | None, other: Shape) -> Shape:
    if known is None:
        return other
    if known.values is None or other.values is None:
        return Shape(other.kind)
    values = tuple(dict.fromkeys(known.values + other.values))
    return Shape(other.kind, values=values if len(values) <= _MOST_VALUES else None)


def besides(shape: Shape, also: Mapping[str, Shape]) -> Shape:
    """The shape, of a value that answers these fields too where it does not have them."""
    if shape.any:
        return Shape(any=tuple(besides(one, also) for one in shape.any))
    return shape._replace(also=Layers(shape.also, also)) if shape.kind else shape


def member(shape: Shape, segment: Segment) -> Shape | Stop:
    """What stands under a key; a Stop if no alternative can have it."""
    if not shape.any:
        return _member(shape, segment)
    found: list[Shape] = []
    stops: list[Stop] = []
    for one in shape.any:
        answer = _member(one, segment)
        if isinstance(answer, Stop):
            stops.append(answer)
        else:
            found.append(answer)
    if found:
        # A map that is open may have it too, as anything.
        is_open = any(not stop.kinds and not stop.closed for stop in stops)
        return UNKNOWN if is_open else either(found)
    # Of a value that may be a map, the fields of the map are what is talked of.
    maps = [stop for stop in stops if not stop.kinds]
    also = tuple(dict.fromkeys(name for stop in stops for name in stop.also))
    if not maps:
        kinds = tuple(dict.fromkeys(kind for stop in stops for kind in stop.kinds))
        return Stop(kinds=kinds, also=also)
    if any(not stop.known and not stop.closed for stop in maps):
        return UNKNOWN  # a map of which nothing is listed may have anything
    known = tuple(dict.fromkeys(name for stop in maps for name in stop.known))
    return Stop(known, closed=all(stop.closed for stop in maps), also=also)


def _member(shape: Shape, segment: Segment) -> Shape | Stop:
    kind = shape.kind
    if kind in ("", "null"):
        return UNKNOWN
    if kind == "array" and segment is None and shape.also:
        return UNKNOWN  # an item, or what it answers besides
    if kind == "array" and not isinstance(segment, str):
        return shape.items or UNKNOWN
    if kind == "object":
        if segment is None:
            return UNKNOWN
        found = shape.fields.get(str(segment))
        if found is not None:
            return found
    if segment is not None and str(segment) in shape.also:
        return shape.also[str(segment)]
    if shape.rest is not None:
        return shape.rest
    if kind == "object":
        return Stop(tuple(shape.fields), closed=shape.closed, also=tuple(shape.also))
    return Stop(kinds=(kind,), also=tuple(shape.also))


def element(shape: Shape) -> Shape:
    """What the elements of a list are; of what may be something else, those it has as a list."""
    lists = [one for one in shape.alternatives if one.kind == "array"]
    return either(one.items or UNKNOWN for one in lists)


def entry(shape: Shape) -> Shape:
    """What the values of a map are, if all of its fields are known."""
    maps = [one for one in shape.alternatives if one.kind == "object"]
    if not all(one.closed and one.fields for one in maps):
        return UNKNOWN
    return either(value for one in maps for value in one.fields.values())
