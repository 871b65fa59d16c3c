"""What models have taken, call by call: in the artifact of a run and in Prefect's metrics."""

from __future__ import annotations

import json
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import (
    PREFECT_CLIENT_METRICS_ENABLED,
    PREFECT_CLIENT_METRICS_PORT,
    temporary_settings,
)
from prefect.utilities.services import stop_client_metrics_server

from compozy_prefect.flows import local
from compozy_prefect.flows.ledger import Ledger
from compozy_prefect.runtime.calls import Called
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import SUCCESS, TaskState
from tests.support.effects import Effects
from tests.support.formats.base import Call, Reply
from tests.support.model_server import ModelServer
from tests.support.prefect_server import Api

ONE = Usage(10, 5, 0.5, 1)


def called(key: str, again: bool = False) -> Called:
    return Called(key, "model", "m", 0.1, ONE, "", again)


def test_a_table_has_the_calls_and_what_else_a_step_has_taken() -> None:
    ledger, counted = Ledger(), list[Called]()
    ledger.add("a", called("turn-1", again=True))
    ledger.add("a", called("turn-2"))
    both = Ledger(counted.append)
    both.take(json.loads(json.dumps(ledger.to_json())))
    assert [call.key for call in counted] == ["turn-2"], "what was paid before is not paid again"
    states = {
        "a": TaskState("a", "basic", SUCCESS, usage=ONE + ONE + ONE),
        "b": TaskState("b", "basic", SUCCESS, usage=ONE),
        "c": TaskState("c", "basic", SUCCESS),
    }
    rows = both.table(states)
    assert [(row["task"], row["call"], row["calls"]) for row in rows] == [
        ("a", "turn-1", 1),
        ("a", "turn-2", 1),
        ("a", "", 1),
        ("b", "", 1),
    ]
    assert rows[2]["cost_usd"] == pytest.approx(0.5)


def test_many_calls_are_a_row_for_each_step() -> None:
    ledger = Ledger()
    for number in range(1_001):
        ledger.add("a", called(f"turn-{number}"))
    [row] = ledger.table({"a": TaskState("a", "basic", SUCCESS, usage=Usage(1, 2, None, 1_001))})
    assert (row["call"], row["calls"], row["cost_usd"]) == ("", 1_001, None)


def turn(seen: Any) -> Reply:
    if any(one["role"] == "tool" for one in seen.body["messages"]):
        return Reply("done")
    return Reply("", calls=(Call("effect", {"step": "s"}, "1"),))


def test_each_call_is_in_the_artifact_and_in_the_metrics(
    tmp_path: Path, prefect_server: Api, model_server: ModelServer, effects: Effects
) -> None:
    (tmp_path / "compozy.yaml").write_text(f"""\
name: counted
models:
  - {{provider: openai, model: gpt-4o-mini, api_url: "{model_server.url}", api_key: sk-abcdefgh}}
tools: [{effects.tool}]
agents:
  - id: a
    model: openai:gpt-4o-mini
    instructions: Work.
    tools: [effect]
    actions: [{{id: go, prompt: Go.}}]
tasks: [{{id: work, agent: a, action: go}}]
""")
    model_server.answers_by(turn)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    wanted = {PREFECT_CLIENT_METRICS_ENABLED: True, PREFECT_CLIENT_METRICS_PORT: port}
    try:
        with temporary_settings(wanted):
            result = local.run(tmp_path)
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    finally:
        stop_client_metrics_server()
    assert result.status == SUCCESS
    assert 'compozy_llm_calls_total{model="gpt-4o-mini",status="completed"} 2.0' in page
    assert 'compozy_llm_tokens_total{kind="prompt",model="gpt-4o-mini"} 20.0' in page
    assert 'compozy_llm_cost_usd_total{model="gpt-4o-mini"}' in page
    rows = json.loads(prefect_server.artifacts(result.execution_id)["counted-usage"]["data"])
    assert [(row["task"], row["call"], row["model"]) for row in rows] == [
        ("work", "turn-1", "gpt-4o-mini"),
        ("work", "turn-2", "gpt-4o-mini"),
        ("total", "", ""),
    ]
    assert rows[0]["prompt_tokens"] == 10
    assert rows[2]["cost_usd"] == pytest.approx(rows[0]["cost_usd"] + rows[1]["cost_usd"])
