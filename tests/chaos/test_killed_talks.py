"""An agent with tools is killed at every call it has made: nothing that is kept is paid again."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.support.chaos import Chaos, comparable, different
from tests.support.formats.base import Call, Fault, Reply
from tests.support.model_server import ModelServer

PROJECT = """\
name: talk
models: [{provider: openai, model: gpt-4o-mini, api_url: "URL", api_key: "{{ .env.A_KEY }}"}]
tools:
  - TOOL
agents:
  - id: finder
    model: openai:gpt-4o-mini
    instructions: Look it up.
    tools: [effect]
    actions: [{id: find, prompt: "Find {{ .input.what }}."}]
tasks:
  - {id: before, tool: effect, with: {step: before}}
  - {id: find, agent: finder, action: find, with: {what: it}}
  - {id: last, tool: effect, with: {step: last}}
outputs: {found: "{{ .tasks.find.output.response }}"}
"""
SCRIPT = [
    Reply("", calls=(Call("effect", {"step": "t1"}, "1"), Call("effect", {"step": "t2"}, "2"))),
    Reply("", calls=(Call("effect", {"step": "t3"}, "3"),)),
    Reply("found"),
]


def folder_of(chaos: Chaos, models: ModelServer) -> Path:
    folder = chaos.folder / "talk"
    folder.mkdir(exist_ok=True)
    text = PROJECT.replace("URL", models.base("openai")).replace("TOOL", chaos.effects.tool)
    (folder / "compozy.yaml").write_text(text, "utf-8")
    return folder


def turn(seen: object) -> Reply:
    """The answer to a question: by how many answers it already holds."""
    said = [one for one in seen.body["messages"] if one["role"] == "assistant"]  # type: ignore[attr-defined]
    return SCRIPT[len(said)]


@pytest.mark.parametrize("visit", [1, 3, 4] if not os.environ.get("SLOW") else [1, 2, 3, 4, 5])
def test_killed_in_a_talk(chaos: Chaos, visit: int) -> None:
    with ModelServer() as models:
        models.answers_by(turn)
        folder, env = folder_of(chaos, models), {"A_KEY": "sk-canary-0123456789"}
        chaos.begin()
        calm = chaos.zygote.start("run", ".", "--json", cwd=folder, env=env)
        assert calm.wait(90) == 0, calm.err()
        expected, effects = calm.json, Counter(chaos.effects.log)
        assert expected["output"] == {"found": "found"}
        assert expected["usage"]["prompt_tokens"] == 30

        models.answers_by(turn)
        chaos.begin()
        fault = {**env, "COMPOZY_FAULT": f"talk.called#{visit}=crash"}
        one = chaos.zygote.start("run", ".", "--json", cwd=folder, env=fault)
        assert one.wait(90) == -9
        again = chaos.zygote.start("resume", one.execution, "--json", cwd=folder, env=env)
        assert again.wait(90) == 0, again.err()
        assert len(models.requests) == 3, "every answer was paid once"
    assert not different(comparable(expected), comparable(again.json))
    repeated = Counter(chaos.effects.log) - effects
    # Two calls run at the same time: of one that was under way the result was not kept.
    assert not repeated or (visit == 2 and repeated.total() == 1)
    assert all(len(keys) == 1 for keys in chaos.effects.keys.values())
    runs, rows = chaos.tree(one.execution)
    assert {"gpt-4o-mini", "effect"} <= {row["name"] for row in rows}
    for place in (again.out(), again.err(), repr(runs), repr(rows)):
        assert "sk-canary" not in place


def test_killed_in_a_later_attempt(chaos: Chaos) -> None:
    """What the attempts before have taken is in the result, as if nothing had happened."""
    asked: list[object] = []

    def second_fails(seen: object) -> Reply | Fault:
        asked.append(seen)
        return Fault(500) if len(asked) == 2 else turn(seen)

    with ModelServer() as models:
        models.answers_by(second_fails)
        folder, env = folder_of(chaos, models), {"A_KEY": "sk-canary-0123456789"}
        file = folder / "compozy.yaml"
        text = file.read_text("utf-8").replace("with: {what: it}", "with: {what: it}, retries: 1")
        file.write_text(text.replace('A_KEY }}"}]', 'A_KEY }}", retry_attempts: 0}]'), "utf-8")
        chaos.begin()
        calm = chaos.zygote.start("run", ".", "--json", cwd=folder, env=env)
        assert calm.wait(90) == 0, calm.err()
        assert (calm.json["usage"]["prompt_tokens"], len(asked)) == (40, 5)

        asked.clear()
        # The first attempt keeps an answer and two results, the second an answer.
        fault = {**env, "COMPOZY_FAULT": "talk.called#4=crash"}
        one = chaos.zygote.start("run", ".", "--json", cwd=folder, env=fault)
        assert one.wait(90) == -9
        again = chaos.zygote.start("resume", one.execution, "--json", cwd=folder, env=env)
        assert again.wait(90) == 0, again.err()
        assert len(asked) == 5, "every answer was paid once"
        assert not different(comparable(calm.json), comparable(again.json))
        assert again.json["usage"] == calm.json["usage"]
