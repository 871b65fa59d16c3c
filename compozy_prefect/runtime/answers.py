"""The words of an answer → the output that they stand for (language.md §4.5, no. 6)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime import schemas

_STARTS = 200  # places in an answer where a JSON value is looked for


def read(text: str, schema: Json | None, json_mode: bool) -> tuple[Json, list[str]]:
    """The output that an answer stands for, or what is wrong with it."""
    text = _clean(text)
    if schema is None:
        return (_free(text) if json_mode else {"response": text}), []
    wrong: list[str] = []
    for value in _values(text):
        broken = schemas.violations(value, schema)
        if not broken:
            return value, []
        wrong = wrong or broken
    # Words are the value of a schema for text, whether or not they happen to be JSON as well.
    if schemas.fits(text, schema):
        return text, []
    return None, wrong or ["at `$`: the answer holds no JSON value"]


def _free(text: str) -> Json:
    """JSON mode without a schema: an object as it is, another value wrapped, words as words."""
    for candidate in (text, _fenced(text)):
        try:
            value = _parse(candidate)
        except ValueError:
            continue
        return value if isinstance(value, dict) else {"__value__": value}
    return {"response": text}


def _values(text: str) -> Iterator[Json]:
    """The whole answer as JSON, then the fenced block in it, then objects and arrays in it.

    The first one is what the specification asks for; the later ones save an answer that quotes
    something in brackets before it comes to the point.
    """
    for candidate in dict.fromkeys((text, _fenced(text))):
        try:
            yield _parse(candidate)
        except ValueError:
            continue
    decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=_number, strict=False)
    tries, at = 0, 0
    while tries < _STARTS and (found := re.compile(r"[{\[]").search(text, at)):
        tries += 1
        try:
            value, at = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            at = found.start() + 1
            continue
        yield _without_surrogates(value)


def _fenced(text: str) -> str:
    found = re.search(r"```[\w+-]*[ \t]*\r?\n(.*?)\r?\n?[ \t]*```", text, re.DOTALL)
    return found.group(1) if found else text


def _parse(text: str) -> Json:
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_number, strict=False)
    except RecursionError as fault:
        raise ValueError("nested too deeply") from fault
    return _without_surrogates(value)


def _refuse(constant: str) -> Json:
    raise ValueError(f"{constant} is not JSON")


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is out of range")
    return value


def _clean(text: str) -> str:
    """Without half characters, which neither a database nor a terminal can take."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _without_surrogates(value: Json) -> Json:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _without_surrogates(item) for key, item in value.items()}
    return value
