"""A question to a provider → its answer, through litellm (service.md §8.3).

litellm takes seconds to import and reads the environment while it does, so it is imported for the
first real call only (`engine.py`), and gets the key with each call: what it would find in
`os.environ` by itself is never used. Attempts, pauses and time-outs are our own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from compozy_prefect.compiler.plan import Json, ModelPlan
from compozy_prefect.errors import MissingKey, ModelFailed
from compozy_prefect.runtime.llm import engine, structured
from compozy_prefect.runtime.llm.client import ModelAnswer, ModelRequest, Usage
from compozy_prefect.runtime.llm.faults import Fault, fault_of
from compozy_prefect.runtime.llm.offline import MockProvider
from compozy_prefect.runtime.redaction import Redactor, redact

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
_KEYLESS = frozenset(("ollama", "custom", "mock"))
_VARIABLES: Mapping[str, tuple[str, ...]] = {"google": ("GOOGLE_API_KEY", "GEMINI_API_KEY")}
# Sent where no key is needed: without any, litellm would look one up, and OPENAI_API_KEY could go
# to a server of somebody else.
_NO_KEY = "none"
# Parameter of the language → of litellm (language.md §5). A list and not what the YAML says, since
# litellm hands on what it does not know, and a parameter must not lead the call elsewhere. `n` and
# `candidate_count` are left out: one answer is read, and each is paid for.
_PARAMS: Mapping[str, str] = {
    **{name: name for name in ("temperature", "max_tokens", "top_p", "seed", "stop", "user")},
    **{name: name for name in ("frequency_penalty", "presence_penalty", "logit_bias")},
    **{name: name for name in ("reasoning_effort", "max_completion_tokens")},
    "stop_words": "stop",
}
# Not OpenAI's, so that litellm's `drop_params` knows nothing of them: where they are understood.
_SPECIAL: Mapping[str, frozenset[str]] = {
    "top_k": frozenset({"anthropic", "google", "ollama", "openrouter", "custom"}),
    "repetition_penalty": frozenset({"openrouter", "custom"}),
}

FIRST_PAUSE, LONGEST_PAUSE, JITTER = 0.1, 10.0, 0.1  # seconds, seconds, share
LONGEST_RETRY_AFTER = 60.0  # seconds; a provider that asks for more is left to the step's retries


def required_variable(provider: str) -> str | None:
    """The variable that has to hold the provider's key, None when it needs none."""
    if provider in _KEYLESS:
        return None
    return _VARIABLES.get(provider, (f"{provider.upper()}_API_KEY",))[0]


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
    for name in _VARIABLES.get(model.provider, (f"{model.provider.upper()}_API_KEY",)):
        value = env.get(name, "").strip()
        if value:
            return value
    if model.provider in _KEYLESS:
        return None
    raise missing_key(model)


def missing_key(model: ModelPlan) -> MissingKey:
    """The error that says which variable is not set, and how to do without."""
    variable = required_variable(model.provider) or f"{model.provider.upper()}_API_KEY"
    return MissingKey(
        f"{variable} is not set, and model {model.provider}/{model.model} needs it: set it in the "
        "environment or in .env, or run without a provider by --offline or --mocks FILE",
        details={"variable": variable, "provider": model.provider, "model": model.model},
    )


def warm() -> None:
    """Start importing litellm in the background, while the caller has something else to wait for.

    Returns at once and never fails; a call that comes too early waits for the same import.
    """
    engine.warm()


class LiteLLMClient:
    """Asks the provider of the request. `sleep` and `jitter` are there for tests.

    `jitter` gives a number in [-1, 1].
    """

    def __init__(
        self,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = lambda: random.uniform(-1, 1),  # noqa: S311 - no secret
    ) -> None:
        self._sleep = sleep
        self._jitter = jitter
        self._mock = MockProvider()

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        """The provider's answer, after at most `retry_attempts` attempts.

        Raises MissingKey, and ModelFailed with `provider`, `model`, `reason` (service.md §8.3),
        `status` and `attempts` in its details.
        """
        if request.model.provider == "mock":
            return await self._mock.complete(request)
        _check(request)
        litellm = await engine.litellm()
        options = _options(litellm, request)
        attempts = max(1, request.model.retry_attempts)
        attempt = 0
        while True:
            attempt += 1
            outcome = await _attempt(litellm, request, options)
            if isinstance(outcome, ModelAnswer):
                return outcome
            pause = self._pause(attempt, outcome)
            # Raised out here and not where it was caught: an exception that hangs on the error as
            # its context could hold the key.
            if not outcome.retryable or attempt >= attempts or pause > LONGEST_RETRY_AFTER:
                raise _failed(request, outcome, attempt)
            await self._sleep(pause)

    def _pause(self, attempt: int, fault: Fault) -> float:
        """Seconds to wait after `attempt`: what the provider asks for, or 100 ms doubling."""
        if fault.retry_after is not None:
            return fault.retry_after
        pause: float = min(FIRST_PAUSE * 2.0 ** min(attempt - 1, 30), LONGEST_PAUSE)
        return pause * (1 + JITTER * self._jitter())


