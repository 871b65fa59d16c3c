"""What litellm raised → what happened, whether to try again, and what a user can do.

The table of reasons is service.md §8.3. litellm gives status 500 to whatever broke on the way, so
the cause underneath is looked at first.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

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
    422: "BAD_REQUEST",
    429: "RATE_LIMIT",
    500: "INTERNAL_SERVER_ERROR",
    502: "BAD_GATEWAY",
    503: "SERVICE_UNAVAILABLE",
    504: "GATEWAY_TIMEOUT",
    529: "CAPACITY_ERROR",
}
_ADVICE = {
    "RATE_LIMIT": "Wait, raise the limit of the account, or raise `retry_attempts` of the model.",
    "QUOTA_EXCEEDED": "Check the plan and the billing of the account.",
    "FORBIDDEN": "Check that the key may use this model.",
    "NOT_FOUND": "Check the name of the model, and `api_url` if it is set.",
    "BAD_REQUEST": "Check the parameters of the model and the length of the prompt.",
    "CONTENT_POLICY": "Change the prompt: the provider will not answer this one.",
    "TIMEOUT": "Raise `timeout` of the model, or ask for a shorter answer.",
    "CONNECTION_REFUSED": "Check `api_url`, the network, and that the server is up.",
    "CONNECTION_RESET": "Check `api_url`, the network, and that the server is up.",
    "INVALID_RESPONSE": "Check that `api_url` is the address of the provider's API.",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A call that gave no answer. `said` is the provider's own text, redacted by the caller."""

    reason: str
    what: str
    said: str = ""
    status: int | None = None
    retry_after: float | None = None

    @property
    def retryable(self) -> bool:
        return self.reason in RETRYABLE

    def advice(self, provider: str, variable: str | None) -> str:
        """One sentence that says what to do."""
        if self.reason == "UNAUTHORIZED":
            return f"Check {variable or 'the `api_key` of the model'}."
        return _ADVICE.get(self.reason, f"Try again later, or look at the status of {provider}.")


def fault_of(raised: BaseException) -> Fault:
    """The fault behind an exception of litellm, openai, httpx or aiohttp.

    It asks for their names, so that none of them has to be imported.
    """
    chain = list(_chain(raised))
    names = {base.__name__ for one in chain for base in type(one).__mro__}
    said = _said(raised)
    if isinstance(raised, (TimeoutError, asyncio.TimeoutError)) or names & {
        "Timeout",
        "APITimeoutError",
        "TimeoutException",
    }:
        # litellm makes a time-out of its own of an answer with status 504, too.
        headers = _headers(raised)
        if headers is not None:
            return _refused(504, said, names, _retry_after(headers))
        return Fault("TIMEOUT", "it did not answer in time")
    if any(isinstance(one, (json.JSONDecodeError, UnicodeDecodeError)) for one in chain):
        return Fault("INVALID_RESPONSE", "its answer is no JSON")
    headers = _headers(raised)
    status = getattr(raised, "status_code", None)
    if headers is None and (
        names & {"ConnectError", "NetworkError", "ProtocolError", "ClientError", "OSError"}
        or "connection error" in said.lower()
    ):
        refused = names & {"ConnectError", "ConnectionRefusedError", "ClientConnectorError"}
        if refused:
            return Fault("CONNECTION_REFUSED", "no connection could be made")
        return Fault("CONNECTION_RESET", "the connection broke")
    if not isinstance(status, int) or (headers is None and "APIConnectionError" in names):
        return Fault("INVALID_RESPONSE", "its answer could not be read", said)
    return _refused(status, said, names, _retry_after(headers))


def _refused(status: int, said: str, names: set[str], retry_after: float | None) -> Fault:
    reason = _BY_STATUS.get(status)
    if reason is None:
        reason = "INTERNAL_SERVER_ERROR" if status >= 500 else "BAD_REQUEST"
    if "ContentPolicyViolationError" in names:
        reason = "CONTENT_POLICY"
    elif status == 429 and re.search(r"insufficient_quota|exceeded your current quota", said):
        reason = "QUOTA_EXCEEDED"
    what = f"it answered {status} {reason.replace('_', ' ').lower()}"
    # What is said about a refused key may quote a part of it, in a form nobody can foresee.
    if status in (401, 403):
        said = ""
    return Fault(reason, what, said, status, retry_after)


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
    return " ".join(text.split())


def _headers(raised: BaseException) -> Mapping[str, str] | None:
    """The headers of the answer, None when there was no answer."""
    found = getattr(raised, "litellm_response_headers", None)
    if found:
        return found  # type: ignore[no-any-return]
    response: Any = getattr(raised, "response", None)
    headers = getattr(response, "headers", None)
    # litellm makes up responses; those have no headers.
    return headers if headers else None


def _retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Seconds to wait, from a number or a date."""
    text = str((headers or {}).get("retry-after") or "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            when = parsedate_to_datetime(text)
        except ValueError:
            return None
        now = datetime.now(UTC) if when.tzinfo else datetime.now(UTC).replace(tzinfo=None)
        seconds = (when - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
