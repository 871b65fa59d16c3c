"""Workflows on a Prefect server whose database is PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.plan import Plan
from compozy_prefect.flows.control import send
from compozy_prefect.flows.run import RunResult, run, run_sync
from compozy_prefect.runtime.services import Services
from tests.support.compozy import Compozy
from tests.support.effects import Effects
from tests.support.postgres import Postgres
from tests.support.prefect_server import Api, until

CHAIN = [
    {
        "id": f"step-{n:02}",
        "with": {"n": f'{{{{ add (index .tasks "step-{n - 1:02}").output.n 1 }}}}' if n else 0},
    }
    for n in range(20)
]
AT_ONCE = 25


def planned(folder: Path, tasks: list[dict[str, Any]], **fields: Any) -> Plan:
    (folder / "compozy.yaml").write_text(json.dumps({"name": "pg", "tasks": tasks, **fields}))
    return compile_project(folder).plan


def ended(plan: Plan, **input: Any) -> RunResult:
    return run_sync(plan, "pg", input, services=Services.create(offline=True, env={}))


def states(api: Api, id: str) -> Counter[str]:
    """How many task runs of a flow run are in which state; the server gives 200 at a time."""
    found: Counter[str] = Counter()
    page = None
    while page is None or len(page) == 200:
        body = {"flow_runs": {"id": {"any_": [id]}}, "offset": found.total(), "limit": 200}
        page = api.post("/task_runs/filter", body)
        found.update(one["state_name"] for one in page)
    return found


def test_a_chain(postgres: Postgres, postgres_server: Api, tmp_path: Path) -> None:
    result = ended(planned(tmp_path, CHAIN))
    query = f"SELECT state_name FROM flow_run WHERE id = '{result.execution_id}'"
    url = os.environ["PREFECT_API_DATABASE_CONNECTION_URL"]
    assert postgres.ask(url, query) == "Completed"  # it is not in SQLite
    assert (result.status, result.tasks["step-19"].output) == ("SUCCESS", {"n": 19})
    rows = postgres_server.settled(result.execution_id, 20)
    assert {row["state_name"] for row in rows.values()} == {"Completed"}
    before = rows["step-18"]["id"]
    assert rows["step-19"]["task_inputs"]["after"][0]["id"] == before
    assert postgres_server.artifacts(result.execution_id).keys() == {"pg-output", "pg-plan"}


def test_a_fan_out(postgres_server: Api, tmp_path: Path) -> None:
    task = {"id": "square-{{ .index }}", "with": {"n": "{{ mul .item .item }}"}}
    tasks = [{"id": "squares", "type": "collection", "items": "1..300", "task": task}]
    result = ended(planned(tmp_path, tasks))
    assert result.status == "SUCCESS"
    assert [one.output["n"] for id, one in result.tasks.items() if id.startswith("square-")] == [
        n * n for n in range(1, 301)
    ]
    found = until(
        lambda: states(postgres_server, result.execution_id),
        lambda found: found["Completed"] >= 301 and set(found) == {"Completed"},
    )
    assert set(found) == {"Completed"}


def test_a_router_with_a_branch(postgres_server: Api, tmp_path: Path) -> None:
    routes = {name: {"id": name, "with": {"took": name}} for name in ("high", "low")}
    tasks = [
        {"id": "classify", "with": {"kind": "high"}},
        {
            "id": "pick",
            "type": "router",
            "condition": "{{ .tasks.classify.output.kind }}",
            "routes": routes,
        },
    ]
    result = ended(planned(tmp_path, tasks))
    assert (result.status, result.tasks["high"].output) == ("SUCCESS", {"took": "high"})
    assert "low" not in result.tasks
    parents = {"parent_flow_run_id": {"any_": [result.execution_id]}}
    (branch,) = postgres_server.post("/flow_runs/filter", {"flow_runs": parents})
    assert (branch["name"], branch["state_name"]) == ("pick: high", "Completed")
    assert postgres_server.settled(branch["id"], 1).keys() == {"high"}


async def test_a_wait_with_a_signal(postgres_server: Api, tmp_path: Path) -> None:
    tasks = [
        {"id": "wait", "type": "wait", "wait_for": "go"},
        {"id": "after", "with": {"n": "{{ .tasks.wait.output.signal.payload.n }}"}},
    ]
    plan, ids = planned(tmp_path, tasks), list[str]()

    class Watch:
        def run_started(self, id: str, url: str) -> None:
            ids.append(id)

    services = Services.create(offline=True, env={})
    running = asyncio.create_task(
        run(plan, "pg", {}, services=services, observer=Watch())  # type: ignore[arg-type]
    )
    while not ids:
        await asyncio.sleep(0.01)
    await asyncio.to_thread(
        until,
        lambda: postgres_server.flow_run(ids[0])["state_type"],
        lambda state: state == "PAUSED",
    )
    await send(ids[0], "go", {"n": 7})
    result = await asyncio.wait_for(running, 30)
    assert (result.status, result.tasks["after"].output) == ("SUCCESS", {"n": 7})
    assert postgres_server.flow_run(ids[0])["state_name"] == "Completed"


def test_a_killed_run_is_resumed(postgres_server: Api, effects: Effects, tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text(
        f"name: pg\ntools: [{effects.tool}]\ntasks:\n"
        + "".join(f"  - {{id: {n}, tool: effect, with: {{step: {n}}}}}\n" for n in "abc")
    )
    compozy = Compozy(tmp_path)
    killed = compozy("run", ".", env={"COMPOZY_FAULT": "step.performed@b=crash"})
    assert killed.code < 0
    id = next(line.split()[1] for line in killed.err.splitlines() if line.startswith("run "))
    resumed = compozy("resume", id, "--json")
    assert (resumed.code, resumed.json["status"]) == (0, "SUCCESS"), resumed.err
    assert effects.log == ["a", "b", "b", "c"]
    assert len(effects.keys["b"]) == 1
    rows = postgres_server.settled(id, 3)
    assert {name: row["state_name"] for name, row in rows.items()} == {
        "a": "Cached",
        "b": "Completed",
        "c": "Completed",
    }


async def test_many_at_once(postgres_server: Api, tmp_path: Path) -> None:
    steps = [
        {"id": "one", "with": {"n": "{{ .workflow.input.n }}"}},
        {"id": "two", "with": {"n": "{{ mul .tasks.one.output.n 2 }}"}},
    ]
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    plan = planned(tmp_path, steps, config={"input": schema})
    results = await asyncio.gather(
        *(
            run(plan, "pg", {"n": n}, services=Services.create(offline=True, env={}))
            for n in range(AT_ONCE)
        )
    )
    assert [result.status for result in results] == ["SUCCESS"] * AT_ONCE
    assert [result.tasks["two"].output for result in results] == [
        {"n": 2 * n} for n in range(AT_ONCE)
    ]
    ids = [result.execution_id for result in results]
    assert len(set(ids)) == AT_ONCE
    body = {"flow_runs": {"id": {"any_": ids}}}
    found = await asyncio.to_thread(postgres_server.post, "/flow_runs/filter", body)
    assert Counter(one["state_name"] for one in found) == {"Completed": AT_ONCE}
    for id in ids:
        rows = await asyncio.to_thread(postgres_server.settled, id, 2)
        assert {row["state_name"] for row in rows.values()} == {"Completed"}
    shown = [await asyncio.to_thread(postgres_server.artifacts, id) for id in ids]
    assert all(one.keys() == {"pg-output", "pg-plan"} for one in shown)


@pytest.fixture(autouse=True)
def _served(postgres_server: Api) -> None:
    """Every test here is for this server, also where it does not ask it."""
