"""providers: what one call carries, how often it is tried, and what it leaves alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import time

import pytest

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.errors import MissingKey, ModelFailed
from compozy_prefect.runtime.agents import AgentRequest, answer
from compozy_prefect.runtime.llm import engine, structured
from compozy_prefect.runtime.llm.client import ModelAnswer, Usage
from compozy_prefect.runtime.llm.engine import warm
from compozy_prefect.runtime.llm.keys import required_variable, resolve_key
from compozy_prefect.runtime.llm.providers import LiteLLMClient, api_base
from tests.support.asking import KEY, SCHEMA, Pauses, ask, refused, request
from tests.support.model_server import Broken, Fault, Reply, huge


async def test_a_call_carries_the_key_the_messages_and_the_parameters(model_server):
    params = {"temperature": 0.0, "max_tokens": 7, "stop_words": ["x"], "top_p": None, "n": 4}
    params |= {"top_k": 3, "api_base": "http://example.com", "seed": 0, "frequency_penalty": 0.5}
    got = await ask(model_server, Reply("Hello"), params=params, organization="org-1")
    assert got == ModelAnswer("Hello", Usage(10, 5, pytest.approx(4.5e-06), 1), "gpt-4o-mini")
    [seen] = model_server.requests
    assert seen.path == "/v1/chat/completions"
    assert seen.authorization == f"Bearer {KEY}"
    assert seen.headers["openai-organization"] == "org-1"
    assert seen.body == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "system", "content": "sys"}, {"role": "user", "content": "hi"}],
        "temperature": 0.0,
        "max_tokens": 7,
        "stop": ["x"],
        "seed": 0,
        "frequency_penalty": 0.5,
    }


async def test_a_schema_goes_natively_where_the_model_can(model_server):
    await ask(model_server, Reply(None), schema=SCHEMA)
    sent = model_server.requests[0].body
    assert sent["response_format"]["json_schema"] == {
        "name": "output",
        "schema": {key: item for key, item in SCHEMA.items() if key != "id"},
        "strict": False,
    }
    assert sent["messages"][1]["content"] == "hi"


async def test_json_mode_without_a_schema(model_server):
    await ask(model_server, Reply("{}"), json_mode=True)
    sent = model_server.requests[0].body
    assert sent["response_format"] == {"type": "json_object"}
    assert "JSON" in sent["messages"][1]["content"]


async def test_the_schema_stands_where_the_user_speaks_last(model_server):
    """Behind what a memory lays before the prompt, and in a prompt with images."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = (
        {"role": "user", "content": "yesterday"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": [{"type": "text", "text": "today"}, image]},
    )
    model = {"provider": "custom", "messages": messages, "schema": SCHEMA}
    await ask(model_server, Reply('{"a": 1}'), **model)
    first, _, last = model_server.requests[0].body["messages"]
    assert first["content"] == "yesterday"
    assert [part["type"] for part in last["content"]] == ["text", "image_url", "text"]
    assert "JSON schema" in last["content"][2]["text"]


async def test_a_bad_answer_is_re_prompted_over_the_wire(model_server):
    model_server.answers(Reply("no idea"), Reply('{"a": "x"}'), Reply('```json\n{"a": 1}\n```'))
    out = await answer(
        AgentRequest(
            agent="a",
            action="b",
            step="s",
            model=request(model_server).model,
            api_key=KEY,
            instructions="sys",
            prompt="hi",
            schema=SCHEMA,
        ),
        LiteLLMClient(),
    )
    assert (out.output, out.usage.calls) == ({"a": 1}, 3)
    assert out.usage.prompt_tokens == 30
    assert len(model_server.requests[2].body["messages"]) == 6


async def test_what_may_pass_is_tried_again(model_server):
    pauses = Pauses()
    script = (Fault(500), Fault(429), Reply("ok"))
    assert (await ask(model_server, *script, pauses=pauses)).text == "ok"
    assert pauses.seconds == [0.1, 0.2]
    error = await refused(model_server, Fault(503), retry_attempts=4)
    assert len(model_server.requests) == 4, "attempts in total, and litellm adds none"
    assert error.code == "LLM_GENERATION_ERROR"
    assert error.retryable
    assert error.details == {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "reason": "SERVICE_UNAVAILABLE",
        "status": 503,
        "attempts": 4,
    }
    for word in ("step first/step", "openai/gpt-4o-mini", "503", "4 attempts"):
        assert word in error.message


async def test_what_will_not_pass_is_not(model_server):
    error = await refused(model_server, Fault(422))
    assert len(model_server.requests) == 1
    assert not error.retryable
    assert "not retried" in error.message


async def test_one_attempt_is_one(model_server):
    error = await refused(model_server, Fault(500), retry_attempts=0)
    assert (len(model_server.requests), error.details["attempts"]) == (1, 1)


async def test_a_broken_connection_is_tried_again(model_server):
    for how in ("drop", "truncated"):
        assert (await ask(model_server, Broken(how), Reply("ok"))).text == "ok"
    error = await refused(model_server, Broken("hang"), timeout=0.5, retry_attempts=2)
    assert len(model_server.requests) == 2
    assert (error.details["reason"], error.details["attempts"]) == ("TIMEOUT", 2)


