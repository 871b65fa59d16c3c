"""What a template function is, what it may see, and how it reads its arguments.

In: values of JSON (`None`, `bool`, `int`, `float`, `str`, `list`, `dict`) and aware datetimes.
Out: the same. A function refuses by raising `FunctionError` with a sentence that starts with the
function's name; the evaluator adds the place in the template. Nothing here knows of templates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

MAX_TEXT = 1 << 20
"""Most characters a function may make; inputs may be longer."""

MAX_ITEMS = 100_000
"""Most elements a list made by a function may have."""

MAX_SECONDS = 5.0
"""How long a template may compute. A function that may take as long looks at the clock itself."""

MAX_DEPTH = 100
"""How deep a value may nest before functions refuse to walk it; a dict may contain itself."""

MAX_NODES = 1_000_000
"""How many elements one walk may visit: shared lists unfold exponentially otherwise."""

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


class FunctionError(Exception):
    """A function refused its arguments; the evaluator adds the span."""


class Made(dict[str, Any]):
    """A dict that a function made, which `set`, `unset` and `merge` may therefore change in place.

    Every other dict belongs to the run's context and is copied first.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Environment:
    """All that a function can see besides its arguments; frozen for one attempt of a task."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    env: Mapping[str, str] = field(default_factory=dict)
    """The project's environment, never that of the process."""
    validate_schema: Callable[[object, str], object] | None = None
    """Value and schema id to the validated value; raises what the run should see."""
    tool: Callable[[str, str, list[object]], object] | None = None
    """Tool, method and arguments to the result; None where templates cannot call tools."""
    server: Callable[[str, str, list[object]], object] | None = None
    """The same of an MCP server, which is asked for a resource or a prompt."""


class Function(NamedTuple):
    """A function and how the evaluator calls it."""

    name: str
    call: Callable[..., object]
    """Positional arguments in Go's and Sprig's prefix order."""
    min_args: int
    max_args: int | None
    """None: any number."""
    subject: Literal["last", "first", "collection"] = "last"
    """Where a piped value goes; see `registry.arrange`."""
    in_parentheses: int | None = None
    """Where a piped value goes in `x | f(a, b)`, if that is neither end (regexReplaceAll)."""
    guard: bool = False
    """A missing path in any argument reads as null (language.md §11.5 rule 3)."""
    environment: bool = False
    """`call` takes the Environment as an extra first argument."""
    json_text: bool = False
    """A whole-value result is JSON text that `with` and `outputs` parse again (§11.4)."""
    keywords: frozenset[str] = frozenset()
    """Keyword arguments that it takes: `map(attr='a.b')`."""

    def takes(self, count: int) -> bool:
        """Whether it can be called with so many positional arguments."""
        return self.min_args <= count and (self.max_args is None or count <= self.max_args)


def describe(value: object) -> str:
    """The value as an error message shows it, cut to a readable length."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if -(10**30) < value < 10**30 else "a huge integer"
        case float():
            return repr(value)
        case str():
            shown = value if len(value) <= 40 else value[:37] + "..."
            return '"' + shown.replace("\n", "\\n") + '"'
        case list():
            return f"a list of {len(value)}"
        case dict():
            return f"a map of {len(value)}"
        case datetime():
            return f"the time {value.isoformat()}"
    return f"a {type(value).__name__}"


def text(where: str, value: object, what: str = "text") -> str:
    """The argument, which has to be a string."""
    if isinstance(value, str):
        return value
    raise FunctionError(f"{where}: wants {what}, got {describe(value)}")


def integer(where: str, value: object, what: str = "an integer") -> int:
    """The argument, which has to be an integer of 64 bits; `2.0` counts as one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return int64(where, value)
    if isinstance(value, float) and value.is_integer():
        return int64(where, int(value))
    raise FunctionError(f"{where}: wants {what}, got {describe(value)}")


def items(where: str, value: object, what: str = "a list") -> list[Any]:
    """The argument, which has to be a list; not a copy."""
    if isinstance(value, list):
        return value
    if isinstance(value, tuple):
        return list(value)
    raise FunctionError(f"{where}: wants {what}, got {describe(value)}")


def mapping(where: str, value: object, what: str = "a map") -> dict[str, Any]:
    """The argument, which has to be a dict; not a copy."""
    if isinstance(value, dict):
        return value
    raise FunctionError(f"{where}: wants {what}, got {describe(value)}")


def int64(where: str, value: int) -> int:
    """`value`, unless it overflows 64 bits, where Go would wrap around silently."""
    if INT64_MIN <= value <= INT64_MAX:
        return value
    raise FunctionError(f"{where}: the result does not fit into 64 bits")


def bounded(where: str, made: str) -> str:
    """`made`, unless it is longer than a function may make."""
    if len(made) > MAX_TEXT:
        raise too_long(where)
    return made


def bounded_list(where: str, made: list[Any]) -> list[Any]:
    """`made`, unless it has more elements than a function may make."""
    if len(made) > MAX_ITEMS:
        raise FunctionError(f"{where}: the result has more than {MAX_ITEMS:,} elements")
    return made


def joined(where: str, separator: str, parts: Sequence[str]) -> str:
    """`separator.join(parts)` that measures before it builds."""
    if sum(map(len, parts)) + len(separator) * max(len(parts) - 1, 0) > MAX_TEXT:
        raise too_long(where)
    return separator.join(parts)


def too_long(where: str) -> FunctionError:
    return FunctionError(f"{where}: the result is longer than {MAX_TEXT:,} characters (1 MiB)")


def octets(value: str) -> bytes:
    """UTF-8; a lone surrogate, which JSON may smuggle in, becomes U+FFFD as in Go."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value).encode()


def from_octets(value: bytes) -> str:
    """UTF-8 back to text; each byte of a character cut in two becomes U+FFFD, as Go prints it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        kept = value.decode("utf-8", "surrogateescape")
        return "".join("\ufffd" if "\udc80" <= c <= "\udcff" else c for c in kept)


def aliases(function: Function, *names: str) -> Iterable[Function]:
    """The function under its own and other names; the first name stays in its messages."""

    yield function
    for name in names:
        yield function._replace(name=name)
