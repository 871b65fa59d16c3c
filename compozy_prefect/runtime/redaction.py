"""Text with secrets → text without them (service.md §12.3).

Two nets: `redact` knows what secrets look like, `Redactor` knows the secrets of this run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse
from compozy_prefect.language.texts import texts

MARK = "[REDACTED]"
_SHORTEST = 6  # a shorter "secret" would blot out words that only look like it

# Nothing before the word and a bound after it: a name is looked for at every place of the text, and
# the time has to stay linear.
_NAMES = (
    r"(?:(?:api|access|private|signing|encryption)[_-]?key|secret|passw(?:or)?d|passphrase|pwd"
    r"|credentials?|authorization)[\w-]{0,40}|token"
)
_VALUE = r"""(?:"[^"\n]*"|'[^'\n]*'|[^\s"',;&}\])]+)"""
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), to)
    for pattern, to in (
        (r"\beyJ[\w-]{5,2000}\.[\w-]{5,4000}\.[\w-]*", MARK),  # JWT
        (r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", MARK),  # AWS key id
        (r"\b(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{20,})", MARK),
        (r"\bxox[abeoprs]-[\w-]{8,}", MARK),  # Slack
        (
            r"\b([a-zA-Z][\w+.-]{0,30}://)[^\s/:@]{0,200}:[^\s/@]{1,500}@",
            rf"\1{MARK}@",
        ),  # connection URL
        (
            r"(?i)((?:DSN|DATABASE_URL|CONNECTION_STRING|CONN_STR))(\s*=\s*)(?!\[REDACTED\])"
            + _VALUE,
            rf"\1\2{MARK}",
        ),
        (r"(?i)\b(Bearer|Basic)(\s+)[\w.~+/=-]{6,}", rf"\1\2{MARK}"),
        (
            rf"(?i)({_NAMES})([\"']?\s*[:=]\s*)(?!(?:Bearer|Basic)\s)(?!\[REDACTED\]){_VALUE}",
            rf"\1\2{MARK}",
        ),
        # The word alone says little; what follows must look like a secret.
        (r"(?i)\b(key)([\"']?\s*[:=]\s*[\"']?)(?=[\w./+=-]{0,60}\d)[\w./+=-]{12,}", rf"\1\2{MARK}"),
        (r"(?i)\b(?:sk|pk|rk)-[\w*-]{13,}", MARK),
        (r"(?i)\b(?:api_|key-)[\w-]{12,}", MARK),
        (r"\b(?:AIza[\w-]{20,}|gsk_\w{16,}|xai-[\w-]{16,})", MARK),
        (r"\b[\w.%+-]{1,64}@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b", MARK),  # e-mail
    )
)


def redact(text: str, limit: int | None = None) -> str:
    """`text` without what looks like a secret, in the order of service.md §12.3.

    `limit` cuts the result, which then ends in an ellipsis, to so many characters.
    """
    for pattern, to in _PATTERNS:
        text = pattern.sub(to, text)
    if limit is not None and len(text) > limit:
        text = text[: max(limit - 1, 0)] + "…"
    return text


def variables(value: Json) -> Iterator[str]:
    """The names of the environment that the templates of a value read."""
    for _, text in texts(value):
        with suppress(TemplateError):
            for read in parse(text).reads:
                if read.segments[0] == "env" and len(read.segments) > 1:
                    yield str(read.segments[1])


class Redactor:
    """Removes given values from text and JSON, wherever they stand and however they are quoted.

    Values shorter than six characters are ignored.
    """

    __slots__ = ("_pattern", "secrets")

    def __init__(self, secrets: Iterable[str | None]) -> None:
        stripped = dict.fromkeys((secret or "").strip() for secret in secrets)
        self.secrets = tuple(value for value in stripped if len(value) >= _SHORTEST)
        forms: set[str] = set()
        for value in self.secrets:
            forms |= {value, quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1]}
        # The longest first, so that a key which begins with another key goes as a whole.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __repr__(self) -> str:
        return "Redactor(…)"

    def text(self, text: str) -> str:
        """`text` with each secret replaced by a mark."""
        return self._pattern.sub(MARK, text) if self._pattern else text

    def json(self, value: Json) -> Json:
        """A copy of `value` without the secrets, in keys too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            clean: dict[str, Any] = {}
            for key, item in value.items():
                clean[self.text(key) if isinstance(key, str) else key] = self.json(item)
            return clean
        if isinstance(value, (list, tuple)):
            return [self.json(item) for item in value]
        return value
