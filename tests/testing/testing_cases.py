"""The text fixtures of tests/cases/testing: read, and with UPDATE_CASES=1 rewritten.

`matching.yaml` has pairs of what is expected and what was seen, with the differences as a user
reads them; `mistakes.yaml` has test files, with their diagnostics.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.language.language_cases import dump

CASES = Path(__file__).parent.parent / "cases" / "testing"
UPDATE = os.environ.get("UPDATE_CASES") == "1"


def load(name: str) -> list[Any]:
    """The cases of one file as pytest parameters."""
    cases = yaml.load((CASES / name).read_text("utf-8"), yaml.CSafeLoader)
    return [pytest.param(case, id=case["name"]) for case in cases]


def compare(name: str, case: dict[str, Any], key: str, seen: list[str]) -> None:
    """Holds the case to what came out, under `key`."""
    if not UPDATE:
        assert seen == case.get(key, [])
        return
    path = CASES / name
    text = path.read_text("utf-8")
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("# "))
    cases = yaml.load(text, yaml.CSafeLoader)
    for one in cases:
        if one["name"] == case["name"]:
            one.pop(key, None)
            if seen:
                one[key] = seen
    path.write_text(head + dump(cases), "utf-8")
