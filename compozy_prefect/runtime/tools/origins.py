"""The text of an address → the address, and whether a call may go to it (language.md §6.2).

A host that the file spells out, or that `--allow-net` names, may be any. Others must be public,
which `client` sees to where it connects. One parser reads an address, here and for the connection:
there is no second opinion on what its host is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple

import httpx

_DEFAULT_PORTS = {"http": 80, "https": 443}
# A dot of another script is one to some parsers, so it ends a name here, too.
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")
_SPELLED_OUT = re.compile(r"\s*(?i:https?)://[^\s/?#\\{}]+(?=[/?#]|\Z)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FLAGS = {"--allow-net": True, "--deny-net": False}


class Refused(Exception):
    """A call that does not go out; the text is a sentence.

    `permission` is the one that would let it, if any would.
    """

    def __init__(self, message: str, permission: str | None = None) -> None:
        super().__init__(message)
        self.permission = permission


class Origin(NamedTuple):
    """Two addresses of the same one trust each other. `host` is as it is connected to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """Of an address that `parsed` gave."""
        scheme, port = url.scheme, url.port
        host = url.raw_host.decode("ascii")
        return cls(scheme, host, _DEFAULT_PORTS[scheme] if port is None else port)

    @property
    def permission(self) -> str:
        """The one that names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"--allow-net={host}:{self.port}"


def parsed(text: str, *, with_user: bool = False) -> httpx.URL:
    """An address of http or https with a host in its plainest form. Raises Refused.

    `with_user`: a name and a password before the host are taken.
    """
    if _CONTROL.search(text):
        raise Refused(f"{_quoted(text)} has a line break or another control character in it")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as fault:
        raise Refused(f"{_quoted(text)} is no http address: {fault}") from None
    if url.scheme not in _DEFAULT_PORTS:
        why = f"`{url.scheme}` is not http or https, and no permission allows it"
        raise Refused(f"{_quoted(text)} is no http address: {why}")
    if "\\" in text.partition("?")[0].partition("#")[0]:
        why = "a backslash in it means one host to some programs and another one to others"
        raise Refused(f"{_quoted(text)} is no http address: {why}")
    if url.userinfo and not with_user:
        why = "a name or password stands before the host; send it with `config.auth`"
        raise Refused(f"`{shown(url)}` is refused: {why}")
    host = url.raw_host.decode("ascii").removesuffix(".")
    plain = _plain(host)
    if plain is None:
        raise Refused(f"{_quoted(text)} is no http address: `{host}` is no name of a host")
    if url.port is not None and not 0 < url.port < 65536:
        raise Refused(f"{_quoted(text)} is no http address: {url.port} is no port")
    if plain != url.raw_host.decode("ascii"):
        url = url.copy_with(host=plain)
    return url.copy_with(fragment=None) if url.fragment else url


def spelled_out(template: str) -> Origin | None:
    """The origin that the text of a file names before any template in it begins."""
    found = _SPELLED_OUT.match(template)
    # A template at once behind the host could go on with it.
    if found is None:
        return None
    try:
        return Origin.of(parsed(found[0].strip(), with_user=True))
    except Refused:
        return None


class _Entry(NamedTuple):
    host: str
    port: int | None  # None for any

    def fits(self, origin: Origin) -> bool:
        return self.host == origin.host and self.port in (None, origin.port)


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a call may go besides public addresses.

    `written` is the origin that the file spells out; `granted` and `denied` are what
    `runtime.permissions` names.
    """

    written: Origin | None = None
    granted: tuple[_Entry, ...] = ()
    denied: tuple[_Entry, ...] = ()

    @classmethod
    def of(cls, written: Origin | None, permissions: Iterable[str]) -> Reach:
        return cls(written, *_entries(tuple(permissions)))

    def is_open(self, origin: Origin) -> bool:
        """Whether it may lead into a private network. Raises Refused for one that is denied."""
        if any(one.fits(origin) for one in self.denied):
            message = f"{origin.host} is refused: `--deny-net` in `runtime.permissions` names it"
            raise Refused(message)
        return origin == self.written or any(one.fits(origin) for one in self.granted)


@lru_cache(maxsize=64)
def _entries(permissions: tuple[str, ...]) -> tuple[tuple[_Entry, ...], tuple[_Entry, ...]]:
    """What `--allow-net` and `--deny-net` name.

    Without names they are for code alone: `--allow-net` would open every private network to
    whoever writes an input.
    """
    out: dict[bool, list[_Entry]] = {True: [], False: []}
    for text in permissions:
        flag, _, names = text.strip().partition("=")
        if flag in _FLAGS:
            for name in names.split(","):
                entry = _entry(name.strip().lower())
                if entry is not None:
                    out[_FLAGS[flag]].append(entry)
    return tuple(out[True]), tuple(out[False])


def _entry(name: str) -> _Entry | None:
    """`host`, `host:port`, `[::1]:port`; None for what names no single host."""
    if name.startswith("["):
        host, _, port = name[1:].partition("]")
        port = port.removeprefix(":")
    elif name.count(":") > 1:
        host, port = name, ""
    else:
        host, _, port = name.partition(":")
    plain = _plain(host.removesuffix("."))
    if plain is None or (port and not port.isdecimal()):
        return None
    return _Entry(plain, int(port) if port else None)


def _plain(host: str) -> str | None:
    if ":" in host:
        try:
            address = IPv6Address(host)
        except ValueError:
            return None
        return None if address.scope_id else str(address)
    return host if _HOST.fullmatch(host) else None


def shown(url: httpx.URL | str) -> str:
    """An address without what may be secret in it."""
    try:
        url = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return str(url)[:60]
    port = "" if url.port is None else f":{url.port}"
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}{port}{url.path}"


def _quoted(text: str) -> str:
    """Of what was given, what can be shown: no more than its beginning, and no password."""
    start = re.sub(r"//[^/?#]*@", "//", text.partition("?")[0])
    start = _CONTROL.sub("␤", start)
    return f"`{start[:100]}…`" if len(start) > 100 else f"`{start}`"
