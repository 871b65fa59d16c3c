"""Maps: making, reading, changing and merging (Sprig's dictionaries).

In: maps. Out: maps and values. `set`, `unset` and `merge` change a map in place only if a function
made it (`Made`); a map of the run's context is copied first and never changes.
"""

from __future__ import annotations

from typing import Any

from compozy_prefect.expressions.functions.contract import (
    MAX_DEPTH,
    MAX_ITEMS,
    Function,
    FunctionError,
    Made,
    aliases,
    bounded_list,
    describe,
    mapping,
    text,
)
from compozy_prefect.expressions.functions.gofmt import go_text
from compozy_prefect.expressions.functions.values import copy, sorted_keys, too_deep, truth


def dict_(*pairs: object) -> Made:
    """A map of keys and values in turn; a last key without value has "" ."""
    made = Made()
    for n in range(0, len(pairs), 2):
        made[go_text(pairs[n])] = pairs[n + 1] if n + 1 < len(pairs) else ""
    return made


def _map(where: str, value: object) -> dict[str, Any]:
    """The argument to read from; null is an empty map, as it is to Go."""
    return {} if value is None else mapping(where, value)


def _own(value: dict[str, Any]) -> Made:
    return value if isinstance(value, Made) else Made(value)


def get(source: object, key: object) -> object:
    """The value, or "" if there is none (Sprig)."""
    return _map("get", source).get(text("get", key, "a text as key"), "")


def set_(source: object, key: object, value: object) -> Made:
    made = _own(mapping("set", source))
    made[text("set", key, "a text as key")] = value
    if len(made) > MAX_ITEMS:
        raise FunctionError(f"set: the map has more than {MAX_ITEMS:,} keys")
    return made


def unset(source: object, key: object) -> Made:
    made = _own(_map("unset", source))
    made.pop(text("unset", key, "a text as key"), None)
    return made


def has_key(source: object, key: object) -> bool:
    """Whether the map has the key; false for null, so that it guards optional maps."""
    return text("hasKey", key, "a text as key") in _map("hasKey", source)


def pluck(key: object, *sources: object) -> list[Any]:
    """The values that the maps have under the key; lists of maps count as their maps."""
    name = text("pluck", key, "a text as key")
    maps: list[Any] = []
    for source in sources:
        maps += source if isinstance(source, list) else [source]
    return [m[name] for m in maps if name in _map("pluck", m)]


def keys(*sources: object) -> list[Any]:
    """All keys, sorted within each map (Go's order is random)."""
    made = [key for source in sources for key in sorted_keys(_map("keys", source))]
    return bounded_list("keys", made)


def values(source: object) -> list[Any]:
    """All values, in the order of their keys."""
    source = _map("values", source)
    return [source[key] for key in sorted_keys(source)]


def pick(source: object, *names: object) -> Made:
    """Only these keys; a list of keys counts as its keys."""
    source = _map("pick", source)
    return Made({name: source[name] for name in _names("pick", names) if name in source})


def omit(source: object, *names: object) -> Made:
    gone = set(_names("omit", names))
    return Made({k: v for k, v in _map("omit", source).items() if k not in gone})


def _names(where: str, names: tuple[object, ...]) -> list[str]:
    flat: list[object] = []
    for name in names:
        flat += name if isinstance(name, list) else [name]
    return [text(where, name, "a text as key") for name in flat]


def dig(*path: object) -> object:
    """`dig "a" "b" default map`: the value at the path, or the default."""
    *names, default, source = path
    for name in names:
        if source is None:
            return default
        if not isinstance(source, dict):
            raise FunctionError(f"dig: wants a map at each step, got {describe(source)}")
        key = text("dig", name, "a text as key")
        if key not in source:
            return default
        source = source[key]
    return source


def merge(target: object, *sources: object) -> Made:
    """The maps in one, deeply; the first whose value is not empty wins."""
    return _merged("merge", target, sources, overwrite=False)


def merge_overwrite(target: object, *sources: object) -> Made:
    """The maps in one, deeply; the last that has the key wins."""
    return _merged("mergeOverwrite", target, sources, overwrite=True)


def _merged(where: str, target: object, sources: tuple[object, ...], overwrite: bool) -> Made:
    made = _own(_map(where, target))
    for source in sources:
        _merge_into(where, made, _map(where, source), overwrite, 0)
    return made


def _merge_into(
    where: str, target: dict[str, Any], source: dict[str, Any], overwrite: bool, depth: int
) -> None:
    if depth > MAX_DEPTH:
        raise too_deep(where)
    for key, value in list(source.items()):
        present = target.get(key)
        if isinstance(value, dict) and isinstance(present, dict):
            inner = _own(present)
            target[key] = inner
            if inner is not value:
                _merge_into(where, inner, value, overwrite, depth + 1)
        elif overwrite or (value is not None and not truth(present)):
            # A copy, so that a later `set` on the result leaves the source alone.
            target[key] = copy(where, value, Made) if isinstance(value, Made) else value
    if len(target) > MAX_ITEMS:
        raise FunctionError(f"{where}: the map has more than {MAX_ITEMS:,} keys")


def deep_copy(value: object) -> object:
    return copy("deepCopy", value, Made)


DICTS: tuple[Function, ...] = (
    Function("dict", dict_, 0, None),
    Function("get", get, 2, 2, subject="collection"),
    Function("set", set_, 3, 3, subject="collection"),
    Function("unset", unset, 2, 2, subject="collection"),
    Function("hasKey", has_key, 2, 2, subject="collection", guard=True),
    Function("pluck", pluck, 1, None),
    Function("keys", keys, 0, None),
    Function("values", values, 1, 1),
    Function("pick", pick, 1, None, subject="collection"),
    Function("omit", omit, 1, None, subject="collection"),
    Function("dig", dig, 3, None, guard=True),
    *aliases(Function("merge", merge, 1, None), "mustMerge"),
    *aliases(Function("mergeOverwrite", merge_overwrite, 1, None), "mustMergeOverwrite"),
    *aliases(Function("deepCopy", deep_copy, 1, 1), "mustDeepCopy"),
)
