"""The `rate_limit` of a model, kept by all processes of a Prefect server together.

Prefect's global concurrency limits hold the slots: of a process that dies they are free again when
its lease has run out. A limit for calls or tokens in a minute is one whose slots come back with
time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import httpx
from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import concurrency, rate_limit
from prefect.exceptions import PrefectHTTPStatusError

from compozy_prefect.compiler.plan import ModelPlan

_MINUTE = 60.0
_LEASE = 60.0  # seconds after which the slot of a dead process is free
_log = logging.getLogger(__name__)


class SharedLimits:
    """`runtime.llm.limits.Shared` over the server that is configured.

    A limit is created when it is first needed, and set anew when the project says another number.
    A server that is away holds no call back: the limits of the process are there all the same.
    """

    def __init__(self) -> None:
        self._set: dict[str, tuple[int, float]] = {}
        # Of each event loop that asks.
        self._setting: WeakKeyDictionary[Any, asyncio.Lock] = WeakKeyDictionary()

    @asynccontextmanager
    async def __call__(self, model: ModelPlan, tokens: int) -> AsyncIterator[None]:
        limit, name = model.rate_limit, f"compozy {model.provider} {model.model}"
        async with AsyncExitStack() as stack:
            try:
                if slots := _number(limit, "concurrency"):
                    await self._ensure(name, slots, 0.0)
                    await stack.enter_async_context(
                        concurrency(name, occupy=1, lease_duration=_LEASE)
                    )
                await self._paced(f"{name} calls", 1, _number(limit, "requests_per_minute"))
                await self._paced(f"{name} tokens", tokens, _number(limit, "tokens_per_minute"))
            except (httpx.HTTPError, PrefectHTTPStatusError) as fault:
                _log.warning("the limits of %s are not shared: %s", name, fault)
            yield

    async def _paced(self, name: str, amount: int, a_minute: int) -> None:
        if a_minute:
            await self._ensure(name, a_minute, a_minute / _MINUTE)
            await rate_limit(name, occupy=max(1, min(amount, a_minute)))

    async def _ensure(self, name: str, slots: int, back: float) -> None:
        setting = self._setting.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with setting:  # of a hundred clients at once Prefect's server on SQLite answers none
            if self._set.get(name) == (slots, back):
                return
            async with get_client() as client:
                await client.upsert_global_concurrency_limit_by_name(
                    name, slots, slot_decay_per_second=back
                )
            self._set[name] = slots, back


def _number(limit: dict[str, Any], name: str) -> int:
    return int(limit.get(name) or 0)
