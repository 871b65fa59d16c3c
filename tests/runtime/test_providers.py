"""providers: litellm against a scripted server on loopback."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.errors import MissingKey, ModelFailed
from compozy_prefect.runtime.agents import AgentRequest, answer
from compozy_prefect.runtime.llm import engine, structured
from compozy_prefect.runtime.llm.client import ModelAnswer, ModelRequest, Usage
from compozy_prefect.runtime.llm.engine import warm
from compozy_prefect.runtime.llm.keys import required_variable, resolve_key
from compozy_prefect.runtime.llm.providers import (
    LiteLLMClient,
    api_base,
)
from tests.support.model_server import Broken, Entry, Fault, ModelServer, Reply, huge

KEY = "sk-test-0123456789abcdef"
SCHEMA = {
    "id": "named",
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
}


class Pauses:
    """A clock that does not tick: it writes down what it was asked to wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def request(
    server: ModelServer, *, schema=None, json_mode=False, key: str | None = KEY, **model
) -> ModelRequest:
    plan = {"provider": "openai", "model": "gpt-4o-mini", "api_url": server.url, "timeout": 10.0}
    return ModelRequest(
        agent="a",
        action="b",
        step="s",
        model=ModelPlan(**{**plan, **model}),
        api_key=key,
        messages=({"role": "system", "content": "sys"}, {"role": "user", "content": "hi"}),
        input={},
        schema=schema,
        json_mode=json_mode,
    )


async def ask(
    server: ModelServer, *script: Entry, pauses: Pauses | None = None, **options
) -> ModelAnswer:
    if script:
        server.answers(*script)
    client = LiteLLMClient(sleep=pauses or Pauses(), jitter=lambda: 0.0)
    return await client.complete(request(server, **options))


async def refused(server: ModelServer, *script: Entry, **options) -> ModelFailed:
    with pytest.raises(ModelFailed) as raised:
        await ask(server, *script, **options)
    return raised.value


async def test_a_call_carries_the_key_the_messages_and_the_parameters(model_server):
    params = {"temperature": 0.0, "max_tokens": 7, "stop_words": ["x"], "top_p": None, "n": 4}
    params |= {"top_k": 3, "api_base": "http://example.com", "seed": 0, "frequency_penalty": 0.5}
    got = await ask(model_server, Reply("Hello"), params=params)
    assert got == ModelAnswer("Hello", Usage(10, 5, pytest.approx(4.5e-06), 1), "gpt-4o-mini")
    [seen] = model_server.requests
    assert seen.path == "/v1/chat/completions"
    assert seen.authorization == f"Bearer {KEY}"
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
    got = await ask(model_server, Reply(None), schema=SCHEMA)
    sent = model_server.requests[0].body
    assert sent["response_format"]["json_schema"] == {
        "name": "output",
        "schema": {key: item for key, item in SCHEMA.items() if key != "id"},
        "strict": False,
    }
    assert sent["messages"][1]["content"] == "hi"
    assert '"a"' in got.text


@pytest.mark.parametrize("model", [{"model": "nobody-knows"}, {"provider": "custom"}])
async def test_otherwise_it_stands_in_the_prompt(model_server, model):
    got = await ask(model_server, Reply("x"), schema=SCHEMA, **model)
    sent = model_server.requests[0].body
    assert sent["response_format"] == {"type": "json_object"}
    assert '"required":["a"]' in sent["messages"][1]["content"]
    assert got.usage.cost_usd is None


async def test_json_mode_without_a_schema(model_server):
    await ask(model_server, Reply("{}"), json_mode=True)
    sent = model_server.requests[0].body
    assert sent["response_format"] == {"type": "json_object"}
    assert "JSON" in sent["messages"][1]["content"]


async def test_a_bad_answer_is_re_prompted_over_the_wire(model_server):
    model_server.answers(Reply("no idea"), Reply('{"a": "x"}'), Reply('```json\n{"a": 1}\n```'))
    asked = request(model_server)
    out = await answer(
        AgentRequest(
            agent="a",
            action="b",
            step="s",
            model=asked.model,
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


@pytest.mark.parametrize(
    ("fault", "reason", "status"),
    [
        (Fault(429), "RATE_LIMIT", 429),
        (Fault(429, "insufficient_quota"), "QUOTA_EXCEEDED", 429),
        (Fault(500), "INTERNAL_SERVER_ERROR", 500),
        (Fault(502), "BAD_GATEWAY", 502),
        (Fault(503), "SERVICE_UNAVAILABLE", 503),
        (Fault(504), "GATEWAY_TIMEOUT", 504),
        (Fault(529), "CAPACITY_ERROR", 529),
    ],
)
async def test_what_may_pass_is_tried_again(model_server, fault, reason, status):
    pauses = Pauses()
    assert (await ask(model_server, fault, fault, Reply("ok"), pauses=pauses)).text == "ok"
    assert pauses.seconds == [0.1, 0.2]
    error = await refused(model_server, fault, retry_attempts=4)
    assert len(model_server.requests) == 4, "attempts in total, and litellm adds none"
    assert error.code == "LLM_GENERATION_ERROR"
    assert error.retryable
    assert error.details == {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "reason": reason,
        "status": status,
        "attempts": 4,
    }
    for word in ("openai/gpt-4o-mini", str(status), "4 attempts"):
        assert word in error.message


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        (Fault(400, "too long"), "BAD_REQUEST", "too long"),
        (Fault(401, "wrong key"), "UNAUTHORIZED", "Check OPENAI_API_KEY."),
        (Fault(403), "FORBIDDEN", "may use this model"),
        (Fault(404), "NOT_FOUND", "name of the model"),
        (Fault(422), "BAD_REQUEST", "parameters"),
    ],
)
async def test_what_will_not_pass_is_not(model_server, fault, reason, words):
    error = await refused(model_server, fault)
    assert len(model_server.requests) == 1
    assert not error.retryable
    assert (error.details["reason"], error.details["status"]) == (reason, fault.status)
    assert "not retried" in error.message
    assert words in error.message
    assert "wrong key" not in error.message


