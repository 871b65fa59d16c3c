"""A YAML or JSON file beside a project (mocks, inputs, contexts) → plain data."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from compozy_prefect.diagnostics import has_errors, render
from compozy_prefect.errors import UsageError
from compozy_prefect.language.source import parse


def read_data(path: Path) -> Any:
    """The data of the file, or of stdin for `-`, read as the YAML of a project is.

    Raises UsageError, which shows the place, when it cannot be read or is no YAML.
    """
    name = "stdin" if os.fspath(path) == "-" else os.fspath(path)
    try:
        raw = sys.stdin.buffer.read() if name == "stdin" else path.read_bytes()
    except OSError as fault:
        raise UsageError(f"{name} cannot be read: {fault.strerror or fault}") from None
    node, found, source = parse(raw, name, any_root=True)
    if has_errors(found):
        shown = render(found, {source.name: source})
        raise UsageError(f"{name} cannot be read:\n{shown.rstrip()}")
    return None if node is None else node.data()
