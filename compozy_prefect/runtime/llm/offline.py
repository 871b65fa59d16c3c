"""A question → an answer that is made here, always the same one, without a network.

`OfflineClient` stands for every model under `--offline` (design.md, mocks); `MockProvider` is the
provider `mock` of the language (language.md §4.6).
"""

from __future__ import annotations

import json
from typing import Any

from compozy_prefect.compiler.canonical import canonical
from compozy_prefect.runtime.llm.client import (
    Listener,
    ModelAnswer,
    ModelRequest,
    Usage,
    tell,
)
from compozy_prefect.runtime.llm.samples import sample, texts_of

_QUOTED = 120  # characters of the prompt in an offline answer


class OfflineClient:
    """Data that fits the schema, otherwise a sentence that quotes the prompt. No key is needed."""

    async def complete(
        self, request: ModelRequest, *, on_chunk: Listener | None = None
    ) -> ModelAnswer:
        if request.schema is not None:
            text = _shaped(request)
        else:
            prompt = " ".join(_last(request, "user").split())
            if len(prompt) > _QUOTED:
                prompt = prompt[:_QUOTED] + "…"
            text = f"Offline answer of {request.agent}.{request.action} to: {prompt}"
        tell(text, on_chunk)
        return ModelAnswer(text, Usage(calls=1), "offline")


class MockProvider:
    """`provider: mock`: an echo of system and user, or data that fits the schema."""

    async def complete(
        self, request: ModelRequest, *, on_chunk: Listener | None = None
    ) -> ModelAnswer:
        if request.schema is not None:
            text = _shaped(request)
        else:
            text = "Mock response for: "
            for message in request.messages:
                if message.get("role") in ("system", "user"):
                    text += _words(message) + " "
        tell(text, on_chunk)
        return ModelAnswer(text, Usage(calls=1), request.model.model or "mock")


def _shaped(request: ModelRequest) -> str:
    asked = [[message.get("role"), _words(message)] for message in request.messages]
    seed = canonical([request.agent, request.action, asked]).decode("utf-8", "replace")
    value = sample(request.schema, seed, texts_of(request.input))
    return json.dumps(value, ensure_ascii=False)


def _last(request: ModelRequest, role: str) -> str:
    said = [_words(message) for message in request.messages if message.get("role") == role]
    return said[-1] if said else ""


def _words(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)
