"""Flags that give settings of the project, such as `--llm-provider-timeout 2m` (service.md §5.3).

They stand anywhere on the command line of any command, and are taken off before it is parsed.
"""

from __future__ import annotations

from collections.abc import Sequence

from compozy_prefect.errors import UsageError
from compozy_prefect.language.config import FLAGS, declaration
from compozy_prefect.language.typed import read_text


def take(tokens: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The settings by key, and the other tokens. Raises UsageError for a value that cannot be."""
    given: dict[str, str] = {}
    rest: list[str] = []
    waiting = list(tokens)
    while waiting:
        token = waiting.pop(0)
        if token == "--":  # noqa: S105 - what follows are no flags
            return given, [*rest, token, *waiting]
        flag, equals, value = token.partition("=")
        if flag not in FLAGS:
            rest.append(token)
            continue
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise UsageError(f"{flag} needs a value")
            value = waiting.pop(0)
        key = FLAGS[flag]
        wrong = [
            one for one in read_text(declaration(key), value, key)[1] if one.severity == "error"
        ]
        if wrong:
            hint = f"; {wrong[0].hint}" if wrong[0].hint else ""
            raise UsageError(f"{flag}: {wrong[0].message}{hint}")
        given[key] = value
    return given, rest
