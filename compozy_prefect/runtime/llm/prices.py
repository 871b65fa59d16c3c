"""A model → what its tokens cost: the price in the YAML, else litellm's table, else unknown."""

from __future__ import annotations

from typing import Any, NamedTuple

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.runtime.llm import engine
from compozy_prefect.runtime.llm.capabilities import PREFIXES
from compozy_prefect.runtime.llm.client import Usage

_MILLION = 1_000_000


class Price(NamedTuple):
    """US dollars for one token of the prompt, of the answer, and of what the provider had kept."""

    input: float
    output: float
    cached: float

    def of(self, usage: Usage) -> float:
        fresh = max(usage.prompt_tokens - usage.cached_tokens, 0)
        kept = usage.prompt_tokens - fresh
        return fresh * self.input + kept * self.cached + usage.completion_tokens * self.output


def given_price(model: ModelPlan) -> Price | None:
    """The price that the YAML gives, for a million tokens there."""
    price = model.price
    if not price:
        return None
    cached = price.get("cached_input", price["input"])
    return Price(price["input"] / _MILLION, price["output"] / _MILLION, cached / _MILLION)


async def price_of(model: ModelPlan) -> Price | None:
    """What the model costs, as far as anybody knows; imports litellm if the YAML says nothing."""
    given = given_price(model)
    if given is not None:
        return given
    if model.provider in ("mock", "ollama"):
        return Price(0.0, 0.0, 0.0)
    return _listed(await engine.litellm(), model)


def _listed(litellm: Any, model: ModelPlan) -> Price | None:
    prefix = PREFIXES.get(model.provider, "")
    if model.provider == "custom":
        return None
    for name in (f"{prefix}/{model.model}", model.model):
        row = litellm.model_cost.get(name)
        if row is not None and row.get("input_cost_per_token") is not None:
            input = float(row["input_cost_per_token"])
            output = float(row.get("output_cost_per_token") or 0.0)
            return Price(input, output, float(row.get("cache_read_input_token_cost") or input))
    return None
