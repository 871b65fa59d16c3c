"""Template text → pieces of text and actions, and an action → tokens (language.md §11.1).

Offsets count characters from the start of the template, so that every token can be underlined.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from compozy_prefect.errors import TemplateError

SYNTAX = "CZ401"

Kind = Literal["field", "dot", "var", "ident", "string", "number", "op", "end"]


@dataclass(frozen=True, slots=True)
class Token:
    """`spaced` says whether white space stands before it: `.x[0]` and `f .x [0]` differ."""

    kind: Kind
    value: object
    start: int
    end: int
    spaced: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text (`tokens` is None), or one `{{ … }}`. `trimmed`: it had a trim marker."""

    text: str
    tokens: tuple[Token, ...] | None
    start: int
    end: int
    trimmed: bool = False


_FIELD = re.compile(r"\.(?:[0-9]+(?![0-9A-Za-z_])|[^\W\d]\w*(?:-+\w+)*)")
_VAR = re.compile(r"\$(?:[^\W\d]\w*)?")
_IDENT = re.compile(r"[^\W\d]\w*")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+"
    r"|(?:[0-9][0-9_]*)?\.[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?"
    r"|[0-9][0-9_]*\.?(?:[eE][+-]?[0-9]+)?)"
)
_OP = re.compile(r":=|==|!=|<=|>=|&&|\|\||[|<>()\[\],=!+\-?:{}%*/]")
_SPACE = re.compile(r"\s+")
_ESCAPE = re.compile(
    r"\\(?:(?P<x>x[0-9a-fA-F]{2})|(?P<u>u[0-9a-fA-F]{4})|(?P<U>U[0-9a-fA-F]{8})"
    r"|(?P<o>[0-7]{3})|(?P<c>[abfnrtv\\'\"`]))"
)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def split(template: str) -> list[Piece]:
    """The template as text pieces and actions in order; trim markers are already applied.

    Raises TemplateError (CZ401) at the place where the lexer stopped.
    """
    pieces: list[Piece] = []
    at = 0
    trim_left = False
    while True:
        open_ = template.find("{{", at)
        text = template[at:] if open_ < 0 else template[at:open_]
        start = at
        if trim_left:
            stripped = text.lstrip()
            start += len(text) - len(stripped)
            text = stripped
        if open_ < 0:
            if text:
                pieces.append(Piece(text, None, start, start + len(text)))
            return pieces
        inner = open_ + 2
        trims = template.startswith("-", inner) and template[inner + 1 : inner + 2].isspace()
        if trims:
            text = text.rstrip()
            inner += 1
        if text:
            pieces.append(Piece(text, None, start, start + len(text)))
        comment = _comment_end(template, open_, inner)
        if comment is not None:
            tokens: tuple[Token, ...] = ()
            close, trim_left = comment
        else:
            tokens, close, trim_left = _tokens(template, open_, inner)
        pieces.append(Piece("", tokens, open_, close, trims or trim_left))
        at = close


def tokens_of(expression: str) -> tuple[Token, ...]:
    """The tokens of a bare expression, without braces (conditions)."""
    out, _, _ = _tokens(expression, 0, 0, bare=True)
    return out


def _comment_end(template: str, open_: int, inner: int) -> tuple[int, bool] | None:
    """The end of a `{{/* … */}}` and whether it trims, or None when this is no comment."""
    body = len(template) - len(template[inner:].lstrip())
    if not template.startswith("/*", body):
        return None
    stop = template.find("*/", body + 2)
    close = re.compile(r"\*/\s*(?:(?<=\s)-)?\}\}").match(template, stop) if stop >= 0 else None
    if close is None:
        raise TemplateError(
            "the comment that began with `{{/*` is not closed",
            code=SYNTAX,
            template=template,
            start=open_,
            end=min(len(template), body + 2),
            hint="close it with `*/}}`",
        )
    return close.end(), close.group().endswith("-}}")


def _tokens(
    template: str, open_: int, at: int, *, bare: bool = False
) -> tuple[tuple[Token, ...], int, bool]:
    """Tokens up to the closing braces, the offset after them, and whether they trim."""
    out: list[Token] = []
    spaced = False
    size = len(template)
    while True:
        space = _SPACE.match(template, at)
        if space:
            at = space.end()
            spaced = True
        if at >= size:
            if bare:
                out.append(Token("end", None, size, size, spaced))
                return tuple(out), size, False
            raise TemplateError(
                f"the action that began with `{_head(template, open_)}` is not closed",
                code=SYNTAX,
                template=template,
                start=size,
                hint="close it with `}}`",
            )
        if not bare:
            if template.startswith("}}", at):
                out.append(Token("end", None, at, at + 2, spaced))
                return tuple(out), at + 2, False
            if spaced and template.startswith("-}}", at):
                out.append(Token("end", None, at, at + 3, spaced))
                return tuple(out), at + 3, True
        token = _token(template, at, spaced, out[-1] if out else None)
        out.append(token)
        at = token.end
        spaced = False


