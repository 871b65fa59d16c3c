"""What went wrong in a call → the reason, whether to try again, and what a user can do.

The table of reasons is service.md §8.3; CONTEXT_LENGTH, TOO_LARGE and the INVALID_RESPONSE that an
answer out of order gets are ours. Statuses alone do not tell: a wrong key is a 400 at Google, an
empty account one at Anthropic, and a prompt that is too long one everywhere. So what the server
said is read too, as it came over the wire.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from compozy_prefect.runtime.llm.client import Usage

RETRYABLE = frozenset(
    {"RATE_LIMIT", "QUOTA_EXCEEDED", "CAPACITY_ERROR", "INTERNAL_SERVER_ERROR", "BAD_GATEWAY"}
    | {"SERVICE_UNAVAILABLE", "GATEWAY_TIMEOUT", "TIMEOUT", "CONNECTION_RESET"}
    | {"CONNECTION_REFUSED"}
)
_BY_STATUS = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    402: "QUOTA_EXCEEDED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    408: "TIMEOUT",
    413: "CONTEXT_LENGTH",
    422: "BAD_REQUEST",
    429: "RATE_LIMIT",
    498: "CAPACITY_ERROR",  # Groq, of its flexible tier
    500: "INTERNAL_SERVER_ERROR",
    502: "BAD_GATEWAY",
    503: "SERVICE_UNAVAILABLE",
    504: "GATEWAY_TIMEOUT",
    529: "CAPACITY_ERROR",  # Anthropic
}
# What providers call a fault where there is no status to say it: in the middle of a stream.
_BY_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
# Codes that providers give, and words they say, by the statuses under which they mean the reason.
# The first row that fits decides; a model is found last, since a prompt is too long for a model.
_REFUSALS: tuple[tuple[str, frozenset[int], str], ...] = tuple(
    (reason, frozenset(statuses), pattern)
    for reason, statuses, pattern in (
        (
            "UNAUTHORIZED",
            (400, 403),
            r"\bAPI_KEY_INVALID\b|api.key.(not valid|expired|invalid)|(invalid|incorrect) api.key",
        ),
        (
            "INVALID_RESPONSE",
            (400,),
            r"\b(tool_use_failed|json_validate_failed)\b",
        ),
        (
            "QUOTA_EXCEEDED",
            (400, 403, 429),
            r"\binsufficient_quota\b|credit balance|exceeded your current quota"
            r"|insufficient (balance|credits|quota)|usage limit|used all available credits",
        ),
        (
            "CONTEXT_LENGTH",
            (400, 413, 422, 429, 500),
            r"\b(context_length_exceeded|request_too_large|string_above_max_length)\b"
            r"|context (length|window|size)|prompt is too long|prompt too long|too many tokens"
            r"|token count .{0,40}exceeds|reduce the length|request too large|maximum context",
        ),
        (
            "CONTENT_POLICY",
            (400, 403, 422),
            r"\b(content_policy_violation|content_filter|responsibleaipolicyviolation)\b"
            r"|content (management |filtering |usage )?policy|content filter|\bflagged\b"
            r"|usage (policy|guidelines)|moderation",
        ),
        (
            "INVALID_MODEL",
            (400, 403, 404, 422),
            r"\b(model_not_found|model_decommissioned|invalid_model)\b|not_found_error model:"
            r"|\bmodels?\b.{0,100}\b(not (exist|found|supported|available|a valid)|decommissioned)"
            r"|not a valid model|(unknown|invalid|no such|no endpoints found for) model",
        ),
        ("CAPACITY_ERROR", (400, 500, 503), r"\boverloaded(_error)?\b|over capacity"),
    )
)
_WHAT = {
    "CONTEXT_LENGTH": "the request is longer than the model reads",
    "CONTENT_POLICY": "it refused the content",
    "INVALID_MODEL": "it has no such model",
    "UNAUTHORIZED": "it refused the key",
    "QUOTA_EXCEEDED": "the quota is used up",
    "CAPACITY_ERROR": "it is overloaded",
    "INVALID_RESPONSE": "the model's own output was no good",
}
_ADVICE = {
    "RATE_LIMIT": "Wait, raise the limit of the account, or raise `retry_attempts` of the model.",
    "QUOTA_EXCEEDED": "Check the plan and the billing of the account.",
    "FORBIDDEN": "Check that the key may use this model.",
    "NOT_FOUND": "Check the name of the model, and `api_url` if it is set.",
    "INVALID_MODEL": "Check the name of the model.",
    "BAD_REQUEST": "Check the parameters of the model and the length of the prompt.",
    "CONTEXT_LENGTH": "Shorten the prompt, or take a model with a larger context window.",
    "CONTENT_POLICY": "Change the prompt: the provider will not answer this one.",
    "TIMEOUT": "Raise `timeout` of the model, or ask for a shorter answer.",
    "CONNECTION_REFUSED": "Check `api_url`, the network, and that the server is up.",
    "CONNECTION_RESET": "Check `api_url`, the network, and that the server is up.",
    "INVALID_RESPONSE": "Check that `api_url` is the address of the provider's API.",
    "TOO_LARGE": "Set `max_tokens` of the model, and check `api_url`.",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A call that gave no answer. `said` is the provider's own text, redacted by the caller.

    `hint` says what to do where that is not what the reason says, `usage` what it took all the
    same.
    """

    reason: str
    what: str
    said: str = ""
    status: int | None = None
    retry_after: float | None = None
    hint: str = ""
    usage: Usage | None = None

    @property
    def retryable(self) -> bool:
        return self.reason in RETRYABLE

    def advice(self, provider: str, variable: str | None) -> str:
        """One sentence that says what to do."""
        if self.hint:
            return self.hint
        if self.reason == "UNAUTHORIZED":
            return f"Check {variable or 'the `api_key` of the model'}."
        return _ADVICE.get(self.reason, f"Try again later, or look at the status of {provider}.")


