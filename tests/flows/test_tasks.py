"""Every task type, strategy and view, run on a real Prefect server from text fixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.flows.run import RunResult, run_sync
from compozy_prefect.language.data import read_data
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.services import Services
from tests.support.prefect_server import Api

CASES = Path(__file__).parents[1] / "cases" / "runs"


def _cases() -> list[Any]:
    out = []
    for file in sorted(CASES.glob("*.yaml")):
        for case in read_data(file):
            out.append(pytest.param(case, id=f"{file.stem}: {case['name']}"))
    return out


def ended(case: dict[str, Any], folder: Path) -> RunResult:
    for name, text in (case.get("files") or {"compozy.yaml": case["project"]}).items():
        (folder / name).write_text(text, "utf-8")
    project = compile_project(folder)
    services = Services.create(
        offline=True, mocks=Mocks.from_mapping(case.get("mocks", {})), env={}, root=folder
    )
    workflow = case.get("workflow") or project.only_workflow()
    return run_sync(project.plan, workflow, case.get("input", {}), services=services)


@pytest.mark.parametrize("case", _cases())
def test_case(case: dict[str, Any], tmp_path: Path, prefect_server: Api) -> None:
    check(case, ended(case, tmp_path))


def check(case: dict[str, Any], result: RunResult) -> None:
    said = result.error and result.error.message
    assert result.status == case.get("status", "SUCCESS"), said
    if case.get("output") is not None:
        assert result.output == case["output"]
    if "error" in case:
        assert str(said).startswith(case["error"])
    for key, status in case.get("tasks", {}).items():
        assert result.tasks[key].status == status, key
