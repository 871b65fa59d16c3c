"""Plans: golden files, the same bytes everywhere, and what their identity depends on.

`tests/cases/plans/NAME.json` is the plan of the project `tests/cases/plans/NAME`, or of
`examples/NAME`, as `compozy plan` prints it but for the indentation. `UPDATE_CASES=1 pytest
tests/compiler/test_plan.py` writes them anew; read the difference before it is committed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.plan import Plan, loads

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases" / "plans"
UPDATE = os.environ.get("UPDATE_CASES") == "1"
PROJECTS = {
    "hello-world": ROOT / "examples" / "hello-world",
    "everything": CASES / "everything",
    "two-workflows": CASES / "two-workflows",
}
KEYS = ("sk-live-1234567890", "sk-ant-own-key", "sk-live-other")  # of tests/cases/plans


@pytest.fixture(params=PROJECTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def plan(name: str) -> Plan:
    return compile_project(PROJECTS[name]).plan


def test_golden(name: str, plan: Plan) -> None:
    path = CASES / f"{name}.json"
    text = json.dumps(json.loads(plan.dumps()), indent=2, sort_keys=True, ensure_ascii=False)
    if UPDATE:
        path.write_text(text + "\n", "utf-8")
    assert text + "\n" == path.read_text("utf-8")


def _printed(project: Path | str, *, cwd: Path = ROOT, seed: str = "random") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "compozy_prefect", "plan", str(project)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("seed", ["0", "1", "2", "random"])
def test_the_order_of_hashes_does_not_show(seed: str) -> None:
    plan = compile_project(PROJECTS["everything"]).plan
    assert _printed(PROJECTS["everything"], seed=seed) == plan.dumps()


def test_the_place_does_not_show(name: str, plan: Plan, tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere" / "another name"
    shutil.copytree(PROJECTS[name], copied)
    for text in (_printed(copied), _printed(".", cwd=copied), _printed("compozy.yaml", cwd=copied)):
        assert text == plan.dumps()
    for part in (str(tmp_path), str(ROOT), "elsewhere", "another name"):
        assert part not in plan.dumps()


def test_canonical(plan: Plan) -> None:
    text = plan.dumps()
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    data = json.loads(text)
    again = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text == again + "\n"
    assert data["hash"] == plan.hash


def test_round_trip(plan: Plan) -> None:
    again = loads(plan.dumps())
    assert again == plan
    assert again.hash == plan.hash
    assert again.dumps() == plan.dumps()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"timeout":30.0', '"timeout":31.0'),
        ('"hash":"', '"hash":"0'),
        ('"format":1,', ""),
        ('"start":"prepare"', '"start":"notify"'),
    ],
)
def test_a_changed_plan_is_refused(old: str, new: str) -> None:
    text = compile_project(PROJECTS["everything"]).plan.dumps()
    if old not in text:  # a field at its default is not written
        assert old == '"format":1,'
        return
    with pytest.raises(ValueError, match="changed after it was written"):
        loads(text.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"project": 1}', '{"format": 2}', "x"])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - also those of json
        loads(text)


def _hash(tmp_path: Path, old: str = "", new: str = "") -> str:
    directory = tmp_path / str(len(list(tmp_path.iterdir())))
    shutil.copytree(PROJECTS["hello-world"], directory)
    file = directory / "compozy.yaml"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1) if old else new + text, "utf-8")
    return compile_project(directory).plan.hash


def test_the_hash_is_of_what_runs(tmp_path: Path) -> None:
    before = _hash(tmp_path)
    assert _hash(tmp_path, "", "# a comment\n\n") == before
    assert _hash(tmp_path, "    type: basic\n", "") == before
    assert _hash(tmp_path, "Be warm", "Be brief") != before
    assert _hash(tmp_path, "default: World", "default: Moon") != before
    assert _hash(tmp_path, "temperature: 0.7", "temperature: 0.8") != before


def test_keys_do_not_enter_the_plan(name: str) -> None:
    compiled = compile_project(PROJECTS[name])
    for key in KEYS:
        assert key not in compiled.plan.dumps()
        assert key not in repr(compiled)


def test_keys_are_found_beside_the_plan() -> None:
    compiled = compile_project(PROJECTS["everything"])
    assert set(KEYS) == set(compiled.lowered.secrets.values())
    models = [agent.model for agent in compiled.plan.workflows["everything"].agents.values()]
    for model in models:
        if model.api_key:
            variable = model.api_key.removeprefix("{{ .env.").removesuffix(" }}")
            assert variable in compiled.env


def test_frozen(plan: Plan) -> None:
    workflow = next(iter(plan.workflows.values()))
    for value, attribute in ((plan, "project"), (workflow, "steps"), (workflow.steps[0], "id")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, attribute, None)


def test_every_span_points_into_the_plan_and_the_files(name: str, plan: Plan) -> None:
    data = json.loads(plan.dumps())
    for where, (file, line, column, end_line, end_column) in plan.spans.items():
        found = data
        for step in where.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            found = found[int(key)] if isinstance(found, list) else found[key]
        assert found is not None
        lines = (PROJECTS[name] / file).read_text("utf-8").split("\n")
        assert (line, column) < (end_line, end_column)
        assert lines[line - 1][column - 1 :].strip()
        if isinstance(found, str) and line == end_line:
            written = lines[line - 1][column - 1 : end_column - 1]
            assert found in (written, written[1:-1])
