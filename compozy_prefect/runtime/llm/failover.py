"""A question and the models that may answer it → the answer of one of them (service.md §8.3).

The model of the agent and its `fallbacks` are asked in the order of its `routing`. One that has
failed, after all its retries, hands over to the next; one that keeps failing is left alone for a
while, and is asked first again when it has recovered.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from threading import Lock

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.errors import ModelFailed
from compozy_prefect.runtime.llm import media
from compozy_prefect.runtime.llm.capabilities import Capabilities, capabilities
from compozy_prefect.runtime.llm.client import (
    Candidate,
    Listener,
    ModelAnswer,
    ModelClient,
    ModelRequest,
    Usage,
    paid_for,
)
from compozy_prefect.runtime.llm.prices import price_of

FAILURES, OPEN = 5, 30.0  # attempts in a row after which a model is left alone, seconds
_SMOOTH = 0.3  # share of the latest call in the latency of a model
_BYTES = 4  # of a prompt, in a token
_NAMED = {"image": "images", "pdf": "PDFs", "audio": "sounds", "video": "films"}
_ANSWER = 1000  # tokens of an answer, where the model does not say how many it may have

_log = logging.getLogger(__name__)


@dataclass
class _Known:
    """What has become of the calls of one model; `until` is when it may be asked again."""

    failures: int = 0
    until: float = 0.0
    seconds: float | None = None


@dataclass
class Health:
    """How the models fared in this process. `clock` is monotonic, in seconds."""

    clock: Callable[[], float] = time.monotonic
    _known: dict[tuple[str, str, str], _Known] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def _of(self, model: ModelPlan) -> _Known:
        return self._known.setdefault((model.provider, model.model, model.api_url), _Known())

    def rests(self, model: ModelPlan) -> bool:
        """Whether the model has failed so often that it is left alone for now."""
        return self._of(model).until > self.clock()

    def seconds(self, model: ModelPlan) -> float | None:
        """What a call took lately; None of a model that has not answered yet."""
        return self._of(model).seconds

    def answered(self, model: ModelPlan, seconds: float) -> None:
        with self._lock:
            known = self._of(model)
            known.failures, known.until = 0, 0.0
            before = seconds if known.seconds is None else known.seconds
            known.seconds = before + _SMOOTH * (seconds - before)

    def failed(self, model: ModelPlan, attempts: int) -> None:
        """After a rest the first failure is enough for the next one."""
        with self._lock:
            known = self._of(model)
            known.failures += max(attempts, 1)
            if known.failures >= FAILURES:
                known.until = self.clock() + OPEN


HEALTH = Health()  # of the whole process: a model that is down is down for all its runs


class Failover:
    """Asks the models of a request through `client`, one after the other."""

    def __init__(self, client: ModelClient, health: Health = HEALTH) -> None:
        self._client, self._health = client, health

    async def complete(
        self, request: ModelRequest, *, on_chunk: Listener | None = None
    ) -> ModelAnswer:
        """The answer of the first model that gives one.

        Raises what its only model raised; where there are several ModelFailed, which says what
        became of each. An error that another model would not cure, such as a refused prompt, is
        raised at once.
        """
        if not request.others:
            await _see(request)
            return await self._asked(request, on_chunk)
        said: list[str] = []
        failed: list[ModelFailed] = []
        paid = Usage()
        for candidate in await self._ordered(request):
            name = f"{candidate.model.provider}/{candidate.model.model}"
            unfit = candidate.error or await _unfit(request, candidate.model)
            if unfit:
                said.append(f"{name} was not asked: {unfit}")
                continue
            one = replace(request, model=candidate.model, api_key=candidate.api_key, others=())
            try:
                answer = await self._asked(one, on_chunk)
            except ModelFailed as fault:
                paid += paid_for(fault)
                fault.details["usage"] = paid.kept()
                if not _may_be_cured(fault):
                    raise
                failed.append(fault)
                said.append(fault.message)
                _log.warning("%s; another model is asked", fault.message)
                continue
            return replace(answer, usage=answer.usage + paid)
        tried = sum(int(fault.details.get("attempts", 1)) for fault in failed)
        raise ModelFailed(
            f"step {request.step}: no model answered: " + " | ".join(said),
            code=failed[-1].code if failed else None,
            details={"models": said, "attempts": tried, "usage": paid.kept()},
            # One of them may have recovered, whatever is wrong with the others.
            retryable=any(fault.retryable for fault in failed),
        )

    async def _asked(self, request: ModelRequest, on_chunk: Listener | None) -> ModelAnswer:
        health, started = self._health, self._health.clock()
        try:
            answer = await self._client.complete(request, on_chunk=on_chunk)
        except ModelFailed as fault:
            if fault.retryable:
                health.failed(request.model, int(fault.details.get("attempts", 1)))
            raise
        health.answered(request.model, health.clock() - started)
        return answer

    async def _ordered(self, request: ModelRequest) -> list[Candidate]:
        """All models in the order in which they are asked, those that rest last."""
        first = Candidate(request.model, request.api_key)
        candidates = [first, *request.others]
        if request.model.routing == "cost":
            costs = [await _cost(request, one.model) for one in candidates]
            priced = [(cost is None, cost or 0.0) for cost in costs]
            by_price = sorted(range(len(candidates)), key=priced.__getitem__)
            candidates = [candidates[n] for n in by_price]
        elif request.model.routing == "latency":
            # One that has not answered yet is tried, so that there is something to compare.
            candidates.sort(key=lambda one: self._health.seconds(one.model) or 0.0)
        return sorted(candidates, key=lambda one: self._health.rests(one.model))


_OF_ONE_MODEL = frozenset(
    {"UNAUTHORIZED", "FORBIDDEN", "NOT_FOUND", "INVALID_MODEL", "CONTEXT_LENGTH", "TOO_LARGE"}
)


def _may_be_cured(fault: ModelFailed) -> bool:
    """Whether another model may do better; what is wrong with the question is wrong with all."""
    return fault.retryable or fault.details.get("reason") in _OF_ONE_MODEL


async def _see(request: ModelRequest) -> None:
    """Raises ModelFailed when the only model does not take a file of the question."""
    if not media.media(request.messages):
        return
    blind, model = blindness(request, await capabilities(request.model)), request.model
    if blind:
        raise ModelFailed(
            f"step {request.step}: model {model.provider}/{model.model} was not asked: {blind}. "
            "Choose another model, or give it `fallbacks` that do.",
            details={"provider": model.provider, "model": model.model, "reason": "UNSUPPORTED"},
            retryable=False,
        )


async def _unfit(request: ModelRequest, model: ModelPlan) -> str:
    """Why a model cannot answer the question; empty when it can, or nobody knows."""
    can: Capabilities = await capabilities(model)
    if request.tools and not can.tools:
        return "it cannot call tools"
    if blind := blindness(request, can):
        return blind
    tokens = tokens_of(request)
    if can.context_window and tokens > can.context_window:
        return f"the question has about {tokens:,} tokens, and it takes {can.context_window:,}"
    return ""


def blindness(request: ModelRequest, can: Capabilities) -> str:
    """Which of the files of a question the model does not take; empty without."""
    missing = media.media(request.messages) & can.cannot
    return (
        f"it does not take {' or '.join(_NAMED[one] for one in sorted(missing))}" if missing else ""
    )


def tokens_of(request: ModelRequest) -> int:
    """About how many tokens a question has: a token is some four bytes of text."""
    written = sum(len(text.encode()) for text in _texts(request)) // _BYTES
    return written + sum(media.tokens(part) for part in media.parts(request.messages))


def _texts(request: ModelRequest) -> Iterator[str]:
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, list):
            yield from (str(part.get("text", "")) for part in content)
        elif content:
            yield str(content)
        for call in message.get("tool_calls") or ():
            yield json.dumps(call)
    for offer in request.tools:
        yield json.dumps([offer.name, offer.description, offer.schema])
    if request.schema is not None:
        yield json.dumps(request.schema)


async def _cost(request: ModelRequest, model: ModelPlan) -> float | None:
    """What an answer of the model is likely to cost, in US dollars; None when nobody knows."""
    price = await price_of(model)
    if price is None:
        return None
    answer = int(model.params.get("max_tokens") or _ANSWER)
    return tokens_of(request) * price.input + answer * price.output
