"""What all nouns share: strict types, unknown keys kept aside, and the node each was written in."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from compozy_prefect.language.nodes import LocatedDict, Mapping, Scalar

Data = Any
"""Anything YAML can say; text in it may hold templates."""


class Noun(BaseModel):
    """A part of a project. Unknown keys are kept in `model_extra`, for the check that names them.

    Types are strict, as in the original: `"3"` is no integer. Where text is wanted a number is
    taken as it is written (`version: 1.10` is "1.10"), and a key without a value is not there.
    """

    model_config = ConfigDict(
        strict=True,
        extra="allow",
        coerce_numbers_to_str=True,
        frozen=True,
        defer_build=True,
        protected_namespaces=(),
    )

    # A slot, not a private attribute of pydantic: the checks look here for every place they judge.
    __slots__ = ("node",)
    if TYPE_CHECKING:

        @property
        def node(self) -> Mapping:
            """Where it was written."""
            ...

    @model_validator(mode="wrap")
    @classmethod
    def _attach(cls, data: Any, handler: Any) -> Any:
        if not isinstance(data, LocatedDict):
            return handler(data)
        given = {key: value for key, value in data.items() if value is not None}
        made = handler(_as_written(relocated(given, data.node), _texts(cls)))
        return made.placed(data.node)

    def placed(self, node: Mapping) -> Self:
        """The noun, which from now on says that it was written at `node`."""
        object.__setattr__(self, "node", node)
        return self

    @property
    def is_placed(self) -> bool:
        """Whether it was read from a file, and not filled in as a default."""
        return hasattr(self, "node")


@cache
def _texts(noun: type[Noun]) -> frozenset[str]:
    """The keys whose value may be text."""
    return frozenset(
        info.alias or name
        for name, info in noun.model_fields.items()
        if _admits_text(info.annotation)
    )


def _admits_text(annotation: Any) -> bool:
    if get_origin(annotation) in (dict, list):
        return False
    return annotation is str or any(_admits_text(part) for part in get_args(annotation))


def _as_written(data: LocatedDict, texts: frozenset[str] | None = None) -> LocatedDict:
    """`data` with the numbers under the keys `texts`, or all keys, as the file spells them."""
    out = data
    for key, value in data.items():
        if type(value) in (int, float) and (texts is None or key in texts):
            node = data.node.get(key)
            if isinstance(node, Scalar):
                out = relocated({**out, key: node.text}, data.node)
    return out


def relocated(data: dict[str, Any], node: Mapping) -> LocatedDict:
    """Other data as that of a node: the values of its entries, changed."""
    out = LocatedDict.__new__(LocatedDict)
    out.update(data)
    out.node = node
    return out


def _spelled(value: object) -> object:
    return _as_written(value) if isinstance(value, LocatedDict) else value


Variables = Annotated[dict[str, str], BeforeValidator(_spelled)]
"""Names and texts, such as `env`."""


_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
_WORDS = {"second": "s", "minute": "m", "hour": "h", "day": "d", "week": "w", "millisecond": "ms"}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d|w)")
_ENGLISH = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+?)s?")
# No timer of the platforms we run on takes more, and Prefect stores durations in days.
_LONGEST = 100 * 365 * 86_400.0


_FORMS = "write `30s`, `1h30m`, `500ms`, `7d` or `5 minutes`"


def parse_duration(value: object) -> float:
    """Seconds of a duration (language.md §2.6): `1h30m`, `500ms`, `7d`, `30 seconds`, `0`.

    A bare integer is seconds. Raises ValueError with a sentence.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"a duration is text or a number; {_FORMS}")
    if isinstance(value, (int, float)):
        seconds = float(value)
    else:
        seconds = _from_text(value.strip())
    if seconds < 0:
        raise ValueError(f"a duration cannot be negative: {value}")
    if not seconds <= _LONGEST:
        raise ValueError(f"the duration {value} is longer than 100 years")
    return seconds


def _from_text(text: str) -> float:
    lowered = text.lower()
    if lowered in ("", "0"):
        return 0.0
    if lowered.startswith("-"):
        raise ValueError(f"a duration cannot be negative: {text}")
    at, total = 0, 0.0
    while part := _PART.match(lowered, at):
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if at == len(lowered):
        return total
    english = _ENGLISH.fullmatch(lowered)
    if english and english[2] in _WORDS:
        return float(english[1]) * _UNITS[_WORDS[english[2]]]
    raise ValueError(f"`{text}` is no duration; {_FORMS}")


def _seconds(value: object) -> float:
    try:
        return parse_duration(value)
    except ValueError as fault:
        raise PydanticCustomError("duration", "{reason}", {"reason": str(fault)}) from None


class _Duration:
    """`BeforeValidator(_seconds)`, whose signature pydantic would inspect for every field."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_seconds, handler(source))


Seconds = Annotated[float, _Duration()]


class Selector(Noun):
    """`{id: x}`: an agent or a tool that is defined elsewhere (§10.3)."""

    id: str


def form(value: Any) -> str:
    """Which of the three forms a reference to an agent or a tool has."""
    if isinstance(value, str):
        return "name"
    return "selector" if isinstance(value, dict) and set(value) == {"id"} else "inline"
