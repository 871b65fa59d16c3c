"""The bytes of a file → its characters, and which of them YAML does not admit."""

from __future__ import annotations

import re

# What YAML 1.2 calls printable, without the byte order mark inside a text.
_NOT_YAML = (
    "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\ud800-\\udfff\\ufeff\\ufffe\\uffff]"
)
_PRINTABLE = bytes([9, 10, 13, *range(0x20, 0x7F)])


def bad_place(text: str) -> int | None:
    """Where the first character stands that YAML does not admit."""
    if text.isascii() and not text.encode("ascii").translate(None, _PRINTABLE):
        return None
    bad = re.search(_NOT_YAML, text)  # compiled here: few files need it, and it takes 1 ms
    return bad.start() if bad else None


def decode(raw: bytes) -> tuple[str, str | None, int]:
    """UTF-8, or UTF-16 with a byte order mark; otherwise a legible text, the problem, its place."""
    encoding = "utf-8"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    try:
        return raw.decode(encoding), None, 0
    except UnicodeDecodeError as failure:
        good = raw[: failure.start].decode(encoding, "replace").removeprefix("\ufeff")
        legible = raw.decode(encoding, "replace").removeprefix("\ufeff")
        problem = f"the byte 0x{raw[failure.start]:02x} is not {encoding.upper()}: save the file as"
        return legible, f"{problem} UTF-8", len(good)


def bad_character(char: str) -> str:
    if char == "\0":
        return "a NUL character: the file is binary, or UTF-16 without a byte order mark"
    if "\ud800" <= char <= "\udfff":
        return f"half of a surrogate pair, U+{ord(char):04X}"
    return f"the control character U+{ord(char):04X} cannot stand in YAML"


def hide_breaks(text: str) -> tuple[str, dict[int, str] | None]:
    """`text` with NEL, LS and PS replaced, and the table that brings them back.

    They end a line in YAML 1.1, which the C parser reads, and are ordinary characters in 1.2.
    """
    if text.isascii() or not any(c in text for c in "\x85\u2028\u2029"):
        return text, None
    free = (chr(c) for c in range(0xE000, 0xF900) if chr(c) not in text)
    hide = {ord(c): next(free, " ") for c in "\x85\u2028\u2029"}
    return text.translate(hide), {ord(v): chr(k) for k, v in hide.items() if v != " "}
