"""Python parameters of a flow: a workflow's input schema in, names, types and a docstring out.

The same values serve twice: `flows.build` puts `signature` on the flow functions it makes, and
`emit` writes the `source` of each parameter into the literal ones. Both must give one schema in the
Prefect UI.

A type may be wider than the schema, never narrower: a run checks its input against the JSON Schema
itself (language.md §2.2), and a type that refused what the schema allows would be a second opinion.
"""

from __future__ import annotations

import inspect
import keyword
import math
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, Field
from pydantic_core import SchemaError, SchemaValidator

from compozy_prefect.compiler.plan import Json, WorkflowPlan

# Prefect's Flow refuses the first two, leaves `self` and `cls` out of the schema and keeps the
# `v__*` for itself; the emitted body uses the last three.
RESERVED = frozenset(
    {"return_state", "wait_for", "self", "cls", "v__args", "v__kwargs"}
    | {"v__positional_only", "v__duplicate_kwargs", "execute", "HERE", "PLAN"}
)
DEPTH = 16  # of nested arrays; what is deeper is Any
HEADING = re.compile(r"(?im)^(args|arguments|params|parameters):(?=\s|$)")
LONGEST = 2**31  # pydantic keeps lengths in a machine word


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a flow.

    `annotation` is the type, `source` the same type as Python text over the names `Annotated`,
    `Any`, `Field`, `Literal` and builtins. `default` means nothing when `required`.
    """

    name: str
    annotation: object
    source: str
    default: object
    description: str
    required: bool


@dataclass(frozen=True, slots=True)
class _Type:
    annotation: Any
    source: str
    parts: tuple[_Type, ...] = ()  # the alternatives of a union


ANY = _Type(Any, "Any")
OBJECT = _Type(dict[str, Any], "dict[str, Any]")
SCALARS = {
    "string": _Type(str, "str"),
    "integer": _Type(int, "int"),
    "number": _Type(float, "float"),
    "boolean": _Type(bool, "bool"),
    "null": _Type(None, "None"),
    "object": OBJECT,
}


def parameters(schema: Json | None) -> tuple[Parameter, ...]:
    """The parameters of a flow whose input has `schema`, the required ones first.

    A single `input: dict[str, Any] = {}` when `single(schema)`.
    """
    if schema is None or single(schema):
        text = line(schema.get("description")) if isinstance(schema, Mapping) else ""
        text = text or "The input of the workflow."
        return (Parameter("input", OBJECT.annotation, OBJECT.source, {}, text, False),)
    needed = _required(schema)
    out = [_parameter(name, item, name in needed) for name, item in schema["properties"].items()]
    return tuple(sorted(out, key=lambda parameter: not parameter.required))


def single(schema: Json | None) -> bool:
    """Whether the flow takes its input as one dict.

    So it is without a schema, without properties, when a property has a name that cannot be a
    parameter, and when a property is required that is not listed: no call could then succeed.
    """
    if not isinstance(schema, Mapping) or (schema.get("type") or "object") != "object":
        return True
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return True
    return not (_required(schema) <= properties.keys() and all(map(_usable, properties)))


def signature(schema: Json | None) -> inspect.Signature:
    """The signature of the flow function, for `__signature__`."""
    return inspect.Signature(
        [
            inspect.Parameter(
                item.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=inspect.Parameter.empty if item.required else item.default,
                annotation=item.annotation,
            )
            for item in parameters(schema)
        ],
        return_annotation=Any,
    )


def description(workflow: WorkflowPlan) -> str:
    """What the workflow is for, as clean text of one line or more, never empty."""
    lines = [_text(text).rstrip() for text in workflow.description.splitlines()]
    return inspect.cleandoc("\n".join(lines)) or line(workflow.name) or line(workflow.id)


def docstring(workflow: WorkflowPlan) -> str:
    """The description of the workflow and, in Google style, of its parameters.

    Prefect takes the descriptions it shows from the last `Args:` section. A parameter's text is
    one line, so that nothing in it starts a section. In the workflow's text a heading that would
    pass for ours loses its colon, and a code fence left open is closed, because sections inside
    one do not count.
    """
    text = HEADING.sub(r"\1", description(workflow))
    fences = [row for row in text.split("\n") if row.lstrip(" ").startswith("```")]
    if len(fences) % 2:
        text += "\n```"
    described = [item for item in parameters(workflow.input_schema) if item.description]
    if described:
        text += "\n\nArgs:\n"
        text += "\n".join(f"    {item.name}: {item.description}" for item in described)
    return text


def to_input(schema: Json | None, arguments: Mapping[str, Json]) -> dict[str, Json]:
    """The workflow's input from the arguments of its flow.

    None for an optional parameter without a default means that the key is absent. Defaults of the
    schema are not filled in here.
    """
    items = parameters(schema)
    if single(schema):
        return dict(arguments.get(items[0].name) or {})
    properties = schema["properties"] if isinstance(schema, Mapping) else {}
    absent = {p.name for p in items if not p.required and not _has_default(properties[p.name])}
    return {k: v for k, v in arguments.items() if v is not None or k not in absent}


def literal(value: Json) -> str:
    """Python source of a JSON value, on one line, the way `ruff format` quotes it."""
    if isinstance(value, str):
        text = repr(value)
        if text[0] == "'" and value.count('"') <= value.count("'"):
            text = '"' + text[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'
        return text
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    return repr(value).replace("e+", "e")


def line(value: Json) -> str:
    """A text on one line, nothing for what is no text."""
    words = value.split() if isinstance(value, str) else []
    return " ".join(clean for word in words if (clean := _text(word)))


def _usable(name: Json) -> bool:
    """Whether a key can be the name of a flow's parameter.

    Python normalises identifiers (NFKC), pydantic refuses a leading underscore, and of the names
    pydantic's models have, the `model_*` ones break Prefect's validation; `json`, `copy` do not.
    """
    return (
        isinstance(name, str)
        and name.isidentifier()
        and not keyword.iskeyword(name)
        and not name.startswith("_")
        and name not in RESERVED
        and unicodedata.normalize("NFKC", name) == name
        and not (name.startswith("model_") and hasattr(BaseModel, name))
    )


def _required(schema: Mapping[str, Json]) -> set[str]:
    names = schema.get("required")
    return {str(name) for name in names} if isinstance(names, (list, tuple)) else set()


def _parameter(name: str, schema: Json, needed: bool) -> Parameter:
    kind = _type(schema)
    text = line(schema.get("description")) if isinstance(schema, Mapping) else ""
    if _has_default(schema):
        return Parameter(name, kind.annotation, kind.source, schema["default"], text, False)
    if not needed:
        kind = _union([kind, SCALARS["null"]])
    return Parameter(name, kind.annotation, kind.source, None, text, needed)


def _has_default(schema: Json) -> bool:
    return isinstance(schema, Mapping) and "default" in schema


def _type(schema: Json, depth: int = 0) -> _Type:
    """The type of a property's schema.

    Keywords beside `type` only narrow it, so those that Python cannot say are left to the check
    against the schema; without a `type` nothing is known.
    """
    if not isinstance(schema, Mapping) or depth > DEPTH:
        return ANY
    nullable = [SCALARS["null"]] if schema.get("nullable") is True else []
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(choices, (list, tuple)) and choices and all(map(_in_literal, choices)):
        values = ", ".join(literal(choice) for choice in choices)
        return _union([_Type(Literal[tuple(choices)], f"Literal[{values}]"), *nullable])
    names = schema.get("type")
    names = list(names) if isinstance(names, (list, tuple)) else [names]
    if not names or not all(name in SCALARS or name == "array" for name in names):
        return ANY
    return _union([_typed(name, schema, depth) for name in names] + nullable)


def _typed(name: str, schema: Mapping[str, Json], depth: int) -> _Type:
    if name == "array":
        item = _type(schema.get("items"), depth + 1)
        base = _Type(list[item.annotation], f"list[{item.source}]")  # type: ignore[name-defined]
    else:
        base = SCALARS[name]
    bounds = dict(_bounds(name, schema))
    if not bounds:
        return base
    text = ", ".join(f"{key}={literal(value)}" for key, value in bounds.items())
    return _Type(
        Annotated[base.annotation, Field(**bounds)], f"Annotated[{base.source}, Field({text})]"
    )


def _bounds(name: str, schema: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    """The arguments of pydantic's `Field` for a schema; what it would refuse is left out."""
    if name in ("integer", "number"):
        whole = name == "integer"
        for key, argument, rounded in (
            ("minimum", "ge", math.ceil),
            ("exclusiveMinimum", "gt", math.floor),
            ("maximum", "le", math.floor),
            ("exclusiveMaximum", "lt", math.ceil),
        ):
            if (value := _number(schema.get(key))) is not None:
                yield argument, rounded(value) if whole else value
        step = _number(schema.get("multipleOf"))
        if step is not None and step > 0 and (not whole or step == int(step)):
            yield "multiple_of", int(step) if whole else step
    elif name in ("string", "array"):
        least, most = ("minLength", "maxLength") if name == "string" else ("minItems", "maxItems")
        for key, argument in ((least, "min_length"), (most, "max_length")):
            length = _number(schema.get(key))
            if length is not None and 0 <= length < LONGEST and length == int(length):
                yield argument, int(length)
        pattern = schema.get("pattern")
        if name == "string" and isinstance(pattern, str) and _compiles(pattern):
            yield "pattern", pattern


