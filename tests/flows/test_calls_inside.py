"""Agents that call agents and tasks with built-in tools, on a real server, with a model server that
counts what is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.flows import local
from compozy_prefect.runtime.builtins import DEEPEST
from compozy_prefect.runtime.mocks import Mocks
from tests.support.effects import Effects
from tests.support.formats.base import Call, Reply
from tests.support.model_server import ModelServer
from tests.support.prefect_server import Api

CANARY = "sk-canary-0123456789abcdef"
PROJECT = """\
name: inside
MORE
models: [{provider: openai, model: gpt-4o-mini, api_url: "URL", api_key: "{{ .env.A_KEY }}"}]
tools:
  - TOOL
agents:
  - id: lead
    model: openai:gpt-4o-mini
    instructions: You lead.
    tools: [cp__list_agents, cp__call_agent, cp__call_agents, cp__call_task, cp__call_tasks]
    actions: [{id: go, prompt: "Lead {{ .input.what }}."}]
  - id: helper
    model: openai:gpt-4o-mini
    instructions: You help.
    tools: [effect]
    BUDGET
    actions:
      - id: help
        prompt: "Help with {{ .input.what }}."
        input: {type: object, properties: {what: {type: string}}, required: [what]}
tasks:
  - {id: start, agent: lead, action: go, with: {what: it}, on_success: {next: end}}
  - {id: end, with: {said: "{{ .tasks.start.output.response }}"}}
  - id: piece
    agent: helper
    action: help
    with: {what: nothing}
    outputs: {of: "{{ .with.what }}", said: "{{ .output.response }}"}
    on_success: {next: end}
