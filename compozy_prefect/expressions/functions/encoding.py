"""Encodings and digests: base64, base32, HTML, JavaScript and URL escapes, checksums.

In: text. Out: text. Nothing is escaped unless a template asks for it (language.md §11.6).
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from urllib.parse import quote_plus

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
        elif c <= "\x7e" or c.isprintable():
            made.append(c)
        else:
            made.append(f"\\u{ord(c):04X}")
    return bounded("js", "".join(made))


def urlquery(*values: object) -> str:
    """Escaped for the query of a URL: a space becomes `+`."""
    return bounded("urlquery", quote_plus(octets(print_(*values)), safe="-_.~"))


def b64enc(value: object) -> str:
    raw = octets(text("b64enc", value))
    return bounded("b64enc", binascii.b2a_base64(raw, newline=False).decode())


def b64dec(value: object) -> str:
    """The decoded text, or as in Sprig a sentence about what is wrong with it."""
    source = text("b64dec", value).replace("\n", "").replace("\r", "")
    try:
        return from_octets(binascii.a2b_base64(octets(source), strict_mode=True))
    except binascii.Error:
        return _illegal("base64", source, 4, str.isalnum, "+/")


def b32enc(value: object) -> str:
    from base64 import b32encode

    return bounded("b32enc", b32encode(octets(text("b32enc", value))).decode())


def b32dec(value: object) -> str:
    """The decoded text, or as in Sprig a sentence about what is wrong with it."""
    from base64 import b32decode

    source = text("b32dec", value).replace("\n", "").replace("\r", "")
    try:
        return from_octets(b32decode(octets(source)))
    except binascii.Error:
        return _illegal("base32", source, 8, lambda c: "A" <= c <= "Z" or "2" <= c <= "7", "")


def _illegal(what: str, source: str, block: int, known: Callable[[str], bool], others: str) -> str:
    """Go's sentence: the offset of the first byte that cannot be."""
    body = source.rstrip("=")
    at = next(
        (n for n, c in enumerate(body) if not (c.isascii() and (known(c) or c in others))), None
    )
    if at is None:
        at = len(body) if len(body) < len(source) else len(source) - len(source) % block
    else:
        at = len(octets(source[:at]))
    return f"illegal {what} data at input byte {at}"


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
