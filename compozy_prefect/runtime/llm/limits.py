"""How often a model is called: at a time, in a minute, and how many tokens (`rate_limit`, §5).

A process keeps to the limits of its models by itself. Where there is a server that several
processes share, `shared` has them keep to one limit together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.errors import ModelFailed
from compozy_prefect.runtime.llm.client import Listener, ModelAnswer, ModelClient, ModelRequest
from compozy_prefect.runtime.llm.failover import tokens_of

AT_ONCE = 10  # calls of one model at a time, where nothing is said (service.md §8.3)
_MINUTE = 60.0


class Shared(Protocol):
    """Holds a call back until it keeps to the limits that other processes keep to as well."""

    def __call__(self, model: ModelPlan, tokens: int) -> AbstractAsyncContextManager[None]: ...


@dataclass
class _Window:
    """What was used in the last minute, of `most`; 0 is without a limit."""

    most: int
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    used: deque[list[float]] = field(default_factory=deque)
    total: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def take(self, amount: int) -> list[float] | None:
        """Waits for room; for more than there ever is, until nobody else uses it."""
        if not self.most:
            return None
        async with self.turn:  # in the order in which they came
            while (left := self._until(amount)) > 0:
                await self.sleep(left)
            entry = [self.clock(), float(amount)]
            self.used.append(entry)
            self.total += amount
            return entry

    def correct(self, entry: list[float] | None, amount: int) -> None:
        """What it has used after all."""
        if entry is not None and entry in self.used:
            self.total += amount - entry[1]
            entry[1] = float(amount)

    def _until(self, amount: int) -> float:
        """Seconds until there is room."""
        now = self.clock()
        while self.used and self.used[0][0] <= now - _MINUTE:
            self.total -= self.used.popleft()[1]
        if not self.used or self.total + amount <= self.most:
            return 0.0
        return self.used[0][0] + _MINUTE - now


class _Gate:
    """The limits of one model in one event loop."""

    def __init__(
        self,
        limit: Mapping[str, Any],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.slots = asyncio.Semaphore(int(limit.get("concurrency") or AT_ONCE))
        self.queue = limit.get("queue_size")
        self.waiting = 0
        self.early = bool(limit.get("release_slot_before_token_wait"))

        def window(name: str, burst: str) -> _Window:
            most = int(limit.get(name) or 0)
            return _Window(most + int(limit.get(burst) or 0) if most else 0, clock, sleep)

        self.requests = window("requests_per_minute", "request_burst")
        self.tokens = window("tokens_per_minute", "token_burst")


class Limited:
    """Asks `client` no more often than the limits of the model allow.

    `clock` is monotonic, in seconds; it and `sleep` are there for tests.
    """

    def __init__(
        self,
        client: ModelClient,
        shared: Shared | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client, self._shared = client, shared
        self._clock, self._sleep = clock, sleep
        self._gates: WeakKeyDictionary[Any, dict[tuple[str, str, str], _Gate]] = WeakKeyDictionary()

    async def complete(
        self, request: ModelRequest, *, on_chunk: Listener | None = None
    ) -> ModelAnswer:
        """Raises what the client raises, and ModelFailed when more calls wait than may."""
        if not request.model.is_limited:
            return await self._client.complete(request, on_chunk=on_chunk)
        gate, tokens = self._gate(request.model), tokens_of(request)
        async with self._admitted(request, gate, tokens) as used:
            answer = await self._client.complete(request, on_chunk=on_chunk)
            usage = answer.usage
            gate.tokens.correct(used, usage.prompt_tokens + usage.completion_tokens)
            return answer

    def _gate(self, model: ModelPlan) -> _Gate:
        gates = self._gates.setdefault(asyncio.get_running_loop(), {})
        key = (model.provider, model.model, model.api_url)
        if key not in gates:
            gates[key] = _Gate(model.rate_limit, self._clock, self._sleep)
        return gates[key]

    @asynccontextmanager
    async def _admitted(
        self, request: ModelRequest, gate: _Gate, tokens: int
    ) -> AsyncIterator[list[float] | None]:
        model = request.model
        if gate.queue is not None and gate.slots.locked() and gate.waiting >= int(gate.queue):
            raise ModelFailed(
                f"step {request.step}: {gate.waiting} calls of {model.provider}/{model.model} wait "
                "already, as many as `rate_limit.queue_size` allows",
                code="BUDGET_EXCEEDED",
                details={"provider": model.provider, "model": model.model},
            )
        used = None
        gate.waiting += 1
        try:
            if gate.early:
                used = await gate.tokens.take(tokens)
            await gate.slots.acquire()
        finally:
            gate.waiting -= 1
        try:
            await gate.requests.take(1)
            if not gate.early:
                used = await gate.tokens.take(tokens)
            if self._shared is None or not model.rate_limit:
                yield used
                return
            async with self._shared(model, tokens):
                yield used
        finally:
            gate.slots.release()