outputs: {said: "{{ .tasks.end.output.said }}"}
"""


@pytest.fixture
def written(
    tmp_path: Path,
    prefect_server: Api,
    model_server: ModelServer,
    effects: Effects,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Path]:
    """Writes the project, whose lead makes the calls that it is told, one after another."""
    monkeypatch.setenv("A_KEY", CANARY)

    def write(*calls: Call, more: str = "", budget: str = "") -> Path:
        text = PROJECT.replace("URL", model_server.base("openai")).replace("TOOL", effects.tool)
        text = text.replace("MORE\n", more).replace("    BUDGET\n", budget)
        (tmp_path / "compozy.yaml").write_text(text)
        model_server.answers_by(lambda seen: answered(seen, calls))
        return tmp_path

    return write


def answered(seen: Any, calls: tuple[Call, ...]) -> Reply:
    """The lead makes its calls, and a helper one; then each answers."""
    messages = seen.body["messages"]
    said = [one for one in messages if one["role"] == "assistant"]
    asked = next(one["content"] for one in messages if one["role"] == "user")
    if "You lead." in messages[0]["content"]:
        return Reply("", calls=(calls[len(said)],)) if len(said) < len(calls) else Reply("led")
    return Reply(f"<{asked}>") if said else Reply("", calls=(Call("effect", {"step": asked}, "e"),))


def heard(models: ModelServer) -> list[Any]:
    """What the lead was told of its calls, at its last question."""
    last = next(one.body for one in reversed(models.requests) if "You lead." in str(one.body))
    return [json.loads(one["content"]) for one in last["messages"] if one["role"] == "tool"]


def test_an_agent_calls_agents_and_tasks(
    written: Callable[..., Path], model_server: ModelServer, effects: Effects, prefect_server: Api
) -> None:
    template = {"agent_id": "helper", "prompt": "{{ .env.A_KEY }}"}
    wrong = {"task_id": "piece", "with": {"what": 3}}
    folder = written(
        Call("cp__list_agents", {}, "1"),
        Call("cp__call_agent", {"agent_id": "helper", "with": {"what": "a"}}, "2"),
        Call("cp__call_agents", {"agents": [template, {"agent_id": "helpr"}]}, "3"),
        Call("cp__call_task", {"task_id": "piece", "with": {"what": "b"}}, "4"),
        Call("cp__call_tasks", {"tasks": [wrong, {"task_id": "end"}]}, "5"),
    )
    result = local.run(folder)
    assert result.status == "SUCCESS", result.error
    assert result.output == {"said": "led"}
    assert set(result.tasks) == {"start", "end"}, "called tasks are no part of the way of the run"
    listed, agent, agents, task, tasks = heard(model_server)
    assert {"agent_id": "helper", "actions": ["help"]} in listed["agents"]
    assert agent.pop("exec_id")
    said = {"response": "<Help with a.>"}
    assert agent == {
        "success": True,
        "agent_id": "helper",
        "action_id": "help",
        "response": said,
    }
    assert agents["results"][0]["response"] == {"response": "<{{ .env.A_KEY }}>"}, "no template"
    assert agents["results"][1]["error"]["code"] == "InvalidArgument"
    assert (agents["total_count"], agents["success_count"], agents["failure_count"]) == (2, 1, 1)
    assert task["output"] == {"of": "b", "said": "<Help with b.>"}
    assert tasks["results"][0]["error"]["code"] == "INPUT_VALIDATION_ERROR"
    assert tasks["results"][1]["output"] == {"said": None}
    assert len(effects.log) == 3
    asked = len(model_server.requests)
    assert asked == 6 + 3 * 2
    assert result.usage.calls == asked
    assert result.usage.prompt_tokens == 10 * asked

    rows = prefect_server.settled(result.execution_id, 11)
    assert {"start", "end", "piece", "helper", "cp__call_agents", "effect"} <= rows.keys()
    assert all(row["state"]["type"] in ("COMPLETED", "FAILED") for row in rows.values())
    table = json.loads(prefect_server.artifacts(result.execution_id)["inside-usage"]["data"])
    assert sum(row["calls"] for row in table[:-1]) == asked
    assert {row["task"] for row in table} == {"start", "total"}
    assert CANARY not in repr((result, rows, table, prefect_server.logs(result.execution_id)))


def test_a_budget_counts_what_is_called(
    written: Callable[..., Path], model_server: ModelServer
) -> None:
    calls = [Call("cp__call_agent", {"agent_id": "helper", "with": {"what": "a"}}, "1")]
    folder = written(*calls * 3, more="config: {budget: {calls: 4}}\n")
    result = local.run(folder)
    assert result.status == "FAILED"
    assert result.error is not None
    assert result.error.code == "BUDGET_EXCEEDED"
    assert len(model_server.requests) == 4


def test_the_budget_of_an_agent_is_that_of_all_who_call_it(
    written: Callable[..., Path], model_server: ModelServer
) -> None:
    call = {"task_id": "piece", "with": {"what": "a"}}
    folder = written(
        Call("cp__call_agent", {"agent_id": "helper", "with": {"what": "a"}}, "1"),
        Call("cp__call_task", call, "2"),
        budget="    budget: {calls: 3}\n",
    )
    result = local.run(folder)
    assert result.status == "SUCCESS", result.error
    assert heard(model_server)[1]["error"]["code"] == "BUDGET_EXCEEDED"
    assert len(model_server.requests) == 3 + 3


def test_agents_that_call_each_other_for_ever_come_to_an_end(
    written: Callable[..., Path], model_server: ModelServer
) -> None:
    folder = written()
    call = Call("cp__call_agent", {"agent_id": "lead", "with": {"what": "more"}}, "1")

    def again(seen: Any) -> Reply:
        told = [one for one in seen.body["messages"] if one["role"] == "tool"]
        if not told:
            return Reply("", calls=(call,))
        said = json.loads(told[-1]["content"])
        return Reply(
            said["response"]["response"] if "response" in said else said["error"]["message"]
        )

    model_server.answers_by(again)
    result = local.run(folder)
    assert result.status == "SUCCESS", result.error
    assert f"more than {DEEPEST} deep" in str(result.output)
    assert len(model_server.requests) == 2 * (DEEPEST + 1)


def test_a_replay_asks_nobody(
    written: Callable[..., Path], model_server: ModelServer, effects: Effects, tmp_path: Path
) -> None:
    folder = written(
        Call("cp__call_agents", {"agents": [{"agent_id": "helper", "with": {"what": "a"}}]}, "1"),
        Call("cp__call_task", {"task_id": "piece", "with": {"what": "b"}}, "2"),
    )
    tape = tmp_path / "tape.jsonl"
    recorded = local.run(folder, cassette=local.cassette(tape, None))
    assert recorded.status == "SUCCESS", recorded.error
    asked, done = len(model_server.requests), len(effects.log)
    assert CANARY not in tape.read_text()
    replayed = local.run(folder, cassette=local.cassette(None, tape))
    assert replayed.status == "SUCCESS", replayed.error
    assert replayed.output == recorded.output
    assert replayed.usage == recorded.usage
    assert (len(model_server.requests), len(effects.log)) == (asked, done)


def test_mocks_answer_for_the_tool_and_for_what_it_calls(
    written: Callable[..., Path], model_server: ModelServer
) -> None:
    folder = written(
        Call("cp__call_agent", {"agent_id": "helper", "with": {"what": "a"}}, "1"),
        Call("cp__call_task", {"task_id": "piece"}, "2"),
    )
    done = {"success": True, "task_id": "piece", "exec_id": "x", "duration_ms": 1}
    mocks = {
        "agents": {"helper": {"help": {"output": "mocked"}}},
        "tools": {"cp__call_task": {"output": done}},
    }
    result = local.run(folder, mocks=Mocks.from_mapping(mocks))
    assert result.status == "SUCCESS", result.error
    agent, task = heard(model_server)
    assert agent["response"] == {"response": "mocked"}
    assert task["exec_id"] == "x"
    assert len(model_server.requests) == 3


def test_a_call_that_is_too_slow_is_cancelled_and_told(
    written: Callable[..., Path], model_server: ModelServer, effects: Effects, prefect_server: Api
) -> None:
    held = {"task_id": "piece", "with": {"what": "held"}, "timeout_ms": 500}
    folder = written(Call("cp__call_task", held, "1"))
    effects.hold("Help with held.")
    try:
        result = local.run(folder)
    finally:
        effects.release()
    assert result.status == "SUCCESS", result.error
    assert heard(model_server)[0]["error"]["code"] == "DeadlineExceeded"
    assert result.usage.calls == len(model_server.requests), "what was cancelled was paid"
    rows = prefect_server.settled(result.execution_id, 6)
    assert rows["piece"]["state"]["type"] == "CANCELLED"
