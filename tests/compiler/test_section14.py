"""All that language.md §14 calls invalid, clause by clause: tests/cases/section14.

A case names its `row` and the `clause`, holds a project with this one fault (`input`, `files`,
`padding` characters of a comment) and has `found`: the code, the severity and the place of it.
`UPDATE_CASES=1` writes what is found now; several codes in a line would say that one mistake is
reported as more.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from compozy_prefect.compiler.compile import check
from compozy_prefect.diagnostics import has_errors

CASES = Path(__file__).parent.parent / "cases" / "section14" / "invalid.yaml"
UPDATE = os.environ.get("UPDATE_CASES") == "1"
# Rows of which all is only known when a workflow runs.
AT_RUN = {15, 39}
# Said of whole projects: what nothing refers to, and what this version does not act on.
BESIDE = {"CZ218", "CZ308", "CZ315"}
# Rows that say themselves that a project runs all the same, and clauses that do.
STRICT_ONLY = {43}
WARNINGS = {
    (11, "unknown word of !merge"),
    (28, "tool that the entrypoint does not export"),
    (30, "url and command"),
    (27, "temperature out of range"),
    (27, "top_p out of range"),
    (41, "key in the organization of a model"),
}


def _load() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = yaml.load(CASES.read_text("utf-8"), yaml.CSafeLoader)
    return cases


def _found(case: dict[str, Any], directory: Path) -> tuple[str, bool, bool]:
    """The findings in a line; whether the project is refused, and whether under `--strict`."""
    text = case["input"] + "#" * case.get("padding", 0)
    for name, content in {"compozy.yaml": text, **case.get("files", {})}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
    listed = check(directory, strict=case.get("strict", False)).diagnostics
    kept = [one for one in listed if one.code not in BESIDE] or listed
    lines = []
    for one in kept:
        at = f" {one.span.file}:{one.span.line}:{one.span.column}" if one.span else ""
        lines.append(f"{one.code} {one.severity}{at}")
    return ", ".join(lines), has_errors(kept), has_errors(kept, strict=True)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case['row']}: {case['clause']}") for case in _load()]
)
def test_it_is_reported(case: dict[str, Any], tmp_path: Path) -> None:
    found, refused, refused_strictly = _found(case, tmp_path)
    if UPDATE:
        text = CASES.read_text("utf-8")
        at = text.index(f"- row: {case['row']}\n  clause: {_scalar(case['clause'])}\n")
        start = text.index("\n  found:", at) + 1
        end = text.index("\n", start)
        CASES.write_text(f"{text[:start]}  found: {found or chr(39) * 2}{text[end:]}", "utf-8")
        return
    assert found
    assert found == case["found"]
    if case["row"] in STRICT_ONLY or (case["row"], case["clause"]) in WARNINGS:
        assert not refused
        assert refused_strictly
    else:
        assert refused


def _scalar(text: str) -> str:
    return (
        str(yaml.safe_dump(text, width=10_000, allow_unicode=True)).removesuffix("\n...\n").strip()
    )


def test_every_row_of_the_table_is_here() -> None:
    assert {case["row"] for case in _load()} | AT_RUN == set(range(1, 44))


def test_every_clause_has_a_name_of_its_own() -> None:
    names = [(case["row"], case["clause"]) for case in _load()]
    assert sorted(set(names)) == sorted(names)
