"""Models: which provider answers, with which key and parameters (language.md §5)."""

from typing import Any, Literal

from pydantic import Field

from compozy_prefect.language.models.base import Data, Noun, Seconds

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

    max_tokens: int | None = Field(None, description="Tokens of an answer, at most.")
    temperature: float | None = Field(None, description="0 to 2.")
    stop_words: list[str] | None = Field(None, description="Texts at which an answer ends.")
    top_k: int | None = Field(None, description="Sample among the k likeliest tokens.")
    top_p: float | None = Field(None, description="0 to 1.")
    seed: int | None = Field(None, description="For repeatable sampling, where supported.")
    min_length: int | None = Field(None, description="Tokens of an answer, at least.")
    max_length: int | None = Field(None, description="Tokens of an answer, at most.")
    repetition_penalty: float | None = Field(None, description="Penalty for repetition.")
    frequency_penalty: float | None = Field(None, description="Penalty by frequency.")
    presence_penalty: float | None = Field(None, description="Penalty by presence.")
    n: int | None = Field(None, description="Number of answers.")
    candidate_count: int | None = Field(None, description="Number of candidates.")
    metadata: dict[str, Any] | None = Field(None, description="Passed to the provider.")


class Model(Parameters):
    """A provider entry. Parameters may stand on it directly or under `params`, which wins."""

    id: str | None = Field(None, description="A name that selectors may use.")
    provider: Provider = Field(description="Who answers.")
    model: str = Field(min_length=1, description="The provider's name of the model.")
    api_key: str | None = Field(
        None, description="The key, as a template: `{{ .env.OPENAI_API_KEY }}`."
    )
    api_url: str | None = Field(None, description="The endpoint, instead of the provider's own.")
    base_url: str | None = Field(None, description="The same as `api_url`.")
    organization: str | None = Field(None, description="OpenAI's organization.")
    params: Parameters | None = Field(None, description="Sampling parameters.")
    timeout: Seconds | None = Field(None, description="Of one call; 5 minutes if not given.")
    retry_attempts: int | None = Field(None, ge=0, description="Attempts of one call; 3.")
    context_window: int | None = Field(None, ge=0, description="Tokens that the model reads.")
    default: bool = Field(False, description="For agents that name no model.")
    max_tool_iterations: int | None = Field(None, ge=0, description="Turns of the tool loop.")
    rate_limit: Data = Field(None, description="Limits on calls and tokens.")

    def parameters(self) -> dict[str, Any]:
        """All parameters that are given, `params` over those on the entry itself."""
        out: dict[str, Any] = {}
        for source in (self, self.params):
            if source is not None:
                for name in PARAMETERS:
                    if name in source.model_fields_set and getattr(source, name) is not None:
                        out[name] = getattr(source, name)
        return out
