"""A resolved tree → typed nouns and the diagnostics of what does not fit.

Each noun of a list is validated by itself, and one with faulty parts again without them, so that
one mistake hides no other. A noun that does not get its id, or cannot be built at all, is left in
`broken`: a name that may refer to it is not reported as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from compozy_prefect.diagnostics import Diagnostic, Span, error, warning
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import Noun, Seconds, relocated
from compozy_prefect.language.models.model import Model, Provider
from compozy_prefect.language.models.project import NamedSchema, Project, Workflow
from compozy_prefect.language.models.task import TASK_TYPES, Task
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import LocatedDict, Mapping, Node, Scalar, Sequence

N = TypeVar("N", bound=Noun)

_LISTS: dict[str, type[Noun]] = {
    "agents": Agent,
    "models": Model,
    "schemas": NamedSchema,
    "tasks": Task,
    "tools": Tool,
}

# Parts of a `loc` that name a branch of a union, and no key of the data.
_BRANCHES = {"name", "selector", "inline"}

_KINDS = {
    "Action": "an action",
    "Agent": "an agent",
    "ExecutionOptions": "`config`",
    "Model": "a model",
    "NamedSchema": "a schema",
    "Parameters": "`params`",
    "Project": "a project",
    "RetryPolicy": "`retry_policy`",
    "SingleFile": "a project",
    "Task": "a task",
    "Tool": "a tool",
    "Selector": "a reference",
    "Transition": "a transition",
    "Workflow": "a workflow",
    "WorkflowConfig": "`config`",
}


@dataclass(slots=True)
class Typed:
    """A document as nouns.

    `broken` holds (list, id) of those that could not be built, with an empty id when it is not
    known.
    """

    noun: Project | Workflow
    broken: set[tuple[str, str]] = field(default_factory=set)
    diagnostics: list[Diagnostic] = field(default_factory=list)


def typed(root: Mapping, kind: type[Project] | type[Workflow]) -> Typed:
    """The document of `root` as a `kind`; always a noun, with what is faulty left out."""
    out = Typed(kind.model_construct())
    shell = LocatedDict(root)
    parts: dict[str, list[Noun]] = {}
    for name, noun in _LISTS.items():
        items = root.get(name)
        if name in kind.model_fields and isinstance(items, Sequence):
            shell.pop(name)
            parts[name] = [
                made
                for item in items.items
                if (made := _element(item, noun, name, out)) is not None
            ]
    if "tasks" in kind.model_fields:
        if isinstance(root.get("tasks"), Sequence) or _value(root.get("tasks")) is None:
            shell["tasks"] = _PLACEHOLDER  # not empty: the real ones are built above, one by one
        out.diagnostics += _no_tasks(root)
    made = _build(kind, shell, root, out.diagnostics) or kind.model_construct()
    if "tasks" in kind.model_fields:
        parts.setdefault("tasks", [])
    out.noun = made.model_copy(update=parts).placed(root)
    out.diagnostics += unknown_keys(out.noun)
    return out


_PLACEHOLDER: list[Any] = [{}]

# Without a part the one that holds it may not fit either, up to the field of the noun.
_ROUNDS = 10

# What a key says of the type of a task that does not state it (§3.1).
_TYPE_OF = {
    "routes": "router",
    "items": "collection",
    "wait_for": "wait",
    "signal": "signal",
    "operation": "memory",
}

# The directives that `references` resolves; one that is still there was reported.
_DIRECTIVES = ("$ref", "$use", "$merge")


def _value(node: Node | None) -> Any:
    return node.value if isinstance(node, Scalar) else node


def _no_tasks(root: Mapping) -> Iterator[Diagnostic]:
    tasks = root.get("tasks")
    if _value(tasks) is None:
        span = root.key_span("tasks") if tasks is not None else _head(root)
        near = nearest("tasks", [key for key in root.entries if key != "tasks"])
        hint = f"`{near}` looks like it" if near else "a list of steps, each with an `id`"
        yield error("CZ302", "a workflow needs `tasks`", span, hint)
    elif isinstance(tasks, Sequence) and not tasks.items:
        yield error("CZ302", "a workflow needs at least one task", tasks.span)


def _element(item: Node, noun: type[N], name: str, out: Typed) -> N | None:
    singular = _KINDS[noun.__name__]
    if not isinstance(item, Mapping):
        out.diagnostics.append(
            error("CZ301", f"{singular} must be a map, not {_seen(item)}", item.span)
        )
        return None
    data = item.data()
    if noun is Task:
        data = _with_type(item, out.diagnostics)
    made = _build(noun, data, item, out.diagnostics)
    id_ = item.get("id")
    given = id_.text if isinstance(id_, Scalar) and id_.value is not None else ""
    if made is None or (noun is not Model and getattr(made, "id", "") != given):
        out.broken.add((name, given))
    return made


def _with_type(item: Mapping, found: list[Diagnostic]) -> LocatedDict:
    """The task's data with its `type`; one that is unknown is reported here."""
    data = item.data()
    given = item.get("type")
    if given is None or (isinstance(given, Scalar) and given.value in (None, "")):
        inferred = next((t for key, t in _TYPE_OF.items() if item.get(key) is not None), "basic")
        if inferred == "basic" and item.get("tasks") is not None:
            span, hint = item.key_span("tasks"), "add `type: parallel`, or `type: composite`"
            found.append(error("CZ304", "a task with `tasks` needs a `type`", span, hint))
            inferred = "unknown"
        return relocated({**data, "type": inferred}, item)
    if isinstance(given, Scalar) and given.value not in TASK_TYPES:
        near = nearest(str(given.value), TASK_TYPES)
        types = ", ".join(TASK_TYPES)
        found.append(
            error(
                "CZ304",
                f"unknown task type `{given.value}`",
                given.span,
                f"did you mean `{near}`? the types are {types}" if near else f"types: {types}",
            )
        )
        data = relocated({**data, "type": "unknown"}, item)
    return data


