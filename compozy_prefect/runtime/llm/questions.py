"""A question to a model and its answer as JSON, without the key: to be kept, and known again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime.llm import media
from compozy_prefect.runtime.llm.client import ModelAnswer, ModelRequest, ToolCall, Usage


def question(request: ModelRequest) -> dict[str, Json]:
    """All that the answer depends on; a digest stands for each file."""
    model = request.model
    out: dict[str, Json] = {
        "model": f"{model.provider}:{model.model}",
        "params": model.params,
        "messages": media.kept(request.messages),
        "tools": [
            {"name": one.name, "description": one.description, "schema": one.schema}
            for one in request.tools
        ],
        "schema": request.schema,
        "json_mode": request.json_mode,
    }
    return {name: value for name, value in out.items() if value}


def answer_to(reply: ModelAnswer) -> dict[str, Json]:
    usage = reply.usage
    more = {
        "calls": usage.calls,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }
    return {
        "text": reply.text,
        "calls": [[call.id, call.name, call.arguments] for call in reply.calls],
        "finish": reply.finish,
        "model": reply.model,
        "usage": usage.to_json() | {name: value for name, value in more.items() if value},
    }


def answer_from(data: Mapping[str, Any]) -> ModelAnswer:
    calls = tuple(ToolCall(id, name, arguments) for id, name, arguments in data["calls"])
    usage = Usage.from_json(data["usage"])
    return ModelAnswer(data["text"], usage, data["model"], calls, data["finish"])
