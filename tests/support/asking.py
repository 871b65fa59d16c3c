"""Questions to a model server, as an agent would put them, without waiting between attempts."""

from __future__ import annotations

from typing import Any

import pytest

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.errors import ModelFailed
from compozy_prefect.runtime.llm.client import Listener, ModelAnswer, ModelRequest, ToolOffer
from compozy_prefect.runtime.llm.providers import LiteLLMClient
from compozy_prefect.runtime.llm.wire import Limits
from tests.support.model_server import Entry, ModelServer

KEY = "sk-test-0123456789abcdef"
SCHEMA = {
    "id": "named",
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
}
# A model of each wire format that takes schemas by itself.
MODELS = {
    "openai": "gpt-4o-mini",
    "groq": "openai/gpt-oss-120b",
    "anthropic": "claude-sonnet-4-5",
    "google": "gemini-2.5-flash",
    "ollama": "llama3",
}
FORMATS = tuple(MODELS)
WEATHER = ToolOffer(
    "weather/now.v1",
    "The weather in a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CLOCK = ToolOffer("clock")


class Pauses:
    """A clock that goes by what it was asked to wait, and writes it down."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def now(self) -> float:
        return sum(self.seconds)


def request(
    server: ModelServer,
    *,
    messages: tuple[dict[str, Any], ...] = (
        {"role": "system", "content": "sys"},
        {"role": "user", "content": "hi"},
    ),
    schema: Any = None,
    json_mode: bool = False,
    key: str | None = KEY,
    tools: tuple[ToolOffer, ...] = (),
    tool_choice: str = "auto",
    provider: str = "openai",
    **model: Any,
) -> ModelRequest:
    plan = {
        "model": MODELS.get(provider, "some-model"),
        "api_url": server.base(provider),
        "timeout": 20.0,
    }
    return ModelRequest(
        agent="a",
        action="b",
        step="first/step",
        model=ModelPlan(provider, **{**plan, **model}),
        api_key=key,
        messages=messages,
        input={},
        schema=schema,
        json_mode=json_mode,
        tools=tools,
        tool_choice=tool_choice,
    )


async def ask(
    server: ModelServer,
    *script: Entry,
    pauses: Pauses | None = None,
    on_chunk: Listener | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> ModelAnswer:
    """The answer to a request with these options, from a server with this script."""
    if script:
        server.answers(*script)
    pauses = pauses or Pauses()
    client = LiteLLMClient(
        sleep=pauses, clock=pauses.now, jitter=lambda: 0.0, limits=limits or Limits()
    )
    return await client.complete(request(server, **options), on_chunk=on_chunk)


async def refused(server: ModelServer, *script: Entry, **options: Any) -> ModelFailed:
    """The error that the question ends with."""
    with pytest.raises(ModelFailed) as raised:
        await ask(server, *script, **options)
    return raised.value
