"""`compozy runs`, `show`, `signal`, `cancel`, `pause`, `resume`: what they print, how they end."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.cli import main
from tests.support.compozy import Compozy
from tests.support.effects import Effects
from tests.support.prefect_server import Api, until

Captured = pytest.CaptureFixture[str]
NOBODY = "0f8c3f6e-0000-4000-8000-000000000001"


class Live:
    """A run in a process of its own, with the commands that are about it."""

    def __init__(self, process: subprocess.Popen[str], id: str, capsys: Captured) -> None:
        self.process, self.id, self._capsys = process, id, capsys

    def __call__(self, command: str, *more: str, code: int = 0) -> Any:
        """What the command says on stdout, and on stderr; in this process, for speed."""
        self._capsys.readouterr()
        assert main([command, *more]) == code
        return self._capsys.readouterr()

    def story(self) -> Any:
        return json.loads(self("show", self.id, "--json").out)


@pytest.fixture
def live(compozy: Compozy, effects: Effects, tmp_path: Path, capsys: Captured) -> Iterator[Live]:
    (tmp_path / "compozy.yaml").write_text(
        f"name: live\ntools: [{effects.tool}]\n"
        "tasks:\n"
        "  - {id: one, tool: effect, with: {step: one}}\n"
        "  - {id: two, tool: effect, with: {step: two}}\n"
        "  - {id: wait, type: wait, wait_for: go}\n"
        "outputs: {ok: '{{ .tasks.wait.output.signal.payload.ok }}'}\n"
    )
    effects.hold("one")
    process = compozy.start("run", ".", "--json")
    for line in process.stderr:
        if line.startswith("run "):
            break
    effects.until("one")
    yield Live(process, line.split()[1], capsys)
    with contextlib.suppress(ProcessLookupError, ValueError):
        process.kill()
        process.communicate()


def test_a_live_one_is_held_signalled_and_seen(
    live: Live, effects: Effects, prefect_server: Api
) -> None:
    short = live.id[:8]
    assert f"`compozy resume {live.id}` lets it go on" in live("pause", short).err
    assert "is paused already" in live("pause", short, code=2).err
    effects.release()
    until(lambda: prefect_server.task_runs(live.id)["one"]["state_type"], "COMPLETED".__eq__)
    story = live.story()
    assert (story["status"], story["alive"], story["pid"]) == ("PAUSED", True, live.process.pid)
    assert [task["id"] for task in story["tasks"]] == ["one"]
    assert effects.log == ["one"]
    assert "held; `compozy resume" in live("show", short).out
    assert f"goes on, in process {live.process.pid}" in live("resume", short).err
    effects.until("two")
    until(lambda: live.story()["waits_for"], "go".__eq__)
    shown = live("show", short).out
    assert "live  WAITING" in shown
    assert "stands    waits for signal `go`" in shown
    assert f"process   {live.process.pid}, running" in shown
    assert "runs no step" in live("pause", short, code=2).err
    assert "kept for execution" in live("signal", short, "other").err
    assert "delivered to execution" in live("signal", short, "go", "-d", '{"ok": true}').err
    out, _ = live.process.communicate(timeout=30)
    assert json.loads(out)["output"] == {"ok": True}
    story = live.story()
    assert (story["status"], story["output"], story["resumable"]) == (
        "SUCCESS",
        {"ok": True},
        False,
    )
    expected = [
        ("one", "basic", "SUCCESS", 1),
        ("two", "basic", "SUCCESS", 1),
        ("wait", "wait", "SUCCESS", 1),
    ]
    # The server takes a moment to take in what the process told it last.
    until(
        lambda: [(t["id"], t["type"], t["status"], t["attempts"]) for t in live.story()["tasks"]],
        expected.__eq__,
    )
    listed = json.loads(live("runs", "--limit", "1", "--json").out)
    assert [(one["execution_id"], one["workflow_id"]) for one in listed] == [(live.id, "live")]
    head, line = live("runs", "--limit", "1").out.splitlines()
    assert head.split() == ["EXECUTION", "WORKFLOW", "STATUS", "STARTED", "DURATION", "NAME"]
    assert line.split()[:3] == [live.id, "live", "SUCCESS"]
    assert "is over: it succeeded" in live("resume", short, code=2).err
    for command in (["signal", short, "go"], ["cancel", short], ["pause", short]):
        assert "is over: Completed" in live(*command, code=2).err


def test_a_live_one_is_cancelled_and_a_failed_one_explained(live: Live, effects: Effects) -> None:
    assert f"execution {live.id} is over: Cancelled" in live("cancel", live.id).err
    live.process.communicate(timeout=30)
    assert live.process.returncode == 130
    story = live.story()
    assert (story["status"], story["resumable"]) == ("CANCELED", True)
    assert story["error"]["message"] == "cancelled on request"
    effects.close()
    result = live("resume", live.id, "--json", code=1)
    assert json.loads(result.out)["status"] == "FAILED"
    story = until(live.story, lambda told: told["tasks"][0]["status"] == "FAILED")
    error = story["tasks"][0]["error"]
    assert (error["file"], error["line"]) == ("compozy.yaml", 4)
    assert error["message"].startswith("tool `effect`: POST http://127.0.0.1")
    shown = live("show", live.id).out
    assert "compozy.yaml:4:" in shown
    assert f"`compozy resume {live.id}` continues it" in shown


@pytest.mark.parametrize("command", ["show", "cancel", "pause", "resume", "signal"])
def test_mistakes_are_sentences(command: str, prefect_server: Api, capsys: Captured) -> None:
    name = ["go"] if command == "signal" else []
    for id, said in {
        "x": "is no execution",
        "beef": "no execution that was started here begins with `beef`",
        NOBODY: "started by this user" if command == "resume" else "knows no execution",
    }.items():
        assert main([command, id, *name]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert said in captured.err
        assert captured.err.startswith("error: ")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{", "-d is no JSON"),
        ("1", "is an object"),
        ("@/nowhere", "/nowhere cannot be read: no such file or directory"),
    ],
)
def test_data_of_a_signal(data: str, said: str, prefect_server: Api, capsys: Captured) -> None:
    assert main(["signal", NOBODY, "go", "-d", data]) == 2
    assert said in capsys.readouterr().err


def test_no_limit(capsys: Captured) -> None:
    assert main(["runs", "--limit", "0"]) == 2
    assert "--limit is 0" in capsys.readouterr().err
