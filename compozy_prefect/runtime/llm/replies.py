"""What litellm makes of an answer, whole or streamed → a `ModelAnswer`, or what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast
from uuid import uuid4

from compozy_prefect.runtime.llm import offers
from compozy_prefect.runtime.llm.capabilities import PREFIXES
from compozy_prefect.runtime.llm.client import (
    Finish,
    Listener,
    ModelAnswer,
    ModelRequest,
    ToolCall,
    Usage,
)
from compozy_prefect.runtime.llm.faults import Answered, Fault, broken_off
from compozy_prefect.runtime.llm.prices import given_price

_FINISHES = ("stop", "length", "tool_calls", "content_filter")


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Parts:
    """An answer as it comes together."""

    text: list[str] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    finish: str = ""
    refusal: str = ""
    usage: Any = None
    model: str = ""
    cost: float | None = None

    def count(self, stream: Any) -> None:
        """Takes the usage that has come by now, and what litellm keeps out of its hands.

        It keeps each piece, at twenty times the size of its text, and counts the tokens of what it
        has when a stream breaks off, for which it first loads tables for seconds, in the loop.
        """
        told = [piece for piece in stream.chunks if getattr(piece, "usage", None)]
        if told:
            self.usage = told[-1].usage
        stream.chunks[:] = told[-1:]

    def at(self, index: int | None, id: str | None, open: dict[int | None, _Call]) -> _Call:
        """The call that a piece belongs to. Some providers count none of them, or all as 0."""
        call = open.get(index)
        if call is None or (id and call.id and id != call.id):
            call = open[index] = _Call()
            self.calls.append(call)
        return call


def whole(
    litellm: Any,
    request: ModelRequest,
    response: Any,
    names: offers.Names,
    answered: Answered,
) -> ModelAnswer | Fault:
    """The answer that came in one."""
    try:
        choice = response.choices[0]
        message = choice.message
        parts = _Parts(
            text=[message.content or ""],
            calls=[
                _Call(call.id or "", call.function.name or "", [call.function.arguments or ""])
                for call in message.tool_calls or ()
            ],
            finish=choice.finish_reason or "",
            refusal=str(getattr(message, "refusal", None) or ""),
            usage=getattr(response, "usage", None),
            model=response.model or "",
        )
        hidden = getattr(response, "_hidden_params", None) or {}
        parts.cost = hidden.get("response_cost")
    except (AttributeError, IndexError, TypeError):
        return broken_off(answered.body) or Fault("INVALID_RESPONSE", "its answer holds no message")
    return _answer(litellm, request, parts, names)


async def streamed(
    litellm: Any,
    request: ModelRequest,
    stream: Any,
    names: offers.Names,
    on_chunk: Listener,
    answered: Answered,
) -> ModelAnswer | Fault:
    """The answer whose pieces come one by one; those of its text are told."""
    parts = _Parts()
    open: dict[int | None, _Call] = {}
    async for chunk in stream:
        parts.count(stream)
        parts.model = chunk.model or parts.model
        if not chunk.choices:
            continue
        delta = chunk.choices[0].delta
        parts.finish = chunk.choices[0].finish_reason or parts.finish
        parts.refusal += str(getattr(delta, "refusal", None) or "")
        for piece in getattr(delta, "tool_calls", None) or ():
            call = parts.at(piece.index, piece.id, open)
            call.id = call.id or piece.id or ""
            call.name = call.name or piece.function.name or ""
            call.arguments.append(piece.function.arguments or "")
        if delta.content:
            parts.text.append(delta.content)
            on_chunk(delta.content)
    parts.count(stream)
    if not _complete(request, stream, answered.body):
        fault = broken_off(answered.body)
        if fault is None and (parts.text or parts.calls):
            fault = Fault("CONNECTION_RESET", "its answer ended in the middle")
        return fault or Fault("INVALID_RESPONSE", "its answer could not be read")
    return _answer(litellm, request, parts, names)


def _complete(request: ModelRequest, stream: Any, end: bytes) -> bool:
    """Whether the provider said that the answer is one.

    litellm gives a stream that ended too early, but in good order, a "stop" of its own, and all
    pieces of Gemini's have one.
    """
    if request.model.provider == "google":
        return b'"finishReason"' in end or b'"blockReason"' in end
    ended = stream.received_finish_reason or stream.intermittent_finish_reason
    return ended is not None


def _answer(
    litellm: Any, request: ModelRequest, parts: _Parts, names: offers.Names
) -> ModelAnswer | Fault:
    text = "".join(parts.text)
    calls = tuple(
        # An id has to differ from those of earlier answers, too.
        offers.call(call.id or f"call_{uuid4().hex}", call.name, "".join(call.arguments), names)
        for call in parts.calls
        if call.name
    )
    finish = _finish(parts.finish, calls)
    usage = _usage(litellm, request, parts)
    if not text and not calls:
        return replace(_empty(parts, finish), usage=usage)
    model = parts.model.removeprefix(f"{PREFIXES[request.model.provider]}/")
    return ModelAnswer(text, usage, model or request.model.model, calls, finish)


def _empty(parts: _Parts, finish: Finish) -> Fault:
    """What is behind an answer that holds nothing."""
    if parts.refusal or finish == "content_filter":
        return Fault("CONTENT_POLICY", "it refused", parts.refusal)
    if finish == "length":
        return Fault(
            "INVALID_RESPONSE",
            "its answer is empty: all of its tokens went before it said anything",
            hint="Raise `max_tokens` of the model.",
        )
    hint = "Ask again, or change the prompt."
    return Fault("INVALID_RESPONSE", "its answer is empty", hint=hint)


def _finish(reason: str, calls: tuple[ToolCall, ...]) -> Finish:
    if calls and reason != "length":
        return "tool_calls"
    return cast(Finish, reason) if reason in _FINISHES else "stop"


def _usage(litellm: Any, request: ModelRequest, parts: _Parts) -> Usage:
    usage = parts.usage
    taken = Usage(
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
        None,
        1,
        _count(getattr(usage, "prompt_tokens_details", None), "cached_tokens"),
        _count(getattr(usage, "completion_tokens_details", None), "reasoning_tokens"),
    )
    given = given_price(request.model)
    cost = _cost(litellm, request, parts) if given is None else given.of(taken)
    return replace(taken, cost_usd=cost)


def _count(numbers: Any, name: str) -> int:
    return int(getattr(numbers, name, None) or 0)


def _cost(litellm: Any, request: ModelRequest, parts: _Parts) -> float | None:
    """US dollars by litellm's price table; None when it does not know, or has no tokens to count.

    It says 0 for some models that have a price (dependencies.md §3).
    """
    model = request.model
    if model.provider == "ollama":
        # Never asked: litellm would ask the ollama server about the model, and block.
        return 0.0 if not request.api_key else None
    if model.provider == "custom":
        return None  # a model of the same name somewhere else says nothing about the price here
    cost = parts.cost
    if cost is None:
        try:
            cost = sum(
                litellm.cost_per_token(
                    model=model.model,
                    custom_llm_provider=PREFIXES[model.provider],
                    usage_object=parts.usage,
                )
            )
        except Exception:
            return None
    return float(cost) or None
