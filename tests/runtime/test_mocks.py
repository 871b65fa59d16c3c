"""mocks: the file's shape, and which entry answers which call (design.md)."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.errors import ModelFailed, ToolFailed, UsageError
from compozy_prefect.runtime.agents import AgentRequest, answer
from compozy_prefect.runtime.llm.client import ModelRequest
from compozy_prefect.runtime.llm.offline import OfflineClient
from compozy_prefect.runtime.mocks import MockedClient, Mocks, MocksInvalid

DESIGN = """
agents:
  classifier:                 # agent id
    classify:                 # action id, or "*"
      output: {category: technical, confidence: 0.93}
tools:
  notifier: {output: {id: n-1}, delay: 250ms}
  flaky:                      # a list answers call by call; its last entry repeats
    - error: "boom"
    - output: {ok: true}
  lookup:
    - when: {id: 1}           # every listed field equals the call's input; the first match answers
      output: {name: Ada}
    - output: null
"""


def ask(agent="classifier", action="classify", **input) -> ModelRequest:
    return ModelRequest(
        agent=agent,
        action=action,
        step="s",
        model=ModelPlan("openai", "gpt-4o"),
        api_key=None,
        messages=({"role": "user", "content": "hi"},),
        input=input,
    )


@pytest.fixture
def design(tmp_path) -> Mocks:
    path = tmp_path / "mocks.yaml"
    path.write_text(DESIGN)
    return Mocks.from_file(path)


def tools(**answers) -> Mocks:
    return Mocks.from_mapping({"tools": answers})


async def test_the_file_of_the_design(design):
    assert (await MockedClient(design).complete(ask())).text == (
        '{"category": "technical", "confidence": 0.93}'
    )
    notifier = design.for_tool("notifier", {})
    assert (notifier.output, notifier.delay) == ({"id": "n-1"}, 0.25)
    flaky = [design.for_tool("flaky", {}) for _ in range(4)]
    assert [one.error for one in flaky] == ["boom", None, None, None]
    assert flaky[3].output == {"ok": True}
    assert design.for_tool("lookup", {"id": 1, "x": 2}).output == {"name": "Ada"}
    assert design.for_tool("lookup", {"id": 2}).output is None
    assert design.for_tool("other", {}) is None


def test_a_matching_when_answers_each_time_and_before_the_list():
    mocks = tools(t=[{"output": 1}, {"output": 2}, {"when": {"a": {"b": [1]}}, "output": "w"}])
    matching = {"a": {"b": [1.0]}, "c": 0}
    got = [mocks.for_tool("t", given).output for given in (matching, {}, matching, {}, {})]
    assert got == ["w", 1, "w", 2, 2]


@pytest.mark.parametrize("given", [{"a": True}, {"a": "1"}, {"a": None}, {}, {"a": [1]}])
def test_when_compares_as_json(given):
    mocks = tools(t=[{"when": {"a": 1}, "output": "yes"}, {"output": "no"}])
    assert mocks.for_tool("t", given).output == "no"


def test_no_entry_for_the_input_is_an_error_that_names_both():
    data = [{"when": {"id": 1}, "output": 1}]
    mocks = Mocks.from_mapping({"tools": {"look": data}, "agents": {"a": {"act": data}}})
    with pytest.raises(ToolFailed, match=r"tool `look`.*\{\"id\": 2\}") as raised:
        mocks.for_tool("look", {"id": 2})
    assert not raised.value.retryable
    with pytest.raises(ModelFailed, match=r"action `act` of agent `a`.*\{\"id\": 3\}"):
        mocks.for_agent("a", "act", {"id": 3})


async def test_the_star_answers_for_the_actions_that_are_not_named():
    mocks = Mocks.from_mapping(
        {"agents": {"a": {"*": {"output": "any"}, "one": {"output": "one"}}}}
    )
    client = MockedClient(mocks)
    assert (await client.complete(ask("a", "one"))).text == "one"
    assert (await client.complete(ask("a", "two"))).text == "any"
    assert mocks.has_agent("a", "three")
    assert not mocks.has_agent("b", "one")


async def test_who_is_not_mocked_is_asked_for_real():
    mocks = Mocks.from_mapping({})
    real = await MockedClient(mocks, OfflineClient()).complete(ask())
    assert real.text.startswith("Offline answer of classifier.classify")
    with pytest.raises(ModelFailed, match="not mocked"):
        await MockedClient(mocks).complete(ask())


async def test_an_error_is_left_to_the_retries_of_the_step():
    mocks = Mocks.from_mapping({"agents": {"a": {"x": [{"error": "boom"}, {"output": "ok"}]}}})
    client = MockedClient(mocks)
    with pytest.raises(ModelFailed) as raised:
        await client.complete(ask("a", "x"))
    assert str(raised.value) == "boom"
    assert raised.value.retryable
    assert (await client.complete(ask("a", "x"))).text == "ok"


async def test_a_re_prompt_takes_the_next_entry():
    mocks = Mocks.from_mapping(
        {
            "agents": {
                "a": {"x": [{"output": "no JSON"}, {"output": {"n": "1"}}, {"output": {"n": 1}}]}
            }
        }
    )
    request = AgentRequest(
        agent="a",
        action="x",
        step="s",
        model=ModelPlan("openai", "gpt-4o"),
        api_key=None,
        instructions="",
        prompt="p",
        schema={"type": "object", "properties": {"n": {"type": "integer"}}},
    )
    out = await answer(request, MockedClient(mocks))
    assert (out.output, out.usage.calls, out.usage.cost_usd) == ({"n": 1}, 3, 0.0)


async def test_a_delay_is_waited_for():
    mocks = Mocks.from_mapping({"agents": {"a": {"*": {"output": "x", "delay": "60ms"}}}})
    start = time.monotonic()
    await asyncio.gather(*(MockedClient(mocks).complete(ask("a")) for _ in range(20)))
    assert 0.055 < time.monotonic() - start < 1.0, "delays run beside each other"


def test_concurrent_calls_take_each_entry_once():
    mocks = tools(t=[{"output": n} for n in range(2000)])
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: mocks.for_tool("t", {}).output, range(2000)))
    assert sorted(got) == list(range(2000))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("250ms", 0.25), ("1.5s", 1.5), ("1m30s", 90), (2, 2), (0.5, 0.5), ("0s", 0), ("100us", 1e-4)],
)
def test_durations(value, seconds):
    mocks = tools(t={"output": 1, "delay": value})
    assert mocks.for_tool("t", {}).delay == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], ["the file is []"]),
        ({"agent": {}}, ["`agent` is unknown", "did you mean `agents`?"]),
        ({"agents": []}, ["`agents` is []"]),
        ({"agents": {"a": []}}, ["`agents.a` is []", "action ids"]),
        ({"agents": {"a": {"output": "x"}}}, ["`agents.a.output`", "must be a map"]),
        ({"tools": {"t": "x"}}, ['`tools.t` is "x"', "`output` or `error`"]),
        ({"tools": {"t": []}}, ["`tools.t` is an empty list"]),
        ({"tools": {"t": [{"output": 1}, {}]}}, ["`tools.t[1]`", "neither"]),
        ({"tools": {"t": {"output": 1, "error": "x"}}}, ["`tools.t`", "both"]),
        ({"tools": {"t": {"outptu": 1}}}, ["`tools.t.outptu`", "did you mean `output`?"]),
        ({"tools": {"t": {"error": 3}}}, ["`tools.t.error` is 3", "text"]),
        ({"tools": {"t": {"output": 1, "when": [1]}}}, ["`tools.t.when`", "must be a map"]),
        ({"tools": {"t": {"output": 1, "delay": "soon"}}}, ["`tools.t.delay`", '"soon"']),
        ({"tools": {"t": {"output": 1, "delay": -1}}}, ["`tools.t.delay`"]),
        ({"tools": {"t": {"output": 1, "delay": True}}}, ["`tools.t.delay`"]),
        ({"tools": {1: {"output": 1}}}, ["the key 1", "text"]),
        ({"tools": {"t": {"output": float("nan")}}}, ["`tools.t.output`", "no JSON"]),
    ],
)
def test_a_wrong_shape_is_told_with_its_place(data, words):
    with pytest.raises(UsageError) as raised:
        Mocks.from_mapping(data, source="m.yaml")
    for word in ("m.yaml: ", *words):
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("content", "word"),
    [(None, "cannot be read"), (b"a: [", "CZ101"), (b"\xff\xfe\x00", "UTF-8"), (b"- 1", "map")],
)
def test_a_bad_file_is_told_by_its_name(tmp_path, content, word):
    path = tmp_path / "mocks.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"mocks\.yaml.*") as raised:
        Mocks.from_file(path)
    assert word in str(raised.value)


def test_an_empty_file_mocks_nothing_and_words_stay_words(tmp_path):
    path = tmp_path / "mocks.yaml"
    path.write_text("")
    assert Mocks.from_file(path).for_tool("t", {}) is None
    path.write_text("tools: {t: {output: {day: 2025-03-26, on: yes, ok: true}}}")
    assert Mocks.from_file(path).for_tool("t", {}).output == {
        "day": "2025-03-26",
        "on": "yes",
        "ok": True,
    }


def test_ids_the_project_does_not_have(design):
    assert (
        design.unknown({"classifier": ["classify"]}, ["notifier", "flaky", "lookup", "unmocked"])
        == []
    )
    assert design.unknown({"clasifier": []}, ["notifier", "flaky"]) == [
        (
            ("agents", "classifier"),
            "the mocks name the agent `classifier`, which the project does not have; "
            "did you mean `clasifier`?",
        ),
        (
            ("tools", "lookup"),
            "the mocks name the tool `lookup`, which the project does not have",
        ),
    ]
    assert design.unknown({"classifier": ["sort"]}, ["notifier", "flaky", "lookup"]) == [
        (
            ("agents", "classifier", "classify"),
            "the mocks name the action of agent `classifier` `classify`, "
            "which the project does not have",
        )
    ]


def test_what_servers_give() -> None:
    mocks = Mocks.from_mapping(
        {
            "mcps": {
                "wiki": {
                    "resources": {"file:///a": [{"output": 1}, {"output": 2}]},
                    "prompts": {"greet": {"output": "Hi Ada.", "when": {"name": "Ada"}}},
                }
            }
        }
    )
    got = [mocks.for_server("wiki", "resource", "file:///a", {}) for _ in range(3)]
    assert [one and one.output for one in got] == [1, 2, 2]
    assert mocks.for_server("wiki", "resource", "file:///b", {}) is None
    assert mocks.for_server("other", "resource", "file:///a", {}) is None
    assert mocks.counted() == {"mcps.wiki"}
    greeted = mocks.for_server("wiki", "prompt", "greet", {"name": "Ada"})
    assert greeted is not None
    assert greeted.output == "Hi Ada."
    with pytest.raises(ToolFailed, match="the mocks of prompt `greet` of `wiki` have no entry"):
        mocks.for_server("wiki", "prompt", "greet", {})
    (stranger,) = mocks.unknown({}, (), (), ["wiky"])
    assert stranger.message.endswith(
        "MCP server `wiki`, which the project does not have; did you mean `wiky`?"
    )


def test_a_server_has_no_other_mocks() -> None:
    with pytest.raises(
        MocksInvalid, match=r"`mcps\.wiki\.tools` is unknown: there are `resources`"
    ):
        Mocks.from_mapping({"mcps": {"wiki": {"tools": {}}}})
