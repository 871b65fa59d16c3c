"""The text of a `.env` file → names and values.

One `KEY=VALUE` a line, `export` in front and comments allowed. In double quotes `\\n`, `\\t`,
`\\r`, `\\"`, `\\\\` and `\\$` are escapes; single quotes keep everything; both may span lines.
Nothing is interpolated: a `$` in a password is a `$`. The last of two equal names wins, as in a
shell. Messages never show a value: it may be a secret.
"""

from __future__ import annotations

import re

from compozy_prefect.diagnostics import Diagnostic, SourceText, warning
from compozy_prefect.language.nodes import File

_LINE = re.compile(r"[ \t]*(?P<content>[^\r\n]*)(?:\r\n|\n|\r|\Z)")
_KEY = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<key>[A-Za-z_][A-Za-z0-9_.\-]*)[ \t]*=[ \t]*")
_DOUBLE = re.compile(r'"(?P<value>(?:[^"\\]|\\.)*)"', re.S)
_SINGLE = re.compile(r"'(?P<value>[^']*)'")
_PLAIN = re.compile(r"(?P<value>[^\r\n]*)")
_REST = re.compile(r"[ \t]*(?:#[^\r\n]*)?(?:\r\n|\n|\r|\Z)")
_COMMENT = re.compile(r"(?:^|[ \t]+)#.*")
_ESCAPE = re.compile(r"\\(.)", re.S)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$", "\n": ""}


def read_env(source: SourceText) -> tuple[dict[str, str], list[Diagnostic]]:
    """The variables of the file; a line that cannot be read is a warning (CZ110), not an end."""
    text, file = source.text, File(source)
    values: dict[str, str] = {}
    found: list[Diagnostic] = []
    at = 0
    while at < len(text):
        line = _LINE.match(text, at)
        assert line is not None
        content = line["content"]
        if not content or content.startswith("#"):
            at = line.end()
            continue
        problem = None
        key = _KEY.match(text, at, line.end("content"))
        if key is None:
            problem = "this line is not KEY=VALUE"
        else:
            value, end, problem = _value(text, key.end())
            if value is not None:
                values[key["key"]] = value
                at = end
                continue
        start = line.start("content")
        found.append(warning("CZ110", problem or "", file.span(start, start + len(content)), _HINT))
        at = line.end()
    return values, found


_HINT = "the line is ignored; write KEY=VALUE, and quote a value that has quotes or a ` #`"


def _value(text: str, at: int) -> tuple[str | None, int, str | None]:
    """The value that starts at `at` and where the next line starts; or the problem."""
    quote = text[at : at + 1]
    if quote not in ("'", '"'):
        plain = _PLAIN.match(text, at)
        assert plain is not None
        rest = _REST.match(text, plain.end())
        assert rest is not None
        return _COMMENT.sub("", plain["value"]).rstrip(), rest.end(), None
    quoted = (_DOUBLE if quote == '"' else _SINGLE).match(text, at)
    if quoted is None:
        return None, at, "the quote that opens in this line is never closed"
    rest = _REST.match(text, quoted.end())
    if rest is None:
        return None, at, "text after the closing quote"
    value = quoted["value"]
    if quote == '"':
        value = _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[0]), value)
    return value, rest.end(), None
