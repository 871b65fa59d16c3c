"""Terms of an execution: one process at a time has it, however slow another one is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient, get_client

from compozy_prefect.errors import RunError
from compozy_prefect.flows import lease, perform, rows
from compozy_prefect.flows.lease import LEASE, Lease
from compozy_prefect.flows.signals import deliver
from tests.support.prefect_server import Api


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Lost(Exception):
    pass


async def lost() -> None:
    raise Lost


@pytest.fixture
async def client(prefect_server: Api) -> AsyncIterator[PrefectClient]:
    async with get_client() as client:
        yield client


@pytest.fixture
def run(prefect_server: Api) -> UUID:
    flow = prefect_server.post("/flows/", {"name": "held"})["id"]
    return UUID(prefect_server.post("/flow_runs/", {"flow_id": flow})["id"])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lease, "clock", clock)
    return clock


async def test_of_many_that_take_it_each_has_a_term_of_its_own(
    client: PrefectClient, run: UUID
) -> None:
    terms = await asyncio.gather(*(lease.begin(client, run) for _ in range(8)))
    assert sorted(terms) == list(range(2, 10))


async def test_a_term_lasts_until_there_is_a_later_one(
    client: PrefectClient, run: UUID, clock: Clock
) -> None:
    first = await lease.begin(client, run)
    held = Lease(client, run, first, lost)
    await held.permit()
    assert await held.holds()
    clock.now += 10 * LEASE  # stopped for a while, and nobody has taken it
    await held.permit()
    second = await lease.begin(client, run, after=first)
    # It has asked just now. The second one begins nothing before that has passed.
    await held.permit()
    assert await lease.overlap(client, run, second) > LEASE - 1
    clock.now += LEASE
    with pytest.raises(Lost):
        await held.permit()
    assert not await held.holds()
    with pytest.raises(TimeoutError):  # never again
        await asyncio.wait_for(held.permit(), 0.2)
    await Lease(client, run, second, lost).permit()


async def test_nobody_waits_for_one_that_has_left_or_was_told_long_ago(
    client: PrefectClient, run: UUID
) -> None:
    first = await lease.begin(client, run)
    assert await lease.overlap(client, run, first) == 0.0  # there was none before
    await lease.leave(client, run, first)
    second = await lease.begin(client, run)
    assert await lease.overlap(client, run, second) == 0.0
    await lease.leave(client, run, first)  # too late, and no matter
    await lease.close(client, run)
    third = await lease.begin(client, run)
    assert third == second + 2
    assert 0 < await lease.overlap(client, run, third) < LEASE  # from when it was closed


async def test_without_an_answer_nothing_begins(run: UUID) -> None:
    async with PrefectClient(api="http://127.0.0.1:9/api") as away:
        held = Lease(away, run, 2, lost)
        assert not await held.holds()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(held.permit(), 0.5)


class Repeating:
    """A client whose requests are made twice, since the first answer was lost."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client

    async def create_flow_run_input(self, *arguments: Any) -> None:
        await self._client.create_flow_run_input(*arguments)
        await self._client.create_flow_run_input(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


async def test_a_row_whose_writing_was_repeated_is_ours(client: PrefectClient, run: UUID) -> None:
    repeating = cast(PrefectClient, Repeating(client))
    assert await rows.add(repeating, run, "compozy-a", "1")
    assert not await rows.add(repeating, run, "compozy-a", "2")
    assert await rows.value(client, run, "compozy-a") == "1"
    assert await lease.begin(repeating, run) == 2


async def test_a_signal_whose_sending_was_repeated_is_one(client: PrefectClient, run: UUID) -> None:
    repeating = cast(PrefectClient, Repeating(client))
    assert [await deliver(repeating, run, "go", {"n": n}) for n in range(3)] == [1, 2, 3]


async def test_a_batch_of_a_run_that_another_process_has_begins_nothing_and_ends(
    client: PrefectClient, run: UUID, clock: Clock
) -> None:
    heard = perform._Heard()
    permit = perform._permit(client, run, lease.FIRST, heard)
    await permit()
    await lease.begin(client, run)
    clock.now += LEASE
    # Its worker lives on, unlike the process of a flow: nothing of it may wait for ever.
    asked = [asyncio.wait_for(permit(), 30) for _ in range(3)]
    faults = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(fault) for fault in faults] == [RunError] * 3
    assert heard.is_lost
    assert heard.reason
    with pytest.raises(RunError, match="another process"):
        await asyncio.wait_for(permit(), 30)