def _build(kind: type[N], data: LocatedDict, node: Mapping, found: list[Diagnostic]) -> N | None:
    try:
        return kind.model_validate(data)
    except ValidationError as fault:
        errors = fault.errors(include_url=False, include_context=True)
    found += [_diagnostic(d, node, kind) for d in errors if not _is_unresolved(d, node)]
    for _ in range(_ROUNDS):
        cuts = {_faulty(detail, data) for detail in errors}
        stand_ins = _stand_ins(node, (d["loc"][0] for d in errors if d["type"] == "missing"))
        remaining = relocated({**stand_ins, **_without(data, cuts)}, node)
        if remaining == data:
            break
        data = remaining
        try:
            return kind.model_validate(data)
        except ValidationError as fault:
            errors = fault.errors(include_url=False, include_context=True)
    return None


def _stand_ins(node: Mapping, missing: Iterable[int | str]) -> dict[str, Any]:
    """Values for what a noun lacks, so that the rest of it is checked."""
    place = f"line-{node.span.line}-column-{node.span.column}"  # fits wherever an id does
    known = {"id": place, "name": place, "instructions": place, "tasks": _PLACEHOLDER}
    return {name: known[name] for name in map(str, missing) if name in known}


Path = tuple[str | int, ...]


def _faulty(detail: ErrorDetails, data: Any) -> Path:
    """The path in the data of what an error is about: what lacks the field, if one is missing."""
    path: list[str | int] = []
    for step in detail["loc"]:
        if isinstance(data, dict) and step in data:
            path.append(step)
            data = data[str(step)]
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            path.append(step)
            data = data[step]
    return tuple(path)


def _without(value: Any, cuts: set[Path], path: Path = ()) -> Any:
    """`value` without the parts that `cuts` leads to; of the root only parts are taken away."""
    if isinstance(value, LocatedDict):
        kept = {
            k: _without(v, cuts, (*path, k)) for k, v in value.items() if (*path, k) not in cuts
        }
        return relocated(kept, value.node)
    if isinstance(value, list) and path:
        pairs = [(i, item) for i, item in enumerate(value) if (*path, i) not in cuts]
        return [_without(item, cuts, (*path, i)) for i, item in pairs]
    return value


