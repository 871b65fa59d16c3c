"""A tool of `effect: write` whose call was interrupted is called again by nobody unasked."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.chaos import Chaos, comparable, different
from tests.support.formats.base import Call, Reply
from tests.support.model_server import ModelServer
from tests.support.prefect_server import until
from tests.support.zygote import Command

PROJECT = """\
name: shop
models: [{provider: openai, model: gpt-4o-mini, api_url: "URL", api_key: "{{ .env.A_KEY }}"}]
tools:
  - TOOL
  - PAY
agents:
  - id: clerk
    model: openai:gpt-4o-mini
    instructions: Sell.
    tools: [pay]
    actions: [{id: sell, prompt: Sell it.}]
tasks:
  - {id: first, tool: effect, with: {step: first}}
  - TASK
  - {id: last, tool: effect, with: {step: last}}
outputs: {paid: "{{ .tasks.pay.output }}"}
"""
STEP = "{id: pay, tool: pay, with: {step: pay}}"
ASKED = "in-doubt:pay"
KEY = {"A_KEY": "sk-canary-0123456789"}


def folder_of(chaos: Chaos, task: str = STEP, tool: str = "timeout: 20s", url: str = "") -> Path:
    pay = chaos.effects.tool.replace("id: effect,", f"id: pay, effect: write, {tool},")
    folder = chaos.folder / f"shop-{abs(hash((task, tool, url)))}"
    folder.mkdir(exist_ok=True)
    text = PROJECT.replace("PAY", pay).replace("TOOL", chaos.effects.tool)
    text = text.replace("TASK", task).replace("URL", url or "http://127.0.0.1:9")
    (folder / "compozy.yaml").write_text(text, "utf-8")
    return folder


def run(chaos: Chaos, folder: Path, fault: str = "") -> Command:
    env = {**KEY, "COMPOZY_FAULT": fault}
    return chaos.zygote.start("run", ".", "--json", cwd=folder, env=env)


def asked(chaos: Chaos, folder: Path, id: str, signal: str = ASKED) -> Command:
    """The resumed run, as soon as it waits for the decision."""
    command = chaos.zygote.start("resume", id, "--json", cwd=folder, env=KEY)
    until(
        lambda: (command.poll(), command.err()),
        lambda seen: seen[0] is not None or f"waits for the signal `{signal}`" in seen[1],
    )
    assert command.poll() is None, command.err()
    assert "whether tool `pay` has had its effect is not known" in command.err()
    until(
        lambda: chaos.server.flow_run(id)["state"]["type"],
        lambda seen: seen == "PAUSED",
    )
    return command


def asked_inside(chaos: Chaos, folder: Path, id: str) -> tuple[Command, str]:
    """The resumed run that asks about a call inside of a step, and the signal that decides."""
    command = chaos.zygote.start("resume", id, "--json", cwd=folder, env=KEY)
    said = until(command.err, lambda said: "waits for the signal `in-doubt:pay" in said)
    return command, said.partition("waits for the signal `")[2].partition("`")[0]


def decide(chaos: Chaos, folder: Path, id: str, decision: Any, signal: str = ASKED) -> None:
    sent = chaos.zygote.start("signal", id, signal, "-d", json.dumps(decision), cwd=folder)
    assert sent.wait(60) == 0, sent.err()


def calls(chaos: Chaos) -> dict[str, int]:
    return dict(Counter(chaos.effects.log))


@pytest.mark.parametrize(
    ("place", "decision", "made"),
    [
        ("effect.begun", {"decision": "repeat"}, 1),
        ("effect.made", {"decision": "repeat"}, 2),
        ("http.sent#2", {"decision": "done", "output": {"status_code": 200, "data": "D"}}, 1),
        ("step.performed@pay", {"decision": "done", "output": {"status_code": 200}}, 1),
    ],
)
def test_a_person_decides(chaos: Chaos, place: str, decision: Any, made: int) -> None:
    chaos.begin()
    folder = folder_of(chaos)
    one = run(chaos, folder, f"{place}=crash")
    assert one.wait(90) == -9
    id = one.execution
    again = asked(chaos, folder, id)
    decide(chaos, folder, id, {"decision": "perhaps"})  # is no decision: the run waits on
    decide(chaos, folder, id, decision)
    assert again.wait(90) == 0, again.err()
    assert calls(chaos) == {"first": 1, "pay": made, "last": 1}
    assert len(chaos.effects.keys["pay"]) == 1
    paid = again.json["output"]["paid"]
    if decision["decision"] == "done":
        assert paid == decision["output"]
    else:
        assert paid["data"] == {"step": "pay"}


def test_killed_while_it_waits_for_the_decision(chaos: Chaos) -> None:
    chaos.begin()
    folder = folder_of(chaos)
    one = run(chaos, folder, "effect.made=crash")
    assert one.wait(90) == -9
    id = one.execution
    asked(chaos, folder, id).kill()
    decide(chaos, folder, id, {"decision": "done", "output": {"n": 1}})
    again = chaos.zygote.start("resume", id, "--json", cwd=folder, env=KEY)
    assert again.wait(90) == 0, again.err()
    assert again.json["output"] == {"paid": {"n": 1}}
    assert calls(chaos) == {"first": 1, "pay": 1, "last": 1}


def test_it_can_be_let_fail_and_is_asked_again(chaos: Chaos) -> None:
    chaos.begin()
    folder = folder_of(chaos)
    one = run(chaos, folder, "effect.made=crash")
    assert one.wait(90) == -9
    id = one.execution
    again = asked(chaos, folder, id)
    decide(chaos, folder, id, {"decision": "fail"})
    assert again.wait(90) == 1
    error = again.json["error"]
    assert (error["code"], error["details"]["in_doubt"]) == ("IN_DOUBT", ["pay"])
    third = asked(chaos, folder, id)
    decide(chaos, folder, id, {"decision": "repeat"})
    assert third.wait(90) == 0, third.err()
    assert calls(chaos) == {"first": 1, "pay": 2, "last": 1}


def test_no_answer_in_time_is_not_tried_again(chaos: Chaos) -> None:
    chaos.begin()
    task = "{id: pay, tool: pay, with: {step: pay, sleep: 2}, retries: 3}"
    folder = folder_of(chaos, task, "timeout: 400ms")
    one = run(chaos, folder)
    assert one.wait(90) == 1
    error = one.json["error"]
    assert (error["code"], error["details"]["in_doubt"]) == ("TOOL_TIMEOUT", ["pay"])
    assert "whether tool `pay` has had its effect is not known" in error["message"]
    again = asked(chaos, folder, one.execution)
    decide(chaos, folder, one.execution, {"decision": "done", "output": {}})
    assert again.wait(90) == 0, again.err()
    assert calls(chaos) == {"first": 1, "pay": 1, "last": 1}


def test_an_answer_that_says_no_is_tried_again(chaos: Chaos) -> None:
    """503 says that nothing was done, and 500 does not."""
    chaos.begin()
    task = "{id: pay, tool: pay, with: {step: pay, fail: 1, status: CODE}, retries: 2}"
    folder = folder_of(chaos, task.replace("CODE", "503"))
    one = run(chaos, folder)
    assert one.wait(90) == 0, one.err()
    assert calls(chaos)["pay"] == 2
    chaos.begin()
    folder = folder_of(chaos, task.replace("CODE", "500"))
    two = run(chaos, folder)
    assert two.wait(90) == 1
    assert two.json["error"]["details"]["in_doubt"] == ["pay"]
    assert calls(chaos)["pay"] == 1


@pytest.mark.parametrize(
    "task",
    [
        "{id: pay, agent: clerk, action: sell}",
        "{id: pay, tool: cp__call_agents, with: {agents: [{agent_id: clerk}]}}",
    ],
    ids=["own", "called"],
)
def test_killed_in_a_talk(chaos: Chaos, task: str) -> None:
    """What an agent has called is asked about, too, and the talk goes on with the answer."""
    script = [Reply("", calls=(Call("pay", {"step": "pay"}, "1"),)), Reply("sold")]

    def turn(seen: Any) -> Reply:
        said = [one for one in seen.body["messages"] if one["role"] == "assistant"]
        return script[len(said)]

    with ModelServer() as models:
        models.answers_by(turn)
        folder = folder_of(chaos, task, url=models.base("openai"))
        chaos.begin()
        calm = run(chaos, folder)
        assert calm.wait(90) == 0, calm.err()
        chaos.begin()
        one = run(chaos, folder, "effect.made=crash")
        assert one.wait(90) == -9
        command, signal = asked_inside(chaos, folder, one.execution)
        data = {"status_code": 200, "data": {"step": "pay"}, "headers": {}}
        decide(chaos, folder, one.execution, {"decision": "done", "output": data}, signal)
        assert command.wait(90) == 0, command.err()
        assert len(models.requests) == 4, "every answer was paid once"
    assert calls(chaos) == {"first": 1, "pay": 1, "last": 1}
    assert not different(comparable(calm.json), comparable(command.json))


def test_killed_in_a_task_that_is_called(chaos: Chaos) -> None:
    task = (
        "{id: pay, tool: cp__call_task, with: {task_id: charge}, on_success: {next: last}}\n"
        "  - {id: charge, tool: pay, with: {step: pay}}"
    )
    folder = folder_of(chaos, task)
    file = folder / "compozy.yaml"
    first = "{step: first}, on_success: {next: pay}"
    file.write_text(file.read_text("utf-8").replace("{step: first}", first), "utf-8")
    chaos.begin()
    one = run(chaos, folder, "effect.made=crash")
    assert one.wait(90) == -9, one.err()
    command, signal = asked_inside(chaos, folder, one.execution)
    assert signal.endswith("/charge")
    decide(chaos, folder, one.execution, {"decision": "done", "output": {"n": 1}}, signal)
    assert command.wait(90) == 0, command.err()
    assert command.json["output"]["paid"]["output"] == {"n": 1}
    assert calls(chaos) == {"first": 1, "pay": 1, "last": 1}
