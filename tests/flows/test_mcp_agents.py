"""Agents that use MCP servers, in runs on a real Prefect server: offers, tapes, resumes, ends."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import check, compile_project
from compozy_prefect.flows import local
from tests.support.compozy import Compozy
from tests.support.formats.base import Call, Reply
from tests.support.mcp_servers.started import BAD, GOOD, OVER_STDIO, none_is_left, processes
from tests.support.model_server import ModelServer
from tests.support.prefect_server import Api, until
from tests.support.started import Started, nothing_is_open, rows, start

__all__ = ["start"]
CANARY = "sk-canary-0123456789abcdef"


def project(folder: Path, models: ModelServer, **more: str) -> Path:
    program = shlex.quote(sys.executable)
    text = f"""\
name: demo
models:
  - {{provider: openai, model: gpt-4o-mini, api_url: "{models.url}", api_key: "{CANARY}"}}
config: {{env: {{LEVEL: outer}}}}
mcps:
  - id: good
    command: {program}
    args: ["{GOOD}", stdio]
    env: {{EFFECTS: "{folder}/effects", TOKEN: "{{{{ .env.A_TOKEN }}}}"}}
    {more.get("good", "")}
  - id: other
    command: {program}
    args: ["{BAD}", "{more.get("how", "ok")}"]
tools:
  - {{id: echo, type: javascript, execute: "({{ text }}) => ({{ mine: text }})"}}
agents:
  - id: finder
    model: openai:gpt-4o-mini
    instructions: Look it up.
    tools: [echo]
    mcps: [good, other]
    actions: [{{id: find, prompt: "Find {{{{ .input.what }}}}."}}]
tasks:
  - {{id: find, agent: finder, action: find, with: {{what: it}}, retries: 0}}
