"""Two JSON values of plans → the sentences that say how they differ."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from compozy_prefect.compiler.wording import duration, short
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse, parse_condition
from compozy_prefect.expressions.printer import printed

Json = Any
Path = tuple[str, ...]

_SHOWN = 60  # characters of a value in a sentence
_LINES, _WIDE = 12, 120  # of a text's difference
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `aspect` is where, from the subject, with dots; `lines` a unified diff.

    `is_layout`: templates are written otherwise and do the same. `before` and `after` are JSON, and
    None where there is nothing.
    """

    what: Literal["added", "removed", "changed", "moved"]
    aspect: str
    message: str
    before: Json = None
    after: Json = None
    lines: tuple[str, ...] = ()
    is_breaking: bool = False
    is_layout: bool = False

    def data(self) -> dict[str, Json]:
        return {
            "what": self.what,
            "aspect": self.aspect,
            "message": self.message,
            "before": self.before,
            "after": self.after,
            "diff": list(self.lines),
            "breaking": self.is_breaking,
            "layout": self.is_layout,
        }


def outcome(*, is_new: bool) -> Change:
    """Of a subject that is in one plan only."""
    return Change("added", "", "is new") if is_new else Change("removed", "", "is gone")


def differences(before: Json, after: Json, at: Path = ()) -> Iterator[Change]:
    """Every leaf in which two values differ, in the order of their keys."""
    if before is after or _is_same(before, after):
        return
    old, new = _parts(before), _parts(after)
    if old is not None and new is not None:
        if list(old) != list(new) and isinstance(before, list) and sorted(old) == sorted(new):
            message = f"{_called(at)}: the same in another order"
            yield Change("moved", ".".join(at), message, list(old), list(new))
        if (old and new) or not at or _has_named_parts(at):
            for key in sorted({*old, *new}):
                yield from differences(old.get(key, _ABSENT), new.get(key, _ABSENT), (*at, key))
            return
    yield _change(before, after, at)


def _is_same(before: Json, after: Json) -> bool:
    """Equal as JSON: 1 is no 1.0 and no true."""
    if _ABSENT in (before, after):
        return False
    return json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)


def _parts(value: Json) -> dict[str, Json] | None:
    """What can be compared by itself: the values of a map, and of a list of what has names."""
    if value is _ABSENT or value is None:
        return {}
    if isinstance(value, dict):
        return value
    for name in ("key", "name") if isinstance(value, list) else ():
        if value and all(isinstance(item, dict) and name in item for item in value):
            # A route is no more than its key and its target.
            return {
                str(item[name]): item["target"] if set(item) == {"key", "target"} else item
                for item in value
            }
    return None


# What a field is called in a sentence; `*` is any name. One that is not here is called by its path.
_CALLED = {
    "actions.*": "the action `{}`",
    "actions.*.json_mode": "JSON mode of `{}`",
    "actions.*.prompt": "the prompt of `{}`",
    "agent.action": "the action",
    "agent.agent": "the agent",
    "agent.prompt": "the prompt",
    "collection.filter": "the filter",
    "collection.items": "what it runs over",
    "condition": "the condition",
    "cron": "the time",
    "description": "the description",
    "effect": "the effect",
    "execute": "the code",
    "fan.max_workers": "how many run at a time",
    "fan.strategy": "the strategy",
    "instructions": "the instructions",
    "memory.key": "the key",
    "memory.operation": "the operation",
    "model.api_key": "where the key comes from",
    "model.api_url": "the address of the model",
    "model.model": "the model",
    "model.params.*": "the parameter `{}` of the model",
    "model.pauses.first": "the first pause between attempts of a call",
    "model.pauses.jitter": "how much pauses between attempts of a call vary",
    "model.pauses.longest": "the longest pause between attempts of a call",
    "model.provider": "the provider",
    "model.retry_attempts": "the number of attempts of a call",
    "model.timeout": "the time limit of a call",
    "needs": "what it waits for",
    "on_error.next": "what comes after a failure",
    "on_success.next": "what comes next",
    "prompt": "the prompt",
    "recover_on_error": "whether a handled failure counts as a success",
    "retry.attempts": "the number of attempts",
    "retry.coefficient": "the growth of the pauses",
    "retry.initial": "the first pause between attempts",
    "retry.maximum": "the longest pause between attempts",
    "router.condition": "the condition",
    "router.default": "the route for everything else",
    "router.routes.*": "the route `{}`",
    "signal.id": "the signal it sends",
    "sleep": "the pause before it",
    "start": "the first step",
    "timeout": "the time limit",
    "tool.tool": "the tool",
    "tools": "the tools offered",
    "type": "the type",
    "wait.condition": "the condition of the signal",
    "wait.on_timeout": "what comes after a timeout",
    "wait.signal": "the signal it waits for",
    "wait.timeout": "how long it waits",
}
_SECONDS = frozenset(
    {"model.pauses.first", "model.pauses.longest", "model.timeout", "retry.initial"}
    | {"retry.maximum", "sleep", "timeout", "ttl", "wait.timeout"}
)
# What a field has that a plan does not write, of those that a plan leaves out at their default.
_DEFAULTS: dict[str, Json] = {
    "fan.max_workers": 0,
    "fan.strategy": "wait_all",
    "model.pauses.first": 0.1,
    "model.pauses.jitter": 0.1,
    "model.pauses.longest": 10.0,
    "model.retry_attempts": 3,
    "model.timeout": 300.0,
    "recover_on_error": False,
    "retry.attempts": 3,
    "retry.coefficient": 2.0,
    "retry.initial": 1.0,
    "retry.maximum": 60.0,
    "type": "basic",
}


