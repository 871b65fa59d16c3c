"""What a supervisor does about runs in every state, by a clock of its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.input.run_input import keyset_from_base_key
from prefect.results import ResultRecordMetadata
from prefect.serializers import JSONSerializer
from prefect.states import Cancelling, Completed, Crashed, Paused, Pending, Running, Scheduled

from compozy_prefect.flows import lease, rows
from compozy_prefect.flows.revive import revive
from compozy_prefect.flows.supervise import (
    CRASH_STANDS,
    MOST,
    STARTING,
    Did,
    Supervisor,
)
from compozy_prefect.flows.wait import base_key
from compozy_prefect.flows.worker import BEAT, PATIENCE, REVIVED, UNTIL, WAITS, suspended
from tests.support.prefect_server import Api

KEYS: dict[str, str] = dict(keyset_from_base_key(base_key("go", 1)).items())


class World:
    """A server with one run, and a clock."""

    def __init__(self, api: Api, client: PrefectClient) -> None:
        self.api, self.client, self.now = api, client, 1000.0
        flow = api.post("/flows/", {"name": "watched"})["id"]
        body = {"name": "watched", "flow_id": flow, "entrypoint": "flows.py:watched"}
        self.deployment = api.post("/deployments/", body)["id"]

    def run(self, tags: tuple[str, ...] = ("compozy",)) -> str:
        path = f"/deployments/{self.deployment}/create_flow_run"
        return str(self.api.post(path, {"tags": list(tags)})["id"])

    async def put(self, id: str, *states: State[Any], **labels: Any) -> None:
        await self.client.update_flow_run_labels(id, labels)  # type: ignore[arg-type]
        for state in states:
            await self.client.set_flow_run_state(id, state, force=True)  # type: ignore[arg-type]

    def supervisor(self, **more: Any) -> Supervisor:
        return Supervisor(self.client, clock=lambda: self.now, **more)

    async def look(self, supervisor: Supervisor, id: str, after: float = 0.0) -> list[Did]:
        """What is done about the run `after` seconds, in steps as they are in life."""
        found: list[Did] = []
        end = self.now + after
        while True:
            found += [did async for did in supervisor.look() if did.execution_id == id]
            if self.now >= end:
                return found
            self.now = min(self.now + PATIENCE / 4, end)

    def state(self, id: str) -> Any:
        return self.api.flow_run(id)["state"]


@pytest.fixture
def scene(prefect_server: Api) -> Callable[[Callable[[World], Awaitable[None]]], None]:
    def play(story: Callable[[World], Awaitable[None]]) -> None:
        async def main() -> None:
            async with get_client() as client:
                await story(World(prefect_server, client))

        asyncio.run(main())

    return play


def test_a_silent_run_is_scheduled_again_by_one_of_two(scene: Any) -> None:
    async def story(world: World) -> None:
        id = world.run()
        await world.put(id, Pending(), Running(), **{BEAT: 7})
        one, two = world.supervisor(), world.supervisor()
        assert await world.look(one, id) == await world.look(two, id) == []
        assert await world.look(one, id, PATIENCE - 1) == []
        found = [did async for did in two.look() if did.execution_id == id]
        world.now += 2
        both = [await one.look().__anext__(), *[did async for did in two.look()]]
        assert found == []
        assert [did.action for did in both if did.execution_id == id] == ["revived"]
        assert both[0].silent >= PATIENCE
        assert world.state(id)["name"] == "Resuming"
        assert world.api.flow_run(id)["labels"][REVIVED] == 1
        # A process that has it all the same, and is only slow, has lost it.
        assert await rows.value(world.client, UUID(id), lease.key(2)) == lease.CLOSED

    scene(story)


def test_one_that_ended_meanwhile_is_not_scheduled(scene: Any) -> None:
    async def story(world: World) -> None:
        id = world.run()
        await world.put(id, Pending(), Running())
        run = await world.client.read_flow_run(UUID(id))
        over: State[Any] = Completed()
        over.data = ResultRecordMetadata(
            storage_key="x", expiration=None, serializer=JSONSerializer(), prefect_version="3"
        )
        await world.put(id, over)
        assert not await revive(world.client, run, "silent")
        assert world.state(id)["type"] == "COMPLETED"

    scene(story)


def test_a_run_that_says_that_it_lives_is_left_alone(scene: Any) -> None:
    async def story(world: World) -> None:
        id, foreign = world.run(), world.run(tags=("other",))
        await world.put(foreign, Pending(), Running())
        await world.put(id, Pending(), Running())
        supervisor = world.supervisor()
        for beat in range(4):
            await world.put(id, **{BEAT: beat})
            assert await world.look(supervisor, id, PATIENCE - 1) == []
        assert await world.look(supervisor, foreign, 3 * PATIENCE) == []
        assert world.state(foreign)["type"] == "RUNNING"

    scene(story)


def test_time_in_which_the_supervisor_slept_does_not_count(scene: Any) -> None:
    async def story(world: World) -> None:
        id = world.run()
        await world.put(id, Pending(), Running())
        supervisor = world.supervisor()
        assert await world.look(supervisor, id) == []
        world.now += 10 * PATIENCE
        assert await world.look(supervisor, id, PATIENCE - 1) == []
        assert [did.action for did in await world.look(supervisor, id, 2)] == ["revived"]

    scene(story)


def test_a_claim_of_a_supervisor_that_died_does_not_last(scene: Any) -> None:
    async def story(world: World) -> None:
        id = world.run()
        await world.put(id, Pending(), Running())
        key = f"compozy-claim-{world.state(id)['id']}-1"
        await world.client.create_flow_run_input(id, key, "{}")  # type: ignore[arg-type]
        supervisor = world.supervisor()
        assert await world.look(supervisor, id, 2 * PATIENCE - 1) == []
        assert [did.action for did in await world.look(supervisor, id, PATIENCE)] == ["revived"]

    scene(story)


def test_a_run_is_not_revived_for_ever(scene: Any) -> None:
    async def story(world: World) -> None:
        id = world.run()
        await world.put(id, Pending(), Running(), **{REVIVED: MOST})
        supervisor = world.supervisor()
        assert [did.action for did in await world.look(supervisor, id, PATIENCE + 1)] == [
            "given up"
        ]
        assert world.state(id)["type"] == "CRASHED"
        assert f"{MOST} times" in world.state(id)["message"]
        assert await world.look(supervisor, id, 3 * PATIENCE) == []

    scene(story)


def test_a_crash_that_a_worker_has_told_of(scene: Any) -> None:
    async def story(world: World) -> None:
        ran, never = world.run(), world.run()
        await world.put(ran, Pending(), Running(), Crashed(message="exit -9"))
        await world.put(never, Pending(), Crashed(message="exit 1"))
        supervisor = world.supervisor()
        assert await world.look(supervisor, ran, CRASH_STANDS - 1) == []
        (did,) = await world.look(supervisor, ran, 2)
        assert (did.action, did.reason) == ("revived", "exit -9")
        assert await world.look(supervisor, never, 3 * PATIENCE) == []
        assert world.state(never)["type"] == "CRASHED"

    scene(story)


def test_a_run_that_never_started(scene: Any) -> None:
    async def story(world: World) -> None:
        id = world.run()
        await world.put(id, Pending())
        supervisor = world.supervisor()
        assert await world.look(supervisor, id, STARTING - 1) == []
        assert [did.action for did in await world.look(supervisor, id, 2)] == ["revived"]

    scene(story)


def test_one_that_was_to_be_cancelled_is_cancelled(scene: Any) -> None:
    async def story(world: World) -> None:
        id = world.run()
        await world.put(id, Pending(), Running(), Cancelling())
        found = await world.look(world.supervisor(), id, PATIENCE + 1)
        assert [did.action for did in found] == ["cancelled"]
        assert world.state(id)["type"] == "CANCELLED"

    scene(story)


def test_one_that_waited_needs_no_process_until_its_signal_comes(scene: Any) -> None:
    async def story(world: World) -> None:
        id = world.run()
        paused: State[Any] = Paused(pause_key="go")
        paused.state_details.run_input_keyset = KEYS
        await world.put(id, Pending(), Running(), paused, **{WAITS: json.dumps([KEYS["response"]])})
        supervisor = world.supervisor()
        found = await world.look(supervisor, id, PATIENCE + 1)
        assert [did.action for did in found] == ["suspended"]
        state = world.state(id)
        assert state["name"] == "Suspended"
        assert state["state_details"]["run_input_keyset"] == KEYS  # the form is still there
        assert await world.look(supervisor, id, 3 * PATIENCE) == []
        await world.client.create_flow_run_input(id, KEYS["response"], "{}")  # type: ignore[arg-type]
        assert [did.reason for did in await world.look(supervisor, id, 12)] == ["a signal came"]
        assert world.state(id)["name"] == "Resuming"

    scene(story)


def test_a_suspended_run_whose_time_is_over(scene: Any) -> None:
    async def story(world: World) -> None:
        id = world.run()
        keys = {**KEYS}
        later = {WAITS: json.dumps([keys["response"]]), UNTIL: time.time() + 3600}
        await world.client.create_flow_run_input(id, keys["schema"], "{}")  # type: ignore[arg-type]
        await world.put(id, Pending(), Running(), suspended("waits", keys), **later)
        supervisor = world.supervisor()
        assert await world.look(supervisor, id, PATIENCE) == []
        await world.put(id, **{UNTIL: time.time() - 1})
        found = await world.look(supervisor, id)
        assert [did.reason for did in found] == ["the time to wait is over"]
        assert world.state(id)["name"] == "Resuming"

    scene(story)


def test_what_is_scheduled_is_a_matter_of_the_workers(scene: Any) -> None:
    async def story(world: World) -> None:
        id = world.run()
        await world.put(id, Scheduled())
        assert await world.look(world.supervisor(), id, 2 * STARTING) == []

    scene(story)
