"""An agent with the tools of an MCP server is killed at every call it has made, and run on."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.chaos import Chaos, comparable, different
from tests.support.formats.base import Call, Reply
from tests.support.mcp_servers.started import GOOD, OVER_STDIO, none_is_left
from tests.support.model_server import ModelServer
from tests.support.prefect_server import until

PROJECT = """\
name: talk
models: [{provider: openai, model: gpt-4o-mini, api_url: "URL", api_key: "{{ .env.A_KEY }}"}]
mcps: [{id: good, command: PYTHON, args: [GOOD, stdio], env: {EFFECTS: "FOLDER/effects"}}]
agents:
  - id: finder
    model: openai:gpt-4o-mini
    instructions: '{{ .mcps.good.resource("file:///handbook.md") }}'
    mcps: [good]
    actions: [{id: find, prompt: '{{ .mcps.good.prompt("greet", dict "name" .input.what) }}'}]
tasks:
  - {id: find, agent: finder, action: find, with: {what: it}}
outputs: {found: "{{ .tasks.find.output.response }}"}
"""
SCRIPT = [
    Reply("", calls=(Call("add", {"a": 1, "b": 1}, "1"), Call("add", {"a": 2, "b": 1}, "2"))),
    Reply("", calls=(Call("echo", {"text": "three"}, "3"),)),
    Reply("found"),
]
# What is kept: the prompt, the instructions, an answer, two results, an answer, a result.
VISITS = range(1, 8)
AT_ONCE = 4  # of two calls that are made at the same time, the second may be under way


def folder_of(chaos: Chaos, models: ModelServer) -> Path:
    folder = chaos.folder / "mcp-talk"
    folder.mkdir(exist_ok=True)
    text = PROJECT.replace("URL", models.base("openai")).replace("PYTHON", sys.executable)
    text = text.replace("GOOD", str(GOOD)).replace("FOLDER", str(folder))
    (folder / "compozy.yaml").write_text(text, "utf-8")
    return folder


def turn(seen: Any) -> Reply:
    """The answer to a question: by how many answers it already holds."""
    return SCRIPT[sum(one["role"] == "assistant" for one in seen.body["messages"])]


def effects(folder: Path) -> tuple[Counter[str], int]:
    """What the servers of a run have done, and how many they were. The log begins anew."""
    log = folder / "effects"
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    log.unlink()
    servers = {line.pop("began") for line in lines}
    return Counter(json.dumps(line) for line in lines), len(servers)


@pytest.mark.parametrize("visit", VISITS if os.environ.get("SLOW") else [2, AT_ONCE, 7])
def test_killed_in_a_talk_with_a_server(chaos: Chaos, visit: int) -> None:
    with ModelServer() as models:
        models.answers_by(turn)
        folder, env = folder_of(chaos, models), {"A_KEY": "sk-canary-0123456789"}
        chaos.begin()
        calm = chaos.zygote.start("run", ".", "--json", cwd=folder, env=env)
        assert calm.wait(90) == 0, calm.err()
        expected, (done, servers) = calm.json, effects(folder)
        assert expected["output"] == {"found": "found"}
        assert (done.total(), servers) == (5, 1)

        models.answers_by(turn)
        fault = {**env, "COMPOZY_FAULT": f"talk.called#{visit}=crash"}
        one = chaos.zygote.start("run", ".", "--json", cwd=folder, env=fault)
        assert one.wait(90) == -9
        none_is_left(OVER_STDIO)
        again = chaos.zygote.start("resume", one.execution, "--json", cwd=folder, env=env)
        assert again.wait(90) == 0, again.err()
        assert len(models.requests) == 3, "every answer was paid once"
    assert not different(comparable(expected), comparable(again.json))
    seen, servers = effects(folder)
    repeated = seen - done
    assert not done - seen
    assert not repeated or (visit == AT_ONCE and repeated.total() == 1)
    # The session is opened again where there is something left to ask it.
    assert servers == (2 if visit < VISITS[-1] else 1)
    names = {"good/greet", "good/file:///handbook.md", "add", "echo", "gpt-4o-mini"}
    # What a process told last may come to the server after its end.
    rows = until(
        lambda: chaos.tree(one.execution)[1],
        lambda rows: names <= {row["name"] for row in rows},
    )
    assert Counter(row["name"] for row in rows)["add"] == 2
    assert "sk-canary" not in again.out() + again.err() + repr(rows)
    none_is_left(OVER_STDIO)


def test_a_call_of_a_server_in_doubt(chaos: Chaos) -> None:
    """What the file says of a tool of a server holds as for any other tool."""
    with ModelServer() as models:
        models.answers_by(turn)
        folder, env = folder_of(chaos, models), {"A_KEY": "sk-canary-0123456789"}
        file = folder / "compozy.yaml"
        effect = 'effects: {add: write, "*": idempotent}, command:'
        file.write_text(file.read_text("utf-8").replace("command:", effect), "utf-8")
        chaos.begin()
        fault = {**env, "COMPOZY_FAULT": "effect.made#2=crash"}
        one = chaos.zygote.start("run", ".", "--json", cwd=folder, env=fault)
        assert one.wait(90) == -9
        again = chaos.zygote.start("resume", one.execution, "--json", cwd=folder, env=env)
        asked = "waits for the signal `in-doubt:find:"
        decided = set[str]()
        # Two calls were made at the same time, and of neither it is kept what it gave.
        while again.poll() is None:
            said = re.findall(r"waits for the signal `(in-doubt:find:[^`]+)`", again.err())
            for signal in set(said) - decided:
                decided.add(signal)
                decision = json.dumps({"decision": "done", "output": {"value": 2}})
                sent = chaos.zygote.start(
                    "signal", one.execution, signal, "-d", decision, cwd=folder
                )
                assert sent.wait(60) == 0, sent.err()
            time.sleep(0.05)
        assert again.wait(90) == 0, again.err()
        assert asked in again.err()
        assert len(models.requests) == 3, "every answer was paid once"
    lines = [json.loads(line) for line in (folder / "effects").read_text("utf-8").splitlines()]
    (folder / "effects").unlink()
    assert sorted(line["a"] for line in lines if line.get("call") == "add") == [1, 2]
    keys = [line["key"] for line in lines if line.get("call") == "echo"]
    assert len(keys) == 1
    assert keys[0]
