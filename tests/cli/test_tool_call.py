"""`compozy tool call`: one tool, called outside of a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compozy_prefect.cli import main
from tests.support.processes import mine

PROJECT = """\
name: demo
workflows: [{source: one.yaml}, {source: two.yaml}]
runtime:
  type: deno
  entrypoint: tools.ts
  native_tools: {exec: {allowlist: [seq, ./slow.sh]}}
  python: {allowlist: ["words:*"]}
tools:
  - id: say
    type: cli
    with: {greeting: Hello}
    config:
      command: [echo, "{{ .input.greeting }}", "{{ .input.name }}", "{{ .env.WHO }}"]
      stdout: text
  - id: count
    type: python
    env: {SECRET: "{{ .env.API_KEY }}"}
    config: {function: "words:count"}
    input: {type: object, properties: {text: {type: string}}, required: [text]}
    output: {type: object, properties: {value: {type: integer}}}
  - {id: plus, type: javascript, execute: "({ n }) => { console.log('adding'); return n + 1 }"}
  - {id: exported}
  - {id: api, type: http, config: {base_url: "http://127.0.0.1:9"}}
  - {id: slow, type: cli, config: {command: [./slow.sh]}}
"""
WORDS = """\
import os
def count(text):
    print("counting", os.environ["SECRET"])
    return len(text.split()) if text != "boom" else os.environ["SECRET"] + text
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "compozy.yaml").write_text(PROJECT)
    (tmp_path / "one.yaml").write_text(
        "id: one\nconfig: {env: {WHO: one}}\ntasks: [{id: x, with: {a: 1}}]\n"
    )
    (tmp_path / "two.yaml").write_text(
        "id: two\nconfig: {env: {WHO: two}}\n"
        "tools: [{id: own, type: cli, config: {command: [pwd]}}]\n"
        "tasks: [{id: x, with: {a: 1}}]\n"
    )
    (tmp_path / "words.py").write_text(WORDS)
    (tmp_path / "tools.ts").write_text("export const exported = ({ a }: any) => ({ a });\n")
    (tmp_path / "slow.sh").write_text("#!/bin/sh\nsetsid sleep 98765 &\nsleep 98765\n")
    (tmp_path / "slow.sh").chmod(0o755)
    (tmp_path / ".env").write_text("API_KEY=sk-very-secret\n")
    return str(tmp_path)


def called(capsys: pytest.CaptureFixture[str], *tokens: str) -> tuple[int, str, str]:
    code = main(["tool", "call", *tokens])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("tokens", "output"),
    [
        (["say", "-i", "name=Ada; id"],
         {"exit_code": 0, "data": "Hello Ada; id one\n", "stderr": ""}),
        (["say", "-i", "name={{ .env.API_KEY }}", "--workflow", "two"],
         {"exit_code": 0, "data": "Hello {{ .env.API_KEY }} two\n", "stderr": ""}),
        (["count", "-i", "text=a b c"], {"value": 3}),
        (["plus", "-i", "n=4"], {"value": 5}),
        (["exported", "-i", "a.b=1"], {"a": {"b": 1}}),
        (["cp__delete_file", "-i", "path=gone.txt"], {"success": False}),
    ],
)  # fmt: skip
def test_every_type_of_tool(
    project: str, capsys: pytest.CaptureFixture[str], tokens: list[str], output: object
) -> None:
    code, out, err = called(capsys, tokens[0], project, *tokens[1:])
    assert code == 0, err
    assert json.loads(out) == output
    assert "CZ218" not in err


