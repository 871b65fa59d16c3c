"""Template text → pieces of text and actions, and an action → tokens (language.md §11.1).

Offsets count characters from the start of the template, so that every token can be underlined.
"""

from __future__ import annotations

import re
from math import inf
from typing import Literal, NamedTuple

from compozy_prefect.errors import TemplateError

SYNTAX = "CZ401"
LIMIT = "CZ407"

MAX_TOKENS = 20_000  # in one template; text between the actions does not count

Kind = Literal["field", "dot", "var", "ident", "string", "number", "op", "end"]


class Token(NamedTuple):
    """`spaced` says whether white space stands before it: `.x[0]` and `f .x [0]` differ."""

    kind: Kind
    value: object
    start: int
    end: int
    spaced: bool


class Piece(NamedTuple):
    """A stretch of text (`tokens` is None), or one `{{ … }}`. `trimmed`: it had a trim marker."""

    text: str
    tokens: tuple[Token, ...] | None
    start: int
    end: int
    trimmed: bool = False


_FIELD = re.compile(r"\.(?:[0-9]+(?![0-9A-Za-z_])|[^\W\d]\w*(?:-+\w+)*)")
_VAR = re.compile(r"\$(?:[^\W\d]\w*)?")
_WORD = re.compile(r"\w+")
_IDENT = re.compile(r"[^\W\d]\w*")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+"
    r"|(?:[0-9][0-9_]*)?\.[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?"
    r"|[0-9][0-9_]*\.?(?:[eE][+-]?[0-9]+)?)"
)
_OP = re.compile(r":=|==|!=|<=|>=|&&|\|\||[|<>()\[\],=!+\-?:{}%*/]")
_SPACE = re.compile(r"\s+")
_COMMENT = re.compile(r"\s*/\*")
_COMMENT_CLOSE = re.compile(r"\*/(?:\s*|\s+(?P<trim>-))\}\}")
_TRIMMED = " \t\r\n"  # what a trim marker takes away; a no-break space stays, as in Go
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
    at = count = 0
    trim_left = False
    while True:
        open_ = template.find("{{", at)
        text = template[at:] if open_ < 0 else template[at:open_]
        start = at
        if trim_left:
            stripped = text.lstrip(_TRIMMED)
            start += len(text) - len(stripped)
            text = stripped
        if open_ < 0:
            if text:
                pieces.append(Piece(text, None, start, start + len(text)))
            return pieces
        inner = open_ + 2
        trims = template.startswith("-", inner) and template[inner + 1 : inner + 2].isspace()
        if trims:
            text = text.rstrip(_TRIMMED)
            inner += 1
        if text:
            pieces.append(Piece(text, None, start, start + len(text)))
        comment = _comment_end(template, open_, inner)
        if comment is not None:
            tokens: tuple[Token, ...] = ()
            close, trim_left = comment
        else:
            tokens, close, trim_left = _tokens(template, open_, inner, MAX_TOKENS - count)
        count += len(tokens) + 1
        if count > MAX_TOKENS:
            raise _too_long(template, open_, close)
        pieces.append(Piece("", tokens, open_, close, trims or trim_left))
        at = close


def tokens_of(expression: str) -> tuple[Token, ...]:
    """The tokens of a bare expression, without braces (conditions)."""
    out, _, _ = _tokens(expression, 0, 0, MAX_TOKENS, bare=True)
    return out


def _comment_end(template: str, open_: int, inner: int) -> tuple[int, bool] | None:
    """The end of a `{{/* … */}}` and whether it trims, or None when this is no comment."""
    opening = _COMMENT.match(template, inner)
    if opening is None:
        return None
    stop = template.find("*/", opening.end())
    close = _COMMENT_CLOSE.match(template, stop) if stop >= 0 else None
    if close is None:
        raise TemplateError(
            "the comment that began with `{{/*` is not closed",
            code=SYNTAX,
            template=template,
            start=open_,
            end=opening.end(),
            hint="close it with `*/}}`",
        )
    return close.end(), close["trim"] is not None


def _tokens(
    template: str, open_: int, at: int, most: int, *, bare: bool = False
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
        if len(out) >= most:
            raise _too_long(template, token.start, token.end)
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
            digits = name[0].isdigit()
            index = _NUMBER.match(template, at + 1, found.end()) if digits else None
            value = name if index is None else _number(template, index, spaced).value
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
    word = _WORD.match(template, found.end())
    end = found.end() if word is None else word.end()
    body = text.lstrip("+-").lower()
    value: int | float | None = None
    why = "is not a number"
    try:
        if end > found.end():
            pass
        elif body[:2] in ("0x", "0b", "0o"):
            value = int(text, 0)
        elif set(body) & set(".e"):
            value = float(text)
            if value in (inf, -inf):
                value, why = None, "is too large for a number"
        else:
            value = int(text)
    except ValueError:  # `0x_`, or more digits than Python reads
        pass
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        value, why = None, "does not fit into 64 bits"
    if value is None:
        raise TemplateError(
            f"`{_head(template[:end], found.start())}` {why}",
            code=SYNTAX,
            template=template,
            start=found.start(),
            end=end,
        )
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


def _too_long(template: str, start: int, end: int) -> TemplateError:
    message = f"the template has more than {MAX_TOKENS:,} words and signs"
    return TemplateError(message, code=LIMIT, template=template, start=start, end=end)


def _head(template: str, at: int) -> str:
    """The beginning of a construct, to name it in a message."""
    line = template[at : at + 24].split("\n")[0]
    return line + ("…" if at + len(line) < len(template) and len(line) == 24 else "")