async def test_an_answer_that_is_no_json_is_left_to_the_step(model_server):
    error = await refused(model_server, Broken("invalid"))
    assert len(model_server.requests) == 1
    assert error.code == "INVALID_LLM_RESPONSE"
    assert error.retryable


async def test_a_huge_answer_is_an_answer(model_server):
    assert len((await ask(model_server, huge())).text) == 5_000_000


async def test_who_asks_to_wait_too_long_is_left_to_the_step(model_server):
    pauses = Pauses()
    error = await refused(model_server, Fault(429, retry_after=3600), pauses=pauses, timeout=5000)
    assert (len(model_server.requests), pauses.seconds) == (1, [])
    assert error.details["retry_after_seconds"] == 3600
    assert "wait 3600 s" in error.message


async def test_all_attempts_take_no_longer_than_their_time_outs(model_server):
    """Three of ten seconds, pauses included: a third pause of twelve is one too many."""
    pauses = Pauses()
    fault = Fault(429, retry_after=12)
    error = await refused(model_server, fault, pauses=pauses, timeout=10, retry_attempts=3)
    assert pauses.seconds == [12.0, 12.0]
    error = await refused(model_server, fault, pauses=Pauses(), timeout=5, retry_attempts=3)
    assert error.details["attempts"] == 2
    assert "it asks to wait 12 s" in error.message


async def test_pauses_double_up_to_ten_seconds_with_jitter(model_server):
    pauses = Pauses()
    model_server.answers(Fault(500))
    client = LiteLLMClient(sleep=pauses, jitter=lambda: -1.0)
    with pytest.raises(ModelFailed):
        await client.complete(request(model_server, retry_attempts=9))
    assert pauses.seconds == pytest.approx([0.09, 0.18, 0.36, 0.72, 1.44, 2.88, 5.76, 9.0])


async def test_a_call_can_be_cancelled(model_server):
    model_server.answers(Broken("hang"))
    task = asyncio.create_task(LiteLLMClient().complete(request(model_server)))
    deadline = time.monotonic() + 20
    while not model_server.requests and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_calls_from_one_loop_after_the_other(model_server):
    for _ in range(3):
        assert asyncio.run(ask(model_server, Reply("ok"))).text == "ok"


def test_calls_from_several_loops_at_once(model_server):
    model_server.answers(Reply("ok", delay=0.05))

    def many() -> list[str]:
        async def calls() -> list[str]:
            return [(await ask(model_server)).text for _ in range(5)]

        return asyncio.run(calls())

    async def threads() -> list[list[str]]:
        return await asyncio.gather(*(asyncio.to_thread(many) for _ in range(4)))

    assert asyncio.run(threads()) == [["ok"] * 5] * 4


async def test_many_calls_at_once(model_server):
    model_server.answers_by(lambda seen: Reply(seen.body["messages"][-1]["content"], delay=0.2))
    asked = [f"question {number}" for number in range(50)]
    got = await asyncio.gather(
        *(ask(model_server, messages=({"role": "user", "content": text},)) for text in asked)
    )
    assert [one.text for one in got] == asked


async def test_the_mock_provider_needs_neither_key_nor_network(model_server):
    got = await ask(model_server, provider="mock", key=None)
    assert got.text == "Mock response for: sys hi "
    assert model_server.requests == []


async def test_nothing_of_the_process_is_used(model_server, monkeypatch):
    """Neither key nor organization nor address: what the project says is what is asked."""
    for name in ("OPENAI_API_KEY", "OPENAI_ORGANIZATION", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "of-the-process-000000")
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "GROQ_API_BASE", "OLLAMA_API_BASE"):
        monkeypatch.setenv(name, "http://of-the-process.invalid")
    with pytest.raises(MissingKey):
        await ask(model_server, Reply(), key=None)
    await ask(model_server, Reply(), key=None, provider="custom")
    await ask(model_server, provider="openai")
    custom, openai = model_server.requests
    assert custom.authorization == "Bearer none"
    assert openai.authorization == f"Bearer {KEY}"
    for seen in (custom, openai):
        assert "of-the-process" not in f"{seen.headers}{seen.text}"


async def test_redirects_are_not_followed(model_server):
    """The key would go along, in headers that nobody strips."""
    for provider in ("openai", "anthropic", "google"):
        await refused(model_server, Broken("redirect"), provider=provider)
        assert len(model_server.requests) == 1


