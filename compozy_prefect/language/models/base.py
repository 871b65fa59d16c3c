"""What nouns are made of: typed fields, declared once, that say how they are read and described.

A noun is declared like a dataclass. Its fields are worked out when the first one is read, so that a
project pays at start-up for the nouns it has and not for the whole language. The types are those
that YAML can say:

    str, int, float, bool, Literal["a", "b"]     a scalar
    Any                                          anything; text in it may hold templates
    Seconds, Size                                a duration, a size with its unit
    Section                                      settings, a noun that is imported when it is there
    dict[str, Any], dict[str, str], list[T]      a map, a map of texts, a list
    Noun                                         a map with known keys
    str | Selector | Noun, list[T] | dict        one of several forms, told apart by the YAML

`typed` reads them; the JSON Schemas for editors are made from the same declarations.
"""

import types
from collections.abc import Mapping as Map
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from compozy_prefect.language.nodes import Mapping

Data = Any
"""Anything YAML can say; text in it may hold templates."""

Variables = dict[str, str]
"""Names and texts, such as `env`."""

Seconds = Annotated[float, "duration"]
Size = Annotated[int, "size"]
"""Bytes, written as `512MB`."""

Section = Annotated[Any, "section"]
"""A noun of `settings.SECTIONS`, by its key. Those are many, and imported with the first."""


class Field(NamedTuple):
    """What a declaration says of a field beyond its type. `key` is its name in YAML."""

    default: Any
    description: str
    key: str
    ge: float | None
    gt: float | None
    le: float | None
    min_length: int
    pattern: str
    hint: str
    example: Any

    @property
    def is_required(self) -> bool:
        return self.default is ...


def field(
    default: Any,
    description: str,
    *,
    key: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    min_length: int = 0,
    pattern: str = "",
    hint: str = "",
    example: Any = None,
) -> Any:
    """Declares a field; a default of `...` makes it required.

    `ge`, `gt` and `le` bound a number or a duration, `min_length` a text, a list or a map.
    `pattern` must match a whole text, and `hint` says in words what it allows.
    """
    return Field(default, description, key, ge, gt, le, min_length, pattern, hint, example)


class Noun:
    """A part of a project. An instance has the values that were given; the class the defaults."""

    _declared: ClassVar[dict[str, Field]] = {}

    # What a message calls it; the class says so where its name in lower case does not.
    called: ClassVar[str] = ""
    # Keys that a check refuses, so that they are not unknown as well.
    refused: ClassVar[tuple[str, ...]] = ()
    # Whether keys beyond the declared ones belong to it, as to a JSON Schema with an `id`.
    is_open: ClassVar[bool] = False
    # Whether a key that is not declared is an error, and directives have no meaning.
    is_closed: ClassVar[bool] = False

    if TYPE_CHECKING:
        node: Mapping  # where it was written

    def __init_subclass__(cls) -> None:
        declared: dict[str, Field] = {}
        for base in reversed(cls.__bases__):
            declared |= getattr(base, "_declared", {})
        for name in cls.__dict__.get("__annotations__", {}):  # noqa: RUF063 - not those of bases
            spec = cls.__dict__.get(name)
            if isinstance(spec, Field):
                declared[name] = spec
                if spec.is_required:
                    delattr(cls, name)
                else:
                    setattr(cls, name, spec.default)
        cls._declared = declared
        cls.called = cls.__dict__.get("called") or _called(cls.__name__)

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)

    @property
    def given(self) -> frozenset[str]:
        """The names of the fields that have a value in the file."""
        return frozenset(self.__dict__) - {"node"}

    @property
    def is_placed(self) -> bool:
        """Whether it was read from a file, and not filled in as a default."""
        return "node" in self.__dict__

    def __repr__(self) -> str:
        values = ", ".join(f"{k}={v!r}" for k, v in self.__dict__.items() if k != "node")
        return f"{type(self).__name__}({values})"


def _called(name: str) -> str:
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


class Selector(Noun):
    """`{id: x}`: something that is defined elsewhere (§10.3)."""

    called = "a reference"

    id: str = field(..., "The id of what is meant.", min_length=1)


# --- types, worked out ----------------------------------------------------------------------------


class Kind(NamedTuple):
    """A type, taken apart. `form` says what YAML it is; the rest what is inside.

    `text`, `int`, `float`, `bool`, `choice` (of `choices`), `duration`, `size`, `any`, `map` (of
    `item`, or of anything), `list` (of `item`), `noun`, `section`, `either` (of `forms`).
    """

    form: str
    choices: tuple[str, ...] = ()
    noun: type[Noun] | None = None
    item: "Kind | None" = None
    forms: tuple["Kind", ...] = ()


class Declared(NamedTuple):
    """A field of a noun, ready to be read."""

    name: str
    key: str
    kind: Kind
    spec: Field


_fields: dict[type[Noun], dict[str, Declared]] = {}


def fields_of(noun: type[Noun]) -> Map[str, Declared]:
    """The fields of a noun by key, in the order of their declaration, those of its bases first."""
    known = _fields.get(noun)
    if known is None:
        hints = get_type_hints(noun, include_extras=True)
        listed = (
            Declared(name, spec.key or name, _kind(hints[name]), spec)
            for name, spec in noun._declared.items()
        )
        known = _fields[noun] = {declared.key: declared for declared in listed}
    return known


_SCALARS: Map[Any, Kind] = {
    str: Kind("text"),
    int: Kind("int"),
    float: Kind("float"),
    bool: Kind("bool"),
    Any: Kind("any"),
    Seconds: Kind("duration"),
    Size: Kind("size"),
    Section: Kind("section"),
}


def _kind(hint: Any) -> Kind:
    known = _SCALARS.get(hint)
    if known is not None:
        return known
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return Kind("choice", choices=args)
    if origin is list:
        return Kind("list", item=_kind(args[0]))
    if origin is dict:
        return Kind("map", item=None if args[1] is Any else _kind(args[1]))
    if origin in (types.UnionType, Union):
        forms = tuple(_kind(arg) for arg in args if arg is not type(None))
        return forms[0] if len(forms) == 1 else Kind("either", forms=forms)
    if isinstance(hint, type) and issubclass(hint, Noun):
        return Kind("noun", noun=hint)
    raise TypeError(f"no type of the language: {hint}")
