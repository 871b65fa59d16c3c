"""A request and where it may go → the answer: the one way out to the web (service.md §12.1).

Tools and attachments go through here. Redirects are followed, each looked at like a new address.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterable
from dataclasses import dataclass
from urllib.parse import urljoin

import httpcore
import httpx

from compozy_prefect import faults
from compozy_prefect.compiler.http_settings import LARGEST, REDIRECTS
from compozy_prefect.runtime.tools import bodies, hosts
from compozy_prefect.runtime.tools.bodies import Unreadable
from compozy_prefect.runtime.tools.connections import pools
from compozy_prefect.runtime.tools.origins import Origin, Reach, Refused, parsed, shown

_DRAINED = 65536  # bytes of a redirect's body that are read
_FAULTS = (httpcore.NetworkError, httpcore.ProtocolError, OSError)
_FOLLOWED = (301, 302, 303, 307, 308)
_HARMLESS = {"accept", "accept-encoding", "accept-language", "user-agent"}


class Unreachable(Exception):
    """No answer came; the text is a sentence. `again`: another attempt could help.

    `is_sent`: the server may have got the request.
    """

    def __init__(self, message: str, *, again: bool = True, is_sent: bool = True) -> None:
        super().__init__(message)
        self.again, self.is_sent = again, is_sent


@dataclass(frozen=True, slots=True)
class Answer:
    """`url` is where it came from; `body` is unfolded, and its start alone if `is_cut`."""

    status: int
    headers: httpx.Headers
    body: bytes
    url: httpx.URL
    is_cut: bool = False


async def ask(
    request: httpx.Request,
    reach: Reach,
    *,
    largest: int = LARGEST,
    redirects: int = REDIRECTS,
    cut: bool = False,
) -> Answer:
    """The answer, whatever its status; without `redirects` also one that leads elsewhere.

    With `cut` a body that is too large is cut, and otherwise Unreadable.

    The body of `request` has been read. Raises Refused, Unreachable, and Unreadable.
    """
    for _ in range(redirects + 1):
        answer = await _send(request, reach)
        headers = httpx.Headers(answer.headers)
        try:
            following = _following(request, answer.status, headers) if redirects else None
            if following is None:
                body = await bodies.read(headers, _chunks(answer), largest, start=cut)
                return Answer(answer.status, headers, body, request.url)
            if _is_short(headers):
                await bodies.read(httpx.Headers(), _chunks(answer), _DRAINED)
            request = following
        except _FAULTS as fault:
            raise _unreachable(request, fault) from None
        except Unreadable as fault:
            if cut and isinstance(fault, bodies.TooLarge):
                return Answer(answer.status, headers, fault.start, request.url, is_cut=True)
            raise Unreadable(f"the answer of {shown(request.url)} {fault}") from None
        finally:
            await answer.aclose()
    raise Unreadable(f"{shown(request.url)} redirects more than {redirects} times")


async def _send(request: httpx.Request, reach: Reach) -> httpcore.Response:
    origin, url = Origin.of(request.url), request.url
    shared = await pools()
    pool = shared.of(is_open=reach.is_open(origin), is_tls=origin.scheme == "https")
    target = httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
    asked = httpcore.Request(
        request.method, target, headers=request.headers.raw, content=request.content
    )
    try:
        answer = await pool.handle_async_request(asked)
    except hosts.NotPublic as fault:
        raise _refused(origin, fault) from None
    except _FAULTS as fault:
        raise _unreachable(request, fault) from None
    await faults.point("http.sent")
    return answer


def _chunks(answer: httpcore.Response) -> AsyncIterable[bytes]:
    assert isinstance(answer.stream, AsyncIterable)
    return answer.stream


def _refused(origin: Origin, fault: hosts.NotPublic) -> Refused:
    what = f"the host {origin.host}"
    if fault.address != origin.host:
        what += f" leads to {fault.address}, which"
    way = f"it would need `{origin.permission}` in `runtime.permissions`"
    return Refused(f"{what} is {fault.kind}: {way}", origin.permission)


def _unreachable(request: httpx.Request, fault: Exception) -> Unreachable:
    if isinstance(fault, socket.gaierror):
        message = f"the host {request.url.host} is not known: {fault.strerror}"
        return Unreachable(message, is_sent=False)
    again, why = not isinstance(fault, httpcore.LocalProtocolError), str(fault)
    cause: BaseException | None = fault
    while cause is not None:  # the system says it last
        if isinstance(cause, ssl.SSLCertVerificationError):
            again, why = False, f"its certificate is refused: {cause.verify_message}"
        elif isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno:
            why = os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    what = f"{request.method} {shown(request.url)}"
    is_sent = not isinstance(fault, httpcore.ConnectError | httpcore.LocalProtocolError)
    message = f"{what} failed: {why or type(fault).__name__}"
    return Unreachable(message, again=again, is_sent=is_sent)


# --- redirects ------------------------------------------------------------------------------------


def _following(
    request: httpx.Request, status: int, answered: httpx.Headers
) -> httpx.Request | None:
    """The request that a redirect asks for; None for what is the answer.

    To another origin go no credentials and no header of the tool, and no body at all.
    """
    location = answered.get("location")
    if status not in _FOLLOWED or not location:
        return None
    try:
        target = parsed(urljoin(str(request.url), location))
    except ValueError as fault:  # of `urljoin`: half of an IPv6 address
        raise Refused(f"the redirect of {shown(request.url)} leads nowhere: {fault}") from None
    except Refused as fault:
        raise Refused(f"the redirect of {shown(request.url)} is refused: {fault}") from None
    method, keeps = request.method, True
    if status in (301, 302, 303) and method not in ("GET", "HEAD"):
        keeps = status == 301 and method != "POST"
        method = method if keeps else "GET"
    trusted = _trust(Origin.of(request.url), Origin.of(target))
    content = request.content if keeps else b""
    if content and not trusted:
        return None
    left_out = {"host", "content-length", "transfer-encoding"}
    if not keeps:
        left_out |= {"content-type", "idempotency-key"}
    headers = [
        (name, value)
        for name, value in request.headers.multi_items()
        if name not in left_out and (trusted or name in _HARMLESS)
    ]
    return httpx.Request(method, target, headers=headers, content=content or None)


def _is_short(headers: httpx.Headers) -> bool:
    """Whether the rest of an answer is quickly read, to use its connection again."""
    told = headers.get("content-length", "")
    return told.isdecimal() and len(told) < 10 and int(told) <= _DRAINED


def _trust(one: Origin, other: Origin) -> bool:
    """Whether what was for `one` may go to `other`: the same, or the same with TLS."""
    upgraded = (one.scheme, one.port, other.scheme, other.port) == ("http", 80, "https", 443)
    return one == other or (one.host == other.host and upgraded)
