"""The rendered `config` of a tool of `type: http` → how it is called (language.md §6.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from compozy_prefect.compiler.plan import RetryPlan
from compozy_prefect.language.durations import parse_duration
from compozy_prefect.language.http import RETRY
from compozy_prefect.runtime.tools.client import LARGEST, REDIRECTS

_MOST_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class Settings:
    """`retry` is what the file says of attempts, None for nothing.

    `timeout` bounds one request, in seconds, 0 for the tool's own bound alone; `largest` is bytes.
    """

    retry: RetryPlan | None = None
    timeout: float = 0.0
    largest: int = LARGEST
    redirects: int = REDIRECTS
    fail_on_error: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """Raises ValueError with a sentence."""
        retry, timeout = config.get("retry"), config.get("timeout")
        return cls(
            retry=None if retry is None else _retry(retry),
            timeout=0.0 if timeout is None else _duration("timeout", timeout),
            largest=_number(config, "max_body_bytes", LARGEST),
            redirects=_number(config, "max_redirects", REDIRECTS),
            fail_on_error=config.get("fail_on_error") is True,
        )


def _retry(given: Any) -> RetryPlan:
    """A number of attempts after the first one, or the keys of a task's `retry_policy`."""
    default = RetryPlan(given=True)
    if isinstance(given, int) and not isinstance(given, bool):
        return replace(default, attempts=_attempts(given + 1))
    if not isinstance(given, Mapping):
        raise ValueError("`config.retry` is a number of re-attempts, or a map like `retry_policy`")
    unknown = [str(name) for name in given if name not in RETRY]
    if unknown:
        raise ValueError(f"`config.retry.{unknown[0]}` is none of {', '.join(RETRY)}")
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
