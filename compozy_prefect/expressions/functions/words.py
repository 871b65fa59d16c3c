"""Words of a text: snake, camel and kebab case, and wrapping of lines.

In: text. Out: text. Follows github.com/huandu/xstrings (case) and Masterminds/goutils (wrapping),
which Sprig uses, letter by letter.
"""

from __future__ import annotations

from unicodedata import category

from compozy_prefect.expressions.functions.contract import (
    MAX_TEXT,
    Function,
    from_octets,
    integer,
    octets,
    text,
    too_long,
)
from compozy_prefect.expressions.functions.strings import SPACE, lower_rune, upper_rune


def _connects(c: str) -> bool:
    return c in "-_" or c in SPACE


def camelcase(value: object) -> str:
    """`hello_world` to `HelloWorld`; connectors in front stay."""
    source = text("camelcase", value)
    body = source.lstrip("-_" + SPACE)
    if not body:
        return source
    made = [source[: len(source) - len(body)]]
    first_was_upper = body[0].isupper()
    last = upper_rune(body[0])
    for c in body[1:]:
        if _connects(c) and _connects(last):
            made.append(last)
            last = c
            continue
        if _connects(last):
            first_was_upper = c.isupper()
            c = upper_rune(c)
        else:
            if first_was_upper:
                if c.isupper():
                    c = lower_rune(c)
                else:
                    first_was_upper = False
            made.append(last)
        last = c
    return "".join([*made, last])


def snakecase(value: object) -> str:
    return _separated(text("snakecase", value), "_")


def kebabcase(value: object) -> str:
    return _separated(text("kebabcase", value), "-")


def _letter(c: str) -> bool:
    """A letter of an alphabet with cases, more or less: not a CJK ideograph."""
    if not c.isalpha():
        return False
    point = ord(c)
    return not (
        0x4E00 <= point <= 0x9FCC or 0x3400 <= point <= 0x4D85 or 0x20000 <= point <= 0x2B81D
    )


def _numeric(c: str) -> bool:
    return category(c)[0] == "N"


def _word(source: str, start: int) -> tuple[str, int]:
    """The kind of the word at `start` and where it ends."""
    if start >= len(source):
        return "none", start
    c = source[start]
    end = start + 1
    size = len(source)
    if _connects(c):
        while end < size and _connects(source[end]):
            end += 1
        return "connector", end
    if category(c)[0] == "P":
        while end < size and category(source[end])[0] == "P":
            end += 1
        return "punctuation", end
    if c.isupper():
        if end < size and source[end].isupper():
            while end < size and source[end].isupper():
                end += 1
            # In "HTTPStatus" the S belongs to the next word.
            if end < size and _letter(source[end]):
                end -= 1
        else:
            while end < size and _letter(source[end]) and not source[end].isupper():
                end += 1
        return "upper", end
    if _letter(c):
        while end < size and _letter(source[end]) and not source[end].isupper():
            end += 1
        return "letters", end
    if _numeric(c):
        while end < size and _numeric(source[end]):
            end += 1
        return "number", end
    while end < size:
        c = source[end]
        if _connects(c) or _letter(c) or _numeric(c) or category(c)[0] == "P":
            break
        end += 1
    return "other", end


def _separated(source: str, connector: str) -> str:
    made: list[str] = []

    def put(kind: str, word: str) -> None:
        if kind == "connector":
            made.append(connector * len(word))
        elif kind == "upper":
            made.append("".join(lower_rune(c) if c.isupper() else c for c in word))
        else:
            made.append(word)

    kind, end = _word(source, 0)
    word = source[:end]

    def advance() -> None:
        nonlocal kind, word, end
        start = end
        kind, end = _word(source, start)
        word = source[start:end]

    while end < len(source):
        if kind != "connector":
            put(kind, word)
        previous, last = kind, word
        advance()
        if previous == "number":
            while kind in ("letters", "number"):
                put(kind, word)
                advance()
            if kind not in ("none", "punctuation", "connector"):
                made.append(connector)
        elif previous == "connector":
            put(previous, last)
        elif previous != "punctuation":
            if kind != "number":
                if kind not in ("connector", "punctuation"):
                    made.append(connector)
            elif end < len(source):
                last = word
                advance()
                if kind != "letters":
                    # "Bld4Floor": the number belongs to the word before it.
                    put("number", last)
                    if kind not in ("connector", "punctuation"):
                        made.append(connector)
                else:
                    # "http2xx": small letters after a number, so it starts a word.
                    made.append(connector)
                    put("number", last)
                    while kind in ("letters", "number"):
                        put(kind, word)
                        advance()
                    if kind not in ("none", "connector", "punctuation"):
                        made.append(connector)
    put(kind, word)
    return "".join(made)


def wrap(width: object, value: object) -> str:
    """Lines of at most `width` bytes; longer words stay whole."""
    return _wrapped("wrap", text("wrap", value), integer("wrap", width), "\n", False)


def wrap_with(width: object, separator: object, value: object) -> str:
    """Like `wrap` with another line end; longer words are cut."""
    line_end = text("wrapWith", separator) or "\n"
    return _wrapped("wrapWith", text("wrapWith", value), integer("wrapWith", width), line_end, True)


def _wrapped(where: str, value: str, width: int, line_end: str, cut: bool) -> str:
    source, width, separator = octets(value), max(width, 1), octets(line_end)
    made: list[bytes] = []
    size = offset = 0
    while len(source) - offset > width:
        if source[offset] == 32:
            offset += 1
            continue
        space = source.rfind(b" ", offset, offset + width + 1)
        if space >= offset:
            line, offset = source[offset:space], space + 1
        elif cut:
            line, offset = source[offset : offset + width], offset + width
        else:
            space = source.find(b" ", offset + width)
            if space < 0:
                made.append(source[offset:])
                offset = len(source)
                break
            line, offset = source[offset:space], space + 1
        made += (line, separator)
        size += len(line) + len(separator)
        if size > MAX_TEXT:
            raise too_long(where)
    made.append(source[offset:])
    return from_octets(b"".join(made))


WORDS: tuple[Function, ...] = (
    Function("camelcase", camelcase, 1, 1),
    Function("snakecase", snakecase, 1, 1),
    Function("kebabcase", kebabcase, 1, 1),
    Function("wrap", wrap, 2, 2),
    Function("wrapWith", wrap_with, 3, 3),
)
