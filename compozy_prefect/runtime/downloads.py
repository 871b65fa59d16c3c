"""The address of an attachment → its bytes, within bounds (language.md §12.2).

A host that the file spells out, or that `--allow-net` names, may be any, unless
`attachments.ssrf_strict` is set. One that comes out of a template or a redirect must be public.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import httpx

from compozy_prefect.compiler.plan import AttachmentLimits
from compozy_prefect.runtime.files import failed
from compozy_prefect.runtime.tools import client
from compozy_prefect.runtime.tools.bodies import ENCODINGS, Unreadable
from compozy_prefect.runtime.tools.client import Unreachable
from compozy_prefect.runtime.tools.http_requests import basic
from compozy_prefect.runtime.tools.origins import Reach, Refused, parsed, shown, spelled_out
from compozy_prefect.runtime.tools.repeats import TRANSIENT


async def download(
    url: str,
    limits: AttachmentLimits,
    *,
    template: str,
    permissions: Iterable[str] = (),
    within: float = 0.0,
) -> tuple[bytes, str]:
    """The bytes and the type that the server says. Raises RunError.

    `template` is the address as the file has it, `permissions` are those of the project. `within`
    is in seconds, 0 for those of the limits.
    """
    seconds = within or limits.timeout
    reach = Reach() if limits.strict else Reach.of(spelled_out(template.strip()), permissions)
    try:
        request = _request(url, limits.user_agent)
        async with asyncio.timeout(seconds or None):
            answer = await client.ask(
                request, reach, largest=limits.largest, redirects=limits.redirects
            )
    except TimeoutError:
        raise failed(f"{shown(url)} did not answer within {seconds:g} s", retryable=True) from None
    except Refused as fault:
        strict = "; `attachments.ssrf_strict` is on" if limits.strict else ""
        raise failed(f"{fault}{strict}") from None
    except Unreachable as fault:
        raise failed(str(fault), retryable=fault.again) from None
    except Unreadable as fault:
        raise failed(str(fault)) from None
    if not 200 <= answer.status < 300:
        again = answer.status in TRANSIENT
        raise failed(f"{shown(answer.url)} answered {answer.status}", retryable=again)
    return answer.body, answer.headers.get("content-type", "")


def _request(url: str, user_agent: str) -> httpx.Request:
    target = parsed(url, with_user=True)
    headers = {"Accept": "*/*", "Accept-Encoding": ENCODINGS, "User-Agent": user_agent}
    if target.userinfo:
        headers["Authorization"] = basic(target.username, target.password)
    return httpx.Request("GET", target.copy_with(userinfo=b""), headers=headers)
