"""A model and an environment → the key its provider is asked with (language.md §5, `api_key`)."""

from __future__ import annotations

from collections.abc import Mapping

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.errors import MissingKey
from compozy_prefect.runtime.redaction import variables

KEYLESS = frozenset(("ollama", "custom", "mock"))
_VARIABLES: Mapping[str, tuple[str, ...]] = {"google": ("GOOGLE_API_KEY", "GEMINI_API_KEY")}


def required_variable(model: ModelPlan) -> str | None:
    """The variable that has to hold the key: that of `api_key`, or else of the provider.

    None when it needs none, or `api_key` reads none.
    """
    if model.api_key:
        return next(variables(model.api_key), None)
    return None if model.provider in KEYLESS else _variables(model.provider)[0]


def resolve_key(
    model: ModelPlan, rendered_api_key: str | None, env: Mapping[str, str]
) -> str | None:
    """The key to use: the rendered `api_key`, else `<PROVIDER>_API_KEY` of `env`.

    Raises MissingKey when there is none and the provider needs one.
    """
    if model.provider == "mock":
        return None
    given = (rendered_api_key or "").strip()
    if given:
        return given
    for name in _variables(model.provider):
        value = env.get(name, "").strip()
        if value:
            return value
    if model.provider in KEYLESS:
        return None
    raise missing_key(model)


def missing_key(model: ModelPlan) -> MissingKey:
    """The error that says which variable is not set, and how to do without."""
    variable = required_variable(model) or _variables(model.provider)[0]
    return MissingKey(
        f"{variable} is not set, and model {model.provider}/{model.model} needs it: set it in the "
        "environment or in .env, or run without a provider by --offline or --mocks FILE",
        details={"variable": variable, "provider": model.provider, "model": model.model},
    )


def _variables(provider: str) -> tuple[str, ...]:
    return _VARIABLES.get(provider, (f"{provider.upper()}_API_KEY",))
