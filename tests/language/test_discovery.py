"""Which files a project is made of, and what is said about those that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from language_cases import lines

from compozy_prefect.errors import UsageError
from compozy_prefect.language.discovery import Discovery, discover

FLOW = "id: flow\ntasks: [{id: a, with: {x: 1}}]\n"


def project(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(found: Discovery) -> list[str]:
    return [w.name for w in found.workflows]


def test_a_directory_with_workflows(tmp_path: Path) -> None:
    project(
        tmp_path,
        {
            "compozy.yaml": "name: p\nworkflows:\n  - source: ./flows/a.yaml\n  - flows/b.yaml\n",
            "flows/a.yaml": FLOW,
            "flows/b.yaml": FLOW,
            "flows/c.yaml": FLOW,
        },
    )
    found = discover(tmp_path)
    assert not found.diagnostics
    assert found.project is not None
    assert (found.project.name, found.project.is_workflow) == ("compozy.yaml", False)
    assert names(found) == ["flows/a.yaml", "flows/b.yaml"]
    assert all(w.is_workflow for w in found.workflows)
    assert set(found.sources) == {"compozy.yaml", "flows/a.yaml", "flows/b.yaml"}
    assert found.workflows[0].root.at("tasks", 0, "id").span.file == "flows/a.yaml"


def test_files_of_tests_are_no_workflows(tmp_path: Path) -> None:
    text = "name: p\nworkflows:\n  - source: a.test.yaml\n  - source: b.yaml\n"
    project(tmp_path, {"compozy.yaml": text, "a.test.yaml": "cases: []\n", "b.test.yaml": "x: 1\n"})
    assert lines(discover(tmp_path).diagnostics) == [
        'CZ108 compozy.yaml:3:13-3:24 "a.test.yaml" holds tests, and no workflow',
        'CZ108 compozy.yaml:4:13-4:19 there is no file "b.yaml"',
    ]
    (tmp_path / "compozy.yaml").unlink()
    with pytest.raises(UsageError) as raised:
        discover(tmp_path)
    assert str(raised.value) == f"there is no compozy.yaml in {tmp_path}"
    with pytest.raises(UsageError, match=r"a\.test\.yaml holds tests"):
        discover(tmp_path / "a.test.yaml")


@pytest.mark.parametrize("name", ["compozy.yaml", "compozy.yml"])
def test_a_single_file_project(tmp_path: Path, name: str) -> None:
    project(tmp_path, {name: "name: hello\ntasks: []\n"})
    for path in (tmp_path, tmp_path / name):
        found = discover(path)
        assert not found.diagnostics
        assert found.project is not None
        assert found.project.is_workflow
        assert found.workflows == (found.project,)


def test_a_single_file_project_may_list_more(tmp_path: Path) -> None:
    project(tmp_path, {"compozy.yaml": "name: p\ntasks: []\nworkflows: [a.yaml]\n", "a.yaml": FLOW})
    assert names(discover(tmp_path)) == ["compozy.yaml", "a.yaml"]


def test_a_workflow_file_is_a_project_of_its_own(tmp_path: Path) -> None:
    project(tmp_path, {"compozy.yaml": "name: p\n", "flows/a.yaml": FLOW})
    found = discover(tmp_path / "flows" / "a.yaml")
    assert names(found) == ["a.yaml"]
    assert found.root == tmp_path / "flows"


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text(FLOW)
    root = tmp_path / "p"
    project(
        root,
        {
            "compozy.yaml": """\