def _check(request: ModelRequest) -> None:
    model = request.model
    if model.provider not in PREFIXES:
        raise ModelFailed(
            f"provider {model.provider!r} of model {model.model!r} is unknown; there are "
            + ", ".join((*PREFIXES, "mock")),
            code="INVALID_CONFIGURATION",
            details={"provider": model.provider, "model": model.model},
            retryable=False,
        )
    if model.provider == "custom" and not model.api_url:
        raise ModelFailed(
            f"model custom/{model.model} has no `api_url`: it says where the server is",
            code="INVALID_CONFIGURATION",
            details={"provider": model.provider, "model": model.model},
            retryable=False,
        )
    if not request.api_key and model.provider not in _KEYLESS:
        raise missing_key(model)


async def _attempt(
    litellm: Any, request: ModelRequest, options: Mapping[str, Any]
) -> ModelAnswer | Fault:
    timeout = request.model.timeout or None
    try:
        # litellm's own time-out bounds a read, this one the call.
        async with asyncio.timeout(timeout):
            response = await litellm.acompletion(
                **options, api_key=request.api_key or _NO_KEY, timeout=timeout
            )
    except Exception as raised:
        fault = fault_of(raised)
        said = Redactor([request.api_key]).text(fault.said)
        return replace(fault, said=redact(said, limit=300))
    try:
        text = response.choices[0].message.content
        refusal = getattr(response.choices[0].message, "refusal", None)
        usage = _usage(litellm, request, response)
    except (AttributeError, IndexError, TypeError):
        return Fault("INVALID_RESPONSE", "its answer holds no message")
    if not text:
        if refusal:
            return Fault("CONTENT_POLICY", "it refused", redact(str(refusal), limit=300))
        return Fault("INVALID_RESPONSE", "its answer is empty")
    return ModelAnswer(text, usage, response.model or request.model.model)


def _options(litellm: Any, request: ModelRequest) -> dict[str, Any]:
    """The arguments of the call, but for the key."""
    model = request.model
    prefix = PREFIXES[model.provider]
    options: dict[str, Any] = {
        "model": f"{prefix}/{model.model}",
        # Unsupported parameters are left out rather than refused.
        "drop_params": True,
        "num_retries": 0,
        "max_retries": 0,
    }
    if model.api_url:
        options["api_base"] = api_base(model.provider, model.api_url)
    if model.organization and model.provider in ("openai", "custom"):
        options["organization"] = model.organization
    for name, value in model.params.items():
        if value is not None and name in _PARAMS:
            options.setdefault(_PARAMS[name], value)
        elif value is not None and model.provider in _SPECIAL.get(name, ()):
            options[name] = value
    form = structured.form(litellm, prefix, model, request.schema, request.json_mode)
    options["messages"] = structured.instructed(request.messages, form)
    if form.response_format is not None:
        options["response_format"] = form.response_format
    return options


def api_base(provider: str, url: str) -> str:
    """The address as litellm wants it, which adds the version for some (dependencies.md §3)."""
    url = url.rstrip("/")
    if provider in ("anthropic", "ollama"):
        url = url.removesuffix("/v1")
    return url


def _usage(litellm: Any, request: ModelRequest, response: Any) -> Usage:
    usage = getattr(response, "usage", None)
    prompt = int(getattr(usage, "prompt_tokens", 0) or 0)
    completion = int(getattr(usage, "completion_tokens", 0) or 0)
    cost = _cost(litellm, request, response, prompt + completion)
    return Usage(prompt, completion, cost, 1)


def _cost(litellm: Any, request: ModelRequest, response: Any, tokens: int) -> float | None:
    """US dollars by litellm's price table; None when it does not know (dependencies.md §3)."""
    model = request.model
    if model.provider == "ollama":
        # Never asked: litellm would ask the ollama server about the model, and block.
        return 0.0 if not request.api_key else None
    if model.provider == "custom":
        return None  # a model of the same name somewhere else says nothing about the price here
    try:
        cost = litellm.completion_cost(
            completion_response=response, model=f"{PREFIXES[model.provider]}/{model.model}"
        )
    except Exception:
        return None
    return float(cost) if cost or not tokens else None


def _failed(request: ModelRequest, fault: Fault, attempts: int) -> ModelFailed:
    model = request.model
    name = f"{model.provider}/{model.model}"
    message = f"model {name} failed: {fault.what}"
    if fault.said:
        message += f" ({fault.said})"
    if attempts > 1:
        message += f", in {attempts} attempts"
    elif not fault.retryable:
        message += ", not retried"
    if fault.retry_after is not None and fault.retry_after > LONGEST_RETRY_AFTER:
        message += f"; it asks to wait {fault.retry_after:g} s"
    details: dict[str, Json] = {
        "provider": model.provider,
        "model": model.model,
        "reason": fault.reason,
        "attempts": attempts,
    }
    if fault.status is not None:
        details["status"] = fault.status
    if fault.retry_after is not None:
        details["retry_after_seconds"] = fault.retry_after
    return ModelFailed(
        f"{message}. {fault.advice(model.provider, required_variable(model.provider))}",
        code="INVALID_LLM_RESPONSE" if fault.reason == "INVALID_RESPONSE" else None,
        details=details,
        retryable=fault.retryable or fault.reason == "INVALID_RESPONSE",
    )
