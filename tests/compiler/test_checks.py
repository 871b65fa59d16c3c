"""Every case of tests/cases/checks: projects, and all that `compozy validate` says of them.

A case has a `name`, the project as `input` (the text of `compozy.yaml`) or as `files` (texts by
path), and `found`: the diagnostics in file order as lines
`CODE severity line:column-line:column message | hint`, with `path:` before the position in any
file but `compozy.yaml`. `files` may hold a `.env`.

`UPDATE_CASES=1 pytest tests/compiler/test_checks.py` writes what is found now into the files. Read
the difference before it is committed: is the position the offending text, and is the sentence
something that a user can act on?
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from compozy_prefect.compiler.compile import check
from compozy_prefect.diagnostics import Diagnostic

CASES = Path(__file__).parent.parent / "cases" / "checks"
UPDATE = os.environ.get("UPDATE_CASES") == "1"
FILES = sorted(path.name for path in CASES.glob("*.yaml"))


def _load(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = yaml.load((CASES / name).read_text("utf-8"), yaml.CSafeLoader)
    return cases


def _found(case: dict[str, Any], directory: Path) -> list[str]:
    files = case.get("files") or {"compozy.yaml": case["input"]}
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return _lines(check(directory).diagnostics)


def _expected(file: str, found: list[str]) -> list[str]:
    """Definitions that nothing uses are the subject of one file, and stand in many others."""
    return found if file == "unused.yaml" else [one for one in found if "CZ218" not in one]


def _lines(found: Iterable[Diagnostic]) -> list[str]:
    out = []
    for diagnostic in found:
        where = ""
        if (span := diagnostic.span) is not None:
            file = "" if span.file == "compozy.yaml" else f"{span.file}:"
            begin, end = f"{span.line}:{span.column}", f"{span.end_line}:{span.end_column}"
            where = f"{file}{begin}-{end} "
        hint = f" | {diagnostic.hint}" if diagnostic.hint else ""
        out.append(f"{diagnostic.code} {diagnostic.severity} {where}{diagnostic.message}{hint}")
    return out


@pytest.mark.parametrize(
    ("file", "case"),
    [pytest.param(name, case, id=case["name"]) for name in FILES for case in _load(name)],
)
def test_case(file: str, case: dict[str, Any], tmp_path: Path) -> None:
    found = _expected(file, _found(case, tmp_path))
    if UPDATE:
        _rewrite(file, case["name"], found)
    else:
        assert found == case["found"]


def test_names_are_unique() -> None:
    names = [case["name"] for name in FILES for case in _load(name)]
    assert sorted(names) == sorted(set(names))


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", value, style="|" if "\n" in value else None
    )


_Dumper.add_representer(str, _text)


def _rewrite(file: str, name: str, found: list[str]) -> None:
    path = CASES / file
    text = path.read_text("utf-8")
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("# "))
    cases = _load(file)
    for case in cases:
        if case["name"] == name:
            case["found"] = found
    out = yaml.dump(cases, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    path.write_text(head + out.replace("\n- name:", "\n\n- name:"), "utf-8")
