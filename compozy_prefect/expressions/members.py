"""What a value holds under a key, and how a message shows values and keys.

In: values of a context. Out: members, and words. Only maps and lists hold anything; no attribute
of a Python object is ever read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Value = Any


class View(dict[str, Any]):
    """A map that knows more names than it holds: `.output.child.status` (language.md §3.3).

    What it holds is the value: only that is printed, counted, ranged over and kept. A name of
    `beside` is found when the map has no such key.
    """

    __slots__ = ("beside",)

    def __init__(self, held: Mapping[str, Value], beside: Mapping[str, Value]) -> None:
        super().__init__(held)
        self.beside = beside

    def __missing__(self, key: str) -> Value:
        return self.beside[key]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.beside

    def get(self, key: str, default: Value = None) -> Value:
        return self[key] if key in self else default  # noqa: SIM401 - `get` is this


class Named(list[Any]):
    """A list that also answers names: `.output.process-0.x` (language.md §3.4)."""

    __slots__ = ("beside",)

    def __init__(self, items: Iterable[Value], beside: Mapping[str, Value]) -> None:
        super().__init__(items)
        self.beside = beside

    def __getitem__(self, key: Any) -> Any:
        return self.beside[key] if isinstance(key, str) else super().__getitem__(key)


def has(value: Mapping[str, Value], key: Value) -> bool:
    """Whether the map has the key; a list or a map is none, and may not be hashable."""
    return isinstance(key, str) and key in value


def member(value: Value, key: Value) -> tuple[bool, Value, str | None]:
    """Whether `value` has `key`, what stands there, and else why it cannot have it.

    A reason of None means a plain missing key of a map, which is lenient as the last segment.
    """
    if isinstance(value, Mapping):
        number = isinstance(key, int) and not isinstance(key, bool)
        name = str(key) if number else key
        return (True, value[name], None) if has(value, name) else (False, None, None)
    if value is None:
        return False, None, f"{quoted(key)} is read from null"
    if isinstance(value, Named) and isinstance(key, str) and key in value.beside:
        return True, value.beside[key], None
    if isinstance(value, (list, tuple)):
        if isinstance(key, int) and not isinstance(key, bool):
            if 0 <= key < len(value):
                return True, value[key], None
            return False, None, f"index {key} is out of range of a list of {len(value)}"
        return False, None, f"a list has no key {quoted(key)}"
    return False, None, f"{describe(value)} has no key {quoted(key)}"


def quoted(key: Value) -> str:
    return f'"{str(key)[:40]}"' if isinstance(key, (str, int)) else describe(key)


def describe(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, Mapping):
        return "a map"
    return "a list" if isinstance(value, (list, tuple)) else type(value).__name__
