"""The body of an answer → its bytes within a bound, and its text (language.md §6.2).

A bound holds for what comes over the wire and for what it unfolds to: of a file that unfolds to
more, no more than that is ever unfolded.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import AsyncIterable
from typing import Any

import httpx

ENCODINGS = "gzip, deflate"  # what `read` unfolds, for the header of a request

_GZIP = zlib.MAX_WBITS | 16
_PIECE = 65536
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class Unreadable(Exception):
    """A body that is too large or broken; the text is a sentence about the answer."""


class TooLarge(Unreadable):
    """`start` is what a body had begun with, as far as it was read."""

    def __init__(self, largest: int) -> None:
        size = f"{largest >> 20} MiB" if largest % 2**20 == 0 else f"{largest:,} bytes"
        super().__init__(f"is larger than {size}")
        self.start = b""


async def read(
    headers: httpx.Headers, body: AsyncIterable[bytes], largest: int, *, start: bool = False
) -> bytes:
    """At most `largest` bytes. Raises Unreadable; with `start`, TooLarge has as many of them."""
    told = headers.get("content-length", "")
    size = int(told[:20]) if told.isdecimal() and not start else 0
    unfold: _Unfolding | None = None
    out, wire = bytearray(), 0
    try:
        async for chunk in body:
            if not wire:  # an answer to HEAD has the headers of a body, and none
                unfold = _unfolding(headers.get("content-encoding", ""))
            wire += len(chunk)
            if size > largest:
                raise TooLarge(largest)
            if unfold is None:
                out += chunk
            else:
                unfold.feed(chunk, out, largest)
            if wire > largest:
                raise TooLarge(largest)
    except TooLarge as fault:
        if start:
            fault.start = bytes(memoryview(out)[:largest])
        raise
    if unfold is not None and not unfold.is_whole:
        raise Unreadable("is cut short: its compressed body has no end")
    return bytes(out)


class _Unfolding:
    """The state of a compressed body, of one part or, with gzip, several."""

    def __init__(self, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._part = zlib.decompressobj(_GZIP if is_gzip else zlib.MAX_WBITS)
        self._is_first = True

    @property
    def is_whole(self) -> bool:
        return self._part.eof

    def feed(self, data: bytes, out: bytearray, largest: int) -> None:
        while data:
            if self._part.eof:
                if not self._is_gzip or not data.lstrip(b"\0"):
                    return  # padding
                self._part = zlib.decompressobj(_GZIP)
            out += self._piece(data)
            if len(out) > largest:
                raise TooLarge(largest)
            data = self._part.unconsumed_tail or self._part.unused_data

    def _piece(self, data: bytes) -> bytes:
        first, self._is_first = self._is_first, False
        try:
            return self._part.decompress(data, _PIECE)
        except zlib.error as fault:
            if self._is_gzip or not first:
                raise Unreadable(f"cannot be unfolded: {fault}") from None
        # Some servers send deflate without the header that it should have.
        self._part = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            return self._part.decompress(data, _PIECE)
        except zlib.error as fault:
            raise Unreadable(f"cannot be unfolded: {fault}") from None


def _unfolding(encoding: str) -> _Unfolding | None:
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return None
    if name in ("gzip", "x-gzip", "deflate"):
        return _Unfolding(name != "deflate")
    raise Unreadable(f"is encoded as `{name[:40]}`, which was not asked for")


def data_of(headers: httpx.Headers, body: bytes) -> Any:
    """Parsed JSON, if it is said or looks to be JSON, and text otherwise."""
    kind = headers.get("content-type", "").lower()
    text = text_of(kind, body)
    if "json" not in kind.partition(";")[0] and text[:1] not in ("{", "["):
        return text
    try:
        data = json.loads(text, parse_constant=_no_constant)
        if _SURROGATE.search(text):
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return text
    return data


def text_of(content_type: str, body: bytes) -> str:
    """In the character set that the answer says, that its first bytes do, or UTF-8."""
    for mark, name in _BOMS:
        if body.startswith(mark):
            return body.decode(name, "replace")
    found = re.search(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", content_type)
    try:
        name = codecs.lookup(found[1]).name if found else "utf-8"
        return body.decode(name, "replace")
    except (LookupError, ValueError):  # unknown, or no encoding of text
        return body.decode("utf-8", "replace")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
