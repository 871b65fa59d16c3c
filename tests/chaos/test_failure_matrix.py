"""docs/failure-matrix.md has a row for each named place, and names only tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from compozy_prefect.faults import POINTS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "failure-matrix.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and "Proven by" not in line
]


def test_every_place_has_a_row() -> None:
    assert {row[0].strip("`") for row in ROWS if row[0].startswith("`")} == set(POINTS)


def test_every_row_names_a_test_that_exists() -> None:
    for row in ROWS:
        match = re.fullmatch(r"`(tests/[\w/]+\.py)::(\w+)`", row[-1])
        assert match is not None, row
        module = ast.parse((ROOT / match[1]).read_text("utf-8"))
        defined = {
            node.name
            for node in ast.walk(module)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        assert match[2] in defined, row


def test_the_readme_leads_to_it() -> None:
    assert "docs/failure-matrix.md" in (ROOT / "README.md").read_text("utf-8")
