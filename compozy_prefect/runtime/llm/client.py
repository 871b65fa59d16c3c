"""One question to a language model → its answer in words and what it cost.

`ModelClient` is the seam between an agent and whatever answers: a provider (`providers.py`), the
offline model (`offline.py`) or a mocks file (`runtime/mocks.py`). It has one method, so that a
test replaces the network with a few lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from compozy_prefect.compiler.plan import Json, ModelPlan


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What an agent asks. Nothing in it is a template any more.

    `messages` are in the form of OpenAI's chat completions, the system prompt first. `input` is
    the effective input of the action, `schema` the JSON Schema that the answer has to fit (None:
    any words will do), `step` the path of the asking step. `api_key` is kept out of `repr`.
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


@dataclass(frozen=True, slots=True)
class Usage:
    """What calls of models took. `cost_usd` is in US dollars, None when a price is unknown.

    The default is the sum of no calls: nothing, at no cost.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    calls: int = 0

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
        )

    def to_json(self) -> dict[str, Any]:
        """The `usage` object of `compozy run --json`, with the number of calls left out."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.cost_usd,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Usage:
        """The usage that `to_json` wrote; `calls` is read too if somebody kept it."""
        return cls(
            data.get("prompt_tokens", 0),
            data.get("completion_tokens", 0),
            data.get("cost_usd", 0.0),
            data.get("calls", 0),
        )


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """The answer in words; `model` is the name that the provider says has answered."""

    text: str
    usage: Usage
    model: str


class ModelClient(Protocol):
    """Something that answers. Must be usable from several event loops and tasks at once."""

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        """The answer to `request`.

        Raises MissingKey, or ModelFailed when no answer could be had; neither holds a key.
        """
        ...
