"""A value and its JSON Schema → the value with defaults, or what is wrong with it.

Draft 2020-12. Formats only annotate; an `id` at the top of a schema is Compozy's name for it and
no keyword; `type: null`, the YAML null, counts as absent (language.md §9). A `$ref` is followed
within the schema only, nothing is ever fetched. A regular expression has a bound (`patterns`).
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from compozy_prefect.compiler.plan import Json
from compozy_prefect.language import patterns
from compozy_prefect.language.names import nearest

if TYPE_CHECKING:
    from jsonschema import ValidationError

MOST = 10  # violations that `violations` tells
_SEEN = 500  # violations that are looked at, so that a list of a million bad items ends soon
_SHOWN = 80  # characters of a value in a message

_ONE = frozenset(
    {"additionalProperties", "contains", "contentSchema", "else", "if", "items", "not"}
    | {"propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"}
)
_LIST = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAP = frozenset(("$defs", "definitions", "dependentSchemas", "patternProperties", "properties"))


def with_defaults(value: Json, schema: Json) -> Json:
    """A new `value` with the top-level defaults of an object schema (language.md §2.2, no. 2).

    Shallow: only `properties.<k>.default`, and only for absent keys; an explicit null stays.
    A value that is no object is returned as it is.
    """
    if not isinstance(value, dict):
        return value
    out = dict(value)
    if not isinstance(schema, dict) or schema.get("type", "object") not in ("object", None):
        return out
    properties = schema.get("properties")
    if isinstance(properties, dict):
        for name, of_one in properties.items():
            if name not in out and isinstance(of_one, dict) and "default" in of_one:
                out[name] = copy.deepcopy(of_one["default"])
    return out


def violations(value: Json, schema: Json) -> list[str]:
    """What breaks `schema`, in the order of the places in `value`; empty when nothing does.

    Each is a sentence that starts with "at `a.b[0]`: ", at most ten; with more than ten the last
    one says how many were left out. No schema (None) allows everything. A schema that cannot be
    used is a violation too, not an exception.
    """
    if schema is None or schema is True:
        return []
    from referencing.exceptions import Unresolvable

    checker = validator(schema)
    if isinstance(checker, str):
        return [f"at `$`: the schema cannot be used: {checker}"]
    try:
        with patterns.bounded():
            found = list(islice(checker.iter_errors(value), _SEEN))
            lines = dict.fromkeys(_sentence(error) for error in sorted(found, key=_order))
    except Unresolvable as fault:
        return [
            f"at `$`: the schema cannot be used: it refers to {fault.ref!r}, which is not in it, "
            "and nothing is fetched"
        ]
    except RecursionError:
        return ["at `$`: the value is nested too deeply for its schema, or the schema is circular"]
    except patterns.PatternTimeout as fault:
        return [f"at `$`: the value cannot be checked: {fault}"]
    except (ValueError, ArithmeticError) as fault:
        return [f"at `$`: the schema cannot be used: {_cut(str(fault))}"]
    if len(lines) <= MOST:
        return list(lines)
    more = f"and {len(lines) - MOST + 1}{' or' if len(found) == _SEEN else ''} more"
    return [*islice(lines, MOST - 1), more]


def fits(value: Json, schema: Json) -> bool:
    """Whether `value` breaks nothing in `schema`."""
    return not violations(value, schema)


def validator(schema: Json) -> Any:
    """The jsonschema validator of a schema, made once; or a sentence saying why it is no schema."""
    return _validator(json.dumps(schema, sort_keys=True, default=str))


@lru_cache(maxsize=512)
def _validator(text: str) -> Any:
    # The text is the key, since a schema is a dict; writing it takes 10 µs, making this 1 ms.
    from jsonschema.exceptions import SchemaError
    from referencing.jsonschema import EMPTY_REGISTRY

    from compozy_prefect.runtime.keywords import FORMATS, Bounded

    schema = plain(json.loads(text))
    try:
        Bounded.check_schema(schema, format_checker=FORMATS)
    except SchemaError as fault:
        return f"at `{_path(fault.absolute_path)}`: {_cut(str(fault.cause or fault.message))}"
    # Without a registry of its own jsonschema fetches remote references over the network.
    return Bounded(schema, registry=EMPTY_REGISTRY)


def plain(schema: Json) -> Json:
    """The schema as the draft knows it: no `id` at the top, no `type: null`."""
    if isinstance(schema, dict):
        schema = {key: item for key, item in schema.items() if key != "id"}
    return _without_null_types(schema)


def _without_null_types(schema: Json) -> Json:
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for key, item in schema.items():
        if key == "type" and item is None:
            continue
        if key in _ONE:
            item = _without_null_types(item)
        elif key in _LIST and isinstance(item, list):
            item = [_without_null_types(one) for one in item]
        elif key in _MAP and isinstance(item, dict):
            item = {name: _without_null_types(one) for name, one in item.items()}
        out[key] = item
    return out


def _order(error: ValidationError) -> tuple[Any, ...]:
    # Numbers before names, and numbers by value: `a[2]` stands before `a[10]`.
    places = [
        (0, part, "") if isinstance(part, int) else (1, 0, part) for part in error.absolute_path
    ]
    return places, str(error.validator), error.message


def _path(parts: Iterable[str | int]) -> str:
    out = ""
    for part in parts:
        if isinstance(part, int):
            out += f"[{part}]"
        elif re.fullmatch(r"[\w-]+", part):
            out += f".{part}" if out else part
        else:
            out += f"[{json.dumps(_cut(part), ensure_ascii=False)}]"
    return out or "$"


def _sentence(error: ValidationError) -> str:
    tell = _MESSAGES.get(str(error.validator))
    message = tell(error) if tell else _cut(error.message, 3 * _SHOWN)
    return f"at `{_path(error.absolute_path)}`: {message}"


def shown(value: Json) -> str:
    """The JSON of a value, shortened, for a message."""
    if isinstance(value, str):
        value = value[: 2 * _SHOWN]
    elif isinstance(value, (list, dict)) and len(value) > _SHOWN:
        kept = islice(value.items() if isinstance(value, dict) else value, _SHOWN)
        value = dict(kept) if isinstance(value, dict) else list(kept)
    try:
        return _cut(json.dumps(value, ensure_ascii=False, default=str))
    except (ValueError, RecursionError):
        return f"a {kind(value)}"


def kind(value: Json) -> str:
    """The JSON type of a value, as a schema names it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for of, name in ((int, "integer"), (float, "number"), (str, "string"), (dict, "object")):
        if isinstance(value, of):
            return name
    return "array" if isinstance(value, list) else type(value).__name__


