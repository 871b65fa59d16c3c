"""cassette: what is written of calls, how it is found again, and what is said when it is not."""

from __future__ import annotations

import json
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.plan import ModelPlan, ToolPlan
from compozy_prefect.errors import ModelFailed, NotRecorded, ToolFailed, UsageError
from compozy_prefect.runtime.cassette import Cassette, TapedClient
from compozy_prefect.runtime.llm.client import (
    ModelAnswer,
    ModelRequest,
    ToolCall,
    ToolOffer,
    Usage,
)
from compozy_prefect.runtime.tools import dispatch

KEY = "sk-canary-0123456789"
ASK = ModelRequest(
    agent="a",
    action="x",
    step="s",
    model=ModelPlan("openai", "gpt-4o", api_key=KEY, params={"temperature": 0.5}),
    api_key=KEY,
    messages=({"role": "user", "content": "Who?"},),
    input={},
)


class Scripted:
    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def complete(self, request: ModelRequest, *, on_chunk: Any = None) -> ModelAnswer:
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, ModelAnswer) else ModelAnswer(found, Usage(1, 2), "m")


def asking(text: str, **more: Any) -> ModelRequest:
    return replace(ASK, messages=({"role": "user", "content": text},), **more)


def giving(answer: Any) -> Callable[[], Awaitable[Any]]:
    async def call() -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return call


