"""jsonschema's validator, with a bound on the regular expressions of a schema.

The library searches with Python's `re`, which cannot be stopped. The four keywords that do are
written anew here over `language.patterns`; everything else is the library's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.validators import extend

from compozy_prefect.compiler.plan import Json
from compozy_prefect.language import patterns


def extras(value: dict[str, Json], schema: dict[str, Json]) -> list[str]:
    """The keys of `value` that neither `properties` nor `patternProperties` speak of.

    Raises PatternError and PatternTimeout, like all that follows.
    """
    listed = schema.get("properties", {})
    return [name for name in value if name not in listed and not _by_pattern(name, schema)]


def _by_pattern(name: str, schema: dict[str, Json]) -> bool:
    return any(patterns.search(pattern, name) for pattern in schema.get("patternProperties", {}))


def _pattern(checker: Any, pattern: str, value: Json, schema: Json) -> Iterator[ValidationError]:
    if isinstance(value, str) and not patterns.search(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    checker: Any, by_pattern: dict[str, Json], value: Json, schema: Json
) -> Iterator[ValidationError]:
    for pattern, of_one in by_pattern.items() if isinstance(value, dict) else ():
        for name, item in value.items():
            if patterns.search(pattern, name):
                yield from checker.descend(item, of_one, path=name, schema_path=pattern)


def _additional_properties(
    checker: Any, of_one: Json, value: Json, schema: dict[str, Json]
) -> Iterator[ValidationError]:
    names = extras(value, schema) if isinstance(value, dict) else []
    if of_one is False and names:
        yield ValidationError(f"{', '.join(f'`{name}`' for name in names)} is not allowed")
    elif of_one is not False:
        for name in names:
            yield from checker.descend(value[name], of_one, path=name)


def _unevaluated_properties(
    checker: Any, of_one: Json, value: Json, schema: dict[str, Json]
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    others = {key: item for key, item in schema.items() if key != "unevaluatedProperties"}
    seen = _evaluated(checker, value, others)
    for name in value:
        if name in seen:
            continue
        if of_one is False:
            yield ValidationError(f"`{name}` is not allowed")
        else:
            yield from checker.descend(value[name], of_one, path=name)


def _evaluated(checker: Any, value: dict[str, Json], schema: Json) -> set[str]:
    """The keys of `value` that a schema speaks of, or one that it takes in and that fits."""
    if not isinstance(schema, dict):
        return set()
    if "additionalProperties" in schema or "unevaluatedProperties" in schema:
        return set(value)
    listed = schema.get("properties", {})
    names = {name for name in value if name in listed or _by_pattern(name, schema)}
    for word in ("$ref", "$dynamicRef"):
        if word in schema:
            found = checker._resolver.lookup(schema[word])
            there = checker.evolve(schema=found.contents, _resolver=found.resolver)
            names |= _evaluated(there, value, found.contents)
    taken_in = [one for word in ("allOf", "anyOf", "oneOf") for one in schema.get(word, [])]
    taken_in += [one for name, one in schema.get("dependentSchemas", {}).items() if name in value]
    if "if" in schema:
        branch = "then" if _fits(checker, value, schema["if"]) else "else"
        taken_in += [schema["if"], schema.get(branch, True)]
    for one in taken_in:
        if _fits(checker, value, one):
            names |= _evaluated(checker, value, one)
    return names


def _fits(checker: Any, value: Json, schema: Json) -> bool:
    return next(checker.descend(value, schema), None) is None


Bounded: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "unevaluatedProperties": _unevaluated_properties,
    },
)
"""Draft 2020-12 with these keywords. Formats annotate."""

# The library's own `evolve` turns into another class where a schema has a `$schema`.
Bounded.evolve = attrs.evolve

FORMATS = FormatChecker(formats=())
"""For checking a schema itself: its regular expressions."""


@FORMATS.checks("regex", raises=patterns.PatternError)
def _is_pattern(text: object) -> bool:
    if isinstance(text, str):
        patterns.check(text)
    return True