def _cut(text: str, limit: int = _SHOWN) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _type(error: ValidationError) -> str:
    wanted: Json = error.validator_value
    names = " or ".join(wanted) if isinstance(wanted, list) else str(wanted)
    got = kind(error.instance)
    value = "" if got == "null" else f" {shown(error.instance)}"
    return f"expected {names}, got {got}{value}"


def _enum(error: ValidationError) -> str:
    allowed: Json = error.validator_value
    listed = _cut(", ".join(shown(item) for item in allowed[:20]), 2 * _SHOWN)
    message = f"expected one of {listed}; got {shown(error.instance)}"
    if isinstance(error.instance, str) and len(error.instance) < 200:
        names = [item for item in allowed if isinstance(item, str)]
        near = nearest(error.instance, names)
        if near:
            message += f"; did you mean {shown(near)}?"
    return message


def _required(error: ValidationError) -> str:
    # One error for each missing name, and only its message says which name it is about.
    names: Json = error.validator_value
    missing = [name for name in names if error.message == f"{name!r} is a required property"]
    return f"`{_cut(missing[0])}` is missing" if missing else _cut(error.message)


def _additional(error: ValidationError) -> str:
    schema, value = error.schema, error.instance
    if (
        error.validator_value is not False
        or not isinstance(schema, dict)
        or not isinstance(value, dict)
    ):
        return _cut(error.message, 3 * _SHOWN)
    from compozy_prefect.runtime.keywords import extras

    extra = extras(value, schema)
    names = ", ".join(f"`{_cut(name)}`" for name in extra[:5]) + (" …" if len(extra) > 5 else "")
    near = nearest(extra[0], schema.get("properties", {})) if extra else None
    return f"{names} is not allowed" + (f"; did you mean `{near}`?" if near else "")


def _branches(error: ValidationError) -> str:
    from jsonschema.exceptions import best_match

    branches: Json = error.validator_value
    number = len(branches)
    if error.validator == "oneOf" and not error.context:
        return f"{shown(error.instance)} fits more than one of the {number} shapes"
    message = f"{shown(error.instance)} fits none of the {number} shapes"
    best = best_match(error.context or [])
    return f"{message} (nearest: {_sentence(best)})" if best is not None else message


def _of(text: str) -> Callable[[ValidationError], str]:
    return lambda error: text.format(v=shown(error.instance), limit=shown(error.validator_value))


_MESSAGES: dict[str, Callable[[ValidationError], str]] = {
    "None": _of("nothing is allowed here, got {v}"),  # the schema `false`
    "type": _type,
    "enum": _enum,
    "required": _required,
    "additionalProperties": _additional,
    "anyOf": _branches,
    "oneOf": _branches,
    "const": _of("expected {limit}, got {v}"),
    "minLength": _of("{v} is shorter than {limit} characters"),
    "maxLength": _of("{v} is longer than {limit} characters"),
    "pattern": _of("{v} does not match the pattern {limit}"),
    "minimum": _of("{v} is less than {limit}"),
    "maximum": _of("{v} is more than {limit}"),
    "exclusiveMinimum": _of("{v} is not more than {limit}"),
    "exclusiveMaximum": _of("{v} is not less than {limit}"),
    "multipleOf": _of("{v} is not a multiple of {limit}"),
    "minItems": _of("{v} has fewer than {limit} items"),
    "maxItems": _of("{v} has more than {limit} items"),
    "uniqueItems": _of("{v} holds an item twice"),
    "minProperties": _of("{v} has fewer than {limit} keys"),
    "maxProperties": _of("{v} has more than {limit} keys"),
    "not": _of("{v} is what the schema forbids"),
}
