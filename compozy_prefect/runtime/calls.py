"""The calls of an attempt, as they are kept and watched: what an agent needs of `flows`.

What a call of a model or a tool gave is kept before the talk relies on it, so that a talk that
broke off goes on at the call it had reached, and nothing is paid twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol
from uuid import NAMESPACE_OID, uuid5

from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime.llm.client import Usage


class Calls(Protocol):
    """The calls of one attempt by their key, as an earlier process left them."""

    def get(self, key: str) -> Json:
        """What was kept of a call; None without."""
        ...

    def note(self, key: str, value: Json) -> None:
        """Keeps it some time soon."""
        ...

    async def keep(self, key: str, value: Json) -> Json:
        """Keeps it, with all that was noted, and gives it as it is kept: without secrets.

        Raises RunError when it cannot be kept.
        """
        ...


class Nowhere:
    """Keeps nothing."""

    def get(self, key: str) -> Json:
        return None

    def note(self, key: str, value: Json) -> None: ...

    async def keep(self, key: str, value: Json) -> Json:
        return value


class Under:
    """The calls of a talk inside of a call, whose keys begin with `key`."""

    def __init__(self, calls: Calls, key: str) -> None:
        self._calls, self._prefix = calls, f"{key}/"

    def get(self, key: str) -> Json:
        return self._calls.get(self._prefix + key)

    def note(self, key: str, value: Json) -> None:
        self._calls.note(self._prefix + key, value)

    async def keep(self, key: str, value: Json) -> Json:
        return await self._calls.keep(self._prefix + key, value)


class Called(NamedTuple):
    """A call that is over, of the `name`.

    `kind` is `model`, `tool`, `agent`, or the `resource` or `prompt` of a server.
    `again`: it was made by an earlier process, and read. `error` is empty when it succeeded.
    `sizes`, of all but models, are bytes: what it was called with, and what it gave.
    """

    key: str
    kind: str
    name: str
    seconds: float
    usage: Usage = Usage()
    error: str = ""
    again: bool = False
    sizes: tuple[int, int] = (0, 0)


class Watch(Protocol):
    """What is told of a talk while it goes on."""

    def began(self, key: str, kind: str, name: str) -> None: ...

    def ended(self, called: Called) -> None: ...

    def id_of(self, key: str) -> str:
        """The id under which a call is shown, or would be: the same whenever it is made."""
        ...

    def chunk(self, text: str | None) -> None:
        """A piece of a streamed answer; None takes back what the call has said so far."""
        ...

    def printed(self, tool: str, text: str) -> None:
        """What a tool wrote while it ran."""
        ...

    @property
    def streams(self) -> bool:
        """Whether anybody wants chunks: a provider is then asked to stream."""
        ...


class Unwatched:
    streams = False

    def began(self, key: str, kind: str, name: str) -> None: ...

    def ended(self, called: Called) -> None: ...

    def id_of(self, key: str) -> str:
        return str(uuid5(NAMESPACE_OID, key))

    def printed(self, tool: str, text: str) -> None: ...

    def chunk(self, text: str | None) -> None: ...


def size(value: Json) -> int:
    """Bytes of the value as JSON."""
    return len(json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace"))


def sized(sizes: tuple[int, int]) -> str:
    """`12 B in, 3.4 kB out`."""
    return f"{_in_units(sizes[0])} in, {_in_units(sizes[1])} out"


def _in_units(size: float) -> str:
    for unit in ("B", "kB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} MB"


async def once(
    calls: Calls,
    watch: Watch,
    key: str,
    kind: str,
    name: str,
    args: Json,
    make: Callable[[], Awaitable[Json]],
) -> Json:
    """What is kept of a call with `args`, or else what `make` gives, as it is then kept.

    Whoever goes on is given the same as who began. Raises what `make` raises.
    """
    started, kept = time.monotonic(), calls.get(key)
    watch.began(key, kind, name)
    if kept is not None:
        watch.ended(Called(key, kind, name, 0.0, again=True))
        return kept["result"]
    try:
        result = await make()
    except BaseException as fault:
        seconds, said = time.monotonic() - started, str(fault) or "cancelled"
        watch.ended(Called(key, kind, name, seconds, error=said))
        raise
    seconds, sizes = time.monotonic() - started, (size(args), size(result))
    watch.ended(Called(key, kind, name, seconds, sizes=sizes))
    return (await calls.keep(key, {"result": result}))["result"]


class WatchUnder:
    """What is told of a talk inside of a call: all but its answers, which are not the step's."""

    streams = False

    def __init__(self, watch: Watch, key: str) -> None:
        self._watch, self._prefix = watch, f"{key}/"

    def began(self, key: str, kind: str, name: str) -> None:
        self._watch.began(self._prefix + key, kind, name)

    def ended(self, called: Called) -> None:
        self._watch.ended(called._replace(key=self._prefix + called.key))

    def id_of(self, key: str) -> str:
        return self._watch.id_of(self._prefix + key)

    def printed(self, tool: str, text: str) -> None:
        self._watch.printed(tool, text)

    def chunk(self, text: str | None) -> None: ...
