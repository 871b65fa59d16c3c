"""`compozy mcp …` on real servers, and `compozy prompt` with what a lock offers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from compozy_prefect.cli import main
from tests.support.mcp_servers.started import BAD, GOOD, none_is_left

PROJECT = """\
name: demo
models: [{provider: mock, model: m}]
mcps:
  - id: good
    command: PYTHON
    args: ["GOOD", stdio]
    tool_filter: {mode: block, list: [environment]}
  - {id: bad, command: PYTHON, args: ["BAD", "HOW"], env: {TOKEN: "{{ .env.A_TOKEN }}"}}
agents:
  - {id: w, instructions: Write., actions: [{id: x, prompt: hi}], mcps: [good, bad]}
tasks: [{id: a, agent: w, action: x}]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path, "ok")
    return tmp_path


def write(folder: Path, how: str) -> None:
    text = PROJECT.replace("PYTHON", sys.executable).replace("GOOD", str(GOOD))
    (folder / "compozy.yaml").write_text(text.replace("BAD", str(BAD)).replace("HOW", how))


def test_list_starts_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(project, "dies-at-start")
    assert main(["mcp", "list", str(project)]) == 0
    out = capsys.readouterr().out
    assert f"bad  stdio  {sys.executable} {BAD} dies-at-start" in out
    assert "not locked; used by demo" in out
    assert main(["mcp", "list", str(project), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1] == {
        "id": "good",
        "transport": "stdio",
        "command": [sys.executable, str(GOOD), "stdio"],
        "url": None,
        "locked": False,
        "tools": [],
        "prompts": [],
        "resources": [],
        "workflows": ["demo"],
    }


def test_tools(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", "tools", "good", str(project)]) == 0
    said = capsys.readouterr()
    assert "add(a, b)\n  Adds two numbers.\n" in said.out
    assert "several(number?)" in said.out
    assert "environment" not in said.out
    assert "MCP server `good` is started: " in said.err
    assert "1 more are left out by `tool_filter`" in said.err
    assert main(["mcp", "tools", "bad", str(project), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [tool["name"] for tool in found] == ["other", "work"]
    assert found[0]["input_schema"]["properties"] == {"n": {"type": "integer"}}
    none_is_left(str(BAD))


def test_call(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", "call", "good", "add", str(project), "-i", "a=1", "-i", "b=2"]) == 0
    assert json.loads(capsys.readouterr().out) == {"value": 3}
    assert main(["mcp", "call", "good", "record", str(project), "-i", "id=x"]) == 0
    assert json.loads(capsys.readouterr().out) == {"id": "x", "tags": ["a", "b"]}


def test_what_prompts_would_read(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", "resources", "good", str(project)]) == 0
    assert "env://{name}  text/plain\nfile:///handbook.md  text/m" in capsys.readouterr().out
    assert main(["mcp", "prompts", "good", str(project)]) == 0
    assert "greet(name, tone?)\n  Greets somebody.\n" in capsys.readouterr().out
    assert main(["mcp", "prompts", "good", str(project), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown[0]["arguments"] == {"name": True, "tone": False}
    assert main(["mcp", "read", "good", "file:///handbook.md", str(project)]) == 0
    assert capsys.readouterr().out.startswith("# Handbook\n")
    assert main(["mcp", "read", "good", "data://settings", str(project)]) == 0
    assert json.loads(capsys.readouterr().out) == {"days": [1, 2]}
    assert main(["mcp", "prompt", "good", "greet", str(project), "-i", "name=Ada", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == "Say hello to Ada, in a warm tone."


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["read", "goo", "file:///a"], 2, 'no MCP server `goo`; did you mean "good"?'),
        (["read", "good", "file:///a"], 1, "resource `file:///a` of MCP server `good`: Unknown"),
        (["prompt", "good", "greet"], 1, "prompt `greet` of MCP server `good`: Missing"),
        (["tools", "goo"], 2, 'no MCP server `goo`; did you mean "good"?'),
        (["call", "good", "ad"], 2, 'has no tool `ad`; did you mean "add"?'),
        (["call", "good", "environment"], 2, "has no tool `environment`"),
        (["call", "good", "add", "-i", "a=x"], 1, "breaks its schema: at `$`: `b` is missing"),
        (["call", "good", "fail", "-i", "why=no"], 1, "tool `fail` of MCP server `good`"),
    ],
)
def test_what_goes_wrong(
    arguments: list[str], code: int, said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = 2 if arguments[0] == "tools" else 3
    assert main(["mcp", *arguments[:at], str(project), *arguments[at:]]) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_lock_and_what_changes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = project / "compozy.lock"
    assert main(["mcp", "lock", str(project), "--check"]) == 1
    assert not lock.exists()
    assert main(["mcp", "lock", str(project)]) == 0
    text = lock.read_text()
    assert "environment" not in text
    assert main(["mcp", "lock", str(project)]) == 0
    assert lock.read_text() == text
    assert main(["mcp", "lock", str(project), "--check"]) == 0
    assert main(["mcp", "list", str(project)]) == 0
    assert "2 tools, 1 prompts, 1 resources in the lock; used" in capsys.readouterr().out
    of_before = json.loads(text)
    for server in of_before["servers"].values():
        del server["prompts"], server["resources"]
    lock.write_text(json.dumps(of_before))
    assert main(["mcp", "lock", str(project), "--check"]) == 0, "it says nothing of them"
    lock.write_text(text)
    capsys.readouterr()

    write(project, "more")
    assert main(["mcp", "lock", str(project), "--check"]) == 1
    said = capsys.readouterr().err
    assert "bad\n  - tool `other` is gone\n  + tool `third` is new\n" in said
    assert "  ~ tool `work` has changed:\n      -description: Works.\n" in said
    assert "  ~ prompt `greet` has changed:\n      +argument tone: needed\n" in said
    assert main(["mcp", "lock", str(project), "--check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "bad": {
            "gone": ["other"],
            "new": ["third"],
            "changed": ["work", "prompt greet", "resource file:///a"],
        }
    }
    lock.write_text(text.replace("Works.", "Does all."))
    assert main(["validate", str(project)]) == 1
    assert "CZ335" in capsys.readouterr().err
    assert main(["mcp", "lock", str(project)]) == 0, "what is broken can be written anew"
    assert main(["validate", str(project), "--strict"]) == 0


def test_a_prompt_shows_what_the_lock_offers(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prompt", "a", str(project), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tools"] == []
    assert main(["mcp", "lock", str(project)]) == 0
    capsys.readouterr()
    write(project, "dies-at-start")
    assert main(["prompt", "a", str(project), "--json"]) == 0
    tools = json.loads(capsys.readouterr().out)["tools"]
    names = [tool["function"]["name"] for tool in tools]
    assert {"add", "echo", "work", "other"} <= set(names)
    assert main(["plan", str(project)]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["workflows"]["demo"]["mcps"]["bad"]["is_locked"] is True
