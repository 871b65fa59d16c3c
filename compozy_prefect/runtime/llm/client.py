"""One question to a language model → its answer in words, calls of tools, and what it cost.

`ModelClient` is the seam between an agent and whatever answers: a provider (`providers.py`), the
offline model (`offline.py`) or a mocks file (`runtime/mocks.py`). It has one method, so that a
test replaces the network with a few lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from compozy_prefect.compiler.plan import Json, ModelPlan
from compozy_prefect.errors import ModelFailed

# Takes the text of a streamed answer piece by piece. None takes back what the call has said so
# far: the connection broke, and another attempt begins anew.
Listener = Callable[[str | None], None]
Finish = Literal["stop", "length", "tool_calls", "content_filter"]

# Pieces in which an answer is told that came in one (service.md §8.4).
SEGMENT, MOST_SEGMENTS = 200, 100


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """A tool that the model may call. `schema` is the JSON Schema of its arguments, an object."""

    name: str
    description: str = ""
    schema: Json = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What the model wants called. `arguments` are text where they are no JSON object."""

    id: str
    name: str
    arguments: dict[str, Json] | str

    def to_message(self) -> dict[str, Any]:
        """The call as an entry of `tool_calls` of a message."""
        text = self.arguments
        if not isinstance(text, str):
            text = json.dumps(text, ensure_ascii=False)
        function = {"name": self.name, "arguments": text}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Candidate:
    """Another model that may answer, with its key. `error` says why it cannot be asked."""

    model: ModelPlan = field(repr=False)
    api_key: str | None = field(repr=False)
    error: str = ""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What an agent asks. Nothing in it is a template any more.

    `messages` are in the form of OpenAI's chat completions, the system prompt first; those of the
    assistant may hold `tool_calls`, and role `tool` answers one by its `tool_call_id`. `input` is
    the effective input of the action, `schema` the JSON Schema that the answer has to fit (None:
    any words will do), `step` the path of the asking step. `tool_choice` is `auto`, `none`,
    `required`, or the name of the tool that has to be called. `others` may answer when the model
    does not (`failover.py`). `api_key` is kept out of `repr`.
    """

    agent: str
    action: str
    step: str
    model: ModelPlan = field(repr=False)  # its `api_key` may be no template but the key itself
    api_key: str | None = field(repr=False)
    messages: tuple[dict[str, Any], ...]
    input: dict[str, Any]
    schema: Json | None = None
    json_mode: bool = False
    tools: tuple[ToolOffer, ...] = ()
    tool_choice: str = "auto"
    others: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What calls of models took. `cost_usd` is in US dollars, None when a price is unknown.

    `cached_tokens` are those of the prompt that the provider had kept, `reasoning_tokens` those of
    the completion that nobody gets to read. The default is the sum of no calls: nothing, for
    nothing.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    calls: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        """The sum; an unknown cost makes the sum unknown."""
        if self.cost_usd is None or other.cost_usd is None:
            cost = None
        else:
            cost = self.cost_usd + other.cost_usd
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            cost,
            self.calls + other.calls,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    def to_json(self) -> dict[str, Any]:
        """The `usage` object of `compozy run --json`, which has these three keys."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.cost_usd,
        }

    def kept(self) -> dict[str, Any]:
        """All of it, as a run keeps it to go on after a crash."""
        return self.to_json() | {
            "calls": self.calls,
            "cached_tokens": self.cached_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Usage:
        """The usage that `kept` or `to_json` wrote."""
        return cls(
            data.get("prompt_tokens", 0),
            data.get("completion_tokens", 0),
            data.get("cost_usd", 0.0),
            data.get("calls", 0),
            data.get("cached_tokens", 0),
            data.get("reasoning_tokens", 0),
        )


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """The answer: words, or calls of tools, or both. `model` is who has answered by its own word.

    `finish` says why it ended: `length` means that it was cut off, `content_filter` that the
    provider took something out.
    """

    text: str
    usage: Usage
    model: str
    calls: tuple[ToolCall, ...] = ()
    finish: Finish = "stop"

    def to_message(self) -> dict[str, Any]:
        """The answer as a message of the assistant, for the next request."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.calls:
            message["tool_calls"] = [call.to_message() for call in self.calls]
        return message


def paid_for(fault: ModelFailed) -> Usage:
    """What answers took that could not be used. They are no calls of their own."""
    return replace(Usage.from_json(fault.details.get("usage") or {}), calls=0)


class ModelClient(Protocol):
    """Something that answers. Must be usable from several event loops and tasks at once."""

    async def complete(
        self, request: ModelRequest, *, on_chunk: Listener | None = None
    ) -> ModelAnswer:
        """The answer to `request`, which is the same with `on_chunk` and without.

        Raises MissingKey, or ModelFailed when no answer could be had; neither holds a key.
        """
        ...


def tell(text: str, on_chunk: Listener | None) -> None:
    """Hands a text that came whole to a listener, in pieces as if it had been streamed."""
    if on_chunk is None:
        return
    size = max(SEGMENT, -(-len(text) // MOST_SEGMENTS))
    for start in range(0, len(text), size):
        on_chunk(text[start : start + size])
