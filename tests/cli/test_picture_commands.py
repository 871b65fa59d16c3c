"""`compozy graph`, `compozy plan --diff` and `compozy schema`: what they print and how they end."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from compozy_prefect.cli import main

ROOT = Path(__file__).resolve().parents[2]
HELLO = ROOT / "examples" / "hello-world"
TICKET = ROOT / "examples" / "support-ticket"
BROKEN = "name: x\ntasks:\n  - id: a\n    with: {v: '{{ .tasks.b.output }}'}\n"

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """The plan of hello-world, as a file."""
    assert main(["--quiet", "plan", str(HELLO), "-o", str(tmp_path / "plan.json")]) == 0
    return tmp_path / "plan.json"


@pytest.mark.parametrize(
    ("flags", "start"),
    [
        ([], "%% hello-world\nflowchart TD\n"),
        (["--format", "mermaid"], "%% hello-world\nflowchart TD\n"),
        (["--format", "dot"], 'digraph "hello-world" {\n'),
        (["--format", "svg"], "<svg xmlns="),
    ],
)
def test_graph(flags: list[str], start: str, tmp_path: Path, capsys: Captured) -> None:
    assert main(["graph", str(HELLO), *flags]) == 0
    text = capsys.readouterr().out
    assert text.startswith(start)
    assert "generate_greeting" in text
    target = tmp_path / "picture"
    assert main(["graph", str(HELLO), *flags, "-o", str(target)]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"wrote {target}\n")
    assert target.read_text("utf-8") == text


def test_graph_of_one_workflow_and_of_all(capsys: Captured) -> None:
    assert main(["graph", str(TICKET), "--workflow", "triage"]) == 0
    one = capsys.readouterr().out
    assert "subgraph" not in one
    assert "by_mail" in one
    assert main(["graph", str(TICKET)]) == 0
    both = capsys.readouterr().out
    assert both.count("subgraph") == 2
    assert "by_mail" in both
    assert "teams" in both
    assert main(["graph", str(TICKET), "--workflow", "triag"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_nothing_is_drawn_of_a_broken_project(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "compozy.yaml").write_text(BROKEN)
    assert main(["graph", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "CZ210" in said.err


def test_no_difference(hello: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(hello.read_bytes()))
    monkeypatch.setattr("sys.stdin", stdin)
    for old in (str(hello), "-", str(HELLO), str(HELLO / "compozy.yaml")):
        assert main(["plan", str(HELLO), "--diff", old]) == 0
        assert capsys.readouterr().out == "no difference\n"


def test_a_difference(hello: Path, tmp_path: Path, capsys: Captured) -> None:
    text = (HELLO / "compozy.yaml").read_text("utf-8")
    file = tmp_path / "new.yaml"
    file.write_text(text.replace("temperature: 0.7", "temperature: 0.2"), "utf-8")
    assert main(["plan", str(file), "--diff", str(hello)]) == 0
    out = capsys.readouterr().out
    assert "the parameter `temperature` of the model is now 0.2, and was 0.7" in out
    assert "used by: generate_greeting" in out
    assert main(["plan", str(file), "--diff", str(hello), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["same"] is False
    (change,) = data["workflows"][0]["changes"][0]["changes"]
    assert (change["before"], change["after"]) == (0.7, 0.2)
    target = tmp_path / "diff.txt"
    assert main(["--quiet", "plan", str(file), "--diff", str(hello), "-o", str(target)]) == 0
    assert target.read_text("utf-8") == out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "is no JSON; a plan is what `compozy plan -o` writes"),
        ("[]", "not a plan of format 1"),
        ('{"project": {"name": "x"}, "workflows": 3}', "not a plan of format 1"),
        ('{"project": {"name": "x"}, "workflows": {}}', "was changed after it was written"),
        (b"\xff", "is no JSON"),
        ("[" * 100_000, "is no "),
        (None, "cannot be read: No such file or directory"),
    ],
    ids=["text", "list", "shape", "hash", "bytes", "deep", "missing"],
)
def test_what_is_no_plan(
    text: str | bytes | None, message: str, tmp_path: Path, capsys: Captured
) -> None:
    old = tmp_path / "old.json"
    if text is not None:
        old.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["plan", str(HELLO), "--diff", str(old)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: {old} ")
    assert message in said.err


def test_json_needs_a_difference(capsys: Captured) -> None:
    assert main(["plan", str(HELLO), "--json"]) == 2
    assert "--json is for --diff" in capsys.readouterr().err


def test_schema(tmp_path: Path, capsys: Captured) -> None:
    assert main(["schema"]) == 0
    kinds = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert kinds[:4] == ["project", "workflow", "task", "agent"]
    for kind in kinds:
        assert main(["schema", kind]) == 0
        Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))
    target = tmp_path / "schema.json"
    assert main(["--quiet", "schema", "project", "-o", str(target)]) == 0
    assert json.loads(target.read_text("utf-8"))["title"] == "Compozy project"


def test_schema_used_wrongly(capsys: Captured, tmp_path: Path) -> None:
    assert main(["schema", "taks"]) == 2
    assert 'did you mean "task"' in capsys.readouterr().err
    assert main(["schema", "-o", str(tmp_path / "x")]) == 2
    assert "say which schema to write: project," in capsys.readouterr().err


def test_help_says_how_editors_find_it(capsys: Captured) -> None:
    assert main(["schema", "--help"]) == 0
    assert "# yaml-language-server: $schema=" in capsys.readouterr().out


def test_validate_imports_none_of_it() -> None:
    code = (
        "import sys\n"
        "from compozy_prefect.cli import main\n"
        "main(['validate', sys.argv[1]])\n"
        "new = ('graph', 'diff', 'editor', 'contract', 'difference', 'wording')\n"
        "print([n for n in new if f'compozy_prefect.compiler.{n}' in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(HELLO)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n"
