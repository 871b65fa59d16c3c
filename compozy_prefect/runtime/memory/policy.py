"""What a memory keeps of a conversation: its limits, its flushing, its privacy (language.md §7)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from math import ceil
from typing import Any

from compozy_prefect.compiler.plan import MemoryPlan
from compozy_prefect.runtime.memory.store import Conversation, Message

_PER_TOKEN = 4  # bytes, the usual estimate where no provider counts
_PER_MESSAGE = 4  # tokens that a message takes besides its text
_SNIPPET = 200  # characters of a message in a summary

Messages = tuple[Message, ...]


def tokens(messages: Iterable[Message]) -> int:
    """The tokens of some messages, as an estimate."""
    return sum(
        ceil(len(message["content"].encode()) / _PER_TOKEN) + _PER_MESSAGE for message in messages
    )


def storable(plan: MemoryPlan, messages: Iterable[Message]) -> Messages:
    """The messages that may be stored, without what must not be read later (§7.3)."""
    refused = {role.lower() for role in plan.not_stored}
    return tuple(
        {**message, "content": redacted(plan, message["content"])}
        for message in messages
        if message["role"].lower() not in refused
    )


def redacted(plan: MemoryPlan, text: str) -> str:
    for pattern in plan.redact:
        text = _compiled(pattern).sub(re.sub(r"\\", r"\\\\", plan.redaction), text)
    return text


def within_limits(plan: MemoryPlan, messages: Messages) -> Messages:
    """Drops the oldest messages until the hard limits hold; protected ones go last."""
    kept = list(messages)
    while kept and _exceeds(plan, kept):
        free = [index for index, one in enumerate(kept) if not _protected(plan, one)]
        del kept[free[0] if free else 0]
    return tuple(kept)


def due(plan: MemoryPlan, messages: Messages, threshold: float) -> bool:
    """Whether the conversation is so full that it is to be flushed (§7.2)."""
    by_count = plan.max_messages and len(messages) >= threshold * plan.max_messages
    return bool(by_count or (plan.max_tokens and tokens(messages) >= threshold * plan.max_tokens))


def flushed(plan: MemoryPlan, conversation: Conversation, strategy: str, now: str) -> Conversation:
    """The conversation after a flush, smaller or shorter (§7.2)."""
    made = _STRATEGIES.get(strategy, _fifo)(plan, conversation.messages)
    return replace(conversation, messages=made, flushed=now)


def _fifo(plan: MemoryPlan, messages: Messages) -> Messages:
    """The newest half of the limit; without one, all but the oldest quarter."""
    keep = ceil(plan.max_messages / 2) if plan.max_messages else len(messages) * 3 // 4
    return _without(plan, messages, lambda left: len(left) <= keep, lambda index, one: index)


def _lru(plan: MemoryPlan, messages: Messages) -> Messages:
    """Half of the limit; in a conversation what was used longest ago is the oldest."""
    return _without(plan, messages, _half(plan, messages), lambda index, one: index)


def _token_aware(plan: MemoryPlan, messages: Messages) -> Messages:
    """Half of the limit; of old messages the large ones go first."""
    count = len(messages)
    return _without(
        plan, messages, _half(plan, messages), lambda index, one: -tokens([one]) * (count - index)
    )


def _summary(plan: MemoryPlan, messages: Messages) -> Messages:
    """The oldest part as one message of the system."""
    oldest = max(1, int(len(messages) * (plan.summarize_oldest or 0.5)))
    old, rest = messages[:oldest], messages[oldest:]
    if len(old) < 2:
        return messages
    lines = [f"{one['role']}: {one['content'][:_SNIPPET]}" for one in old]
    text, room = "Summary of the conversation so far:", plan.summary_tokens * _PER_TOKEN
    for line in lines:
        if room and len(text.encode()) + len(line.encode()) + 1 > room:
            break
        text = f"{text}\n{line}"
    return ({"role": "system", "content": text}, *rest)


_STRATEGIES: dict[str, Callable[[MemoryPlan, Messages], Messages]] = {
    "lru": _lru,
    "token_aware_lru": _token_aware,
    "hybrid_summary": _summary,
}


def _half(plan: MemoryPlan, messages: Messages) -> Callable[[list[Message]], bool]:
    """Whether what is left is half of the limit, or of the conversation without one."""
    most = plan.max_messages or len(messages)

    def enough(left: list[Message]) -> bool:
        if plan.max_tokens:
            return tokens(left) <= plan.max_tokens / 2
        return len(left) <= most / 2

    return enough


def _without(
    plan: MemoryPlan,
    messages: Messages,
    enough: Callable[[list[Message]], bool],
    order: Callable[[int, Message], float],
) -> Messages:
    """The messages without the first ones of `order`, so many that it is enough.

    Protected ones go last. What is left stays in the order in which it was said.
    """
    going = sorted(
        range(len(messages)),
        key=lambda index: (_protected(plan, messages[index]), order(index, messages[index])),
    )
    gone: set[int] = set()
    for index in going:
        left = [one for at, one in enumerate(messages) if at not in gone]
        if enough(left):
            break
        gone.add(index)
    return tuple(one for at, one in enumerate(messages) if at not in gone)


def _exceeds(plan: MemoryPlan, messages: list[Message]) -> bool:
    if plan.max_messages and len(messages) > plan.max_messages:
        return True
    return bool(plan.max_tokens and tokens(messages) > plan.max_tokens)


def _protected(plan: MemoryPlan, message: Message) -> bool:
    """Under `priority`, the words of the system and those with a key word outlast others (§7.2)."""
    if plan.eviction != "priority":
        return False
    text = message["content"].lower()
    return message["role"] == "system" or any(word.lower() in text for word in plan.keep)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import re2

    return re2.compile(pattern)
