"""The input of an HTTP tool, and its rendered `config` → the request (language.md §6.2)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import httpx

from compozy_prefect.compiler.http_settings import RESERVED, WITHOUT_BODY, Settings, method_of
from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime.tools import bodies
from compozy_prefect.runtime.tools.origins import Origin, Refused, parsed, shown

USER_AGENT = "Compozy/1.0"

_ABSOLUTE = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE_BREAK = re.compile(r"[\r\n\0]")
_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"


def request(
    settings: Settings, config: Mapping[str, Any], input: Mapping[str, Any], key: str
) -> httpx.Request:
    """`key` names the call, also when it is made again. Raises Refused and ValueError, sentences.

    Headers of the input are laid over those of the file.
    """
    base = parsed(str(config.get("base_url") or "").strip(), with_user=True)
    headers = _headers(config.get("headers"), input.get("headers") if "endpoint" in input else None)
    authorization = _credentials(settings, base)
    if authorization is not None:
        headers = _headers({"authorization": authorization}, headers)
    base = base.copy_with(userinfo=b"")
    body: Json
    query: dict[str, Any] = {}
    if "endpoint" not in input:
        method, url, body = settings.method or "POST", base, dict(input)
    else:
        method, url, body, query = _asked(settings, base, input)
    if method in WITHOUT_BODY and body is not None:
        if not isinstance(body, Mapping):
            raise ValueError(f"`data` of {method} is a map: it goes into the query")
        query, body = {**query, **body}, None
    if query:
        url = url.copy_merge_params(httpx.QueryParams(_fields(query)))
    headers = {
        "accept": "*/*",
        "accept-encoding": bodies.ENCODINGS,
        "user-agent": USER_AGENT,
        **headers,
    }
    if method not in WITHOUT_BODY and "idempotency-key" not in headers:
        headers["idempotency-key"] = hashlib.sha256(key.encode()).hexdigest()[:32]
    content, kind = _content(body, headers.get("content-type", ""))
    if kind:
        headers["content-type"] = kind
    made = httpx.Request(
        method,
        url,
        headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        content=content,
    )
    if content == b"" and method not in WITHOUT_BODY:
        made.headers["content-length"] = "0"
    return made


def _asked(
    settings: Settings, base: httpx.URL, input: Mapping[str, Any]
) -> tuple[str, httpx.URL, Json, dict[str, Any]]:
    """The method, the address, `data` and the query of an input with `endpoint`."""
    url = _joined(base, str(input["endpoint"] or ""))
    body = input.get("data", input.get("body"))
    usual = settings.method or ("GET" if body is None else "POST")
    method = method_of(input.get("method") or usual)
    query = input.get("query") or {}
    if not isinstance(query, Mapping):
        raise ValueError("`query` is a map of names and values")
    return method, url, body, dict(query)


def _joined(base: httpx.URL, endpoint: str) -> httpx.URL:
    """`endpoint` below `base`, with one slash between; what is absolute is on its host."""
    if _ABSOLUTE.match(endpoint):
        url = parsed(endpoint.strip())
        if Origin.of(url) != Origin.of(base):
            origin = Origin.of(base)
            raise Refused(
                f"`{shown(url)}` is not on the host of the tool, "
                f"{origin.scheme}://{base.netloc.decode('ascii')}; no permission allows it: "
                "make a tool with that `base_url`"
            )
        return url
    if not endpoint:
        return base
    path, _, query = base.raw_path.decode("ascii").partition("?")
    path = f"{path.rstrip('/')}/{endpoint.lstrip('/')}"
    url = parsed(str(base.copy_with(raw_path=b"/")).rstrip("/") + path)
    return url.copy_merge_params(httpx.QueryParams(query)) if query else url


def _headers(*given: Any) -> dict[str, str]:
    """By their names in lower case; later ones win, and null leaves one out."""
    out: dict[str, str] = {}
    for headers in given:
        if headers is None:
            continue
        if not isinstance(headers, Mapping):
            raise ValueError("`headers` is a map of names and values")
        for name, value in headers.items():
            lower = str(name).strip().lower()
            if not _HEADER.fullmatch(lower):
                raise ValueError(f"{str(name)[:60]!r} is no name for a header")
            if lower in RESERVED:
                raise ValueError(f"the header `{name}` cannot be set: the client writes it itself")
            if value is None:
                out.pop(lower, None)
                continue
            text = _text(value).strip(" \t")
            if _LINE_BREAK.search(text):
                raise ValueError(f"the header `{name}` has a line break in it")
            out[lower] = text
    return out


def _credentials(settings: Settings, base: httpx.URL) -> str | None:
    """The `Authorization` of `config.auth`, or of what stands before the host in `base_url`."""
    if settings.auth is None:
        return basic(base.username, base.password) if base.userinfo else None
    kind, values = settings.auth
    return f"Bearer {values[0]}" if kind == "bearer" else basic(*values)


def basic(username: str, password: str) -> str:
    """The `Authorization` of a name and a password."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


def _content(body: Json, kind: str) -> tuple[bytes | None, str]:
    """The body, in the form that its `Content-Type` says, and its type."""
    form = kind.partition(";")[0].strip().lower()
    if body is None:
        return None, kind
    if isinstance(body, str):
        return body.encode(), kind or "text/plain; charset=utf-8"
    if form in (_FORM, _MULTIPART):
        if not isinstance(body, Mapping):
            raise ValueError(f"`data` is a map if it is sent as {form}")
        fields = _fields(body)
        if form == _FORM:
            return urlencode(fields).encode(), kind
        made = httpx.Request("POST", "http://host", files=[(n, (None, v)) for n, v in fields])
        return made.read(), made.headers.get("content-type", "")
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode(), kind or "application/json"


def _fields(given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """A name for each item of a list; null leaves one out, and a map is JSON."""
    out = []
    for name, value in given.items():
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if item is not None:
                out.append((str(name), _text(item)))
    return out


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
