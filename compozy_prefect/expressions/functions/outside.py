"""Chance and the environment: the functions whose result is not decided by their arguments alone.

In: counts and names. Out: text and integers. `env` sees the project's environment only.
"""

from __future__ import annotations

import os
import re

from compozy_prefect.expressions.functions.contract import (
    MAX_TEXT,
    Environment,
    Function,
    FunctionError,
    bounded,
    integer,
    text,
    too_long,
)

_VARIABLE = r"\$(?:\{([^}]*)\}|([0-9A-Za-z_]+|[*#$@!?-]))"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"


def _random(where: str, alphabet: str, count: object) -> str:
    size = integer(where, count, "an integer count")
    if size < 0:
        raise FunctionError(f"{where}: the count is negative: {size}")
    if size > MAX_TEXT:
        raise too_long(where)
    # Bytes past the last multiple of the alphabet would make its first letters likelier.
    even = 256 - 256 % len(alphabet)
    made = ""
    while len(made) < size:
        raw = os.urandom(2 * (size - len(made)) + 16)
        made += "".join(alphabet[b % len(alphabet)] for b in raw if b < even)
    return made[:size]


def rand_alpha_num(count: object) -> str:
    return _random("randAlphaNum", _LETTERS + _DIGITS, count)


def rand_alpha(count: object) -> str:
    return _random("randAlpha", _LETTERS, count)


def rand_numeric(count: object) -> str:
    return _random("randNumeric", _DIGITS, count)


def rand_ascii(count: object) -> str:
    return _random("randAscii", "".join(map(chr, range(32, 127))), count)


def rand_int(low: object, high: object) -> int:
    """From `low` to before `high`."""
    import secrets

    first, end = integer("randInt", low), integer("randInt", high)
    if end <= first:
        raise FunctionError(f"randInt: wants a larger second number, got {first} and {end}")
    return first + secrets.randbelow(end - first)


def shuffle(value: object) -> str:
    """The characters of the text in a random order."""
    import secrets

    source = list(text("shuffle", value))
    if len(source) > MAX_TEXT:
        raise too_long("shuffle")
    for n in range(len(source) - 1, 0, -1):
        other = secrets.randbelow(n + 1)
        source[n], source[other] = source[other], source[n]
    return "".join(source)


def uuidv4() -> str:
    import uuid

    return str(uuid.uuid4())


def env(environment: Environment, name: object) -> str:
    """A variable of the project's environment, or ""."""
    return environment.env.get(text("env", name, "the name of a variable"), "")


def expandenv(environment: Environment, value: object) -> str:
    """The text with `$NAME` and `${NAME}` replaced by the project's variables."""
    source = text("expandenv", value)
    if source.count("$") * max(map(len, environment.env.values()), default=0) > 16 * MAX_TEXT:
        raise too_long("expandenv")

    def variable(found: re.Match[str]) -> str:
        return environment.env.get(found[1] or found[2] or "", "")

    return bounded("expandenv", re.sub(_VARIABLE, variable, source))


OUTSIDE: tuple[Function, ...] = (
    Function("randAlphaNum", rand_alpha_num, 1, 1),
    Function("randAlpha", rand_alpha, 1, 1),
    Function("randNumeric", rand_numeric, 1, 1),
    Function("randAscii", rand_ascii, 1, 1),
    Function("randInt", rand_int, 2, 2),
    Function("shuffle", shuffle, 1, 1),
    Function("uuidv4", uuidv4, 0, 0),
    Function("env", env, 1, 1, environment=True),
    Function("expandenv", expandenv, 1, 1, environment=True),
)
