"""How things are printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from compozy_prefect.diagnostics import Diagnostic, SourceText, render


def colour(stream: TextIO) -> bool:
    """Colour is for terminals, and not for those who asked for none (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def print_diagnostics(diagnostics: Iterable[Diagnostic], sources: Mapping[str, SourceText]) -> None:
    """To stderr, with the counts in the last line."""
    found = list(diagnostics)
    if not found:
        return
    print(render(found, sources, colour=colour(sys.stderr)), file=sys.stderr)
    print(_summary(found), file=sys.stderr)


def _summary(found: list[Diagnostic]) -> str:
    errors = sum(d.severity == "error" for d in found)
    parts = []
    for count, word in ((errors, "error"), (len(found) - errors, "warning")):
        if count:
            parts.append(f"{count} {word}{'s' if count > 1 else ''}")
    first = next((d for d in found if d.severity == "error"), found[0])
    return f"{' and '.join(parts)}; `compozy explain {first.code}` says more"


def print_json(value: Any) -> None:
    """To stdout; text that is no UTF-8 is escaped rather than refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        print(text)
    except UnicodeEncodeError:
        print(json.dumps(value, indent=2))


def json_text(value: Any) -> str:
    """As a file holds it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_text(text: str, output: Path | None) -> None:
    """To a file, which is then named, or to stdout."""
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, "utf-8")
        note(f"wrote {output}")


def note(text: str) -> None:
    """A line to stderr, unless `--quiet`."""
    from compozy_prefect.cli.app import SETTINGS

    if not SETTINGS.quiet:
        print(text, file=sys.stderr, flush=True)
