"""What the runs of a process share: a client, looks at the server, and the turns at an artifact."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.filesystems import LocalFileSystem

from compozy_prefect.compiler.plan import ToolCall
from compozy_prefect.flows import artifacts, engine
from compozy_prefect.flows.clients import shared_client
from compozy_prefect.flows.connection import api_url
from compozy_prefect.flows.run import RunResult, run
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.services import Services
from tests.support.plans import plan, step
from tests.support.prefect_server import Api

OF = plan(step("one", with_={"n": 1}))


async def ended(count: int = 1) -> list[RunResult]:
    """So many runs at once."""
    services = Services.create(offline=True, env={})
    return await asyncio.gather(*(run(OF, "flow", {}, services=services) for _ in range(count)))


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The requests that are made, without the ids in them."""
    made: Counter[str] = Counter()
    for kind in (PrefectHttpxAsyncClient, PrefectHttpxSyncClient):
        sent = kind.send

        def send(self: Any, request: httpx.Request, *rest: Any, _: Any = sent, **more: Any) -> Any:
            path = re.sub(r"[0-9a-f-]{36}", "ID", request.url.path).removeprefix("/api")
            made[f"{request.method} {path}"] += 1
            return _(self, request, *rest, **more)

        monkeypatch.setattr(kind, "send", send)
    return made


async def test_what_runs_ask_of_the_server(prefect_server: Api, requests: Counter[str]) -> None:
    results = await ended(5)
    assert [result.status for result in results] == ["SUCCESS"] * 5
    of_runs = {
        "POST /flow_runs/": 5,
        "GET /flow_runs/ID": 5,
        "POST /flow_runs/ID/set_state": 5,
        "POST /artifacts/": 5,
    }
    assert {one: requests[one] for one in of_runs} == of_runs
    assert requests["POST /flows/"] == requests["GET /admin/storage"] == 1
    # On a slow machine somebody looks at the runs, and events ask once for what they belong to.
    others = {
        "GET /csrf-token",
        "GET /admin/version",
        "POST /flow_runs/filter",
        "GET /flows/ID",
        "POST /logs/",
    }
    assert requests.keys() - of_runs - others == {"POST /flows/", "GET /admin/storage"}
    flow_run = prefect_server.flow_run(results[0].execution_id)
    assert (flow_run["state_name"], flow_run["run_count"]) == ("Completed", 1)
    assert flow_run["flow_version"] == OF.hash
    history = prefect_server.get(f"/flow_run_states/?flow_run_id={flow_run['id']}")
    assert [state["name"] for state in history] == ["Running", "Completed"]


async def test_a_flow_that_is_deleted_meanwhile(prefect_server: Api) -> None:
    async with shared_client(api_url()) as client:  # keeps it, and what it remembers
        (first,) = await ended()
        flow = prefect_server.flow_run(first.execution_id)["flow_id"]
        await client.delete_flow(flow)
        (second,) = await ended()
    assert second.status == "SUCCESS"
    assert prefect_server.flow_run(second.execution_id)["flow_id"] != flow


async def test_results_go_where_the_server_has_them(prefect_server: Api, tmp_path: Path) -> None:
    block = LocalFileSystem(basepath=str(tmp_path))
    id = await block.save("elsewhere", overwrite=True)
    async with get_client() as client:
        await client.update_server_default_result_storage(id)
        try:
            (result,) = await ended()
        finally:
            await client.clear_server_default_result_storage()
    assert list((tmp_path / result.execution_id / "@journal").iterdir())


async def test_the_last_run_hands_over_for_all(
    prefect_server: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []
    hand_over = engine.hand_over

    async def counted(seconds: float = 10.0) -> bool:
        calls.append(seconds)
        return await hand_over(seconds)

    monkeypatch.setattr(engine, "hand_over", counted)
    results = await ended(3)
    assert len(calls) == 1
    for result in results:
        assert prefect_server.settled(result.execution_id, 1)["one"]["state_name"] == "Completed"


async def test_one_of_some_is_cancelled(prefect_server: Api, requests: Counter[str]) -> None:
    mocks = Mocks.from_mapping({"tools": {"slow": {"output": {}, "delay": "60s"}}})
    services = Services.create(offline=True, mocks=mocks, env={})
    ids, cancellations = list[str](), [engine.Cancellation() for _ in range(3)]

    class Watch:
        def run_started(self, id: str, url: str) -> None:
            ids.append(id)

    running = [
        asyncio.create_task(
            run(
                plan(step("slow", tool=ToolCall("slow"))),
                "flow",
                {},
                services=services,
                observer=Watch(),  # type: ignore[arg-type]
                cancellation=cancellation,
            )
        )
        for cancellation in cancellations
    ]
    while len(ids) < 3 or requests["POST /flow_runs/filter"] < 2:
        await asyncio.sleep(0.05)
    state = {"type": "CANCELLING", "name": "Cancelling"}
    url = f"{prefect_server.url}/flow_runs/{ids[1]}/set_state"
    await asyncio.to_thread(httpx.post, url, json={"state": state}, timeout=30)
    done, others = await asyncio.wait(running, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    (cancelled,) = done
    assert (cancelled.result().execution_id, cancelled.result().status) == (ids[1], "CANCELED")
    # Together, and not each by itself: after the flow runs were read when they began.
    assert requests["GET /flow_runs/ID"] == 3
    for cancellation in cancellations:
        cancellation.request("enough")
    for other in others:
        assert (await other).status == "CANCELED"


class Server:
    """Takes artifacts, one at a time of a key, until it is `silent`."""

    def __init__(self) -> None:
        self.taken: list[str | None] = []
        self.open: Counter[str | None] = Counter()
        self.silent = asyncio.Event()

    async def create_artifact(self, item: ArtifactCreate) -> None:
        self.open[item.key] += 1
        assert self.open[item.key] == 1
        if self.silent.is_set():
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        self.open[item.key] -= 1
        self.taken.append(item.data)


def artifact(key: str, data: str) -> ArtifactCreate:
    return ArtifactCreate(key=key, type="markdown", data=data)


async def test_artifacts_of_a_key_take_turns() -> None:
    server, turns = Server(), artifacts._Turns()
    items = [artifact(key, f"{key}{n}") for n in range(5) for key in ("a", "b")]
    await asyncio.gather(*(turns.create(server, item) for item in items))  # type: ignore[arg-type]
    assert [data for data in server.taken if data and data[0] == "a"] == [f"a{n}" for n in range(5)]
    assert len(server.taken) == 10


async def test_nobody_waits_behind_one_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "PATIENCE", 0.1)
    server, turns = Server(), artifacts._Turns()
    server.silent.set()
    first = await asyncio.gather(
        *(turns.create(server, artifact("a", str(n))) for n in range(50)),  # type: ignore[arg-type]
        return_exceptions=True,
    )
    assert all(isinstance(one, TimeoutError) for one in first)
    assert server.open["a"] == 1  # the others did not ask
    server.silent.clear()
    server.open.clear()
    await turns.create(server, artifact("a", "later"))  # type: ignore[arg-type]
    assert server.taken == ["later"]
