"""A question to a provider → its answer, through litellm (service.md §8.3).

litellm takes seconds to import and reads the environment while it does, so it is imported for the
first real call only (`engine.py`), and gets key and address with each call: what it would find in
`os.environ` by itself is never used. Attempts, pauses, time-outs and connections are our own.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from compozy_prefect.compiler.plan import Json, ModelPlan, PausePlan
from compozy_prefect.errors import ModelFailed
from compozy_prefect.runtime.llm import capabilities, engine, offers, replies, structured
from compozy_prefect.runtime.llm.capabilities import PREFIXES
from compozy_prefect.runtime.llm.client import Listener, ModelAnswer, ModelRequest
from compozy_prefect.runtime.llm.faults import Fault, fault_of
from compozy_prefect.runtime.llm.keys import KEYLESS, missing_key, required_variable
from compozy_prefect.runtime.llm.offline import MockProvider
from compozy_prefect.runtime.llm.parameters import parameters
from compozy_prefect.runtime.llm.wire import EXCHANGE, LIMITS, Exchange, Limits, wire
from compozy_prefect.runtime.redaction import Redactor, redact

_log = logging.getLogger(__name__)

# Sent where no key is needed: without any, litellm would look one up, and OPENAI_API_KEY could go
# to a server of somebody else.
_NO_KEY = "none"
# Told to litellm, which would else look for one in the environment (language.md §5).
_ADDRESSES: Mapping[str, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com/v1beta",
    "groq": "https://api.groq.com/openai/v1",
    "ollama": "http://localhost:11434",
    "deepseek": "https://api.deepseek.com/v1",
    "xai": "https://api.x.ai/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "cerebras": "https://api.cerebras.ai/v1",
}
_RESPONDING = frozenset({"openai", "custom"})  # where litellm may ask for OpenAI's responses
_STREAM: Mapping[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}

LONGEST_RETRY_AFTER = 60.0  # seconds; a provider that asks for more is left to the step's retries
_SAID = 300  # characters of a provider's words in a message


class LiteLLMClient:
    """Asks the provider of the request. This is the only place where a call is tried again.

    `sleep`, `clock` (seconds), `jitter` (a number in [-1, 1]) and `limits` are there for tests;
    `warn` gets a sentence for each parameter that a model does not take, once.
    """

    def __init__(
        self,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(-1, 1),  # noqa: S311 - no secret
        limits: Limits = LIMITS,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter
        self._limits = limits
        self._warn = warn
        self._warned: set[tuple[str, str, str]] = set()
        self._mock = MockProvider()

    async def complete(
        self, request: ModelRequest, *, on_chunk: Listener | None = None
    ) -> ModelAnswer:
        """The provider's answer, after at most `retry_attempts` attempts.

        An attempt takes at most the model's `timeout`, and all of them with the pauses between
        at most that for each. Raises MissingKey, and ModelFailed with `provider`, `model`,
        `reason` (faults.py), `status` and `attempts` in its details, and in `usage` what was paid
        for nothing.
        """
        if request.model.provider == "mock":
            return await self._mock.complete(request, on_chunk=on_chunk)
        _check(request)
        litellm = await engine.litellm()
        names = offers.Names.of(request)
        options = self._options(litellm, request, names)
        attempts = max(1, request.model.retry_attempts)
        end = self._clock() + (request.model.timeout or float("inf")) * attempts
        attempt = 0
        while True:
            attempt += 1
            outcome = await self._attempt(litellm, request, options, names, on_chunk)
            if isinstance(outcome, ModelAnswer):
                return outcome
            pause = self._pause(request.model.pauses, attempt, outcome)
            late = pause > LONGEST_RETRY_AFTER or self._clock() + pause >= end
            # Raised out here and not where it was caught: an exception that hangs on the error as
            # its context could hold the key.
            if not outcome.retryable or attempt >= attempts or late:
                raise _failed(request, outcome, attempt)
            await self._sleep(pause)

    def _pause(self, pauses: PausePlan, attempt: int, fault: Fault) -> float:
        """Seconds to wait after `attempt`: what the provider asks for, or ever longer ones."""
        if fault.retry_after is not None:
            return fault.retry_after
        pause: float = min(pauses.first * 2.0 ** min(attempt - 1, 30), pauses.longest)
        return pause * (1 + pauses.jitter * self._jitter())

    async def _attempt(
        self,
        litellm: Any,
        request: ModelRequest,
        options: Mapping[str, Any],
        names: offers.Names,
        on_chunk: Listener | None,
    ) -> ModelAnswer | Fault:
        timeout = request.model.timeout or None
        told = _Told(on_chunk)
        exchange = Exchange()
        token = EXCHANGE.set(exchange)
        try:
            async with asyncio.timeout(timeout):
                line = await wire(self._limits)
                if request.model.provider in _RESPONDING:
                    line.lend()
                client = {"client": line.handler, "api_key": request.api_key or _NO_KEY}
                if told.listens:
                    stream = await litellm.acompletion(**options, **client, **_STREAM)
                    outcome = await replies.streamed(
                        litellm, request, stream, names, told, exchange
                    )
                else:
                    response = await litellm.acompletion(**options, **client)
                    outcome = replies.whole(litellm, request, response, names, exchange)
        except Exception as raised:
            outcome = fault_of(raised, exchange, timeout)
        finally:
            EXCHANGE.reset(token)
            await exchange.close()
        if told.failed is not None:
            raise told.failed
        if isinstance(outcome, Fault):
            told.back()
            said = Redactor([request.api_key]).text(outcome.said)
            return replace(outcome, said=redact(said, limit=_SAID))
        return outcome

    def _options(self, litellm: Any, request: ModelRequest, names: offers.Names) -> dict[str, Any]:
        """The arguments of the call, but for the key and the connection."""
        model = request.model
        options: dict[str, Any] = {
            "model": f"{PREFIXES[model.provider]}/{model.model}",
            "api_base": _address(model),
            "num_retries": 0,
            "max_retries": 0,
        }
        if model.organization and model.provider in ("openai", "custom"):
            options["extra_headers"] = {"OpenAI-Organization": model.organization}
        sent, left = parameters(litellm, model)
        for name in left:
            self._leave_out(model, name)
        form = structured.form(request, capabilities.known(litellm, model))
        options |= sent | offers.options(request, names)
        options["messages"] = structured.instructed(offers.messages(request, names), form)
        if form.response_format is not None:
            options["response_format"] = form.response_format
        return options

    def _leave_out(self, model: ModelPlan, name: str) -> None:
        key = (model.provider, model.model, name)
        if key not in self._warned:
            self._warned.add(key)
            who = f"model {model.provider}/{model.model}"
            self._warn(f"{who} does not take `{name}`; it is left out")


class _Told:
    """What a listener has been told by one attempt, and whether it failed at that."""

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener
        self._any = False
        self.failed: Exception | None = None

    @property
    def listens(self) -> bool:
        return self._listener is not None

    def __call__(self, text: str | None) -> None:
        assert self._listener is not None
        self._any = True
        try:
            self._listener(text)
        except Exception as raised:
            self.failed = raised  # its own fault, and not one of the provider
            raise

    def back(self) -> None:
        """Takes back what was told, if anything was."""
        if self._any and self._listener is not None:
            self._listener(None)


def _check(request: ModelRequest) -> None:
    model = request.model
    wrong = ""
    if model.provider not in PREFIXES:
        known = ", ".join((*PREFIXES, "mock"))
        wrong = (
            f"provider {model.provider!r} of model {model.model!r} is unknown; there are {known}"
        )
    elif model.provider == "custom" and not model.api_url:
        wrong = f"model custom/{model.model} has no `api_url`: it says where the server is"
    if wrong:
        raise ModelFailed(
            wrong,
            code="INVALID_CONFIGURATION",
            details={"provider": model.provider, "model": model.model},
            retryable=False,
        )
    if not request.api_key and model.provider not in KEYLESS:
        raise missing_key(model)


def _address(model: ModelPlan) -> str:
    return api_base(model.provider, model.api_url or _ADDRESSES.get(model.provider, ""))


def api_base(provider: str, url: str) -> str:
    """The address as litellm wants it, which adds the version for some (dependencies.md §3)."""
    url = url.rstrip("/")
    if provider in ("anthropic", "ollama"):
        url = url.removesuffix("/v1")
    return url


def _failed(request: ModelRequest, fault: Fault, attempts: int) -> ModelFailed:
    model = request.model
    message = f"step {request.step}: model {model.provider}/{model.model} failed: {fault.what}"
    if fault.said:
        message += f" ({fault.said})"
    if attempts > 1:
        message += f", in {attempts} attempts"
    elif not fault.retryable:
        message += ", not retried"
    if fault.retryable and fault.retry_after is not None and attempts < model.retry_attempts:
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
    if fault.usage is not None:
        details["usage"] = fault.usage.kept()
    return ModelFailed(
        f"{message}. {fault.advice(model.provider, required_variable(model))}",
        code="INVALID_LLM_RESPONSE" if fault.reason == "INVALID_RESPONSE" else None,
        details=details,
        retryable=fault.retryable or fault.reason == "INVALID_RESPONSE",
    )