def test_the_whole_result(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = called(capsys, "count", project, "-i", "text=a b", "--json")
    found = json.loads(out)
    assert code == 0
    assert found.pop("duration_seconds") > 0
    assert found == {
        "tool": "count",
        "type": "python",
        "status": "SUCCESS",
        "input": {"text": "a b"},
        "output": {"value": 2},
        "error": None,
    }
    assert "counting [REDACTED]" in err


def test_an_input_file(project: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "input.yaml").write_text("n: 4\nother: 1\n")
    file = str(tmp_path / "input.yaml")
    code, out, _ = called(capsys, "plus", project, "--input-file", file, "-i", "n=6")
    assert (code, json.loads(out)) == (0, {"value": 7})


def test_a_failure_says_why_and_shows_no_secret(
    project: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = called(capsys, "count", project, "-i", "text=boom")
    assert (code, out) == (1, "")
    assert "error: the result of tool `count` breaks its output schema" in err
    code, out, err = called(capsys, "count", project, "-i", "text=boom", "--json")
    assert (code, json.loads(out)["status"]) == (1, "FAILED")
    assert "very-secret" not in out + err
    code, _, err = called(capsys, "count", project)
    assert code == 1
    assert "`text` is missing" in err
    code, _, err = called(capsys, "api", project, "-i", "endpoint=/x")
    assert code == 1
    assert "GET http://127.0.0.1:9/x failed" in err


def test_offline_refuses_the_network(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = called(capsys, "api", project, "--offline")
    assert code == 1
    assert "is refused with --offline: it needs the network" in err
    assert called(capsys, "plus", project, "-i", "n=1", "--offline")[0] == 0


def test_mocks_answer(project: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mocks.yaml").write_text(
        "tools: {api: {output: {status_code: 200}}, ap: {output: 1}}"
    )
    code, out, err = called(capsys, "api", project, "--mocks", str(tmp_path / "mocks.yaml"))
    assert (code, json.loads(out)) == (0, {"status_code": 200})
    assert "`ap`" in err


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["cuont"], 'there is no tool `cuont` to call; did you mean "count"?'),
        (["own", "--workflow", "one"], "there is no tool `own` to call"),
        (["own", "--workflow", "tow"], "there is no workflow `tow`"),
        (["cp__call_workflow"], "`compozy run` runs workflows"),
        (["cp__call_agents"], "`compozy run` runs agents"),
        (["say", "-i", "name"], "is no key=value"),
        (["say", "--input-file", "/no/such/file"], "/no/such/file"),
    ],
)
def test_what_is_no_call(
    project: str, capsys: pytest.CaptureFixture[str], tokens: list[str], words: str
) -> None:
    code, out, err = called(capsys, tokens[0], project, *tokens[1:])
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_an_invalid_project_calls_nothing(
    project: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with (tmp_path / "compozy.yaml").open("a") as file:
        file.write("  - {id: bad, type: cli, config: {command: [rm, -rf, .]}}\n")
    code, out, err = called(capsys, "say", project, "-i", "name=x")
    assert (code, out) == (1, "")
    assert "CZ330" in err


def test_interrupted(project: str) -> None:
    command = [sys.executable, "-m", "compozy_prefect", "tool", "call", "slow", project]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ), text=True
    )
    deadline = time.monotonic() + 60
    while len(mine()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.strip().splitlines()[-1] == "interrupted"
    while mine():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_agents_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "compozy.yaml").write_text("""\
name: listed
models: [{provider: openai, model: gpt-4o, api_key: "{{ .env.SOME_KEY }}"}]
agents:
  - {id: a, instructions: I., tools: [cp__grep], actions: [{id: x, prompt: P.}]}
  - {id: b, instructions: I.}
tasks: [{id: t, agent: a, action: x}]
""")
    code, out, err = called(capsys, "cp__list_agents", str(tmp_path))
    assert code == 0, err
    agents = [{"agent_id": "a", "actions": ["x"]}, {"agent_id": "b", "actions": []}]
    assert json.loads(out) == {"agents": agents}
    code, out, err = called(capsys, "cp__describe_agent", str(tmp_path), "-i", "agent_id=a")
    assert code == 0, err
    assert json.loads(out)["tools"] == ["cp__grep"]
    code, out, err = called(capsys, "cp__describe_agent", str(tmp_path), "-i", "agent_id=aa")
    assert (code, out) == (1, "")
    assert "there is no agent `aa`" in err
