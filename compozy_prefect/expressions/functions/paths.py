"""Paths and URLs as text; no file is touched and no host is looked up.

In: text, or the map of a URL's parts. Out: text, or that map. Paths are Unix paths everywhere, so
that a template means the same on every machine (`osBase` is `base`).
"""

from __future__ import annotations

import re
from typing import Any

from compozy_prefect.expressions.functions.contract import (
    Function,
    FunctionError,
    Made,
    aliases,
    bounded,
    describe,
    from_octets,
    mapping,
    octets,
    text,
)

_SCHEME = r"([A-Za-z][A-Za-z0-9+.-]*):"
_BAD_ESCAPE = r"%(?![0-9A-Fa-f]{2})"
_PATH_SAFE = "$&+,/:;=@"


def base(value: object) -> str:
    """The last element of the path."""
    source = text("base", value)
    if not source:
        return "."
    return source.rstrip("/").rpartition("/")[2] or "/"


def clean(value: object) -> str:
    """The shortest path of the same meaning."""
    source = text("clean", value)
    rooted = source.startswith("/")
    kept: list[str] = []
    for part in source.split("/"):
        if part in ("", "."):
            continue
        if part == ".." and kept and kept[-1] != "..":
            kept.pop()
        elif part != ".." or not rooted:
            kept.append(part)
    return ("/" if rooted else "") + "/".join(kept) or "."


def dir_(value: object) -> str:
    """All but the last element of the path."""
    head, slash, _ = text("dir", value).rpartition("/")
    return clean(head + slash)


def ext(value: object) -> str:
    """The file name's extension, its dot included."""
    name = text("ext", value).rpartition("/")[2]
    _, dot, extension = name.rpartition(".")
    return dot + extension if dot else ""


def is_abs(value: object) -> bool:
    return text("isAbs", value).startswith("/")


def _unescaped(value: str) -> str:
    from urllib.parse import unquote_to_bytes

    return from_octets(unquote_to_bytes(octets(value)))


def _escaped(value: str, safe: str) -> str:
    from urllib.parse import quote

    return quote(octets(value), safe=safe + "-_.~")


def url_parse(value: object) -> dict[str, Any]:
    """The parts of a URL: scheme, userinfo, host, hostname, path, query, fragment, opaque."""
    source = text("urlParse", value)
    if any(c < " " or c == "\x7f" for c in source):
        raise FunctionError(f"urlParse: no URL, it has control characters: {describe(source)}")
    rest, _, fragment = source.partition("#")
    scheme = ""
    if found := re.match(_SCHEME, rest):
        scheme, rest = found[1].lower(), rest[found.end() :]
    elif rest.startswith(":"):
        raise FunctionError(f"urlParse: the scheme is missing in {describe(source)}")
    rest, _, query = rest.partition("?")
    opaque = userinfo = host = path = ""
    if scheme and not rest.startswith("/"):
        opaque = rest
    else:
        path = rest
        if rest.startswith("//") and (scheme or not rest.startswith("///")):
            authority, slash, path = rest[2:].partition("/")
            path = slash + path
            userinfo, _, host = authority.rpartition("@")
        elif not scheme and ":" in rest.partition("/")[0]:
            raise FunctionError(
                f"urlParse: the first path segment of {describe(source)} has a colon"
            )
    for part in (host, path, fragment, userinfo):
        if re.search(_BAD_ESCAPE, part):
            raise FunctionError(f"urlParse: an escape in {describe(source)} is not valid")
    if re.search(r"[ <>\"]", host) or not _port_is_good(host):
        raise FunctionError(f"urlParse: the host of {describe(source)} is not valid")
    name, _, password = userinfo.partition(":")
    if userinfo:
        user = _escaped(_unescaped(name), "$&+,;=")
        secret = _escaped(_unescaped(password), "$&+,;=")
        userinfo = user + (":" + secret if ":" in userinfo else "")
    return Made(
        scheme=scheme,
        opaque=opaque,
        userinfo=userinfo,
        host=_unescaped(host),
        hostname=_hostname(_unescaped(host)),
        path=_unescaped(path),
        query=query,
        fragment=_unescaped(fragment),
    )


def _port_is_good(host: str) -> bool:
    if host.startswith("["):
        _, bracket, port = host.rpartition("]")
        return bool(bracket) and (not port or re.fullmatch(r":\d*", port) is not None)
    _, colon, port = host.rpartition(":")
    return not colon or not port or (port.isascii() and port.isdigit())


def _hostname(host: str) -> str:
    name, colon, port = host.rpartition(":")
    if colon and not port.strip("0123456789"):
        host = name
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def url_join(parts: object) -> str:
    """The URL of a map as `urlParse` makes it."""
    source = mapping("urlJoin", parts)

    def part(name: str) -> str:
        return text("urlJoin", source.get(name, ""), f"text as {name}")

    scheme, host, path = part("scheme"), part("host"), part("path")
    made = scheme + ":" if scheme else ""
    if opaque := part("opaque"):
        made += opaque
    else:
        userinfo = part("userinfo")
        if scheme or host or userinfo:
            if host or path or userinfo:
                made += "//"
            if userinfo:
                made += url_parse(f"proto://{userinfo}@host")["userinfo"] + "@"
            made += _escaped(host, "!$&'()*+,;=:[]<>\"")
        escaped = path if path == "*" else _escaped(path, _PATH_SAFE)
        if escaped and not escaped.startswith("/") and host:
            made += "/"
        elif not made and ":" in escaped.partition("/")[0]:
            made += "./"  # or the first segment would read as a scheme
        made += escaped
    if query := part("query"):
        made += "?" + query
    if fragment := part("fragment"):
        made += "#" + _escaped(fragment, "!()*?" + _PATH_SAFE)
    return bounded("urlJoin", made)


PATHS: tuple[Function, ...] = (
    *aliases(Function("base", base, 1, 1), "osBase"),
    *aliases(Function("clean", clean, 1, 1), "osClean"),
    *aliases(Function("dir", dir_, 1, 1), "osDir"),
    *aliases(Function("ext", ext, 1, 1), "osExt"),
    *aliases(Function("isAbs", is_abs, 1, 1), "osIsAbs"),
    Function("urlParse", url_parse, 1, 1),
    Function("urlJoin", url_join, 1, 1),
)