def _fits(name: str, at: Path) -> bool:
    parts = name.split(".")
    return len(parts) == len(at) and all(p in ("*", a) for p, a in zip(parts, at, strict=True))


def _called(at: Path) -> str:
    exact = ".".join(at)
    name = exact if exact in _CALLED else next((n for n in _CALLED if _fits(n, at)), None)
    if name is None:
        return f"`{exact}`"
    return _CALLED[name].format(*(a for p, a in zip(name.split("."), at, strict=True) if p == "*"))


def _has_named_parts(at: Path) -> bool:
    """Whether what is inside has names here, also where all of it is new or gone."""
    return any(
        _fits(".".join(name.split(".")[: len(at)]), at)
        for name in _CALLED
        if name.count(".") >= len(at) and not name.endswith(".*")
    ) and not any(_fits(name, at) for name in _CALLED)


def _change(before: Json, after: Json, at: Path) -> Change:
    aspect, called = ".".join(at), _called(at)
    default = _DEFAULTS.get(aspect, _ABSENT)
    before, after = (default if value is _ABSENT else value for value in (before, after))
    old, new = (None if value is _ABSENT else value for value in (before, after))
    if before is _ABSENT or before is None:
        return Change("added", aspect, f"{called} is new: {shown(new, aspect)}", old, new)
    if after is _ABSENT or after is None:
        message = f"{called} is gone, and was {shown(old, aspect)}"
        return Change("removed", aspect, message, old, new)
    if _does_the_same(old, new, at):
        message = f"only the layout of {called} changed"
        return Change("changed", aspect, message, old, new, is_layout=True)
    texts = _pretty(old), _pretty(new)
    if any("\n" in text.strip() or len(text) > _SHOWN for text in texts):
        return Change("changed", aspect, f"a change in {called}", old, new, _unified(*texts))
    message = f"{called} is now {shown(new, aspect)}, and was {shown(old, aspect)}"
    return Change("changed", aspect, message, old, new)


# Text that is no template, whatever stands in it; of a condition braces are not needed.
_PLAIN = {"description", "execute", "input_schema", "output_schema", "schemas"}
_CONDITIONS = {"condition", "collection.filter", "router.condition", "wait.condition"}


def _does_the_same(before: Json, after: Json, at: Path) -> bool:
    """Whether two values, or the templates in them, mean the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(
            _does_the_same(before[key], after[key], at) for key in before
        )
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(
            _does_the_same(old, new, at) for old, new in zip(before, after, strict=True)
        )
    if _is_same(before, after):
        return True
    if not (isinstance(before, str) and isinstance(after, str)) or _PLAIN & {*at}:
        return False
    parsed = parse_condition if ".".join(at) in _CONDITIONS else parse
    try:
        old_one, new_one = parsed(before), parsed(after)
        # `{{/**/}}.a` is text, and prints like the condition `a`.
        return old_one.is_bare == new_one.is_bare and printed(old_one) == printed(new_one)
    except TemplateError:
        return False


def _pretty(value: Json) -> str:
    if isinstance(value, str):
        return value
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    if len(text) <= _SHOWN:
        return text
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2)


def _unified(before: str, after: str) -> tuple[str, ...]:
    """The lines that differ with one around them, and no more than a few."""
    found = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=1, lineterm=""))
    lines = [line if len(line) <= _WIDE else line[: _WIDE - 1] + "…" for line in found[2:]]
    if len(lines) > _LINES:
        more = len(lines) - _LINES
        lines[_LINES:] = [f"… and {more} more {'line' if more == 1 else 'lines'}"]
    return tuple(lines)


def shown(value: Json, aspect: str = "") -> str:
    """A value in a sentence."""
    if aspect in _SECONDS and isinstance(value, (int, float)):
        return duration(float(value)) if value else "none"
    if isinstance(value, str):
        return f"`{short(value, _SHOWN)}`" if value else "empty"
    return short(json.dumps(value, sort_keys=True, ensure_ascii=False), _SHOWN)
