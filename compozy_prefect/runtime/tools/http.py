"""A call of a tool of `type: http` → what the server answers (language.md §6.2).

The host is that of the tool's `base_url`, whatever the input says: an absolute address elsewhere is
refused, and a redirect to another host is not followed. A host that the file spells out may be any;
one that comes out of a template must not lead into a private network.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from compozy_prefect import faults
from compozy_prefect.compiler.plan import Json, ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.runtime.tools import hosts
from compozy_prefect.runtime.tools.surroundings import Surroundings

if TYPE_CHECKING:
    import httpx

LARGEST = 10 * 1024 * 1024  # bytes of an answer
_REDIRECTS = 5
_WITHOUT_BODY = {"GET", "HEAD", "DELETE", "OPTIONS"}
_METHODS = _WITHOUT_BODY | {"POST", "PUT", "PATCH"}


async def call(
    tool: ToolPlan, input: dict[str, Any], config: dict[str, Any], around: Surroundings
) -> Json:
    """`{status_code, data, headers}` of the answer; any status is one.

    `config` is rendered, `tool.config` is what the file says. The key of the call goes with it, so
    that a server can tell a second attempt from a second call. Raises ToolFailed when there is no
    answer.
    """
    import httpx

    base = str(config.get("base_url") or "").strip()
    method, url, options = _request(tool, base, input)
    await _check_host(tool, str(tool.config.get("base_url") or ""), url)
    headers = {str(k): str(v) for k, v in (config.get("headers") or {}).items()}
    headers |= {str(k): str(v) for k, v in options.pop("headers").items()}
    if method not in _WITHOUT_BODY and not any(h.lower() == "idempotency-key" for h in headers):
        headers["Idempotency-Key"] = hashlib.sha256(around.key.encode()).hexdigest()[:32]
    try:
        async with (
            httpx.AsyncClient(timeout=tool.timeout or None, follow_redirects=False) as client,
            asyncio.timeout(tool.timeout or None),
        ):
            answer, body = await _send(client, tool, method, url, headers, options)
    except (TimeoutError, httpx.TimeoutException):
        raise ToolFailed(
            f"tool `{tool.id}` did not answer within {tool.timeout:g} s",
            code="TOOL_TIMEOUT",
            details={"tool": tool.id, "timeout_seconds": tool.timeout, "url": _shown(url)},
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as fault:
        raise _failed(
            tool, f"{method} {_shown(url)} failed: {fault or type(fault).__name__}"
        ) from None
    out: dict[str, Json] = {
        "status_code": answer.status_code,
        "data": _data(tool, body, answer),
        "headers": {name.lower(): value for name, value in answer.headers.items()},
    }
    if config.get("fail_on_error") is True and answer.status_code >= 400:
        failed = _failed(tool, f"{method} {_shown(url)} answered {answer.status_code}")
        failed.details["status_code"] = answer.status_code
        raise failed
    return out


def _request(tool: ToolPlan, base: str, input: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """The method, the address, and headers, query and body of a call."""
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise _failed(tool, f"`base_url` is no http address: `{base}`", retryable=False)
    if "endpoint" not in input:
        return "POST", base, {"headers": {}, "json": input}
    endpoint = str(input["endpoint"])
    if urlsplit(endpoint).scheme:
        url = endpoint
        if urlsplit(url)[:2] != parts[:2]:
            message = f"`{_shown(endpoint)}` is not on the host of the tool, {parts.netloc}"
            raise _failed(tool, message, retryable=False)
    else:
        url = f"{base.rstrip('/')}/{endpoint.lstrip('/')}" if endpoint else base
    body = input.get("data", input.get("body"))
    method = str(input.get("method") or ("GET" if body is None else "POST")).upper()
    if method not in _METHODS:
        raise _failed(
            tool,
            f"`{method}` is no method; there are {', '.join(sorted(_METHODS))}",
            retryable=False,
        )
    query = dict(input.get("query") or {})
    options: dict[str, Any] = {"headers": dict(input.get("headers") or {})}
    if method in _WITHOUT_BODY:
        query |= body if isinstance(body, dict) else {}
    elif isinstance(body, str):
        options["content"] = body.encode()
    elif body is not None:
        options["json"] = body
    if query:
        options["params"] = {str(k): _text(v) for k, v in query.items()}
    return method, url, options


async def _send(
    client: httpx.AsyncClient,
    tool: ToolPlan,
    method: str,
    url: str,
    headers: dict[str, str],
    options: dict[str, Any],
) -> tuple[httpx.Response, bytes]:
    """The answer and its body, which is read up to a bound; redirects stay on the host."""
    for _ in range(_REDIRECTS + 1):
        async with client.stream(method, url, headers=headers, **options) as answer:
            await faults.point("http.sent")
            target = answer.next_request
            if target is not None and urlsplit(str(target.url))[:2] == urlsplit(url)[:2]:
                # The address is whole now, and a method that became GET has no body.
                gone = {"params"} if target.method == method else {"params", "json", "content"}
                options = {name: given for name, given in options.items() if name not in gone}
                method, url = target.method, str(target.url)
                continue
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > LARGEST:
                    message = f"the answer of {_shown(url)} is larger than {LARGEST >> 20} MiB"
                    raise _failed(tool, message, retryable=False)
            return answer, bytes(body)
    raise _failed(tool, f"{_shown(url)} redirects more than {_REDIRECTS} times", retryable=False)


async def _check_host(tool: ToolPlan, written: str, url: str) -> None:
    """A host that comes out of a template must be a public one."""
    if "{{" not in (urlsplit(written).netloc or written):
        return
    parts = urlsplit(url)
    try:
        found = await hosts.addresses(parts.hostname, parts.port)
    except OSError as fault:
        raise _failed(tool, f"the host {parts.hostname} is not known: {fault.strerror}") from None
    for address in found:
        if not hosts.is_public(address):
            message = (
                f"the host {parts.hostname} is in a private network ({address}); "
                "a host that comes out of a template must be public: write it into `base_url`"
            )
            raise _failed(tool, message, retryable=False)


def _data(tool: ToolPlan, body: bytes, answer: httpx.Response) -> Json:
    text = body.decode(answer.encoding or "utf-8", "replace")
    data: Json = text
    if "json" in answer.headers.get("content-type", "") or text[:1] in ("{", "["):
        try:
            data = json.loads(text)
        except ValueError:
            data = text
    schema = tool.output_schema if isinstance(tool.output_schema, dict) else {}
    described = (schema.get("properties") or {}).get("data") or {}
    if isinstance(described, dict) and described.get("type") == "object":
        return data if isinstance(data, dict) else {"value": data}
    return data


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _shown(url: str) -> str:
    """An address without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _failed(tool: ToolPlan, message: str, *, retryable: bool = True) -> ToolFailed:
    return ToolFailed(
        f"tool `{tool.id}`: {message}", details={"tool": tool.id}, retryable=retryable
    )
