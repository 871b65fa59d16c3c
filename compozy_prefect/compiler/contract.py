"""What a workflow takes and gives, in two plans → what changes for its callers.

Breaking is what can refuse an input that was taken before (language.md §2.2), or take a result away
that callers may read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from compozy_prefect.compiler.difference import Change, Json, differences, shown

# Of a schema, what only describes.
_NOTES = frozenset(("title", "description", "default", "examples", "example", "$comment", "format"))
_AT_LEAST = frozenset(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"))
_AT_MOST = frozenset(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"))
_STRUCTURE = frozenset(("properties", "required", "items"))


def input_changes(old: Json, new: Json) -> Iterator[Change]:
    """Of the input's schema."""
    if isinstance(old, bool) or isinstance(new, bool):
        yield from differences(old, new, ("schema",))
    yield from _schema(_map(old), _map(new), "")


def _schema(old: Mapping[str, Json], new: Mapping[str, Json], at: str) -> Iterator[Change]:
    was, now = _properties(old), _properties(new)
    for name in sorted({*was, *now}):
        where = f"{at}.{name}" if at else name
        needed = _is_needed(name, new, at)
        if name not in was:
            said = "is new and required: callers have to give it" if needed else "is new, optional"
            yield Change("added", where, f"`{where}` {said}", None, now[name], is_breaking=needed)
        elif name not in now:
            is_closed = new.get("additionalProperties") is False
            said = "is gone, and refused" if is_closed else "is gone, and not looked at any more"
            yield Change(
                "removed", where, f"`{where}` {said}", was[name], None, is_breaking=is_closed
            )
        else:
            was_needed = _is_needed(name, old, at)
            if needed and not was_needed:
                said = f"`{where}` is required now: callers have to give it"
                yield Change("changed", where, said, False, True, is_breaking=True)
            elif was_needed and not needed:
                yield Change("changed", where, f"`{where}` is optional now", True, False)
            yield from _schema(_map(was[name]), _map(now[name]), where)
    if "items" in old or "items" in new:
        yield from _schema(_map(old.get("items")), _map(new.get("items")), f"{at}[]")
    yield from _rules(old, new, at)


def _properties(schema: Mapping[str, Json]) -> Mapping[str, Json]:
    """What it names, also where it only says that it is required."""
    required: dict[str, Json] = {name: {} for name in schema.get("required", ())}
    return required | dict(_map(schema.get("properties")))


def _is_needed(name: str, schema: Mapping[str, Json], at: str) -> bool:
    """Whether it is required; a default of the outermost level fills it in."""
    if name not in schema.get("required", ()):
        return False
    return bool(at) or "default" not in _map(_properties(schema)[name])


def _rules(old: Mapping[str, Json], new: Mapping[str, Json], at: str) -> Iterator[Change]:
    whole = f"`{at}`" if at else "the input"
    for key in sorted({*old, *new} - _STRUCTURE):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        where = f"{at}.{key}" if at else key
        narrows = bool(old) and _narrows(key, before, after)
        if before is None:
            message = f"{whole}: `{key}` is new: {shown(after)}"
            yield Change("added", where, message, None, after, is_breaking=narrows)
        elif after is None:
            message = f"{whole}: `{key}` is gone, and was {shown(before)}"
            yield Change("removed", where, message, before, None)
        else:
            message = f"{whole}: `{key}` is now {shown(after)}, and was {shown(before)}"
            yield Change("changed", where, message, before, after, is_breaking=narrows)


def _narrows(key: str, before: Json, after: Json) -> bool:
    """Whether a rule of a schema may refuse what it took before."""
    if key in _NOTES or after is None:
        return False
    if key in _AT_LEAST:
        return bool(before is None or after > before)
    if key in _AT_MOST:
        return bool(before is None or after < before)
    if key == "type":
        was, now = (set(v) if isinstance(v, list) else {v} for v in (before, after))
        return before is None or not was <= now | ({"integer"} if "number" in now else set())
    if key == "enum":
        return before is None or any(value not in after for value in before)
    if key == "additionalProperties":
        return after is not True
    return True


def output_changes(old: Json, new: Json) -> Iterator[Change]:
    """Of the result. Without `outputs` it is the map of all task outputs (language.md §2.1)."""
    if old is None or new is None:
        if old is not new:
            said = "the map of what all tasks give" if new is None else "what `outputs` says"
            yield Change("changed", "", f"the result is now {said}", old, new, is_breaking=True)
        return
    for change in differences(old, new):
        is_gone = change.what == "removed"
        yield replace(change, is_breaking=is_gone)


def _map(value: Any) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}