outputs: {{found: "{{{{ .tasks.find.output.response }}}}"}}
{more.get("settings", "")}
"""
    (folder / "compozy.yaml").write_text(text)
    return folder


def answers(*turns: Reply) -> Callable[[Any], Reply]:
    """The answer to a question: by how many answers it already holds."""

    def turn(seen: Any) -> Reply:
        said = [one for one in seen.body["messages"] if one["role"] == "assistant"]
        return turns[len(said)]

    return turn


def told(models: ModelServer) -> list[Any]:
    """What the model was told of its calls, in the last question."""
    messages = models.requests[-1].body["messages"]
    return [json.loads(one["content"]) for one in messages if one["role"] == "tool"]


def offered(models: ModelServer) -> list[str]:
    return [one["function"]["name"] for one in models.requests[0].body["tools"]]


CALLS = Reply(
    "",
    calls=(
        Call("add", {"a": 1, "b": 2}, "1"),
        Call("echo", {"text": "t"}, "2"),
        Call("work", {}, "3"),
        Call("fail", {"why": "no"}, "4"),
        Call("add", {"a": "x"}, "5"),
    ),
)


def test_an_agent_uses_servers_and_a_tape_needs_none(
    tmp_path: Path, prefect_server: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", CANARY)
    tape = tmp_path / "tape.jsonl"
    with ModelServer() as models:
        models.answers_by(answers(CALLS, Reply("found")))
        folder = project(tmp_path, models, good="tool_filter: {mode: block, list: [picture]}")
        recorded = local.run(folder, cassette=local.cassette(tape, None))
        assert recorded.status == "SUCCESS", recorded.error
        names = offered(models)
        # The agent's own tool shadows the one of the server, and names are lower-cased.
        assert names[0] == "echo"
        assert names.count("echo") == 1
        assert {"add", "slow", "work", "other"} <= set(names)
        assert "picture" not in names
        results = told(models)
        assert results[:3] == [{"value": 3}, {"mine": "t"}, {"value": "call 1"}]
        assert results[3]["error"]["code"] == "TOOL_EXECUTION_ERROR"
        assert results[4]["error"]["code"] == "TOOL_INVALID_INPUT"
    none_is_left(OVER_STDIO)
    none_is_left(str(BAD))
    shown = nothing_is_open(prefect_server, recorded.execution_id)
    assert {"add", "work", "fail", "echo"} <= {row["name"] for row in shown}
    assert CANARY not in tape.read_text()
    effects = (tmp_path / "effects").read_text()
    assert len(effects.splitlines()) == 1, "the call with wrong arguments did not reach it"

    monkeypatch.delenv("A_TOKEN")
    replayed = local.run(folder, cassette=local.cassette(None, tape))
    assert replayed.status == "SUCCESS", replayed.error
    assert replayed.output == recorded.output
    assert (tmp_path / "effects").read_text() == effects, "no server was started"


def test_two_servers_with_a_tool_of_one_name(tmp_path: Path, prefect_server: Api) -> None:
    with ModelServer() as models:
        models.answers_by(answers(Reply("done")))
        folder = project(tmp_path, models)
        text = (folder / "compozy.yaml").read_text()
        third = f'  - {{id: third, command: {sys.executable}, args: ["{BAD}", ok]}}\ntools:'
        text = text.replace("tools:", third, 1).replace("[good, other]", "[third, other]")
        (folder / "compozy.yaml").write_text(text)
        result = local.run(folder)
        assert result.status == "SUCCESS", result.error
        assert offered(models) == ["echo", "third_other", "third_work", "other_other", "other_work"]


def test_mocks_answer_for_servers_and_offline_starts_none(
    tmp_path: Path, prefect_server: Api, compozy: Compozy
) -> None:
    with ModelServer() as models:
        models.answers_by(answers(CALLS, Reply("found")))
        folder = project(tmp_path, models)
        assert compozy("mcp", "lock", folder).code == 0
        (tmp_path / "effects").unlink(missing_ok=True)
        compiled = compile_project(folder)
        assert {"add", "work", "other/work"} <= compiled.tools
        mocks = {
            "tools": {"add": {"output": 7}, "work": {"error": "mocked"}, "fail": {"output": 1}}
        }
        result = local.run(folder, mocks=mocks)
        assert result.status == "SUCCESS", result.error
        results = told(models)
        assert results[0] == {"value": 7}
        assert results[2]["error"]["message"] == "mocked"
        assert processes(str(BAD)) == []
    offline = local.run(folder, offline=True)
    assert offline.status == "SUCCESS", offline.error
    assert not (tmp_path / "effects").exists()


def test_the_lock_says_what_is_offered_and_drift_ends_the_step(
    tmp_path: Path, prefect_server: Api, compozy: Compozy
) -> None:
    with ModelServer() as models:
        models.answers_by(answers(Reply("", calls=(Call("work", {}, "1"),)), Reply("found")))
        folder = project(tmp_path, models)
        assert [d.code for d in check(folder, strict=True).diagnostics].count("CZ336") == 2
        assert compozy("mcp", "lock", folder).code == 0
        assert "CZ336" not in [d.code for d in check(folder, strict=True).diagnostics]
        assert compozy("mcp", "lock", folder, "--check").code == 0
        lock = folder / "compozy.lock"
        changed = lock.read_text().replace("Works, too.", "Worked.")
        data = json.loads(changed)
        lock.write_text(changed)
        assert "CZ335" in compozy("validate", folder).err
        from compozy_prefect.compiler.lock import Listing, dumps
        from compozy_prefect.compiler.plan import McpToolPlan

        servers = {
            key: Listing(
                tuple(
                    McpToolPlan(name, tool["description"], tool["input_schema"])
                    for name, tool in one["tools"].items()
                )
            )
            for key, one in data["servers"].items()
        }
        lock.write_text(dumps(servers))
        result = local.run(folder)
        assert result.status == "FAILED"
        assert result.error is not None
        assert result.error.code == "MCP_TOOLS_CHANGED"
        assert "+description: Works, too." in result.error.message
        assert len(models.requests) == 1, "the model is told nothing of it"
        assert len(offered(models)) == 13
        said = compozy("mcp", "lock", folder, "--check", "--json")
        assert said.code == 1
        assert said.json == {"other": {"gone": [], "new": [], "changed": ["other"]}}


@pytest.mark.parametrize("required", [False, True])
def test_a_server_that_cannot_be_reached(
    required: bool, tmp_path: Path, prefect_server: Api
) -> None:
    with ModelServer() as models:
        models.answers_by(answers(Reply("found")))
        setting = f"llm: {{fail_on_mcp_registration_error: {str(required).lower()}}}"
        folder = project(tmp_path, models, how="dies-at-start", settings=setting)
        result = local.run(folder)
        if required:
            assert result.status == "FAILED"
            assert result.error is not None
            assert result.error.code == "MCP_CONNECTION_ERROR"
            assert "it said: there is no database" in result.error.message
            assert models.requests == []
        else:
            assert result.status == "SUCCESS", result.error
            assert "work" not in offered(models)
            assert "add" in offered(models)


def test_only_the_servers_that_are_allowed(tmp_path: Path, prefect_server: Api) -> None:
    with ModelServer() as models:
        models.answers_by(answers(Reply("found")))
        folder = project(tmp_path, models, settings="llm: {allowed_mcp_names: [other]}")
        assert local.run(folder).status == "SUCCESS"
        assert offered(models) == ["echo", "other", "work"]


def test_a_completed_call_is_not_made_again_and_no_process_outlives_a_killed_run(
    tmp_path: Path, prefect_server: Api, start: Callable[..., Started]
) -> None:
    first = Reply("", calls=(Call("add", {"a": 1, "b": 2}, "1"),))
    open_ = tmp_path / "open"
    second = Reply("", calls=(Call("gate", {"path": str(open_)}, "2"),))
    log = tmp_path / "effects"
    with ModelServer() as models:
        models.answers_by(answers(first, second, Reply("found")))
        folder = project(tmp_path, models)
        begun = start("run", str(folder))
        until(lambda: log.exists() and log.read_text(), lambda said: said and '"gate"' in said)
        assert processes(OVER_STDIO)
        id = begun.kill()
        none_is_left(OVER_STDIO)
        none_is_left(str(BAD))
        assert log.read_text().count('"add"') == 1
        open_.touch()
        models.answers_by(answers(first, second, Reply("found")))
        ended = start("resume", id).ended()
        assert ended["status"] == "SUCCESS"
    assert log.read_text().count('"add"') == 1, "it was kept"
    assert "add" in {row["name"] for row in rows(prefect_server, id)}
    none_is_left(OVER_STDIO)


def test_a_run_that_is_interrupted_cancels_its_call(
    tmp_path: Path, prefect_server: Api, start: Callable[..., Started]
) -> None:
    log = tmp_path / "effects"
    waits = Reply("", calls=(Call("gate", {"path": str(tmp_path / "never")}, "1"),))
    with ModelServer() as models:
        models.answers_by(answers(waits, Reply("found")))
        begun = start("run", str(project(tmp_path, models)))
        until(lambda: log.exists() and log.read_text(), lambda said: said and '"gate"' in said)
        begun.process.send_signal(signal.SIGINT)
        out, err = begun.process.communicate(timeout=90)
    assert begun.process.returncode == 130, err
    assert json.loads(out)["status"] == "CANCELED"
    assert "cancelled" in log.read_text(), "the server was told"
    none_is_left(OVER_STDIO)