class Answered(Protocol):
    """What the server said, if it did: an `Exchange` of `wire.py`.

    `body` is that of a refusal, and the end of what was none.
    """

    status: int | None
    headers: Mapping[str, str]
    body: bytes


def fault_of(raised: BaseException, answered: Answered, timeout: float | None = None) -> Fault:
    """The fault behind an exception that a call of litellm ended with."""
    for one in _chain(raised):
        known = getattr(one, "fault", None)
        if isinstance(known, Fault):
            return known
    if isinstance(raised, TimeoutError):
        within = f" in {timeout:g} s" if timeout else ""
        return Fault("TIMEOUT", f"it did not answer{within}")
    if answered.status is None:
        # Nothing was sent: litellm found fault with the request, or with itself.
        return Fault("BAD_REQUEST", "the request could not be made", _said(raised))
    if answered.status >= 300:
        return refused(answered.status, answered.headers, answered.body)
    return broken_off(answered.body) or Fault("INVALID_RESPONSE", "its answer could not be read")


def broken_off(end: bytes) -> Fault | None:
    """The fault that an answer tells of which began well, if that is how it ends.

    Streams do so, and what stands before several providers answers 200 to all.
    """
    lines = [line.strip().removeprefix(b"data:").strip() for line in end.splitlines()]
    told = [line for line in (end.strip(), *reversed(lines[-8:])) if line.startswith(b"{")]
    for line in told:
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not data.get("error"):
            return None
        text, codes, delay = _words(line)
        statuses = [int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)]
        statuses += [_BY_TYPE[code] for code in codes if code in _BY_TYPE]
        fault = _fault((statuses or [500])[0], text, codes, delay)
        what = f"it broke off, {_what(fault.reason)}"
        return replace(fault, what=what, status=None)
    return None


def refused(status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    """The fault that an answer with a status from 300 on stands for."""
    if status < 400:
        where = "it points to another address"
        return Fault("NOT_FOUND", where, status=status, hint="Check `api_url`.")
    text, codes, delay = _words(body)
    after = _retry_after(headers)
    return _fault(status, text, codes, delay if after is None else after)


def _fault(status: int, said: str, codes: Iterable[str], retry_after: float | None) -> Fault:
    reason = _BY_STATUS.get(status)
    if reason is None:
        reason = "INTERNAL_SERVER_ERROR" if status >= 500 else "BAD_REQUEST"
    words = " ".join((*codes, said))
    for name, statuses, pattern in _REFUSALS:
        if status in statuses and re.search(pattern, words, re.IGNORECASE):
            reason = name
            break
    # Google says that the quota is exceeded when it means the requests of this minute.
    if reason == "QUOTA_EXCEEDED" and status == 429 and retry_after is not None:
        reason = "RATE_LIMIT"
    # What is said about a refused key may quote a part of it, in a form nobody can foresee.
    if reason in ("UNAUTHORIZED", "FORBIDDEN"):
        said = ""
    hint = (
        "Ask again, or simplify the tools and the schema." if reason == "INVALID_RESPONSE" else ""
    )
    what = f"it answered {status}, {_what(reason)}"
    return Fault(reason, what, said, status, retry_after, hint)


def _what(reason: str) -> str:
    return _WHAT.get(reason, reason.replace("_", " ").lower())


def _words(body: bytes) -> tuple[str, list[str], float | None]:
    """What a refusal says, its codes, and the seconds to wait if the body holds them."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace")
        # The pages of gateways say nothing that the status does not.
        return ("" if "<" in text[:200] else _line(text)), [], None
    data = data[0] if isinstance(data, list) and data else data
    if not isinstance(data, dict):
        return _line(str(data)), [], None
    error = data.get("error") or data.get("detail") or data
    error = error[0] if isinstance(error, list) and error else error
    codes = [str(data[key]) for key in ("code", "type") if data.get(key)]
    if not isinstance(error, dict):
        return _line(str(error)), codes, None
    said = error.get("message") or error.get("msg") or data.get("message") or ""
    codes += [str(error[key]) for key in ("code", "type", "status") if error.get(key)]
    delay = None
    for detail in error.get("details") or ():
        if isinstance(detail, dict):
            codes += [str(detail["reason"])] if detail.get("reason") else []
            delay = _seconds(str(detail.get("retryDelay", "")).removesuffix("s")) or delay
    return _line(said if isinstance(said, str) else json.dumps(said)), codes, delay


def _line(text: str) -> str:
    return " ".join(text[:2000].split())


def _chain(raised: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while raised is not None and id(raised) not in seen and len(seen) < 20:
        seen.add(id(raised))
        yield raised
        raised = raised.__cause__ or raised.__context__


def _said(raised: BaseException) -> str:
    """The provider's words without the names that litellm writes before them."""
    text = str(getattr(raised, "message", None) or raised)[:2000]
    # What fails inside litellm comes with its traceback.
    text = text.partition("Traceback (most recent call last)")[0]
    text = re.sub(r"^(?:(?:litellm\.)?[A-Za-z]*(?:Error|Exception|Timeout)\s*[:-]\s*)+", "", text)
    return _line(text)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from a number or a date."""
    text = str(headers.get("retry-after") or "").strip()
    if not text:
        return None
    seconds: Any = _seconds(text)
    if seconds is None:
        try:
            when = parsedate_to_datetime(text)
        except ValueError:
            return None
        now = datetime.now(UTC) if when.tzinfo else datetime.now(UTC).replace(tzinfo=None)
        seconds = max(0.0, (when - now).total_seconds())
    return float(seconds)


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