def _is_unresolved(detail: ErrorDetails, node: Node) -> bool:
    """Whether a field is missing because a reference could not be resolved."""
    for step in detail["loc"]:
        if isinstance(node, Mapping):
            if any(name in node.entries for name in _DIRECTIVES):
                return detail["type"] == "missing"
            node = node.get(str(step)) or node
        elif isinstance(node, Sequence) and isinstance(step, int):
            node = node.items[step]
    return False


def _diagnostic(detail: ErrorDetails, node: Mapping, kind: type[Noun]) -> Diagnostic:
    place: Node = node
    path: list[str] = []
    owner: type[Noun] = kind
    missing = ""
    for step in detail["loc"]:
        if isinstance(place, Mapping):
            below = place.get(str(step))
            if detail["type"] == "missing" and step == detail["loc"][-1]:
                missing = str(step)
                break
            if below is None:
                continue  # the tag of a union
            place = below
            path.append(str(step))
        elif isinstance(place, Sequence) and isinstance(step, int):
            place = place.items[step]
            path.append(f"[{step}]")
    name = "".join(p if p.startswith("[") else f".{p}" for p in path).lstrip(".")
    if missing:
        what = _owner(detail, owner)
        return error(
            "CZ302",
            f"{what} needs `{missing}`",
            _missing_span(missing, place),
            _missing_hint(missing, place),
        )
    subject = f"`{name}`" if name else _KINDS[kind.__name__]
    if detail["type"] == "duration":
        reason, _, forms = str((detail.get("ctx") or {}).get("reason")).partition("; ")
        return error("CZ305", f"{subject}: {reason}", place.span, forms or None)
    sentence, hint = _sentence(detail, place)
    return error("CZ301", f"{subject} {sentence}", place.span, hint)


def _owner(detail: ErrorDetails, kind: type[Noun]) -> str:
    """What the missing field belongs to: the noun, or the nearest key above."""
    names = [s for s in detail["loc"][:-1] if isinstance(s, str) and s not in _BRANCHES]
    if not names:
        return _KINDS[kind.__name__]
    singular = {"actions": "an action", "tools": "a tool", "agent": "an agent", "tool": "a tool"}
    return singular.get(names[-1], f"`{names[-1]}`")


def _missing_span(name: str, place: Node) -> Span:
    """The key without a value, or the one that looks like it, or else the first."""
    if isinstance(place, Mapping):
        key = name if name in place.keys else _look_alike(name, place)
        if key is not None:
            return place.key_span(key)
    return _head(place)


def _missing_hint(name: str, place: Node) -> str | None:
    near = _look_alike(name, place)
    return f"`{near}` looks like it" if near else None


def _look_alike(name: str, place: Node) -> str | None:
    """The unknown key of a map that is nearest to a known one."""
    if not isinstance(place, Mapping) or name in place.entries:
        return None
    return nearest(name, place.entries)


def _head(node: Node) -> Span:
    """The first line of a node, so that a whole block is not underlined."""
    if isinstance(node, Mapping) and node.keys:
        return next(iter(node.keys.values())).span
    return node.span


def _sentence(detail: ErrorDetails, place: Node) -> tuple[str, str | None]:
    seen = _seen(place)
    context: dict[str, Any] = detail.get("ctx") or {}
    match detail["type"]:
        case "string_type":
            quotable = isinstance(place, Scalar) and place.value is not None
            return f"must be text, not {seen}", "put it in quotes" if quotable else None
        case "int_type" | "int_from_float" | "int_parsing":
            return f"must be a whole number, not {seen}", None
        case "float_type" | "float_parsing":
            return f"must be a number, not {seen}", None
        case "bool_type" | "bool_parsing":
            return f"must be true or false, not {seen}", _boolean_hint(place)
        case "dict_type" | "model_type" | "model_attributes_type":
            # One of several forms: the others are names.
            forms = "text or a map" if detail["loc"][-1:] == ("inline",) else "a map"
            return f"must be {forms}, not {seen}", None
        case "list_type":
            return f"must be a list, not {seen}", "begin each item with `- `"
        case "literal_error":
            return _choice(detail, place)
        case "string_too_short":
            return "must not be empty", None
        case "too_short":
            return "must not be empty", None
        case "string_pattern_mismatch":
            return (
                f"has characters that are not allowed: {seen}",
                "letters, digits and `_ / . -` only",
            )
        case "greater_than_equal":
            return f"must be at least {context.get('ge'):g}, not {_number(place)}", None
        case "less_than_equal":
            return f"must be at most {context.get('le'):g}, not {_number(place)}", None
        case _:
            message = detail["msg"]
            return f"does not fit: {message[:1].lower()}{message[1:]}", None


