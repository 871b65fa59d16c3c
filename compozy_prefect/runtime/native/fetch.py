"""`cp__fetch`: an address and how it is asked → what the server answers (language.md §6.5).

Whoever writes an address here may be a model, so that the host must be a public one, unless
`--allow-net` in `runtime.permissions` names it.
"""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Any

from compozy_prefect.compiler.http_settings import Settings
from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime.native.roots import DENIED, INVALID, Fault
from compozy_prefect.runtime.tools import bodies, client, http_requests
from compozy_prefect.runtime.tools.origins import Reach, Refused, shown
from compozy_prefect.runtime.tools.surroundings import Surroundings


async def fetch(given: dict[str, Any], around: Surroundings) -> Json:
    """The answer, whatever its status, with a body within `max_body_bytes`. Raises Fault."""
    plan = around.runtime.native_tools.fetch
    method = str(given.get("method") or "GET").upper()
    if method not in plan.methods:
        allowed = ", ".join(plan.methods) or "none"
        raise Fault(DENIED, f"`{method}` is none of the methods that the project allows: {allowed}")
    asked = given.get("timeout_ms", 0) / 1000
    seconds = min(filter(None, (asked, plan.timeout)))
    begun = time.monotonic()
    try:
        input = {"endpoint": "", "method": method, "headers": given.get("headers")}
        request = http_requests.request(
            Settings(), {"base_url": given["url"]}, input | {"data": given.get("body")}, around.key
        )
        async with asyncio.timeout(seconds):
            answer = await client.ask(
                request,
                Reach.of(None, around.runtime.permissions),
                largest=plan.max_body,
                redirects=plan.redirects,
                cut=True,
            )
    except Refused as fault:
        raise Fault(DENIED, str(fault)) from None
    except ValueError as fault:
        raise Fault(INVALID, str(fault)) from None
    except TimeoutError:
        what = f"{method} {shown(request.url)}"
        raise Fault("DeadlineExceeded", f"{what} did not answer within {seconds:g} s") from None
    except (client.Unreachable, bodies.Unreadable) as fault:
        raise Fault("Internal", str(fault)) from None
    return {
        "status_code": answer.status,
        "status_text": _phrase(answer.status),
        "headers": {name.lower(): value for name, value in answer.headers.items()},
        "body": bodies.text_of(answer.headers.get("content-type", "").lower(), answer.body),
        "body_truncated": answer.is_cut,
        "duration_ms": round((time.monotonic() - begun) * 1000),
    }


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
