"""A model of the project → the plan of it, and of the bounds of a talk with it (language.md §5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compozy_prefect.compiler.definitions import plain, values
from compozy_prefect.compiler.plan import BudgetPlan, Json, LoopPlan, ModelPlan, PausePlan
from compozy_prefect.language.config import Config
from compozy_prefect.language.models.budget import Budget
from compozy_prefect.language.models.model import Model

_LIMITS = (
    "concurrency",
    "queue_size",
    "requests_per_minute",
    "tokens_per_minute",
    "request_burst",
    "token_burst",
)


def model_plan(
    config: Config,
    model: Model,
    secrets: dict[str, str],
    named: Callable[[str], Model | None] | None = None,
) -> ModelPlan:
    """The model; a key that is written out goes to `secrets`, under the variable that is read.

    `named` finds its fallbacks; without it the model has none.
    """
    others = [named(name) for name in model.fallbacks] if named is not None else []
    attempts = given_or(model.retry_attempts, config["llm.retry_attempts"])
    api_key = model.api_key or ""
    if api_key and "{{" not in api_key:
        api_key = _hidden(model, api_key, secrets)
    return ModelPlan(
        provider=model.provider,
        model=model.model,
        api_key=api_key,
        api_url=model.api_url or model.base_url or "",
        organization=model.organization or "",
        params=plain(model.parameters()),
        timeout=given_or(model.timeout, config["llm.provider_timeout"]),
        retry_attempts=max(1, attempts),  # none at all is one: the first
        pauses=PausePlan(
            config["llm.retry_backoff_base"],
            config["llm.retry_backoff_max"],
            config["llm.retry_jitter_percent"] / 100 if config["llm.retry_jitter"] else 0.0,
        ),
        context_window=model.context_window or 0,
        is_limited=config["llm.rate_limiting.enabled"],
        rate_limit=_rate_limit(config, model),
        price=values(model.price),
        fallbacks=tuple(
            model_plan(config, other, secrets) for other in others if other is not None
        ),
        routing=model.routing if others else "priority",
    )


def _rate_limit(config: Config, model: Model) -> dict[str, Json]:
    """What the model says, over what is said of its provider, over what is said of all.

    A default that nobody wrote is none: calls that wait hurt nobody, and those that are shared with
    other processes ask the server each time.
    """
    provider = config["llm.rate_limiting.per_provider_limits"].get(model.provider)
    found: dict[str, Json] = {}
    for name in _LIMITS:
        setting = config.setting(f"llm.rate_limiting.default_{name}")
        if setting.origin.where != "default":
            found[name] = setting.value
    return found | values(provider) | values(model.rate_limit)


def budget_plan(given: Budget | None) -> BudgetPlan | None:
    if given is None:
        return None
    return BudgetPlan(given.usd or 0.0, given.tokens or 0, given.calls or 0, given.seconds or 0.0)


def loop_plan(config: Config, model: Model, iterations: int | None) -> LoopPlan:
    """The bounds of a talk: those of the agent, its model, and the settings (service.md §8.1)."""
    default = LoopPlan()
    setting = config.setting("llm.max_tool_iterations")
    turns = model.max_tool_iterations
    if not turns and setting.origin.where != "default":
        turns = setting.value
    calls = {"": config["llm.tool_call_caps.default"], **config["llm.tool_call_caps.overrides"]}
    is_tracked = config["llm.enable_progress_tracking"]
    return LoopPlan(
        turns=iterations or turns or default.turns,
        parallel=config["llm.max_concurrent_tools"],
        errors=config["llm.max_sequential_tool_errors"],
        repeats=config["llm.max_consecutive_successes"],
        stalls=config["llm.no_progress_threshold"] if is_tracked else 0,
        calls={name: int(most) for name, most in calls.items() if most},
        corrections=config["llm.structured_output_retries"],
    )


def given_or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _hidden(model: Model, api_key: str, secrets: dict[str, str]) -> str:
    """A template that reads the key from a variable of the run's environment."""
    number = 1
    while True:
        name = f"COMPOZY_{model.provider.upper()}_API_KEY_{number}"
        if secrets.setdefault(name, api_key) == api_key:
            return f"{{{{ .env.{name} }}}}"
        number += 1
