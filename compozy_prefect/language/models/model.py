"""Models: which provider answers, with which key and parameters (language.md §5)."""

from typing import Any, Literal

from compozy_prefect.language.models.base import Noun, Seconds, field

Provider = Literal[
    "openai",
    "anthropic",
    "google",
    "groq",
    "ollama",
    "deepseek",
    "xai",
    "cerebras",
    "openrouter",
    "custom",
    "mock",
]

PARAMETERS = (
    "max_tokens",
    "temperature",
    "stop_words",
    "top_k",
    "top_p",
    "seed",
    "min_length",
    "max_length",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "n",
    "candidate_count",
    "metadata",
)


class Parameters(Noun):
    """Sampling parameters. A value that is given counts, also when it is zero."""

    called = "`params`"

    max_tokens: int | None = field(None, "Tokens of an answer, at most.", ge=0, example=1000)
    temperature: float | None = field(None, "0 to 2.", example=0.7)
    stop_words: list[str] | None = field(None, "Texts at which an answer ends.")
    top_k: int | None = field(None, "Sample among the k likeliest tokens.", ge=0)
    top_p: float | None = field(None, "0 to 1.")
    seed: int | None = field(None, "For repeatable sampling, where supported.")
    min_length: int | None = field(None, "Tokens of an answer, at least.", ge=0)
    max_length: int | None = field(None, "Tokens of an answer, at most.", ge=0)
    repetition_penalty: float | None = field(None, "Penalty for repetition.")
    frequency_penalty: float | None = field(None, "Penalty by frequency.")
    presence_penalty: float | None = field(None, "Penalty by presence.")
    n: int | None = field(None, "Number of answers.", ge=0)
    candidate_count: int | None = field(None, "Number of candidates.", ge=0)
    metadata: dict[str, Any] | None = field(None, "Passed to the provider.")


class RateLimit(Noun):
    """Limits on the calls of one model."""

    called = "`rate_limit`"

    concurrency: int | None = field(None, "Calls at a time.", ge=0)
    queue_size: int | None = field(None, "Calls that may wait.", ge=0)
    requests_per_minute: int | None = field(None, "Calls a minute.", ge=0)
    tokens_per_minute: int | None = field(None, "Tokens a minute.", ge=0)
    request_burst: int | None = field(None, "Calls that may exceed it at once.", ge=0)
    token_burst: int | None = field(None, "Tokens that may exceed it at once.", ge=0)
    release_slot_before_token_wait: bool = field(False, "Wait for tokens without holding a slot.")


class Price(Noun):
    """US dollars for a million tokens."""

    called = "`price`"

    input: float = field(..., "Of the prompt.", ge=0, example=0.15)
    output: float = field(..., "Of the answer.", ge=0, example=0.6)
    cached_input: float | None = field(None, "Of what the provider had kept.", ge=0)


class Model(Parameters):
    """A provider entry. Parameters may stand on it directly or under `params`, which wins."""

    called = "a model"

    id: str | None = field(None, "A name that selectors may use.")
    provider: Provider = field(..., "Who answers.", example="openai")
    model: str = field(..., "The provider's name of the model.", min_length=1, example="gpt-4o")
    api_key: str | None = field(
        None, "The key, as a template.", example="{{ .env.OPENAI_API_KEY }}"
    )
    api_url: str | None = field(None, "The endpoint, instead of the provider's own.")
    base_url: str | None = field(None, "The same as `api_url`.")
    organization: str | None = field(None, "OpenAI's organization.")
    params: Parameters | None = field(None, "Sampling parameters.")
    timeout: Seconds | None = field(None, "Of one call; 5 minutes if not given.", example="2m")
    retry_attempts: int | None = field(None, "Attempts of one call; 3 if not given.", ge=0)
    context_window: int | None = field(None, "Tokens that the model reads.", ge=0)
    default: bool = field(False, "For agents that name no model.")
    max_tool_iterations: int | None = field(None, "Turns of the tool loop.", ge=0)
    rate_limit: RateLimit | None = field(None, "Limits on calls and tokens.")
    fallbacks: list[str] = field(
        [], "Models of the project that are asked when this one fails: ids, or `provider:model`."
    )
    routing: Literal["priority", "cost", "latency"] = field(
        "priority", "Which of it and its fallbacks is asked first."
    )
    price: Price | None = field(None, "What it costs, where nobody knows or it is otherwise.")

    def parameters(self) -> dict[str, Any]:
        """All parameters that are given, `params` over those on the entry itself."""
        out: dict[str, Any] = {}
        for source in (self, self.params):
            if source is not None:
                for name in PARAMETERS:
                    if name in source.given:
                        out[name] = getattr(source, name)
        return out
