"""capabilities and parameters: what is known of a model without asking anybody."""

from __future__ import annotations

import pytest

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.runtime.llm import engine
from compozy_prefect.runtime.llm.capabilities import Capabilities, capabilities
from compozy_prefect.runtime.llm.parameters import parameters
from compozy_prefect.runtime.llm.providers import LiteLLMClient
from tests.support.asking import request
from tests.support.model_server import Reply


@pytest.mark.parametrize(
    ("provider", "model", "schema", "window", "takes"),
    [
        ("openai", "gpt-4o-mini", "native", 128_000, "image pdf"),
        ("openai", "gpt-4-turbo", "prompt", 128_000, "image pdf"),
        ("openai", "nobody-knows", "prompt", None, "image pdf audio"),
        ("anthropic", "claude-sonnet-4-5", "native", 200_000, "image pdf"),
        ("anthropic", "claude-3-5-haiku-latest", "tool", None, "image pdf"),
        ("google", "gemini-2.5-flash", "native", 1_048_576, "image pdf audio video"),
        ("google", "gemini-of-tomorrow", "native", None, "image pdf audio video"),
        ("groq", "openai/gpt-oss-120b", "native", 131_072, ""),
        ("groq", "llama-3.3-70b-versatile", "prompt", None, "image pdf audio"),
        ("xai", "grok-4", "native", None, "image pdf audio"),
        # Their table says that these take schemas; they answer 400.
        ("deepseek", "deepseek-chat", "prompt", 131_072, ""),
        ("openrouter", "openai/gpt-4o-mini", "prompt", 128_000, "image pdf"),
        ("openrouter", "anthropic/claude-sonnet-4.5", "prompt", 200_000, "image pdf"),
        ("openrouter", "google/gemini-2.5-flash:free", "prompt", 1_048_576, "image pdf audio"),
        ("openrouter", "somebody/else", "prompt", None, "image pdf audio video"),
        ("cerebras", "llama3.1-8b", "prompt", 128_000, ""),
        # A model of that name somewhere else says nothing about this one.
        ("custom", "gpt-4o-mini", "prompt", None, "image pdf audio"),
        ("ollama", "llama3", "native", None, "image"),
    ],
)
async def test_what_a_model_can_do(provider, model, schema, window, takes):
    can = await capabilities(ModelPlan(provider, model))
    assert (can.schema, can.context_window) == (schema, window)
    assert {"image", "pdf", "audio", "video"} - can.cannot == set(takes.split())
    assert can.tools
    assert can.json_mode == (provider != "anthropic")
    assert can.max_output is None or 0 < can.max_output <= (can.context_window or 0)


async def test_a_window_that_is_given_counts_more():
    can = await capabilities(ModelPlan("openai", "gpt-4o-mini", context_window=4096))
    assert (can.context_window, can.max_output) == (4096, 16_384)
    can = await capabilities(ModelPlan("ollama", "llama3", context_window=4096))
    assert can.context_window == 4096


async def test_models_that_have_no_tools():
    for model in (ModelPlan("mock", "m"), ModelPlan("deepseek", "deepseek-reasoner")):
        assert not (await capabilities(model)).tools
    assert await capabilities(ModelPlan("mock", "m")) == Capabilities("native", tools=False)


ALL = {
    "temperature": 0.3,
    "max_tokens": 9,
    "stop_words": ["x"],
    "top_k": 3,
    "top_p": 0.5,
    "seed": 0,
    "min_length": 1,
    "repetition_penalty": 1.1,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "n": 2,
    "metadata": {"a": 1},
}
NOWHERE = {"n", "metadata"}


@pytest.mark.parametrize(
    ("provider", "model", "left"),
    [
        ("openai", "gpt-4o-mini", {"min_length", "repetition_penalty", "top_k"}),
        (
            "openai",
            "gpt-5",
            {"min_length", "repetition_penalty", "top_k", "temperature", "top_p", "stop_words"}
            | {"frequency_penalty", "presence_penalty"},
        ),
        (
            "anthropic",
            "claude-sonnet-4-5",
            {"min_length", "repetition_penalty", "seed", "frequency_penalty", "presence_penalty"},
        ),
        ("google", "gemini-2.5-flash", {"min_length", "repetition_penalty"}),
        (
            "google",
            "gemini-3-pro-preview",
            {"min_length", "repetition_penalty", "frequency_penalty", "presence_penalty"},
        ),
        ("groq", "llama-3.3-70b-versatile", {"min_length", "repetition_penalty", "top_k"}),
        ("ollama", "llama3", {"min_length", "frequency_penalty", "presence_penalty"}),
        ("deepseek", "deepseek-chat", {"min_length", "repetition_penalty", "top_k"}),
        (
            "xai",
            "grok-4",
            {"min_length", "repetition_penalty", "top_k", "stop_words", "frequency_penalty"},
        ),
        ("openrouter", "x-ai/grok-4", {"min_length"}),
        ("custom", "org/some-model", set()),
    ],
)
async def test_parameters_that_a_model_does_not_take_are_left_out(
    model_server, provider, model, left
):
    asked = request(model_server, provider=provider, model=model, params=ALL)
    warned: list[str] = []
    client = LiteLLMClient(warn=warned.append)
    for _ in range(2):
        model_server.answers(Reply("ok"))
        await client.complete(asked)
    named = [text.partition("does not take `")[2].partition("`")[0] for text in warned]
    assert sorted(named) == sorted(left | NOWHERE), "each once"
    assert all(f"{provider}/{model}" in text for text in warned)
    sent = model_server.requests[0].body
    sent = sent | sent.get("options", {}) | sent.get("generationConfig", {})
    names = {
        "stop_words": {"stop", "stop_sequences", "stopSequences"},
        "repetition_penalty": {"repetition_penalty", "repeat_penalty"},
        "max_tokens": {"max_tokens", "max_completion_tokens", "num_predict", "max_output_tokens"},
        "min_length": {"min_tokens", "min_length"},
    }
    for name in ALL:
        there = bool(names.get(name, {name}) & set(sent))
        assert there == (name not in left | NOWHERE), name


@pytest.mark.parametrize(
    ("params", "sent", "left"),
    [
        ({"max_length": 5}, {"max_tokens": 5}, []),
        ({"max_length": 5, "max_tokens": 3}, {"max_tokens": 3}, []),
        ({"n": 1, "candidate_count": 0, "top_p": None}, {}, []),
        ({"temperature": 0.0, "seed": 0}, {"temperature": 0.0, "seed": 0}, []),
        ({"api_base": "http://example.com"}, {}, ["api_base"]),
    ],
)
async def test_what_is_sent_of_the_parameters(params, sent, left):
    model = ModelPlan("openai", "gpt-4o", params=params)
    assert parameters(await engine.litellm(), model) == (sent, left)


async def test_a_value_may_be_what_a_model_does_not_take():
    litellm = await engine.litellm()
    for value, left in ((1, []), (0.5, ["temperature"])):
        model = ModelPlan("openai", "o3", params={"temperature": value})
        assert parameters(litellm, model)[1] == left
