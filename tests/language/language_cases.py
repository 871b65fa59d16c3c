"""The text fixtures of tests/cases/language: read, compared, and with UPDATE_CASES=1 rewritten.

A case has a `name`, a `source` (the text of the file `f.yaml`), in references also a `project`
(`compozy.yaml`) and `registry` (texts by `type/id`), and what is expected: `found`, the
diagnostics as lines `CODE line:column-line:column message | hint`, and `data`, the values.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from compozy_prefect.diagnostics import Diagnostic, in_file_order

CASES = Path(__file__).parent.parent / "cases" / "language"
UPDATE = os.environ.get("UPDATE_CASES") == "1"


def load(name: str) -> list[Any]:
    """The cases of one file as pytest parameters."""
    cases = yaml.load((CASES / name).read_text(), Loader=yaml.CSafeLoader)
    return [pytest.param(name, case, id=case["name"]) for case in cases]


def lines(found: Iterable[Diagnostic]) -> list[str]:
    out = []
    for d in in_file_order(found):
        mark = "" if d.severity == "error" else "warning "
        where = ""
        if d.span is not None:
            s = d.span
            file = "" if s.file == "f.yaml" else f"{s.file}:"
            where = f"{file}{s.line}:{s.column}-{s.end_line}:{s.end_column} "
        hint = f" | {d.hint}" if d.hint else ""
        out.append(f"{mark}{d.code} {where}{d.message}{hint}")
    return out


def compare(file: str, case: dict[str, Any], found: Iterable[Diagnostic], data: Any) -> None:
    """Holds the case to what came out; `data` counts where the case has it or nothing is found."""
    seen = lines(found)
    if UPDATE:
        _rewrite(file, case["name"], seen, data)
        return
    assert seen == case.get("found", [])
    if "data" in case:
        assert data == case["data"]
        assert repr(data) == repr(case["data"])  # True is not 1, and 1 is not 1.0
    else:
        assert seen, "a case expects data or diagnostics"


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    if any(c in value for c in "\t\r\x85\u2028") or value.endswith("\n\n"):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _rewrite(file: str, name: str, found: list[str], data: Any) -> None:
    path = CASES / file
    text = path.read_text()
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("# "))
    cases = yaml.load(text, Loader=yaml.CSafeLoader)
    for case in cases:
        if case["name"] == name:
            case.pop("found", None)
            if found:
                case["found"] = found
            if "data" in case or not found:
                case["data"] = _plain(data)
    path.write_text(head + dump(cases))


def dump(cases: list[Any]) -> str:
    text = yaml.dump(cases, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return text.replace("\n- name:", "\n\n- name:").removesuffix("...\n")


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {k: _plain(v) for k, v in data.items()}
    return [_plain(v) for v in data] if isinstance(data, list) else data
