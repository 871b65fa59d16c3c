"""Batches of steps that run on workers: their journals, and the word to stop.

Everything is for processes that share nothing but the result storage of the run and the server.
A storage can read a name and cannot list, so that the server knows which journals there are: each
is announced among the inputs of the flow run before anything is written to it.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient
from prefect.results import ResultStore

from compozy_prefect.flows.journal import Journal

PROCESSES = "@processes"  # those of the flow that have sent batches, in its journal
_OVER = "@over"  # a batch has ended, in its own journal
_ROW = "compozy-batch-"  # begins the key of a row that announces a journal
_PAGE = 200  # rows of one answer of the server
_ENDING = 1.5  # seconds in which a batch that was told to stop has done so


class BatchId(NamedTuple):
    """One batch of a fan-out of a process; `process` is a name that no other process has."""

    process: str
    fan: int
    batch: int

    @property
    def of_fan(self) -> str:
        return f"{self.process}-{self.fan}"

    def __str__(self) -> str:
        return f"{self.of_fan}-{self.batch}"


class Stops:
    """Words from the process of the flow to the batches of a fan-out, or of them all: to end."""

    def __init__(self, store: ResultStore, root: UUID) -> None:
        self._store, self._root = store, root

    async def ask(self, whom: str, reason: str) -> None:
        """`whom` is a process, or one of its fan-outs."""
        await self._store.awrite({"reason": reason}, self._key(whom))

    async def asked(self, whom: str) -> str | None:
        """Why it should end; None when it should not."""
        if not await self._store.aexists(self._key(whom)):
            return None
        try:
            return str((await self._store.aread(self._key(whom))).result["reason"])
        except ValueError:
            return "cancelled"  # it is being written

    def _key(self, whom: str) -> str:
        return f"{self._root}/@stops/{whom}"


async def begun(client: PrefectClient, store: ResultStore, root: UUID, id: BatchId) -> Journal:
    """The journal of a batch that begins, with what it kept on a worker that has died since."""
    before = await _journals(client, store, root, f"{_ROW}{id}-")
    name = f"{id}-{uuid4().hex[:12]}"
    await client.create_flow_run_input(root, _ROW + name, "{}")
    journal = Journal(store, root, _named(name))
    for one in before:
        await one.read()
        journal.adopt(one.notes())
    return journal


async def over(journal: Journal) -> None:
    """Writes what is left of the journal of a batch, which has ended."""
    await journal.keep(_OVER, True)


async def collected(client: PrefectClient, journal: Journal) -> None:
    """Adds to the journal of a flow what batches of earlier processes have kept.

    Those that still run are told to stop, and have a moment for it.
    """
    processes = journal.get(PROCESSES)
    if not processes:
        return
    stops = Stops(journal.store, journal.root)
    for process in processes:
        await stops.ask(process, "another process has the run now")
    found = await _journals(client, journal.store, journal.root, _ROW)
    deadline = time.monotonic() + _ENDING
    await asyncio.gather(*(one.read() for one in found))
    while time.monotonic() < deadline:
        running = [one for one in found if one.get(_OVER) is None]
        if not running:
            break
        await asyncio.sleep(0.1)
        await asyncio.gather(*(one.read() for one in running))
    for one in found:
        journal.adopt(one.notes())


async def _journals(
    client: PrefectClient, store: ResultStore, root: UUID, prefix: str
) -> list[Journal]:
    """The journals whose rows begin like this, the latest first: it counts before the others."""
    keys: list[str] = []  # in the order in which they were made
    while True:
        page = await client.filter_flow_run_input(root, prefix, _PAGE, set(keys))
        keys += [row.key for row in page]
        if len(page) < _PAGE:
            break
    return [Journal(store, root, _named(key.removeprefix(_ROW))) for key in reversed(keys)]


def _named(name: str) -> str:
    return f"@batches/{name}"
