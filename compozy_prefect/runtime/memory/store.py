"""Where conversations are kept (language.md §7.4).

A conversation is known by its project, its memory and its rendered key. Whatever keeps one is a
`Store`; `persistence.type: in_memory` is kept in the process and ends with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

Message = dict[str, str]  # {role, content}


class Instance(NamedTuple):
    """The name of one conversation."""

    project: str
    memory: str
    key: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages from the oldest to the newest. `flushed` is the time of the last flush."""

    messages: tuple[Message, ...] = ()
    flushed: str | None = None


EMPTY = Conversation()
Change = Callable[[Conversation], Conversation | None]


class Store(Protocol):
    """Keeps conversations. Raises OSError when it cannot be reached."""

    async def read(self, instance: Instance) -> Conversation:
        """The conversation; an empty one when there is none, or its time is up."""
        ...

    async def change(self, instance: Instance, change: Change, *, ttl: float, once: str) -> None:
        """Puts what `change` makes of the conversation in its place; None deletes it.

        Changes of one conversation come one after another, also those of other processes. A change
        with the same `once` is made once, so that a step that is tried again adds nothing twice.
        It lives for `ttl` seconds from now, 0 for ever.
        """
        ...


@dataclass(slots=True)
class _Kept:
    conversation: Conversation
    until: float
    made: tuple[str, ...]


class InProcess:
    """A store that lives as long as the process, for all its runs."""

    _REMEMBERED = 100  # changes of a conversation that are known to have been made

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[Instance, _Kept] = {}

    async def read(self, instance: Instance) -> Conversation:
        return self._current(instance).conversation

    async def change(self, instance: Instance, change: Change, *, ttl: float, once: str) -> None:
        before = self._current(instance)
        if once in before.made:
            return
        after = change(before.conversation)
        until = self._clock() + ttl if ttl else float("inf")
        made = (*before.made, once)[-self._REMEMBERED :]
        self._kept[instance] = _Kept(after or EMPTY, until, made)

    def _current(self, instance: Instance) -> _Kept:
        kept = self._kept.get(instance)
        if kept is None:
            return _Kept(EMPTY, 0.0, ())
        if kept.until <= self._clock():
            kept = self._kept[instance] = replace(kept, conversation=EMPTY)
        return kept


IN_PROCESS = InProcess()
