"""Which files are tests, and of which project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compozy_prefect.errors import UsageError
from compozy_prefect.testing.find import find

FILES = """
compozy.yaml hello.test.yaml more.test.yml mocks.yaml test.yaml a.test.yaml.bak .hidden.test.yaml
flows/one.yaml flows/one.test.yaml flows/deep/er/two.test.yaml
.git/x.test.yaml node_modules/y.test.yaml .venv/lib/z.test.yaml
nested/compozy.yaml nested/own.test.yaml nested/sub/own.test.yaml
empty/nothing.yaml
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name in FILES.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("name: x\n")
    os.symlink(root / "flows", root / "link")
    os.symlink(root, root / "flows" / "circle")
    return root


def names(path: Path) -> list[str]:
    tests = find(path)
    return [tests.name(file) for file in tests.files]


def test_those_of_a_project(project: Path) -> None:
    assert names(project) == [
        "flows/deep/er/two.test.yaml",
        "flows/one.test.yaml",
        "hello.test.yaml",
        "more.test.yml",
    ]


def test_a_directory_in_a_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = find(project / "flows")
    assert names(project / "flows") == ["flows/deep/er/two.test.yaml", "flows/one.test.yaml"]
    assert tests.project == project
    monkeypatch.chdir(project / "flows")
    assert names(Path(".")) == ["flows/deep/er/two.test.yaml", "flows/one.test.yaml"]


def test_a_project_in_a_project(project: Path) -> None:
    assert names(project / "nested") == ["own.test.yaml", "sub/own.test.yaml"]
    assert find(project / "nested" / "sub").root == project / "nested"


def test_one_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names(project / "flows" / "one.test.yaml") == ["flows/one.test.yaml"]
    monkeypatch.chdir(project)
    assert names(Path("flows/one.test.yaml")) == ["flows/one.test.yaml"]


def test_a_project_file(project: Path) -> None:
    tests = find(project / "flows" / "one.yaml")
    assert tests.project == project / "flows" / "one.yaml"
    assert [tests.name(file) for file in tests.files] == ["deep/er/two.test.yaml", "one.test.yaml"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere", "there is no file or directory"),
        ("empty", "there are no test files in"),
        ("empty/nothing.yaml", "there are no test files beside"),
        ("..", "there is no compozy.yaml in"),
    ],
)
def test_nothing_to_be_found(path: str, said: str, project: Path) -> None:
    with pytest.raises(UsageError, match=said):
        find(project / path)