@pytest.mark.parametrize(
    ("how", "reasons"),
    [
        ("drop", {"CONNECTION_RESET", "CONNECTION_REFUSED"}),
        ("truncated", {"CONNECTION_RESET"}),
        ("hang", {"TIMEOUT"}),
    ],
)
async def test_a_broken_connection_is_tried_again(model_server, how, reasons):
    error = await refused(model_server, Broken(how), timeout=0.3, retry_attempts=2)
    assert len(model_server.requests) == 2
    assert error.details["reason"] in reasons
    assert "status" not in error.details
    good = await ask(model_server, Broken(how), Reply("ok"), timeout=0.5)
    assert good.text == "ok"


async def test_nobody_there(model_server):
    error = await refused(model_server, api_url="http://127.0.0.1:9/v1")
    assert error.details["reason"] == "CONNECTION_REFUSED"
    assert error.details["attempts"] == 3
    assert "api_url" in error.message


async def test_an_answer_that_is_no_json_is_left_to_the_step(model_server):
    error = await refused(model_server, Broken("invalid"))
    assert len(model_server.requests) == 1
    assert error.code == "INVALID_LLM_RESPONSE"
    assert error.retryable


async def test_an_empty_answer_is_none(model_server):
    error = await refused(model_server, Reply(""))
    assert error.code == "INVALID_LLM_RESPONSE"
    assert "empty" in error.message


async def test_a_huge_answer_is_an_answer(model_server):
    assert len((await ask(model_server, huge())).text) == 5_000_000


async def test_retry_after_is_honoured(model_server):
    pauses = Pauses()
    await ask(model_server, Fault(429, retry_after=7.5), Fault(503), Reply(), pauses=pauses)
    assert pauses.seconds == [7.5, 0.2]
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    await ask(model_server, Fault(429, retry_after=when), Reply(), pauses=pauses)
    assert 25 < pauses.seconds[2] <= 30
    error = await refused(model_server, Fault(429, retry_after=3600), pauses=pauses)
    assert len(model_server.requests) == 1
    assert len(pauses.seconds) == 3
    assert error.details["retry_after_seconds"] == 3600
    assert "wait 3600 s" in error.message


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


async def test_many_calls_at_once(model_server):
    model_server.answers(Reply("ok", delay=0.2))
    start = time.monotonic()
    got = await asyncio.gather(*(ask(model_server) for _ in range(30)))
    assert {one.text for one in got} == {"ok"}
    assert time.monotonic() - start < 5


async def test_the_mock_provider_needs_neither_key_nor_network(model_server):
    got = await ask(model_server, provider="mock", key=None)
    assert got.text == "Mock response for: sys hi "
    assert model_server.requests == []


async def test_a_key_of_the_process_is_never_used(model_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-process-000000")
    with pytest.raises(MissingKey):
        await ask(model_server, Reply(), key=None)
    await ask(model_server, Reply(), key=None, provider="custom")
    [seen] = model_server.requests
    assert seen.authorization == "Bearer none"


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


@pytest.mark.parametrize(
    ("provider", "model", "base", "path"),
    [
        ("anthropic", "claude-sonnet-4-5", "/v1/", "/v1/messages"),
        (
            "google",
            "gemini-2.5-flash",
            "/v1beta",
            "/v1beta/models/gemini-2.5-flash:generateContent",
        ),
        ("groq", "llama-3.3-70b-versatile", "/openai/v1", "/openai/v1/chat/completions"),
        ("ollama", "llama3", "", "/api/chat"),
    ],
)
async def test_providers_with_an_api_of_their_own_are_asked_there(
    model_server, provider, model, base, path
):
    # The server does not speak their languages; what counts is where the request went.
    url = model_server.url.removesuffix("/v1") + base
    error = await refused(
        model_server, Fault(400), provider=provider, model=model, api_url=url, schema=SCHEMA
    )
    [seen] = model_server.requests
    assert seen.path.partition("?")[0] == path
    assert error.details["status"] == 400
    assert KEY not in seen.text
    assert KEY not in error.message


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
    assert required_variable(provider) == variable


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
