"""A call of a tool of `type: http` → what the server answers (language.md §6.2).

The host is that of the tool's `base_url`, whatever the input says: an absolute address elsewhere is
refused. A host that the file spells out, or that `--allow-net` in `runtime.permissions` names, may
be any; one that comes out of a template or a redirect must be public.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache, partial
from typing import Any

from compozy_prefect.compiler.http_settings import Settings
from compozy_prefect.compiler.plan import Json, RetryPlan, ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.runtime.tools import client, http_requests
from compozy_prefect.runtime.tools.bodies import Unreadable, data_of
from compozy_prefect.runtime.tools.client import Answer, Unreachable
from compozy_prefect.runtime.tools.effects import WRITE
from compozy_prefect.runtime.tools.failures import placed
from compozy_prefect.runtime.tools.origins import Reach, Refused, shown, spelled_out
from compozy_prefect.runtime.tools.repeats import (
    IDEMPOTENT,
    ONCE,
    TRANSIENT,
    Repeats,
    retry_after,
)
from compozy_prefect.runtime.tools.surroundings import Surroundings

_LIKE_A_STEP = RetryPlan()
# Statuses that do not tell whether the server has done what it was asked.
_UNTOLD = frozenset({408, *range(500, 600)} - {501, 503, 505})
_spelled_out = lru_cache(maxsize=256)(spelled_out)


async def call(
    tool: ToolPlan, input: dict[str, Any], config: dict[str, Any], around: Surroundings
) -> Json:
    """`{status_code, data, headers}` of the answer; any status is one.

    `config` is rendered, `tool.config` is what the file says. The key of the call goes with it, so
    that a server can tell a second attempt from a second call. Raises ToolFailed when there is no
    answer.
    """
    fail = partial(_failed, tool, around)
    try:
        settings = Settings.of(config)
        request = http_requests.request(settings, config, input, around.key)
    except Refused as fault:
        raise _refused(fail, fault) from None
    except ValueError as fault:
        raise fail(str(fault), retryable=False) from None
    written = _spelled_out(str(tool.config.get("base_url") or "").strip())
    ask = partial(
        client.ask,
        request,
        Reach.of(written, around.runtime.permissions),
        largest=settings.largest,
        redirects=settings.redirects,
    )
    repeats = _repeats(tool, settings, request.method, around)
    what = f"{request.method} {shown(request.url)}"
    try:
        async with asyncio.timeout(tool.timeout or None):
            answer = await repeats.answer(ask)
    except TimeoutError:
        within = min(filter(None, (tool.timeout, settings.timeout)))
        raise fail(
            f"{what} did not answer within {within:g} s",
            repeats,
            code="TOOL_TIMEOUT",
            is_known=False,
            timeout_seconds=within,
            url=shown(request.url),
        ) from None
    except Refused as fault:
        raise _refused(fail, fault) from None
    except Unreachable as fault:
        known = not fault.is_sent
        raise fail(str(fault), repeats, retryable=fault.again, is_known=known) from None
    except Unreadable as fault:
        raise fail(str(fault), repeats, retryable=False, is_known=False) from None
    if settings.fail_on_error and answer.status >= 400:
        details: dict[str, Json] = {"status_code": answer.status}
        wanted = retry_after(answer.headers)
        if wanted is not None:
            details["retry_after_seconds"] = wanted
        raise fail(
            f"{what} answered {answer.status}",
            repeats,
            retryable=answer.status in TRANSIENT,
            is_known=answer.status not in _UNTOLD,
            **details,
        )
    return {
        "status_code": answer.status,
        "data": _data(tool, answer),
        "headers": {name.lower(): value for name, value in answer.headers.items()},
    }


def _repeats(tool: ToolPlan, settings: Settings, method: str, around: Surroundings) -> Repeats:
    """Without a plan in the file, a step that has one repeats the call, and this does otherwise.

    What the file says of the tool's effect comes before what its method says.
    """
    plan = settings.retry or (ONCE if around.is_repeated else _LIKE_A_STEP)
    may_repeat = tool.effect != WRITE if tool.effect else method in IDEMPOTENT
    until = asyncio.get_running_loop().time() + tool.timeout if tool.timeout else float("inf")
    return Repeats(plan if may_repeat else ONCE, settings.timeout, until)


def _data(tool: ToolPlan, answer: Answer) -> Json:
    data = data_of(answer.headers, answer.body)
    schema = tool.output_schema if isinstance(tool.output_schema, dict) else {}
    properties = schema.get("properties")
    described = properties.get("data") if isinstance(properties, dict) else None
    if isinstance(described, dict) and described.get("type") == "object":
        return data if isinstance(data, dict) else {"value": data}
    return data


def _refused(fail: partial[ToolFailed], fault: Refused) -> ToolFailed:
    details: dict[str, Json] = {"kind": "permission"}
    if fault.permission is not None:
        details["permission"] = fault.permission
    return fail(str(fault), retryable=False, **details)


def _failed(
    tool: ToolPlan,
    around: Surroundings,
    message: str,
    repeats: Repeats | None = None,
    *,
    code: str | None = None,
    retryable: bool = True,
    is_known: bool = True,
    **details: Json,
) -> ToolFailed:
    """`attempts` in the details: it was asked for again here, so that nobody else has to."""
    found: dict[str, Json] = {"tool": tool.id, **details}
    if repeats is not None and repeats.number > 1:
        found["attempts"] = repeats.number
        message += f", {repeats.number} times"
    where, place = placed(around)
    message = f"tool `{tool.id}`: {message}{where}"
    return ToolFailed(
        message, code=code, details=found | place, retryable=retryable, is_known=is_known
    )
