"""The `config` of a tool of `type: http` → how it is called (language.md §6.2).

The checks ask this of what a file writes out, and a call of what was rendered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from compozy_prefect.compiler.plan import RetryPlan
from compozy_prefect.language.durations import parse_duration

LARGEST = 10 * 1024 * 1024  # bytes of an answer
REDIRECTS = 5

RESERVED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that the client writes itself."""

WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
METHODS = WITHOUT_BODY | {"POST", "PUT", "PATCH"}

VALUES = ("method", "auth", "timeout", "retry", "fail_on_error", "max_body_bytes", "max_redirects")
KEYS = ("base_url", "headers", *VALUES)

_MOST_ATTEMPTS = 100
_RETRY = ("maximum_attempts", "initial_interval", "backoff_coefficient", "maximum_interval")
_AUTH = {"bearer": ("token",), "basic": ("username", "password")}


@dataclass(frozen=True, slots=True)
class Settings:
    """`retry` is what the file says of attempts, None for nothing.

    `timeout` bounds one request, in seconds, 0 for the tool's own bound alone; `largest` is bytes.
    `auth` is a kind and its values, such as `("bearer", ("…",))`. `method` is for inputs without.
    """

    method: str | None = None
    auth: tuple[str, tuple[str, ...]] | None = None
    retry: RetryPlan | None = None
    timeout: float = 0.0
    largest: int = LARGEST
    redirects: int = REDIRECTS
    fail_on_error: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """Raises ValueError with a sentence."""
        auth, retry, timeout = (config.get(name) for name in ("auth", "retry", "timeout"))
        fails = config.get("fail_on_error") or False
        if not isinstance(fails, bool):
            raise ValueError("`config.fail_on_error` is true or false")
        method = config.get("method")
        return cls(
            method=None if method is None else method_of(method),
            auth=None if auth is None else _auth(auth),
            retry=None if retry is None else _retry(retry),
            timeout=0.0 if timeout is None else _duration("timeout", timeout),
            largest=_number(config, "max_body_bytes", LARGEST),
            redirects=_number(config, "max_redirects", REDIRECTS),
            fail_on_error=fails,
        )


def method_of(given: Any) -> str:
    """Raises ValueError with a sentence."""
    method = str(given).strip().upper()
    if method not in METHODS:
        shown = f"`{method}`" if method.isalpha() else repr(method)
        raise ValueError(f"{shown} is no method; there are {', '.join(sorted(METHODS))}")
    return method


def _auth(given: Any) -> tuple[str, tuple[str, ...]]:
    """`{type: bearer, token}` or `{type: basic, username, password}`."""
    if not isinstance(given, Mapping):
        raise ValueError("`config.auth` is a map, such as `{type: bearer, token: …}`")
    kind = str(given.get("type") or "bearer").strip().lower()
    keys = _AUTH.get(kind)
    if keys is None:
        raise ValueError(f"`config.auth.type` is `{kind}`; there are {' and '.join(_AUTH)}")
    for name in given:
        if name not in ("type", *keys):
            raise ValueError(f"`config.auth.{name}` is none of type, {', '.join(keys)}")
    values = tuple(str(given.get(name) or "") for name in keys)
    if not values[0]:
        raise ValueError(f"`config.auth` has no `{keys[0]}`, or an empty one")
    return kind, values


def _retry(given: Any) -> RetryPlan:
    """A number of attempts after the first one, or the keys of a task's `retry_policy`."""
    default = RetryPlan(given=True)
    if isinstance(given, int) and not isinstance(given, bool):
        return replace(default, attempts=_attempts(given + 1))
    if not isinstance(given, Mapping):
        raise ValueError("`config.retry` is a number of re-attempts, or a map like `retry_policy`")
    unknown = [str(name) for name in given if name not in _RETRY]
    if unknown:
        raise ValueError(f"`config.retry.{unknown[0]}` is none of {', '.join(_RETRY)}")
    coefficient = given.get("backoff_coefficient", default.coefficient)
    if not isinstance(coefficient, (int, float)) or not coefficient >= 1:
        raise ValueError("`config.retry.backoff_coefficient` is a number, 1 or more")
    first, longest = (given.get(f"{name}_interval") for name in ("initial", "maximum"))
    return replace(
        default,
        attempts=_attempts(given.get("maximum_attempts") or default.attempts),
        initial=default.initial if first is None else _duration("retry.initial_interval", first),
        coefficient=float(coefficient),
        maximum=default.maximum
        if longest is None
        else _duration("retry.maximum_interval", longest),
    )


def _attempts(given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= _MOST_ATTEMPTS:
        raise ValueError(f"`config.retry`: attempts are a number, {_MOST_ATTEMPTS} at most")
    return given


def _duration(name: str, given: Any) -> float:
    try:
        return parse_duration(given)
    except ValueError as fault:
        raise ValueError(f"`config.{name}`: {fault}") from None


def _number(config: Mapping[str, Any], name: str, default: int) -> int:
    given = config.get(name)
    if given is None:
        return default
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise ValueError(f"`config.{name}` is a number, 0 or more")
    return given
