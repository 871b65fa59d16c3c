"""What the steps of a run gave, kept through Prefect's result storage (design.md, decision 7).

A write to storage costs more than many a step, so that results are written in groups: whoever is
done while a group is being written is in the next one. A step counts as completed when its group is
in the storage. The groups have numbers, because storages can read a name and cannot list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from uuid import UUID

from prefect.results import ResultStore

from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import RunError


class Journal:
    """The kept results of one execution, by the path of the step that gave them."""

    def __init__(self, store: ResultStore, root: UUID) -> None:
        # The store of a flow drops the metadata, without which nothing can be read again, and
        # remembers what it has written, which `_kept` does.
        self._store = store.model_copy(
            update={"metadata_storage": None, "cache_result_in_memory": False}
        )
        self._root = root
        self._kept: dict[str, Json] = {}
        self._next = 1
        self._group: dict[str, Json] = {}
        self._written: asyncio.Future[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Reads what an earlier process kept."""
        while await self._store.aexists(self._key(self._next)):
            self._kept |= (await self._store.aread(self._key(self._next))).result
            self._next += 1

    def get(self, where: str) -> Json:
        return self._kept.get(where)

    def items(self) -> Iterable[tuple[str, Json]]:
        return self._kept.items()

    async def keep(self, where: str, value: Json) -> None:
        """Returns when the value is in the storage. Raises RunError when it cannot be."""
        self._kept[where] = self._group[where] = value
        if self._written is None:
            self._written = asyncio.get_running_loop().create_future()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        # The group belongs to others too: one that is cancelled must not cancel it.
        await asyncio.shield(self._written)

    async def _write(self) -> None:
        while self._written is not None:
            group, written = self._group, self._written
            self._group, self._written = {}, None
            try:
                await self._store.awrite(group, self._key(self._next))
            except Exception as fault:
                written.set_exception(_not_kept(fault))
                written.exception()  # looked at, also when everybody who waited was cancelled
            else:
                self._next += 1
                written.set_result(None)
        self._writer = None

    def _key(self, number: int) -> str:
        return f"{self._root}/@journal/{number:06}"


def _not_kept(fault: Exception) -> RunError:
    return RunError(f"the result cannot be kept: {fault}", code="RESULT_NOT_KEPT", retryable=False)