async def test_what_was_answered_is_answered_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "run.jsonl"
    call = ModelAnswer("", Usage(1, 2, None, 1), "m", (ToolCall("1", "t", {"a": 1}),), "tool_calls")
    recorded = Cassette.record(file)
    taped = TapedClient(recorded, Scripted("Ada", call, ModelFailed("no", details={"attempts": 3})))
    offered = asking("Which?", tools=(ToolOffer("t", "It", {"type": "object"}),))
    answers = [await taped.complete(ASK), await taped.complete(offered)]
    with pytest.raises(ModelFailed):
        await taped.complete(asking("Why?"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text().splitlines()) == 4

    played = TapedClient(Cassette.replay(file), None)
    said: list[str | None] = []
    assert await played.complete(ASK, on_chunk=said.append) == answers[0]
    assert said == ["Ada"]
    assert await played.complete(offered) == answers[1]
    with pytest.raises(ModelFailed, match="no") as raised:
        await played.complete(asking("Why?"))
    assert raised.value.details == {"attempts": 3}


async def test_the_same_question_has_its_answers_in_order(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    taped = TapedClient(Cassette.record(file), Scripted("one", ModelFailed("busy"), "two"))
    await taped.complete(ASK)
    with pytest.raises(ModelFailed):
        await taped.complete(ASK)
    await taped.complete(ASK)
    played = TapedClient(Cassette.replay(file), None)
    assert (await played.complete(ASK)).text == "one"
    with pytest.raises(ModelFailed, match="busy"):
        await played.complete(ASK)
    assert [(await played.complete(ASK)).text for _ in range(2)] == ["two", "two"]


async def test_secrets_and_ids_are_not_written_and_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    recorded = Cassette.record(file)
    recorded.hide([KEY, "another-secret", None])
    recorded.stands_for("11111111-aaaa")
    asked = asking(f"Use {KEY} and another-secret in 11111111-aaaa")
    taped = TapedClient(recorded, Scripted(f"I saw {KEY}"))
    await taped.complete(asked)
    text = file.read_text()
    for secret in (KEY, "another-secret", "11111111-aaaa"):
        assert secret not in text
    played = Cassette.replay(file)
    played.hide(["some-new-secret"])
    played.stands_for("22222222-bbbb")
    again = asking("Use some-new-secret and some-new-secret in 22222222-bbbb")
    assert (await TapedClient(played, None).complete(again)).text == "I saw [REDACTED]"


async def test_what_is_not_recorded_is_shown_beside_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    taped = TapedClient(Cassette.record(file), Scripted("1", "2"))
    await taped.complete(asking("Name the capital of France,\nin one word."))
    await taped.complete(asking("Something else entirely."))
    with pytest.raises(NotRecorded) as raised:
        await TapedClient(Cassette.replay(file), None).complete(
            asking("Name the capital of Spain,\nin one word.")
        )
    message = raised.value.message
    assert '-      "content": "Name the capital of France,' in message
    assert '+      "content": "Name the capital of Spain,' in message
    assert "entirely" not in message
    assert not raised.value.retryable
    with pytest.raises(NotRecorded, match="has no call of the agent and action `b/x`"):
        await TapedClient(Cassette.replay(file), None).complete(replace(ASK, agent="b"))
    loose = TapedClient(Cassette.replay(file, strict=False), None)
    assert (await loose.complete(asking("Name the capital of Spain"))).text == "1"


async def test_tools_answer_from_a_cassette_without_a_network(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    recorded = Cassette.record(file)
    answer = {"status_code": 200, "data": {"ok": True}}
    assert await recorded.kept("tool", "t", {"n": 1}, giving(answer)) == answer
    fault = ToolFailed("refused", code="TOOL_TIMEOUT")
    with pytest.raises(ToolFailed):
        await recorded.kept("tool", "t", {"n": 2}, giving(fault))
    tool = ToolPlan("t", type="http", config={"base_url": "http://nowhere.invalid"})
    played = Cassette.replay(file)
    assert await dispatch.call(tool, {"n": 1}, cassette=played) == {
        "status_code": 200,
        "data": {"ok": True},
    }
    with pytest.raises(ToolFailed, match="refused") as raised:
        await dispatch.call(tool, {"n": 2}, cassette=played)
    assert raised.value.code == "TOOL_TIMEOUT"
    with pytest.raises(NotRecorded, match="no such call of the tool `t`"):
        await dispatch.call(tool, {"n": 3}, cassette=played)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}\n",
        "no json\n",
        "[1]\n",
        '{"cassette": 2}\n',
        "\x00\n",
        '{"cassette": 1, "now": 3}\n',
        '{"cassette": 1, "now": "2026-01-01T00:00:00Z"}\n{"kind": "model"}\n',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_cassette(text: str, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"run\.jsonl"):
        Cassette.replay(file)


def test_a_place_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        Cassette.replay(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot be written"):
        Cassette.record(tmp_path / "file" / "run.jsonl")
    with pytest.raises(UsageError, match="cannot be written"):
        Cassette.record(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        Cassette.replay(tmp_path / "bytes")


async def test_lines_are_json_in_the_order_of_a_reader(tmp_path: Path) -> None:
    recorded = Cassette.record(tmp_path / "run.jsonl")
    await recorded.kept("tool", "t", {"b": 1, "a": "ü"}, giving(None))
    line = (tmp_path / "run.jsonl").read_text("utf-8").splitlines()[1]
    assert list(json.loads(line)) == ["kind", "name", "asked", "answer"]
    assert "ü" in line


async def test_a_recording_goes_on_after_a_line_that_broke_off(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    first = Cassette.record(file)
    # Some readers take the character for the end of a line.
    said = "one\N{LINE SEPARATOR}line"
    assert (await TapedClient(first, Scripted(said)).complete(ASK)).text == said
    with file.open("ab") as broken:  # in the middle of a character
        broken.write('{"kind": "model", "name": "a/x", "asked": "ä'.encode()[:-1])
    taped = TapedClient(Cassette.continued(file), Scripted("two"))
    assert (await taped.complete(asking("And then?"))).text == "two"
    replayed = Cassette.replay(file)
    assert replayed.now == first.now
    again = TapedClient(replayed, None)
    assert [(await again.complete(one)).text for one in (ASK, asking("And then?"))] == [said, "two"]


async def test_a_whole_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    await TapedClient(Cassette.record(file), Scripted("one")).complete(ASK)
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    await TapedClient(Cassette.continued(file), Scripted("two")).complete(asking("And?"))
    assert len(file.read_text("utf-8").splitlines()) == 3
    assert (await TapedClient(Cassette.replay(file), None).complete(ASK)).text == "one"


def test_what_cannot_be_continued(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Cassette.continued(tmp_path / "none.jsonl")
    (tmp_path / "other.txt").write_text("hello\n")
    with pytest.raises(UsageError):
        Cassette.continued(tmp_path / "other.txt")
    assert (tmp_path / "other.txt").read_text() == "hello\n"
