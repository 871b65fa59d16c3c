"""The inline tools of the brief, with stubs for the packages that they import (§6.4)."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from compozy_prefect.compiler.plan import Json, RuntimePlan, ToolPlan
from compozy_prefect.runtime.js.call import call
from compozy_prefect.runtime.tools.surroundings import Surroundings

BRIEF = Path(__file__).parents[3] / "shared" / "spec" / "compozy-readme.md"
pytestmark = pytest.mark.skipif(not BRIEF.is_file(), reason="the brief is not here")

STUBS = {
    "prettier": "export const format = (code) => code.trim()",
    "notification-service": "export const send = () => ({ id: 1, status: 's', deliveryTime: 2 })",
    "pg": """export class Client {
      connect() {}
      query(q) { return { rows: [{ q }], rowCount: 1, fields: [{ name: "q" }] } }
      end() {}
    }""",
    "report-generator": "export const create = () => ({ id: 1, size: 2, downloadUrl: 'u' })",
}
SORTED = {"type": "sort", "config": {"field": "a"}}
FILTERED = {"type": "filter", "config": {"condition": "a > 1"}}
# By the name of the function: its input, and a part of what it gives.
CALLS: dict[str, tuple[dict[str, Json], dict[str, Json]]] = {
    "format": ({"code": " x ", "language": "typescript"}, {"formatted_code": "x"}),
    "sendNotification": ({"type": "email", "message": "m"}, {"notification_id": 1}),
    "connectAndQuery": ({"query": "q", "credentials": {}}, {"data": [{"q": "q"}], "rowCount": 1}),
    "transform": (
        {"data": [{"a": 3}, {"a": 1}, {"a": 2}], "transformations": [FILTERED, SORTED]},
        {"transformed_data": [{"a": 2}, {"a": 3}], "final_count": 2},
    ),
    "generateReport": ({"data": [], "format": "pdf"}, {"report_id": 1, "format": "pdf"}),
}


def tools() -> dict[str, str]:
    found = re.findall(r"    execute: \|\n((?:      .*\n|\s*\n)+)", BRIEF.read_text("utf-8"))
    codes = [textwrap.dedent(code) for code in found]
    return {code.partition("function ")[2].partition("(")[0]: code for code in codes}


def test_all_of_them_are_here() -> None:
    assert tools().keys() == CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
async def test_it_runs(name: str, tmp_path: Path) -> None:
    for package, code in STUBS.items():
        folder = tmp_path / "node_modules" / package
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(f'{{"name": "{package}", "type": "module"}}')
        (folder / "index.js").write_text(code)
    tool = ToolPlan(name, type="javascript", execute=tools()[name], timeout=20)
    given, wanted = CALLS[name]
    result = await call(tool, given, {}, Surroundings(RuntimePlan(), tmp_path))
    assert result.items() >= wanted.items()
