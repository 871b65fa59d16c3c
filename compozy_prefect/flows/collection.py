"""The `items` of a collection → what its steps run for (language.md §3.4)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from compozy_prefect.compiler.plan import Json, StepPlan
from compozy_prefect.errors import RunError, TemplateError
from compozy_prefect.expressions import parse_condition
from compozy_prefect.runtime import templates
from compozy_prefect.runtime.scope import Opened, Scope

MAX_ITEMS = 1_000_000
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)|([A-Za-z])\.\.([A-Za-z])")
_FALSY = {"", "false", "no", "0", "off", "null", "<no value>", "nil"}


@dataclass(frozen=True, slots=True)
class Item:
    """One item, and the variables under which its steps see it. `index` counts kept items."""

    index: int
    variables: dict[str, Json]


@dataclass(frozen=True, slots=True)
class Items:
    items: list[Item]
    skipped: int


def items_of(step: StepPlan, scope: Scope, opened: Opened) -> Items:
    """The items that pass the filter. Raises RunError when there is no list to be had."""
    plan = step.collection
    assert plan is not None
    seen = scope.context.for_step(step, env=opened.env, given=opened.given)
    at = scope.at(step, "collection", "items")
    given = templates.render(plan.items, seen, opened.environment, at, scope.spans)
    out: list[Item] = []
    values = as_list(given)
    if len(values) > MAX_ITEMS:
        raise RunError(f"`items` gives more than {MAX_ITEMS:,} items", retryable=False)
    for value in values:
        variables = {
            "item": value,
            "index": len(out),
            plan.item_var: value,
            plan.index_var: len(out),
        }
        if not plan.filter or _passes(step, scope, opened, seen | variables):
            out.append(Item(len(out), variables))
    return Items(out, len(values) - len(out))


def as_list(value: Json) -> list[Any]:
    """Whatever `items` gives as a list: JSON text, a range, a map, or one thing."""
    if isinstance(value, str):
        value = _parsed(value)
    if value is None or value == "":
        return []
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [{"key": key, "value": value[key]} for key in sorted(value)]
    return [value]


def _parsed(text: str) -> Json:
    stripped = text.strip()
    if stripped[:1] in ("[", "{"):
        try:
            return json.loads(stripped)
        except ValueError:
            return text
    match = _RANGE.fullmatch(stripped)
    if match is None:
        return stripped and text
    if match[3]:
        first, last = ord(match[3]), ord(match[4])
    else:
        first, last = int(match[1]), int(match[2])
    if abs(last - first) >= MAX_ITEMS:
        raise RunError(f"the range `{stripped}` has more than {MAX_ITEMS:,} items", retryable=False)
    step = 1 if last >= first else -1
    numbers = range(first, last + step, step)
    return [chr(number) for number in numbers] if match[3] else list(numbers)


def _passes(step: StepPlan, scope: Scope, opened: Opened, seen: dict[str, Any]) -> bool:
    """§3.4: text that says no, in any of the usual ways, drops the item."""
    assert step.collection is not None
    condition, at = step.collection.filter, scope.at(step, "collection", "filter")
    try:
        value = parse_condition(condition).native(seen, opened.environment)
    except TemplateError as fault:
        raise templates.located(fault, condition, at, scope.spans) from None
    return value.strip().lower() not in _FALSY if isinstance(value, str) else bool(value)
