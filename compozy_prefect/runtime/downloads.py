"""The address of an attachment → its bytes, within bounds (language.md §12.2).

A host that the file spells out may be any, unless `attachments.ssrf_strict` is set. One that comes
out of a template or a redirect must be public, and the connection goes to the address that was
looked at: a name that answers otherwise the next time leads nowhere else.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urljoin, urlsplit

import httpx

from compozy_prefect.compiler.plan import AttachmentLimits
from compozy_prefect.runtime.files import failed
from compozy_prefect.runtime.tools import hosts

_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


async def download(
    url: str, limits: AttachmentLimits, *, is_written: bool, within: float = 0.0
) -> tuple[bytes, str]:
    """The bytes and the type that the server says. Raises RunError.

    `is_written`: the file spells the host out. `within` is in seconds, 0 for those of the limits.
    """
    seconds = within or limits.timeout
    try:
        async with (
            asyncio.timeout(seconds or None),
            httpx.AsyncClient(
                follow_redirects=False, headers={"User-Agent": limits.user_agent}
            ) as client,
        ):
            return await _followed(client, url, limits, is_written)
    except (TimeoutError, httpx.TimeoutException):
        raise failed(f"{shown(url)} did not answer within {seconds:g} s", retryable=True) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as fault:
        why = str(fault) or type(fault).__name__
        raise failed(f"{shown(url)} could not be fetched: {why}", retryable=True) from None


async def _followed(
    client: httpx.AsyncClient, url: str, limits: AttachmentLimits, is_written: bool
) -> tuple[bytes, str]:
    first, at = urlsplit(url).netloc, url
    for _ in range(limits.redirects + 1):
        trusted = is_written and urlsplit(at).netloc == first and not limits.strict
        request = await _request(client, at, trusted)
        answer = await client.send(request, stream=True)
        try:
            target = answer.headers.get("location")
            if answer.status_code in _REDIRECTS and target:
                at = urljoin(at, target)
                continue
            if not answer.is_success:
                status = answer.status_code
                again = status in _TRANSIENT
                raise failed(f"{shown(at)} answered {status}", retryable=again)
            return await _body(answer, at, limits), answer.headers.get("content-type", "")
        finally:
            await answer.aclose()
    raise failed(f"{shown(url)} redirects more than {limits.redirects} times")


async def _request(client: httpx.AsyncClient, url: str, trusted: bool) -> httpx.Request:
    parts = httpx.URL(url)
    if parts.scheme not in ("http", "https") or not parts.host:
        raise failed(f"`{shown(url)}` is no http address")
    if trusted:
        return client.build_request("GET", parts)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = await hosts.addresses(parts.host, port)
    for address in found:
        if not hosts.is_public(address):
            raise failed(
                f"the host {parts.host} is in a private network ({address}), and an attachment "
                "is fetched from there only if its file spells the host out and "
                "`attachments.ssrf_strict` is off"
            )
    return client.build_request(
        "GET",
        parts.copy_with(host=found[0]),
        headers={"Host": parts.netloc.decode("ascii")},
        extensions={"sni_hostname": parts.host},
    )


async def _body(answer: httpx.Response, url: str, limits: AttachmentLimits) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > limits.largest:
            raise failed(f"{shown(url)} has more than {limits.largest:,} bytes")
    return bytes(body)


def shown(url: str) -> str:
    """An address without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
