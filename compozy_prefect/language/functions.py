"""`module:function` of tools in Python, and the allow-list of a project."""

from __future__ import annotations

import re
from collections.abc import Sequence

from compozy_prefect.language.names import suggest

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
FUNCTION = re.compile(rf"{_NAME}:{_NAME}")
ENTRY = re.compile(rf"{_NAME}:(?:{_NAME}|\*)")


def is_allowed(function: str, allowlist: Sequence[str]) -> bool:
    return function in allowlist or f"{function.partition(':')[0]}:*" in allowlist


def refusal(function: str, allowlist: Sequence[str]) -> str:
    hint = suggest(function, allowlist, what="they are", limit=20)
    allowed = f"; {hint}" if hint else ""
    return (
        f"`{function}` is not one of the functions that the project allows{allowed}; "
        f'to allow it: `runtime: {{python: {{allowlist: ["{function}"]}}}}`'
    )
