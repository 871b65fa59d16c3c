"""providers: text, data, tools, streams and usage in the wire format of each provider."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from compozy_prefect.runtime.llm.client import ToolCall, ToolOffer, Usage
from compozy_prefect.runtime.llm.providers import LiteLLMClient
from tests.support.asking import CLOCK, FORMATS, MODELS, SCHEMA, WEATHER, ask, request
from tests.support.model_server import Broken, Call, Fault, ModelServer, Reply

STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
EACH = pytest.mark.parametrize("provider", FORMATS)


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


class Heard(list[str]):
    """A listener that begins anew when it is told to."""

    def __call__(self, text: str | None) -> None:
        if text is None:
            self.clear()
        else:
            self.append(text)


@EACH
@STREAMED
async def test_words_and_what_they_took(server, provider, streamed):
    reply = Reply("Größe: 5 €, “now”", 120, 40, cached_tokens=20, reasoning_tokens=8)
    heard = Heard()
    got = await ask(server, reply, provider=provider, on_chunk=heard if streamed else None)
    assert (got.text, got.calls, got.finish) == (reply.text, (), "stop")
    assert got.model == MODELS[provider]
    assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.calls) == (120, 40, 1)
    # What a format has no place for is not made up.
    assert got.usage.cached_tokens == (0 if provider == "ollama" else 20)
    assert got.usage.reasoning_tokens == (0 if provider in ("ollama", "anthropic") else 8)
    assert (got.usage.cost_usd is None) == (provider == "ollama")
    assert "".join(heard) == (reply.text if streamed else "")
    assert len(heard) == (3 if streamed else 0)
    [seen] = server.requests
    spoken = seen.path if provider == "google" else seen.body.get("stream")
    assert spoken in (
        (True, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse")
        if streamed
        else (False, None, "/v1beta/models/gemini-2.5-flash:generateContent")
    )


@EACH
async def test_an_answer_costs_the_same_streamed(server, provider):
    reply = Reply("x y z", 1000, 50, cached_tokens=100)
    whole = await ask(server, reply, provider=provider)
    streamed = await ask(server, reply, provider=provider, on_chunk=Heard())
    assert whole == streamed


@EACH
@STREAMED
async def test_data_in_the_form_each_provider_has_for_it(server, provider, streamed):
    on_chunk = Heard() if streamed else None
    got = await ask(server, Reply(None), provider=provider, schema=SCHEMA, on_chunk=on_chunk)
    assert isinstance(json.loads(got.text)["a"], int)
    assert (got.calls, got.finish) == ((), "stop")
    [seen] = server.requests
    told = {
        "openai": lambda body: body["response_format"]["json_schema"]["schema"],
        "groq": lambda body: body["response_format"]["json_schema"]["schema"],
        "anthropic": lambda body: body["output_format"]["schema"],
        "google": lambda body: body["generationConfig"]["response_json_schema"],
        "ollama": lambda body: body["format"],
    }[provider](seen.body)
    assert told["properties"] == SCHEMA["properties"]
    assert "id" not in told
    assert "JSON schema" not in seen.text


@STREAMED
async def test_data_by_a_tool_that_has_to_be_called(server, streamed):
    heard = Heard()
    model = {"provider": "anthropic", "model": "claude-3-5-haiku-latest"}
    got = await ask(
        server, Reply(None), schema=SCHEMA, on_chunk=heard if streamed else None, **model
    )
    assert isinstance(json.loads(got.text)["a"], int)
    assert (got.calls, got.finish) == ((), "stop")
    assert "".join(heard) == (got.text if streamed else "")
    body = server.requests[0].body
    assert body["tool_choice"]["name"] == body["tools"][0]["name"]


@pytest.mark.parametrize(
    "model",
    [
        {"model": "nobody-knows"},
        {"provider": "custom"},
        {"provider": "groq", "model": "llama-3.3-70b-versatile"},
        {"provider": "deepseek", "model": "deepseek-chat"},
        {"provider": "openrouter", "model": "openai/gpt-4o"},
    ],
    ids=lambda model: model.get("provider", "openai"),
)
async def test_data_by_words_and_json_mode(server, model):
    await ask(server, Reply('{"a": 1}'), schema=SCHEMA, **model)
    sent = server.requests[0].body
    assert sent["response_format"] == {"type": "json_object"}
    assert '"required":["a"]' in sent["messages"][1]["content"]


@EACH
@STREAMED
async def test_several_calls_of_tools_in_one_answer(server, provider, streamed):
    calls = (
        Call("weather_now_v1", {"city": "Zürich"}, "c1"),
        Call("clock", {}, "c2"),
        Call("weather_now_v1", {"city": "Oslo", "days": [1, 2]}, "c3"),
    )
    heard = Heard()
    got = await ask(
        server,
        Reply("Let me see", calls=calls),
        provider=provider,
        tools=(WEATHER, CLOCK),
        on_chunk=heard if streamed else None,
    )
    assert [(call.name, call.arguments) for call in got.calls] == [
        ("weather/now.v1", {"city": "Zürich"}),
        ("clock", {}),
        ("weather/now.v1", {"city": "Oslo", "days": [1, 2]}),
    ]
    assert (got.text, got.finish) == ("Let me see", "tool_calls")
    assert "".join(heard) == (got.text if streamed else "")
    assert len({call.id for call in got.calls}) == 3
    if provider not in ("google", "ollama"):  # their calls have no ids
        assert [call.id for call in got.calls] == ["c1", "c2", "c3"]
    assert got.usage.prompt_tokens == 10
    body = server.requests[0].body
    offered = body["tools"][0].get("function_declarations", body["tools"])[0]
    offered = offered.get("function", offered)
    assert (offered["name"], offered["description"]) == ("weather_now_v1", WEATHER.description)
    told = offered.get("parameters") or offered.get("input_schema")
    assert told["properties"] == {"city": {"type": "string"}}


@EACH
async def test_calls_alone_are_an_answer(server, provider):
    reply = Reply("", calls=(Call("clock", {}),))
    got = await ask(server, reply, provider=provider, tools=(CLOCK,))
    assert (got.text, [call.name for call in got.calls]) == ("", ["clock"])


@EACH
@pytest.mark.parametrize("choice", ["auto", "none", "required", WEATHER.name])
async def test_which_tool_to_call(server, provider, choice):
    await ask(server, Reply("ok"), provider=provider, tools=(WEATHER, CLOCK), tool_choice=choice)
    body = server.requests[0].body
    if provider == "ollama":
        # It has no such choice, so that less is offered.
        names = [tool["function"]["name"] for tool in body.get("tools", ())]
        both = ["weather_now_v1", "clock"]
        offered = {"auto": both, "none": [], "required": both, WEATHER.name: both[:1]}
        assert names == offered[choice]
        assert "tool_choice" not in body
        return
    said = body.get("toolConfig", {}).get("functionCallingConfig") or body.get("tool_choice")
    of_openai = {
        "auto": None,
        "none": "none",
        "required": "required",
        WEATHER.name: {"type": "function", "function": {"name": "weather_now_v1"}},
    }
    expected = {
        "openai": of_openai,
        "groq": of_openai,
        "anthropic": {
            "auto": None,
            "none": {"type": "none"},
            "required": {"type": "any"},
            WEATHER.name: {"type": "tool", "name": "weather_now_v1"},
        },
        "google": {
            "auto": None,
            "none": {"mode": "NONE"},
            "required": {"mode": "ANY"},
            WEATHER.name: {"mode": "ANY", "allowed_function_names": ["weather_now_v1"]},
        },
    }
    assert said == expected[provider][choice]


@EACH
async def test_results_of_tools_go_back(server, provider):
    """Two rounds, of which the second holds a call with arguments that were no JSON."""
    first = await ask(
        server,
        Reply("", calls=(Call("weather_now_v1", {"city": "Oslo"}, "c1"),)),
        provider=provider,
        tools=(WEATHER,),
    )
    broken = ToolCall("c2", WEATHER.name, '{"city": "Os')
    assistant = first.to_message()
    assistant["tool_calls"].append(broken.to_message())
    ids = [call["id"] for call in assistant["tool_calls"]]
    history = (
        {"role": "system", "content": "sys"},
        {"role": "user", "content": "hi"},
        assistant,
        *({"role": "tool", "tool_call_id": id, "content": '{"celsius": 4}'} for id in ids),
    )
    for offered in ((WEATHER,), ()):
        got = await ask(server, Reply("cold"), provider=provider, messages=history, tools=offered)
        assert got.text == "cold"
        sent = server.requests[0].text
        assert sent.count("celsius") == 2
        assert "weather_now_v1" in sent
        assert "weather/now" not in sent
        assert "invalid_arguments" in sent


@STREAMED
@pytest.mark.parametrize("provider", ["openai", "groq"])
async def test_arguments_that_are_no_object_stay_text(server, provider, streamed):
    texts = ('{"city": "Os', "[1]", '"Oslo"', '{"a": NaN}', "")
    calls = tuple(Call("clock", text, f"c{i}") for i, text in enumerate(texts))
    got = await ask(
        server,
        Reply("", calls=calls),
        provider=provider,
        tools=(CLOCK,),
        on_chunk=Heard() if streamed else None,
    )
    assert [call.arguments for call in got.calls] == [*texts[:4], {}]


async def test_with_tools_the_schema_stands_in_the_prompt(server):
    await ask(server, Reply('{"a": 1}'), schema=SCHEMA, tools=(CLOCK,))
    sent = server.requests[0].body
    assert "response_format" not in sent
    assert "JSON schema" in sent["messages"][1]["content"]


async def test_tools_whose_names_fall_together(server):
    names = ("a.b", "a_b", "a/b", "9lives", "x" * 70, "x" * 80)
    calls = ("a_b_2", "a_b", "a_b_3", "_9lives", "x" * 64, "x" * 62 + "_2", "unknown")
    got = await ask(
        server,
        Reply("", calls=tuple(Call(name, {}, name) for name in calls)),
        tools=tuple(ToolOffer(name) for name in names),
    )
    assert [call.name for call in got.calls] == [
        "a.b",
        "a_b",
        "a/b",
        "9lives",
        "x" * 70,
        "x" * 80,
        "unknown",
    ]


@EACH
@STREAMED
async def test_an_answer_that_was_cut_off_says_so(server, provider, streamed):
    reply = Reply("half a sen", finish="length")
    got = await ask(server, reply, provider=provider, on_chunk=Heard() if streamed else None)
    assert (got.text, got.finish) == ("half a sen", "length")


@EACH
async def test_a_stream_that_is_tried_again_is_told_anew(server, provider):
    heard: list[str | None] = []
    script = (Broken("half"), Fault(503), Reply("whole", pieces=1))
    got = await ask(server, *script, provider=provider, on_chunk=heard.append)
    assert got.text == "whole"
    assert heard[0] is not None
    assert heard[-2:] == [None, "whole"]
    assert heard.count(None) == 1, "the second attempt had said nothing"


@EACH
async def test_a_listener_that_fails_is_no_fault_of_the_provider(server, provider):
    def fails(text: str | None) -> None:
        raise KeyError(text)

    with pytest.raises(KeyError):
        await ask(server, Reply("ok"), provider=provider, on_chunk=fails)
    assert len(server.requests) == 1


@EACH
async def test_a_stream_loses_no_words(server, provider):
    text = "- [DONE] one\n- [DONE] two\u2028three\u2029four\u0085five 😀" + "same " * 200
    got = await ask(server, Reply(text, pieces=210), provider=provider, on_chunk=Heard())
    assert got.text == text


async def test_a_stream_without_usage_has_no_price(server):
    """Asked for or not, some servers do not tell; litellm would count words and call it tokens."""
    server.answers(Reply("some words"))
    asked = request(server, provider="cerebras", model="llama3.1-8b")
    got = await LiteLLMClient().complete(asked, on_chunk=Heard())
    assert (got.usage.prompt_tokens, got.usage.cost_usd) == (0, None)


@STREAMED
async def test_models_that_only_openais_responses_have(server, streamed):
    """litellm takes them there by itself; our connection goes along."""
    calls = (Call("clock", {"x": 1}, "c1"), Call("clock", {}, "c2"))
    model = {"model": "gpt-5-codex", "on_chunk": Heard() if streamed else None}
    got = await ask(server, Reply("see", calls=calls, cached_tokens=3), tools=(CLOCK,), **model)
    assert [(call.id, call.arguments) for call in got.calls] == [("c1", {"x": 1}), ("c2", {})]
    assert (got.text, got.finish) == ("see", "tool_calls")
    assert (got.usage.prompt_tokens, got.usage.cached_tokens) == (10, 3)
    assert server.requests[0].path == "/v1/responses"
    assert server.requests[0].headers["accept-encoding"] == "identity"
    got = await ask(server, Reply(None), schema=SCHEMA, **model)
    assert isinstance(json.loads(got.text)["a"], int)


async def test_the_mock_provider_tells_what_it_says(server):
    heard = Heard()
    messages = ({"role": "user", "content": "x" * 450},)
    asked = request(server, provider="mock", key=None, messages=messages)
    got = await LiteLLMClient().complete(asked, on_chunk=heard)
    assert "".join(heard) == got.text
    assert [len(text) for text in heard] == [200, 200, 70]


def test_usage_is_kept_and_told():
    usage = Usage(10, 5, 0.25, 1, 4, 2)
    assert Usage.from_json(json.loads(json.dumps(usage.kept()))) == usage
    assert usage.to_json() == {"prompt_tokens": 10, "completion_tokens": 5, "cost_usd": 0.25}
    assert usage + usage == Usage(20, 10, 0.5, 2, 8, 4)
