"""Encodings and digests: base64, base32, HTML, JavaScript and URL escapes, checksums.

In: text. Out: text. Nothing is escaped unless a template asks for it (language.md §11.6).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable

from compozy_prefect.expressions.functions.contract import (
    Function,
    aliases,
    bounded,
    from_octets,
    octets,
    text,
)
from compozy_prefect.expressions.functions.gofmt import print_

_HTML = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;", "\0": "\ufffd"}
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/\r\n]*")
_BASE32 = re.compile(rb"[A-Z2-7]*")
_JS = {
    **{chr(code): f"\\u{code:04X}" for code in range(32)},
    "\\": "\\\\",
    "'": "\\'",
    '"': '\\"',
    "<": "\\u003C",
    ">": "\\u003E",
    "&": "\\u0026",
    "=": "\\u003D",
}


def html(*values: object) -> str:
    """`& < > " '` as HTML entities; several values are printed as by `print`."""
    return bounded("html", print_(*values).translate(_HTML))


def js(*values: object) -> str:
    """Escaped for a string of JavaScript."""
    made: list[str] = []
    for c in print_(*values):
        if c in _JS:
            made.append(_JS[c])
        elif c <= "\x7f" or c.isprintable():
            made.append(c)
        else:
            made.append(f"\\u{ord(c):04X}")
    return bounded("js", "".join(made))


def urlquery(*values: object) -> str:
    """Escaped for the query of a URL: a space becomes `+`."""
    from urllib.parse import quote_plus

    return bounded("urlquery", quote_plus(octets(print_(*values)), safe="-_.~"))


def b64enc(value: object) -> str:
    raw = octets(text("b64enc", value))
    return bounded("b64enc", binascii.b2a_base64(raw, newline=False).decode())


def b64dec(value: object) -> str:
    """The decoded text, or as in Sprig a sentence about what is wrong with it."""
    raw = octets(text("b64dec", value))
    wrong = _wrong_base64(raw)
    if wrong is not None:
        return f"illegal base64 data at input byte {wrong}"
    return from_octets(binascii.a2b_base64(raw))


def _wrong_base64(raw: bytes) -> int | None:
    """Where Go's decoder stops, or None if all is well. Line ends are skipped."""
    body = _BASE64.match(raw)
    assert body is not None
    at = body.end()
    digits = len(body[0]) - body[0].count(b"\n") - body[0].count(b"\r")
    missing = -digits % 4
    if at == len(raw):
        return at - digits % 4 if missing else None
    if raw[at : at + 1] != b"=" or missing in (0, 3):
        return at
    at += 1
    if missing == 2:
        at = _past_line_ends(raw, at)
        if at == len(raw):
            return at
        if raw[at : at + 1] != b"=":
            return at - 1
        at += 1
    at = _past_line_ends(raw, at)
    return None if at == len(raw) else at


def _past_line_ends(raw: bytes, at: int) -> int:
    while raw[at : at + 1] in (b"\n", b"\r"):
        at += 1
    return at


def b32enc(value: object) -> str:
    from base64 import b32encode

    return bounded("b32enc", b32encode(octets(text("b32enc", value))).decode())


def b32dec(value: object) -> str:
    """The decoded text, or as in Sprig a sentence about what is wrong with it."""
    from base64 import b32decode

    raw = octets(text("b32dec", value).replace("\n", "").replace("\r", ""))
    wrong = _wrong_base32(raw)
    if wrong is not None:
        return f"illegal base32 data at input byte {wrong}"
    return from_octets(b32decode(raw))


def _wrong_base32(raw: bytes) -> int | None:
    """Where Go's decoder stops, or None if all is well."""
    body = _BASE32.match(raw)
    assert body is not None
    at, size = body.end(), len(raw)
    digits = at % 8
    if at == size:
        return at - digits if digits else None
    if raw[at : at + 1] != b"=" or digits < 2 or size - at > 8:
        return at
    if size - at + digits < 8:
        return size
    padding = raw[at : at - digits + 8]
    if padding.strip(b"="):
        return at + len(padding) - len(padding.lstrip(b"=")) - 1
    return at if digits in (3, 6) else None


def _digest(name: str) -> Callable[[object], str]:
    def digest(value: object) -> str:
        import hashlib

        return hashlib.new(
            name, octets(text(f"{name}sum", value)), usedforsecurity=False
        ).hexdigest()

    return digest


def adler32sum(value: object) -> str:
    import zlib

    return str(zlib.adler32(octets(text("adler32sum", value))))


ENCODING: tuple[Function, ...] = (
    Function("html", html, 0, None),
    *aliases(Function("htmlEscape", html, 1, 1), "htmlAttrEscape"),
    Function("js", js, 0, None),
    Function("jsEscape", js, 1, 1),
    Function("urlquery", urlquery, 0, None),
    Function("b64enc", b64enc, 1, 1),
    Function("b64dec", b64dec, 1, 1),
    Function("b32enc", b32enc, 1, 1),
    Function("b32dec", b32dec, 1, 1),
    Function("sha1sum", _digest("sha1"), 1, 1),
    Function("sha256sum", _digest("sha256"), 1, 1),
    Function("sha512sum", _digest("sha512"), 1, 1),
    Function("adler32sum", adler32sum, 1, 1),
)
