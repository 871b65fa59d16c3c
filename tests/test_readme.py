"""What the README shows is what happens."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from compozy_prefect.cli import main
from compozy_prefect.cli.app import app
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.testing.load import load
from tests.support.prefect_server import Api

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, re.S)


def test_the_project_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "compozy.yaml").write_text(blocks("yaml")[0])
    assert main(["validate", str(tmp_path), "--strict"]) == 0, capsys.readouterr().err


def test_the_diagnostic_is_what_a_misspelt_task_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = blocks("yaml")[0].replace(".tasks.generate_greeting.", ".tasks.generate_greting.")
    (tmp_path / "compozy.yaml").write_text(text)
    assert main(["validate", str(tmp_path)]) == 1
    assert blocks("text")[0].strip() in capsys.readouterr().err


def test_the_mocks_are_mocks() -> None:
    import yaml

    mocks = Mocks.from_mapping(yaml.safe_load(blocks("yaml")[1]))
    assert mocks.has_agent("greeter", "greet")
    assert mocks.has_tool("flaky")


def test_the_tests_are_tests(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "support-ticket", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "workflows" / "triage.test.yaml"
    file.write_text(blocks("yaml")[2])
    (case,) = (case for case in load(tmp_path).cases if case.file == "workflows/triage.test.yaml")
    assert case.tasks[1].state == "not run"


def test_the_commands_exist() -> None:
    told = set(re.findall(r"^\| `compozy ([a-z]+)", README, re.M))
    there = {name for name in app if not name.startswith("-")}
    assert told == there


def test_the_python_runs(
    prefect_server: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    exec(blocks("python")[0], {})
    assert capsys.readouterr().out.startswith("SUCCESS {'greeting': ")


def test_the_pictures_exist() -> None:
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / name).exists(), name


def test_the_project_of_the_page_on_agents_is_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "agents.md").read_text()
    (tmp_path / "compozy.yaml").write_text(re.findall(r"```yaml\n(.*?)```", page, re.S)[0])
    assert main(["validate", str(tmp_path), "--strict"]) == 0, capsys.readouterr().err