name: p
workflows:
  - source: flows/suport.yaml
  - source: flows
  - source: ../outside.yaml
  - source: link.yaml
  - source: dead.yaml
  - source: /etc/passwd
  - source: ''
  - source: "a\\0b"
  - source: flows/*.yaml
  - source: support.yml
  - source: loop.yaml
  - source: flows/support.yaml
  - flows/../flows/support.yaml
  - again.yaml
  - compozy.yaml
  - source: pipe.yaml
  - 3
  - {path: x.yaml}
""",
            "flows/support.yaml": FLOW,
        },
    )
    (root / "link.yaml").symlink_to(outside)
    (root / "dead.yaml").symlink_to("nothing.yaml")
    (root / "loop.yaml").symlink_to("loop.yaml")
    (root / "again.yaml").symlink_to("flows/support.yaml")
    os.mkfifo(root / "pipe.yaml")
    found = discover(root)
    assert names(found) == ["flows/support.yaml"]
    said = [line.removeprefix("compozy.yaml:") for line in lines(found.diagnostics)]
    assert said == [
        'CZ108 compozy.yaml:3:13-3:30 there is no file "flows/suport.yaml" | '
        'did you mean "flows/support.yaml"?',
        'CZ108 compozy.yaml:4:13-4:18 "flows" is a directory | '
        "list the files one by one, or use `autoload.include`",
        'CZ108 compozy.yaml:5:13-5:28 "../outside.yaml" leads outside the project directory | '
        "a project is one directory: copy the file into it",
        'CZ108 compozy.yaml:6:13-6:22 "link.yaml" leads outside the project directory | '
        "a project is one directory: copy the file into it",
        'CZ108 compozy.yaml:7:13-7:22 "dead.yaml" is a symbolic link to a file that does not exist',
        'CZ108 compozy.yaml:8:13-8:24 "/etc/passwd" leads outside the project directory | '
        "a project is one directory: copy the file into it",
        "CZ108 compozy.yaml:9:13-9:15 the path of the workflow file is empty",
        "CZ108 compozy.yaml:10:13-10:19 a path cannot hold a NUL character",
        'CZ108 compozy.yaml:11:13-11:25 there is no file "flows/*.yaml" | '
        "a source is one file; `autoload.include` takes patterns",
        'CZ108 compozy.yaml:12:13-12:24 there is no file "support.yml" | '
        'did you mean "flows/support.yaml"?',
        'CZ108 compozy.yaml:13:13-13:22 "loop.yaml" cannot be read: '
        "too many levels of symbolic links",
        "CZ109 compozy.yaml:15:5-15:32 this file is listed twice, first in line 14 | "
        "remove one of them",
        "CZ109 compozy.yaml:16:5-16:15 this file is listed twice, first in line 14 | "
        "remove one of them",
        "CZ109 compozy.yaml:17:5-17:17 the project file cannot list itself as a workflow",
        'CZ108 compozy.yaml:18:13-18:22 "pipe.yaml" cannot be read: it is not a regular file',
    ]


def test_a_broken_workflow_does_not_hide_the_others(tmp_path: Path) -> None:
    project(
        tmp_path,
        {
            "compozy.yaml": "name: p\nworkflows: [a.yaml, b.yaml, c.yaml]\n",
            "a.yaml": "tasks: [\n",
            "b.yaml": FLOW,
            "c.yaml": "a: 1\na: 2\n",
        },
    )
    found = discover(tmp_path)
    assert names(found) == ["b.yaml", "c.yaml"]
    assert [(d.code, d.span.file) for d in found.diagnostics if d.span] == [
        ("CZ101", "a.yaml"),
        ("CZ102", "c.yaml"),
    ]


def test_a_broken_project(tmp_path: Path) -> None:
    project(tmp_path, {"compozy.yaml": "name: 'p\n"})
    found = discover(tmp_path)
    assert found.project is None
    assert [d.code for d in found.diagnostics] == ["CZ101"]
    assert "compozy.yaml" in found.sources


def test_nothing_to_start_from(tmp_path: Path) -> None:
    project(tmp_path, {"empty/other.yaml": FLOW, "support/compozy.yaml": "name: p\n"})
    with pytest.raises(UsageError, match=r"there is no compozy\.yaml in .*other\.yaml"):
        discover(tmp_path / "empty")
    with pytest.raises(UsageError, match=r"there is no file or directory .*did you mean .*support"):
        discover(tmp_path / "suport")
    with pytest.raises(UsageError, match="there is no file"):
        discover(tmp_path / "no" / "where")
    (tmp_path / "dead.yaml").symlink_to("nothing.yaml")
    with pytest.raises(UsageError, match="symbolic link"):
        discover(tmp_path / "dead.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(UsageError, match="not a regular file"):
        discover(tmp_path / "pipe.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    project(tmp_path, {"compozy.yaml": "name: p\nworkflows: [a.yaml]\n", "a.yaml": FLOW})
    (tmp_path / "a.yaml").chmod(0)
    assert "permission denied" in discover(tmp_path).diagnostics[0].message


def test_env(tmp_path: Path) -> None:
    project(tmp_path, {"compozy.yaml": "name: p\n", ".env": "A=1\nB\n", "other": "A=2\n"})
    found = discover(tmp_path)
    assert found.env == {"A": "1"}
    assert [(d.code, d.severity) for d in found.diagnostics] == [("CZ110", "warning")]
    assert ".env" in found.sources
    assert discover(tmp_path, env_file=tmp_path / "other").env == {"A": "2"}
    with pytest.raises(UsageError, match="does not exist"):
        discover(tmp_path, env_file=tmp_path / "no")


def test_env_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    project(tmp_path, {"compozy.yaml": "name: p\n"})
    (tmp_path / ".env").mkdir()
    assert [d.code for d in discover(tmp_path).diagnostics] == ["CZ110"]
    (tmp_path / ".env").rmdir()
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    assert [d.code for d in discover(tmp_path).diagnostics] == ["CZ110"]