async def test_bad_configuration_says_so(model_server):
    error = await refused(model_server, provider="opneai")
    assert error.code == "INVALID_CONFIGURATION"
    assert not error.retryable
    error = await refused(model_server, provider="custom", api_url="")
    assert "api_url" in error.message


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("deepseek", "deepseek-chat"),
        ("xai", "grok-4"),
        ("openrouter", "x-ai/grok-4"),
        ("cerebras", "llama3.1-8b"),
        ("custom", "org/some-model"),
    ],
)
async def test_providers_that_speak_like_openai(model_server, provider, model):
    got = await ask(model_server, Reply("ok"), provider=provider, model=model)
    [seen] = model_server.requests
    assert got.text == "ok"
    assert (seen.path, seen.body["model"]) == ("/v1/chat/completions", model)
    assert seen.authorization == f"Bearer {KEY}"
    assert seen.headers["accept-encoding"] == "identity", "over our own connection"


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("anthropic", "/v1/messages"),
        ("google", "/v1beta/models/gemini-2.5-flash:generateContent"),
        ("groq", "/openai/v1/chat/completions"),
        ("ollama", "/api/chat"),
    ],
)
async def test_where_the_others_are_asked(model_server, provider, path):
    await ask(model_server, Reply("ok"), provider=provider)
    # With or without the version in it, as people write the address.
    if provider in ("anthropic", "ollama"):
        await ask(model_server, provider=provider, api_url=f"{model_server.address}/v1/")
    assert {seen.path for seen in model_server.requests} == {path}


@pytest.mark.parametrize(
    ("provider", "variable"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("anthropic", "ANTHROPIC_API_KEY"),
        ("google", "GOOGLE_API_KEY"),
        ("openrouter", "OPENROUTER_API_KEY"),
        ("ollama", None),
        ("custom", None),
        ("mock", None),
    ],
)
def test_the_variable_of_a_provider(provider, variable):
    assert required_variable(ModelPlan(provider, "m")) == variable
    assert required_variable(ModelPlan(provider, "m", api_key="{{ .env.MINE }}")) == "MINE"


def test_where_a_key_comes_from():
    openai, google = ModelPlan("openai", "gpt-4o"), ModelPlan("google", "gemini")
    assert resolve_key(openai, " given ", {"OPENAI_API_KEY": "env"}) == "given"
    assert resolve_key(openai, "", {"OPENAI_API_KEY": "env"}) == "env"
    assert resolve_key(google, None, {"GEMINI_API_KEY": "env"}) == "env"
    assert resolve_key(ModelPlan("ollama", "llama3"), None, {}) is None
    assert resolve_key(ModelPlan("custom", "x"), None, {"CUSTOM_API_KEY": "env"}) == "env"
    assert resolve_key(ModelPlan("mock", "x"), "given", {}) is None
    with pytest.raises(MissingKey) as raised:
        resolve_key(openai, None, {"ANTHROPIC_API_KEY": "x", "OPENAI_API_KEY": " "})
    for word in ("OPENAI_API_KEY", "openai/gpt-4o", "--offline", "--mocks FILE"):
        assert word in raised.value.message
    assert raised.value.code == "MISSING_CONFIGURATION"


def test_addresses():
    assert api_base("anthropic", "https://x/v1/") == "https://x"
    assert api_base("ollama", "http://localhost:11434/") == "http://localhost:11434"
    assert api_base("openai", "https://x/v1/") == "https://x/v1"


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        (SCHEMA | {"additionalProperties": False}, False),
        ({"type": "object", "properties": {}, "additionalProperties": False}, True),
        (
            {
                "type": "object",
                "properties": {
                    "a": {"type": "array", "items": {"$ref": "#/$defs/n"}},
                    "b": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
                "required": ["a", "b"],
                "additionalProperties": False,
                "$defs": {"n": {"type": "integer"}},
            },
            True,
        ),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, False),
        ({"type": "string", "minLength": 2}, False),
        ({"type": ["string", "null"]}, False),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, False),
    ],
)
def test_strict_mode_is_for_schemas_that_are_strict(schema, fits):
    assert structured.strict(schema) is fits


async def test_concurrent_first_calls_import_once(monkeypatch):
    monkeypatch.setattr(engine, "_module", None)
    imported: list[str] = []
    real = engine.importlib.import_module

    def counting(name: str):
        if name == "litellm":  # which imports its parts the same way
            imported.append(name)
            time.sleep(0.1)
        return real(name)

    monkeypatch.setattr(engine.importlib, "import_module", counting)
    warm()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.005)

    ticking = asyncio.create_task(tick())
    modules = await asyncio.gather(*(engine.litellm() for _ in range(8)))
    ticking.cancel()
    assert imported == ["litellm"]
    assert len({id(module) for module in modules}) == 1
    assert ticks > 3, "the loop went on"


def test_connections_end_with_their_loop(model_server):
    """Nobody closes a client, and yet aiohttp has nothing to complain about on stderr."""
    code = textwrap.dedent(
        f"""
        import asyncio, gc, threading
        from compozy_prefect.compiler.plan import ModelPlan
        from compozy_prefect.runtime.llm.client import ModelRequest
        from compozy_prefect.runtime.llm.providers import LiteLLMClient

        model = ModelPlan("groq", "x", api_url={model_server.base("groq")!r})
        messages = ({{"role": "user", "content": "x"}},)
        asked = ModelRequest("a", "b", "s", model, "k-00000", messages, {{}})
        for _ in range(3):
            print(asyncio.run(LiteLLMClient().complete(asked)).text)
            gc.collect()
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        call = asyncio.run_coroutine_threadsafe(LiteLLMClient().complete(asked), loop)
        print(call.result().text)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("ok\n" * 4, "")