def _number(value: Json) -> int | float | None:
    """A finite number that a float can hold, else None: `true` is not one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(float(value)) else None
    except OverflowError:
        return None


# A repeated group, or two repetitions without a bound: what Python's engine can take for ever over.
_MAY_RUN_AWAY = re.compile(r"\)[*+{]|[*+].*[*+]")


def _compiles(pattern: str) -> bool:
    """Whether both engines take a pattern: pydantic's checks arguments, Python's the schema.

    Prefect's server runs the schema's on its event loop, without a bound; a pattern that may run
    away is left to our own check of the input.
    """
    if _MAY_RUN_AWAY.search(pattern):
        return False
    try:
        with warnings.catch_warnings(action="ignore"):  # of sets that look nested
            re.compile(pattern)
        SchemaValidator({"type": "str", "pattern": pattern})
    except (re.error, SchemaError, OverflowError, RecursionError):
        return False
    return _text(pattern) == pattern


def _in_literal(value: Json) -> bool:
    """Whether `Literal` can hold a value: no float, no container, no int beyond a machine word."""
    if isinstance(value, str):
        return _text(value) == value
    return value is None or (isinstance(value, int) and abs(value) < 2**63)


def _union(kinds: list[_Type]) -> _Type:
    """One of several types, flat and without repetition; None last."""
    flat = [part for kind in kinds for part in kind.parts or (kind,)]
    if ANY in flat:
        return ANY
    parts = list({part.source: part for part in flat}.values())
    parts.sort(key=lambda part: part.source == "None")
    if len(parts) == 1:
        return parts[0]
    return _Type(
        Union[tuple(part.annotation for part in parts)],  # noqa: UP007 - made of a tuple
        " | ".join(part.source for part in parts),
        tuple(parts),
    )


def _text(value: str) -> str:
    """A text that JSON and PostgreSQL can carry: no control characters, no half of a pair."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(char) == "Cs"
        else (char if char == "\t" or unicodedata.category(char) != "Cc" else "")
        for char in value
    )
