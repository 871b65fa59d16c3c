"""Runs that are recorded and replayed, through the command line's own path, on a real server."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.flows import local
from tests.support.effects import Effects
from tests.support.formats.base import Call, Reply
from tests.support.model_server import ModelServer
from tests.support.prefect_server import Api

CANARY = "sk-canary-0123456789abcdef"


def project(folder: Path, models: ModelServer, effects: Effects) -> Path:
    text = f"""\
name: taped
models:
  - provider: openai
    model: gpt-4o-mini
    api_url: "{models.url}"
    api_key: "{{{{ .env.A_KEY }}}}"
tools: [{effects.tool}]
agents:
  - id: finder
    model: openai:gpt-4o-mini
    instructions: "For {{{{ .workflow.execution_id }}}} at {{{{ now | date `15:04:05` }}}}."
    tools: [effect]
    actions: [{{id: find, prompt: "Find {{{{ .input.what }}}}."}}]
tasks:
  - id: each
    type: collection
    items: [1, 2, 3]
    task:
      id: "f-{{{{ .item }}}}"
      agent: finder
      action: find
      with: {{what: "{{{{ .item }}}}"}}
  - {{id: last, tool: effect, with: {{step: last}}}}
outputs:
  said: "{{{{ .tasks.each.output | map('response') }}}}"
  last: "{{{{ .tasks.last.output.data.step }}}}"
"""
    (folder / "compozy.yaml").write_text(text)
    return folder


def turn(seen: Any) -> Reply:
    """Calls a tool, then answers with what was asked for."""
    messages = seen.body["messages"]
    asked = next(one["content"] for one in messages if one["role"] == "user")
    if any(one["role"] == "tool" for one in messages):
        return Reply(f"found: {asked} with {CANARY}")
    return Reply("", calls=(Call("effect", {"step": asked}, "1"),))


def test_a_replayed_run_asks_nobody(
    tmp_path: Path, prefect_server: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", CANARY)
    tape = tmp_path / "tape.jsonl"
    effects = Effects()
    with ModelServer() as models:
        models.answers_by(turn)
        folder = project(tmp_path, models, effects)
        recorded = local.run(folder, cassette=local.cassette(tape, None))
        assert recorded.status == "SUCCESS", recorded.error
        assert len(models.requests) == 6
    calls = len(effects.log)
    assert calls == 4
    text = tape.read_text()
    assert CANARY not in text
    assert recorded.execution_id not in text
    lines = [json.loads(line) for line in text.splitlines()][1:]
    assert sorted(line["kind"] for line in lines) == ["model"] * 6 + ["tool"] * 4

    monkeypatch.delenv("A_KEY")
    addresses: list[Any] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: Any) -> Any:
        addresses.append(address)
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", watched)
    replayed = local.run(folder, cassette=local.cassette(None, tape))
    effects.close()
    assert replayed.status == "SUCCESS", replayed.error
    assert replayed.output == recorded.output
    assert replayed.usage == recorded.usage
    assert len(effects.log) == calls, "no tool was called"
    port = int(prefect_server.url.split(":")[2].split("/")[0])
    assert {address[1] for address in addresses if isinstance(address, tuple)} <= {port}


def test_what_was_not_recorded_fails_the_run_with_the_difference(
    tmp_path: Path, prefect_server: Api
) -> None:
    (tmp_path / "compozy.yaml").write_text(
        "name: taped\n"
        "models: [{provider: mock, model: m}]\n"
        "agents: [{id: a, model: 'mock:m', instructions: Hi., "
        "actions: [{id: x, prompt: 'Name {{ .input.n }}.'}]}]\n"
        "tasks: [{id: t, agent: a, action: x, with: {n: '{{ .workflow.input.n }}'}}]\n"
    )
    tape = tmp_path / "tape.jsonl"
    first = local.run(tmp_path, input={"n": "one"}, cassette=local.cassette(tape, None))
    assert first.status == "SUCCESS"
    other = local.run(tmp_path, input={"n": "two"}, cassette=local.cassette(None, tape))
    assert other.status == "FAILED"
    assert other.error is not None
    assert other.error.code == "NOT_RECORDED"
    assert "Name one." in other.error.message
    assert "Name two." in other.error.message
    loose = local.run(tmp_path, input={"n": "two"}, cassette=local.cassette(None, tape, loose=True))
    assert loose.status == "SUCCESS"
    assert loose.tasks["t"].output == first.tasks["t"].output