def _token(template: str, at: int, spaced: bool, before: Token | None) -> Token:
    char = template[at]
    if char in "\"'`":
        return _string(template, at, spaced)
    joined = before is not None and not spaced and _ends_operand(before)
    if char == ".":
        number = None if joined else _NUMBER.match(template, at)
        if number:
            return _number(template, number, spaced)
        found = _FIELD.match(template, at)
        if found:
            name = found.group()[1:]
            value: object = int(name) if name[0].isdigit() and name.isascii() else name
            return Token("field", value, at, found.end(), spaced)
        return Token("dot", None, at, at + 1, spaced)
    if char == "$":
        found = _VAR.match(template, at)
        assert found is not None
        return Token("var", found.group()[1:], at, found.end(), spaced)
    # A sign belongs to a number only where a value may begin: in `seq 3 -1 1`, not in `a-1`.
    signed = char in "+-" and not joined and template[at + 1 : at + 2].isdigit()
    if char.isdigit() or signed:
        number = _NUMBER.match(template, at)
        if number:
            return _number(template, number, spaced)
    found = _IDENT.match(template, at)
    if found:
        return Token("ident", found.group(), at, found.end(), spaced)
    found = _OP.match(template, at)
    if found:
        return Token("op", found.group(), at, found.end(), spaced)
    raise TemplateError(
        f"unexpected character {char!r}", code=SYNTAX, template=template, start=at, end=at + 1
    )


def _ends_operand(token: Token) -> bool:
    return token.kind in ("field", "dot", "var", "ident", "string", "number") or (
        token.kind == "op" and token.value in (")", "]")
    )


def _number(template: str, found: re.Match[str], spaced: bool) -> Token:
    text = found.group().replace("_", "")
    following = template[found.end() : found.end() + 1]
    try:
        if following.isalnum() or following == "_":
            raise ValueError
        value: int | float
        body = text.lstrip("+-").lower()
        if body[:2] in ("0x", "0b", "0o"):
            value = int(text, 0)
        elif set(body) & set(".e"):
            value = float(text)
        else:
            value = int(text)
    except ValueError:
        raise TemplateError(
            f"`{text}{following}` is not a number",
            code=SYNTAX,
            template=template,
            start=found.start(),
            end=found.end() + len(following),
        ) from None
    return Token("number", value, found.start(), found.end(), spaced)


def _string(template: str, at: int, spaced: bool) -> Token:
    quote = template[at]
    if quote == "`":
        stop = template.find("`", at + 1)
        if stop >= 0:
            return Token("string", template[at + 1 : stop], at, stop + 1, spaced)
        raise _unterminated(template, at)
    out: list[str] = []
    i = at + 1
    while i < len(template):
        char = template[i]
        if char == quote:
            return Token("string", "".join(out), at, i + 1, spaced)
        if char == "\n":
            break
        if char != "\\":
            out.append(char)
            i += 1
            continue
        escape = _ESCAPE.match(template, i)
        if escape is None:
            raise TemplateError(
                f"unknown escape `{template[i : i + 2]}` in the text",
                code=SYNTAX,
                template=template,
                start=i,
                end=min(i + 2, len(template)),
                hint="write `\\\\` for a backslash, or quote the text with backticks",
            )
        out.append(_unescaped(template, escape))
        i = escape.end()
    raise _unterminated(template, at)


def _unescaped(template: str, escape: re.Match[str]) -> str:
    char = escape["c"]
    if char is not None:
        return _SIMPLE.get(char, char)
    digits = escape["x"] or escape["u"] or escape["U"]
    point = int(digits[1:], 16) if digits else int(escape["o"], 8)
    if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
        raise TemplateError(
            f"`{escape.group()}` is no character",
            code=SYNTAX,
            template=template,
            start=escape.start(),
            end=escape.end(),
        )
    return chr(point)


def _unterminated(template: str, at: int) -> TemplateError:
    stop = template.find("\n", at)
    stop = len(template) if stop < 0 else stop
    return TemplateError(
        f"the text that began with `{_head(template, at)}` is not closed",
        code=SYNTAX,
        template=template,
        start=at,
        end=stop,
        hint=f"close it with {template[at]}",
    )


def _head(template: str, at: int) -> str:
    """The beginning of a construct, to name it in a message."""
    line = template[at : at + 24].split("\n")[0]
    return line + ("…" if at + len(line) < len(template) and len(line) == 24 else "")
