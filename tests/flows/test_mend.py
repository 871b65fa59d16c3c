"""Steps that are shown as running in executions that are over."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from prefect.client.orchestration import get_client

from compozy_prefect.flows.mend import mend
from tests.support.prefect_server import Api


def begun(api: Api, state: str, *, tags: tuple[str, ...] = (), inside: str | None = None) -> str:
    """A flow run in this state with a step that is Running; the id of the step."""
    flow = api.post("/flows/", {"name": "mended"})["id"]
    body: dict[str, Any] = {"flow_id": flow, "tags": tags, "parent_task_run_id": inside}
    run = api.post("/flow_runs/", body | {"state": {"type": "RUNNING"}})["id"]
    step = {"flow_run_id": run, "name": "s", "task_key": "w/s", "dynamic_key": str(uuid.uuid4())}
    made = api.post("/task_runs/", step | {"state": {"type": "RUNNING"}})["id"]
    api.post(f"/flow_runs/{run}/set_state", {"state": {"type": state}, "force": True})
    return str(made)


async def test_what_was_left_open_is_closed(prefect_server: Api) -> None:
    mine = ("compozy",)
    over = [begun(prefect_server, state, tags=mine) for state in ("COMPLETED", "FAILED")]
    around = begun(prefect_server, "COMPLETED", tags=mine)  # which follows the branch in it
    branch = begun(prefect_server, "COMPLETED", inside=around)
    others = [begun(prefect_server, "RUNNING", tags=mine), begun(prefect_server, "COMPLETED")]
    async with get_client() as client:
        assert await mend(client) == 0  # their processes may be about to tell
        assert await mend(client, late=timedelta()) == 3
        assert await mend(client, late=timedelta()) == 0
    rows = {id: prefect_server.get(f"/task_runs/{id}") for id in (*over, branch, *others)}
    assert [rows[id]["state_type"] for id in (*over, branch)] == ["CRASHED"] * 3
    assert "was lost" in rows[branch]["state"]["message"]
    assert [rows[id]["state_type"] for id in others] == ["RUNNING"] * 2
