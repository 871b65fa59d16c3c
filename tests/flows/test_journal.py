"""The journal of an execution that several processes have had, and some still believe to have."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore

from compozy_prefect.errors import RunError
from compozy_prefect.flows.engine import RESULTS
from compozy_prefect.flows.journal import Journal

RUN = UUID(int=7)


class Storage:
    """A folder, and the journals that processes write there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / str(RUN) / "@journal"
        self._store = ResultStore(
            result_storage=LocalFileSystem(basepath=str(folder)), serializer=RESULTS
        )

    def journal(self, term: int, **more: Any) -> Journal:
        return Journal(self._store, RUN, term, **more)

    async def taken(self, term: int) -> Journal:
        journal = self.journal(term)
        await journal.load([])
        return journal


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def kept(journal: Journal) -> dict[str, Any]:
    return dict(journal.items())


async def test_what_all_terms_kept_is_read(storage: Storage) -> None:
    for term in (1, 2, 4):
        journal = await storage.taken(term)
        await journal.keep(f"a{term}", term)
        await journal.keep("last", term)
    found = await storage.taken(5)
    assert kept(found) == {"a1": 1, "a2": 2, "a4": 4, "last": 4}
    assert found.groups == 6


async def test_what_one_that_lost_it_writes_is_read_by_nobody(storage: Storage) -> None:
    slow = await storage.taken(1)
    await slow.keep("one", "slow")
    after = await storage.taken(2)
    await after.keep("two", "after")
    await slow.keep("two", "slow")  # under way when it was taken from it
    await slow.keep("three", "slow")
    expected = {"one": "slow", "two": "after"}
    third = await storage.taken(3)
    assert kept(third) == expected
    await third.keep("four", "third")
    await slow.keep("four", "slow")
    assert kept(await storage.taken(4)) == expected | {"four": "third"}


async def test_also_when_it_had_written_nothing_before(storage: Storage) -> None:
    slow = await storage.taken(1)
    after = await storage.taken(2)
    await after.keep("one", "after")
    await slow.keep("one", "slow")
    assert kept(await storage.taken(3)) == {"one": "after"}


async def test_what_was_written_before_anybody_relied_on_less_counts(storage: Storage) -> None:
    first = await storage.taken(1)
    await storage.taken(2)  # which dies at once
    await first.keep("one", 1)
    assert kept(await storage.taken(3)) == {"one": 1}


async def test_a_group_that_is_there_is_not_written_again(storage: Storage) -> None:
    journal = await storage.taken(2)
    await journal.keep("one", 1)
    before = [file.read_bytes() for file in storage.folder.rglob("0*")]
    with pytest.raises(RunError, match="another process"):
        await storage.taken(2)
    assert [file.read_bytes() for file in storage.folder.rglob("0*")] == before


async def test_a_group_that_breaks_off_counts_as_none(storage: Storage) -> None:
    first = await storage.taken(1)
    for number in range(3):
        await first.keep(f"a{number}", number)
    files = sorted(storage.folder.glob("0*"))
    files[2].write_bytes(files[2].read_bytes()[:40])
    second = await storage.taken(2)
    assert kept(second) == {"a0": 0, "a1": 1}
    await second.keep("b", 1)
    files[2].write_bytes(files[1].read_bytes())  # the writing ended after all
    files[1].write_bytes(b"")
    with pytest.raises(RunError, match="cannot be read"):
        await storage.taken(3)


async def test_who_has_no_permit_writes_nothing_and_relies_on_nothing(storage: Storage) -> None:
    permitted = asyncio.Event()
    permitted.set()

    async def permit() -> None:
        await permitted.wait()

    journal = storage.journal(1, permit=permit)
    await journal.load([])
    await journal.keep("one", 1)
    permitted.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(journal.keep("two", 2), 0.2)
    assert len(list(storage.folder.glob("0*"))) == 1
