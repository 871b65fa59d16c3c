"""Agents that call agents and tasks are killed at every call: nothing kept is paid again."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.chaos import Chaos, comparable, different
from tests.support.formats.base import Call, Reply
from tests.support.model_server import ModelServer
from tests.support.prefect_server import until

PROJECT = """\
name: inner
runtime: {native_tools: {call_agents: {max_concurrent: 1}}}
models: [{provider: openai, model: gpt-4o-mini, api_url: "URL", api_key: "{{ .env.A_KEY }}"}]
tools:
  - TOOL
agents:
  - id: lead
    model: openai:gpt-4o-mini
    instructions: You lead.
    tools: [cp__call_agent, cp__call_agents, cp__call_task]
    actions: [{id: go, prompt: Lead.}]
  - id: helper
    model: openai:gpt-4o-mini
    instructions: You help.
    tools: [effect]
    actions: [{id: help, prompt: "{{ .input.what }}"}]
tasks:
  - {id: lead, agent: lead, action: go, on_success: {next: both}}
  - id: both
    tool: cp__call_agents
    with:
      agents:
        - {agent_id: helper, with: {what: d}}
        - {agent_id: helper, prompt: e}
        - {agent_id: "{{ .workflow.id }}"}
    on_success: {next: one}
  - {id: one, tool: cp__call_task, with: {task_id: piece, with: {what: f}}}
  - {id: piece, agent: helper, action: help, with: {what: x}}
outputs:
  led: "{{ .tasks.lead.output.response }}"
  both: "{{ .tasks.both.output.results | map('response.response') }}"
  one: "{{ .tasks.one.output.output.response }}"
"""
LEAD = [
    Call(
        "cp__call_agents",
        {"agents": [{"agent_id": "helper", "with": {"what": "a"}}, {"agent_id": "nobody"}]},
        "1",
    ),
    Call("cp__call_task", {"task_id": "piece", "with": {"what": "b"}}, "2"),
    Call("cp__call_agent", {"agent_id": "helper", "with": {"what": "c"}}, "3"),
]
KEPT = 23  # calls that a run keeps
OUTPUT = {"led": "led", "both": ["did d", "did e", None], "one": "did f"}


def turn(seen: Any) -> Reply:
    messages = seen.body["messages"]
    said = sum(one["role"] == "assistant" for one in messages)
    asked = next(one["content"] for one in messages if one["role"] == "user")
    if asked == "Lead.":
        return Reply("", calls=(LEAD[said],)) if said < len(LEAD) else Reply("led")
    return (
        Reply(f"did {asked}") if said else Reply("", calls=(Call("effect", {"step": asked}, "e"),))
    )


def folder_of(chaos: Chaos, models: ModelServer) -> Path:
    folder = chaos.folder / "inner"
    folder.mkdir(exist_ok=True)
    text = PROJECT.replace("URL", models.base("openai")).replace("TOOL", chaos.effects.tool)
    (folder / "compozy.yaml").write_text(text, "utf-8")
    return folder


FEW = [
    4,
    9,
    12,
    17,
]  # of a kind each: one of several, a call in a task, one in an agent, a step's own
PLACES = [
    *(f"talk.called#{n}" for n in (range(1, KEPT + 1) if os.environ.get("SLOW") else FEW)),
    *(["step.performed#1", "step.kept#1"] if os.environ.get("SLOW") else ["step.kept#1"]),
]


@pytest.mark.parametrize("place", PLACES)
def test_killed_inside_of_a_call(chaos: Chaos, place: str) -> None:
    with ModelServer() as models:
        models.answers_by(turn)
        folder, env = folder_of(chaos, models), {"A_KEY": "sk-canary-0123456789"}
        chaos.begin()
        calm = chaos.zygote.start("run", ".", "--json", cwd=folder, env=env)
        assert calm.wait(90) == 0, calm.err()
        expected, effects, asked = calm.json, Counter(chaos.effects.log), len(models.requests)
        assert expected["output"] == OUTPUT
        assert expected["usage"]["prompt_tokens"] == 10 * asked

        models.answers_by(turn)
        chaos.begin()
        one = chaos.zygote.start(
            "run", ".", "--json", cwd=folder, env={**env, "COMPOZY_FAULT": f"{place}=crash"}
        )
        assert one.wait(90) == -9
        again = chaos.zygote.start("resume", one.execution, "--json", cwd=folder, env=env)
        assert again.wait(90) == 0, again.err()
        # What a called task has answered last is kept with the task, a moment after this place.
        unkept = place.startswith("step.performed")
        assert len(models.requests) == asked + unkept, "every answer was paid once"
    assert again.json["usage"] == expected["usage"]
    assert not different(comparable(expected), comparable(again.json))
    assert Counter(chaos.effects.log) == effects
    assert all(len(keys) == 1 for keys in chaos.effects.keys.values())
    called = {"helper", "piece", "gpt-4o-mini", "effect"}
    runs, rows = until(
        lambda: chaos.tree(one.execution),
        lambda seen: called <= {row["name"] for row in seen[1]},
    )
    for shown in (again.out(), again.err(), repr(runs), repr(rows)):
        assert "sk-canary" not in shown
