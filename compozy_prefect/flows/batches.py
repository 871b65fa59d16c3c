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

from compozy_prefect.flows import lease
from compozy_prefect.flows.journal import Journal
from compozy_prefect.runtime.scope import Permit

PROCESSES = "@processes"  # those of the flow that have sent batches, in its journal
_COLLECTED = "@collected"  # and those whose batches count, with what counts of them
_OVER = "@over"  # a batch has ended, in its own journal
_ROW = "compozy-batch-"  # begins the key of a row that announces a journal
_LOOK_EVERY = 0.1  # seconds between looks at whether batches have ended
_PAGE = 200  # rows of one answer of the server


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


async def begun(
    client: PrefectClient, store: ResultStore, root: UUID, id: BatchId, permit: Permit
) -> Journal:
    """The journal of a batch that begins, with what it kept on a worker that has died since."""
    before = await _journals(client, store, root, f"{_ROW}{id}-")
    name = f"{id}-{uuid4().hex[:12]}"
    await client.create_flow_run_input(root, _ROW + name, "{}")
    journal = Journal(store, root, permit=permit, name=_named(name))
    for one in before.values():
        await one.read()
        journal.adopt(one.notes())
    return journal


async def over(journal: Journal) -> None:
    """Writes what is left of the journal of a batch, which has ended."""
    await journal.keep(_OVER, True)


async def collected(client: PrefectClient, journal: Journal) -> None:
    """Adds to the journal of a flow what batches of earlier processes have kept.

    Those that still run are told to stop, and have as long for it as they may begin something
    without asking the server. What they write after that counts for nobody: the journal says how
    much of each was found, for whoever has the execution later.
    """
    before = journal.get(_COLLECTED) or {"processes": [], "journals": {}}
    processes = [one for one in journal.get(PROCESSES) or [] if one not in before["processes"]]
    found: dict[str, Journal] = {}
    if processes:
        found = await _stopped(client, journal, processes)
    old = {name: _journal(journal.store, journal.root, name) for name in before["journals"]}
    await asyncio.gather(*(one.read(before["journals"][name]) for name, one in old.items()))
    for one in (*found.values(), *old.values()):
        journal.adopt(one.notes())
    if processes:  # also where they had nothing yet: what they begin now counts for nobody
        counts = {name: one.groups for name, one in found.items()} | before["journals"]
        done = [*before["processes"], *processes]
        journal.note(_COLLECTED, {"processes": done, "journals": counts})


async def _stopped(
    client: PrefectClient, journal: Journal, processes: list[str]
) -> dict[str, Journal]:
    """The journals of the batches of these processes, which have ended, by their names."""
    stops = Stops(journal.store, journal.root)
    for process in processes:
        await stops.ask(process, "another process has the run now")
    found: dict[str, Journal] = {}
    for process in reversed(processes):
        prefix = f"{_ROW}{process}-"
        found |= await _journals(client, journal.store, journal.root, prefix)
    deadline = time.monotonic() + lease.LEASE
    running = list(found.values())
    while True:
        await asyncio.gather(*(one.read() for one in running))
        running = [one for one in running if one.get(_OVER) is None]
        if not running or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(_LOOK_EVERY)


async def _journals(
    client: PrefectClient, store: ResultStore, root: UUID, prefix: str
) -> dict[str, Journal]:
    """The journals whose rows begin like this, the latest first: it counts before the others."""
    keys: list[str] = []  # in the order in which they were made
    while True:
        page = await client.filter_flow_run_input(root, prefix, _PAGE, set(keys))
        keys += [row.key for row in page]
        if len(page) < _PAGE:
            break
    names = [key.removeprefix(_ROW) for key in reversed(keys)]
    return {name: _journal(store, root, name) for name in names}


def _journal(store: ResultStore, root: UUID, name: str) -> Journal:
    return Journal(store, root, name=_named(name))


def _named(name: str) -> str:
    return f"@batches/{name}"
