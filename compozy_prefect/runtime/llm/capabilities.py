"""A model → what it can do, from the table that litellm carries; no network is asked.

The table is a snapshot: models come after it and old ones are taken out, which then are unknown.
So what all models of a provider can do stands here, and where the table is wrong, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.runtime.llm import engine
from compozy_prefect.runtime.llm.media import Medium

# Provider of the language → prefix of litellm. `ollama_chat` and not `ollama`, which would ask
# for a completion and imitate a chat (dependencies.md §3).
PREFIXES: Mapping[str, str] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "gemini",
    "groq": "groq",
    "ollama": "ollama_chat",
    "deepseek": "deepseek",
    "xai": "xai",
    "openrouter": "openrouter",
    "cerebras": "cerebras",
    "custom": "openai",
}
SchemaMode = Literal["native", "tool", "prompt"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do. A number is in tokens, None where it is not known.

    `schema` is how an answer is held to a schema: `native`, the provider takes the schema; `tool`,
    by the arguments of a tool that has to be called; `prompt`, the schema is told in words.
    `cannot` are the media that it is known not to take.
    `json_mode` is whether JSON alone can be asked for.
    """

    schema: SchemaMode = "prompt"
    tools: bool = True
    json_mode: bool = True
    context_window: int | None = None
    max_output: int | None = None
    cannot: frozenset[Medium] = frozenset()


# What the models of a provider can do that the table does not know. To offer tools to one that has
# none is a refusal with words; not to offer them would be an agent that silently has none.
_UNKNOWN: Mapping[str, Capabilities] = {
    "anthropic": Capabilities("tool", json_mode=False, cannot=frozenset({"audio", "video"})),
    "google": Capabilities("native"),
    "xai": Capabilities("native", cannot=frozenset({"video"})),
    "openrouter": Capabilities(),
    "mock": Capabilities("native", tools=False),
}
_FLAGS: Mapping[Medium, str] = {
    "image": "supports_vision",
    "pdf": "supports_pdf_input",
    "audio": "supports_audio_input",
    "video": "supports_video_input",
}
# Where an OpenRouter model has the name of another provider's.
_VENDORS = {"google": "gemini", "x-ai": "xai"}


async def capabilities(model: ModelPlan) -> Capabilities:
    """What `model` can do. Its own `context_window` counts more than the table's."""
    if model.provider == "mock":
        return _UNKNOWN["mock"]
    return known(await engine.litellm(), model)


def known(litellm: Any, model: ModelPlan) -> Capabilities:
    """The same, where litellm is at hand."""
    return _known(litellm, model.provider, model.model, model.context_window)


@lru_cache(maxsize=512)  # each look-up in litellm takes a quarter of a millisecond
def _known(litellm: Any, provider: str, model: str, window: int) -> Capabilities:
    if provider == "ollama":
        # Never looked up: litellm would ask the server about the model, and block. Any model takes
        # a schema there, and images are all the media that it has a place for; what has no tools
        # says so.
        return Capabilities(
            "native", context_window=window or None, cannot=frozenset(_FLAGS) - {"image"}
        )
    unknown = _UNKNOWN.get(provider, Capabilities(cannot=frozenset({"video"})))
    info = {} if provider == "custom" else _info(litellm, provider, model)
    if not info:
        return Capabilities(
            unknown.schema,
            unknown.tools,
            unknown.json_mode,
            window or None,
            cannot=unknown.cannot,
        )
    schema: SchemaMode = "native" if info.get("supports_response_schema") else "prompt"
    if provider == "deepseek":
        # The table says that it takes schemas; its API answers 400, "This response_format type is
        # unavailable now", and knows JSON mode alone.
        schema = "prompt"
    elif provider == "anthropic" and not info.get("supports_native_structured_output"):
        schema = "tool"  # how litellm imitates it
    elif provider == "openrouter":
        schema = "prompt"  # what the vendor takes, the host that is chosen may not
    return Capabilities(
        schema,
        # Left out of a row is not known rather than no.
        tools=info.get("supports_function_calling") is not False,
        json_mode=unknown.json_mode and _takes_formats(litellm, provider, model),
        context_window=window or info.get("max_input_tokens") or info.get("max_tokens"),
        max_output=info.get("max_output_tokens"),
        cannot=_cannot(provider, info),
    )


def _cannot(provider: str, info: Mapping[str, Any]) -> frozenset[Medium]:
    """The media that a row of the table does not have, but for Gemini's, which say too little."""
    if provider == "google":
        return frozenset() if info.get("supports_vision") else frozenset(_FLAGS)
    return frozenset(medium for medium, flag in _FLAGS.items() if not info.get(flag))


def _takes_formats(litellm: Any, provider: str, model: str) -> bool:
    """Whether litellm sends `response_format` to the model: it refuses to for some old ones."""
    taken = litellm.get_supported_openai_params(model=model, custom_llm_provider=PREFIXES[provider])
    return taken is None or "response_format" in taken


def _info(litellm: Any, provider: str, model: str) -> Mapping[str, Any]:
    """The row of the table, empty when there is none."""
    prefix = PREFIXES[provider]
    if provider == "openrouter":
        vendor, _, model = model.partition("/")
        prefix = _VENDORS.get(vendor, vendor)
        # `:free` is a tariff; Anthropic's names have dashes where OpenRouter's have dots.
        model = model.partition(":")[0]
        model = model.replace(".", "-") if vendor == "anthropic" else model
        if prefix not in PREFIXES.values():
            return {}
    for name in (f"{prefix}/{model}", model):
        row = litellm.model_cost.get(name)
        if row is not None and row.get("litellm_provider") == prefix:
            return dict(row)
    return {}
