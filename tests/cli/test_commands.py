"""The commands that need no server, called as `main([...])`: what they print and how they end."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from compozy_prefect.cli import main
from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.plan import loads
from compozy_prefect.errors import OutputInvalid
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.outcome import plain

ROOT = Path(__file__).resolve().parents[2]
HELLO = str(ROOT / "examples" / "hello-world")
BROKEN = "name: x\ntasks:\n  - id: a\n    with: {v: '{{ .tasks.b.output }}'}\n    bogus: 1\n"

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    (tmp_path / "compozy.yaml").write_text(BROKEN)
    return tmp_path


def test_validate(capsys: Captured) -> None:
    assert main(["validate", HELLO]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "valid (1 workflow, 1 task)" in said.err
    assert main(["--quiet", "validate", HELLO]) == 0
    assert capsys.readouterr().err == ""


def test_validate_json(broken: Path, capsys: Captured) -> None:
    assert main(["validate", str(broken), "--format", "json"]) == 1
    said = capsys.readouterr()
    assert said.err == ""
    report = json.loads(said.out)
    assert {key: report[key] for key in ("ok", "errors", "warnings")} == {
        "ok": False,
        "errors": 1,
        "warnings": 1,
    }
    first, second = report["diagnostics"]
    assert first == {
        "code": "CZ210",
        "severity": "error",
        "message": "unknown task: `b`",
        "file": "compozy.yaml",
        "line": 4,
        "column": 26,
        "end_line": 4,
        "end_column": 27,
        "hint": first["hint"],
    }
    assert (second["code"], second["severity"], second["line"]) == ("CZ303", "warning", 5)


def test_strict_refuses_warnings(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text("name: x\ntasks: [{id: a, with: {v: 1}, bogus: 1}]\n")
    assert main(["validate", str(file), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    assert main(["validate", str(file), "--format", "json", "--strict"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_text_diagnostics_underline_the_place(broken: Path, capsys: Captured) -> None:
    assert main(["validate", str(broken)]) == 1
    err = capsys.readouterr().err
    assert "error[CZ210]: unknown task: `b`\n --> compozy.yaml:4:26\n" in err
    line = next(line for line in err.splitlines() if ".tasks.b" in line)
    mark = err.splitlines()[err.splitlines().index(line) + 1]
    assert mark.index("^") == line.index(".b.") + 1
    assert "1 error and 1 warning" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["validate", "--nonsense"],
        ["validate", "/no/such/place"],
        ["run", HELLO, "-i", "novalue"],
        ["run", HELLO, "--workflow", "other"],
        ["render"],
        ["explain", "CZ999"],
        ["compile", HELLO],
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments: list[str], capsys: Captured) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err
    assert "Traceback" not in said.err


def test_plan(tmp_path: Path, capsys: Captured) -> None:
    assert main(["plan", HELLO]) == 0
    text = capsys.readouterr().out
    plan = loads(text)
    assert list(plan.workflows) == ["hello-world"]
    target = tmp_path / "plan.json"
    assert main(["plan", HELLO, "-o", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert target.read_text() == text


def test_compile_and_check(tmp_path: Path, capsys: Captured) -> None:
    target = tmp_path / "out"
    assert main(["compile", HELLO, "-o", str(target), "--check"]) == 1
    assert main(["compile", HELLO, "-o", str(target)]) == 0
    assert {path.name for path in target.iterdir()} == {"flows.py", "plan.json", "prefect.yaml"}
    assert main(["compile", HELLO, "-o", str(target), "--check"]) == 0
    (target / "plan.json").write_text("{}")
    capsys.readouterr()
    assert main(["compile", HELLO, "-o", str(target), "--check"]) == 1
    assert "plan.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("template", "flags", "printed"),
    [
        ("{{ .a.b }}", [], "[1, 2]"),
        ("{{ .a.b }}", ["--format", "text"], "[1,2]"),
        ("{{ len .a.b }}", [], "2"),
        ("n={{ len .a.b }}", [], '"n=2"'),
        ("{{ .a.c | default 'x' | upper }}", ["--format", "text"], "X"),
    ],
)
def test_render(
    template: str, flags: list[str], printed: str, tmp_path: Path, capsys: Captured
) -> None:
    context = tmp_path / "context.yaml"
    context.write_text("a: {b: [1, 2]}\n")
    assert main(["render", template, "--context", str(context), *flags]) == 0
    out = capsys.readouterr().out
    assert "".join(out.split()) == "".join(printed.split())


def test_render_error(capsys: Captured) -> None:
    assert main(["render", "{{ .a | upperr }}"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "did you mean `upper`?" in said.err
    assert "^^^^^^" in said.err


def test_version(capsys: Captured) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("compozy-prefect ")


def test_env_file(tmp_path: Path, capsys: Captured) -> None:
    assert main(["validate", HELLO, "--env-file", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err


def test_a_bug_shows_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("the cat sat on it")

    monkeypatch.setattr("compozy_prefect.compiler.compile.check", fails)
    assert main(["validate", HELLO]) == 1
    err = capsys.readouterr().err
    assert "RuntimeError: the cat sat on it" in err
    assert "Traceback" not in err
    assert main(["--debug", "validate", HELLO]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "compozy.yaml").write_text(
        'name: x\ntasks: [{id: a, type: "\\e[31mred", with: {}}]\n'
    )
    assert main(["validate", str(tmp_path)]) == 1
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    command = f'"$0" -m compozy_prefect plan {HELLO} {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_is_told(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("compozy_prefect.compiler.compile.compile_project", interrupted)
    assert main(["plan", HELLO]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_input_that_is_no_utf8(capsys: Captured) -> None:
    assert main(["run", HELLO, "--offline", "-i", "name=\udcff"]) == 2
    assert "is not UTF-8" in capsys.readouterr().err


def test_half_a_character_is_no_json() -> None:
    assert plain({"name": "é🎉"}) == {"name": "é🎉"}
    with pytest.raises(OutputInvalid, match=r"at \.name holds \\ud800"):
        plain({"name": "\ud800"})


def test_stdin_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[1]")))
    assert main(["run", HELLO, "--offline", "--input-file", "-"]) == 2
    assert capsys.readouterr().err == "error: stdin: the input must be a map of names to values\n"


def test_mocks_may_name_what_no_task_uses(tmp_path: Path) -> None:
    text = "name: x\ntools: [{id: spare}]\ntasks: [{id: a, with: {v: 1}}]\n"
    (tmp_path / "compozy.yaml").write_text(text)
    project = compile_project(tmp_path)
    mocks = Mocks.from_mapping({"tools": {"spare": {"output": 1}, "sparse": {"output": 1}}})
    (stranger,) = mocks.unknown(project.agents, project.tools)
    assert stranger.path == ("tools", "sparse")
    assert "did you mean `spare`" in stranger.message