def _choice(detail: ErrorDetails, place: Node) -> tuple[str, str | None]:
    expected = str((detail.get("ctx") or {}).get("expected", ""))
    choices = [c.strip().strip("'") for c in expected.replace(" or ", ", ").split(",")]
    if set(choices) == set(get_args(Provider)):
        choices = list(get_args(Provider))
    value = str(place.value) if isinstance(place, Scalar) else ""
    near = nearest(value, choices)
    listed = ", ".join(choices)
    return (
        f"cannot be {_seen(place)}",
        f"did you mean `{near}`? possible: {listed}" if near else f"possible: {listed}",
    )


def _boolean_hint(place: Node) -> str | None:
    if isinstance(place, Scalar) and str(place.value).lower() in ("yes", "no", "on", "off"):
        return "write `true` or `false`; `yes`, `no`, `on` and `off` are text in YAML 1.2"
    return None


def _number(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else _seen(node)


def _seen(node: Node) -> str:
    """What stands there, for a message."""
    if isinstance(node, Scalar):
        if node.value is None:
            return "null"
        if isinstance(node.value, bool):
            return f"the boolean {str(node.value).lower()}"
        if isinstance(node.value, str):
            text = " ".join(node.value.split())
            return f'the text "{text if len(text) <= 40 else text[:39] + "…"}"'
        return f"the number {node.text}"
    return f"a {node.kind}"


def unknown_keys(noun: Noun) -> Iterator[Diagnostic]:
    """A warning for every key that the language does not have (§0), with the nearest one."""
    if isinstance(noun, Task) and noun.type not in ("basic",):
        return  # the fields of the other types are not known here
    if not isinstance(noun, NamedSchema):
        fields = {info.alias or name: name for name, info in type(noun).model_fields.items()}
        kept = noun.sections if isinstance(noun, Project) else frozenset()
        for key in noun.model_extra or {}:
            if key.startswith("$") or key in kept:
                continue
            near = nearest(key, [*fields, *kept])
            kind = _KINDS.get(type(noun).__name__, "this")
            yield warning(
                "CZ303",
                f"{kind} has no key `{key}`; it is ignored",
                noun.node.key_span(key),
                f"did you mean `{near}`?" if near else None,
            )
        given = noun.model_fields_set
        for name, is_duration in _fields(type(noun)):
            if name in given:
                if is_duration:
                    yield from _bare_seconds(noun, name)
                yield from _inside(getattr(noun, name))


@cache
def _fields(kind: type[Noun]) -> tuple[tuple[str, bool], ...]:
    """The fields of a noun, and whether each is a duration."""
    return tuple(
        (name, Seconds in get_args(info.annotation)) for name, info in kind.model_fields.items()
    )


def _bare_seconds(noun: Noun, name: str) -> Iterator[Diagnostic]:
    """A warning for a duration without its unit (§2.6)."""
    node = noun.node.get(name)
    if isinstance(node, Scalar) and type(node.value) in (int, float) and getattr(noun, name):
        yield warning(
            "CZ305", f"`{name}` is taken as {node.text} seconds", node.span, f"write `{node.text}s`"
        )


def _inside(value: Any) -> Iterator[Diagnostic]:
    if isinstance(value, Noun):
        if value.is_placed:
            yield from unknown_keys(value)
    elif isinstance(value, list):
        for item in value:
            yield from _inside(item)
