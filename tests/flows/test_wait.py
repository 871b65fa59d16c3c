"""Steps that wait for a signal, and steps that send one, on a real Prefect server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import get_client

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.plan import Plan
from compozy_prefect.errors import UsageError
from compozy_prefect.flows.run import RunResult, run
from compozy_prefect.flows.signals import deliver
from compozy_prefect.flows.wait import awaited
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.services import Services
from tests.support.prefect_server import Api

APPROVAL = """
name: approval
tasks:
  - {id: before, with: {v: 1}}
  - id: wait
    type: wait
    wait_for: approved
    condition: signal.payload.ok == true
    timeout: 20s
    on_timeout: late
    processor:
      with: {seen: "{{ .signal.payload.ok }}"}
  - id: after
    with:
      by: "{{ .tasks.wait.output.signal.payload.by }}"
      seen: "{{ .tasks.wait.output.processor_output.output.seen }}"
  - {id: late, with: {v: late}}
outputs: {by: "{{ .tasks.after.output.by }}", seen: "{{ .tasks.after.output.seen }}"}
"""


class Started:
    """Remembers the id of a run as soon as there is one."""

    def __init__(self) -> None:
        self.id = asyncio.get_running_loop().create_future()

    def run_started(self, execution_id: str, ui_url: str) -> None:
        self.id.set_result(UUID(execution_id))


def plan_of(text: str, folder: Path) -> Plan:
    (folder / "compozy.yaml").write_text(text, "utf-8")
    return compile_project(folder).plan


async def begun(plan: Plan, mocks: Any = None) -> tuple[UUID, asyncio.Task[RunResult]]:
    started = Started()
    services = Services.create(offline=True, mocks=Mocks.from_mapping(mocks or {}), env={})
    workflow = next(iter(plan.workflows))
    task = asyncio.create_task(
        run(plan, workflow, {}, services=services, observer=started)  # type: ignore[arg-type]
    )
    return await asyncio.wait_for(started.id, 30), task


async def paused(server: Api, id: UUID) -> dict[str, Any]:
    for _ in range(200):
        run = await asyncio.to_thread(server.flow_run, str(id))
        if run["state_type"] == "PAUSED":
            return dict(run)
        await asyncio.sleep(0.05)
    raise AssertionError("the run does not pause")


async def test_a_signal_continues_a_paused_run(prefect_server: Api, tmp_path: Path) -> None:
    id, task = await begun(plan_of(APPROVAL, tmp_path))
    state = (await paused(prefect_server, id))["state"]
    assert state["state_details"]["run_input_keyset"]["response"] == "signal-approved-1-response"
    async with get_client() as client:
        await deliver(client, id, "approved", {"ok": False})  # consumed, and waiting goes on
        await deliver(client, id, "approved", {"ok": True, "by": "Ada"})
        result = await task
        assert (result.status, result.output) == ("SUCCESS", {"by": "Ada", "seen": True})
        assert result.tasks["wait-processor"].parent == "wait"
        with pytest.raises(UsageError, match="over"):
            await deliver(client, id, "approved", {})


@pytest.mark.parametrize("name", ["order_approved", "refund.Decided", "a-5f-b", "ünï/v1: #2 \n"])
async def test_a_signal_of_any_name(prefect_server: Api, tmp_path: Path, name: str) -> None:
    quoted = json.dumps(name.strip())
    id, task = await begun(plan_of(APPROVAL.replace("approved", quoted, 1), tmp_path))
    await paused(prefect_server, id)
    async with get_client() as client:
        assert awaited((await client.read_flow_run(id)).state) == name.strip()
        await deliver(client, id, name.strip(), {"ok": True, "by": "Ada"})
    result = await asyncio.wait_for(task, 20)
    assert result.output == {"by": "Ada", "seen": True}


async def test_the_resume_button_is_a_signal(prefect_server: Api, tmp_path: Path) -> None:
    id, task = await begun(plan_of(APPROVAL, tmp_path))
    await paused(prefect_server, id)
    body = {"run_input": {"ok": True, "by": "Bob"}}
    pressed = False
    while not pressed:
        # SQLite is locked now and then, and the server says 503 (prefect-recipes.md §4).
        url = f"{prefect_server.url}/flow_runs/{id}/resume"
        answer = await asyncio.to_thread(httpx.post, url, json=body)
        pressed = answer.status_code < 500
    result = await asyncio.wait_for(task, 20)
    assert result.output == {"by": "Bob", "seen": True}


async def test_a_signal_that_comes_early_is_kept(prefect_server: Api, tmp_path: Path) -> None:
    text = APPROVAL.replace("with: {v: 1}}", "with: {v: 1}, sleep: 1s}")
    id, task = await begun(plan_of(text, tmp_path))
    async with get_client() as client:
        await deliver(client, id, "approved", {"ok": True, "by": "Eve"})
    assert (await task).output["by"] == "Eve"


async def test_a_timeout_takes_its_own_way(prefect_server: Api, tmp_path: Path) -> None:
    _, task = await begun(plan_of(APPROVAL.replace("timeout: 20s", "timeout: 300ms"), tmp_path))
    result = await task
    assert result.status == "FAILED"
    assert result.error is not None
    assert result.error.code == "WAIT_TIMEOUT"
    assert result.tasks["late"].status == "SUCCESS"
    assert result.tasks["wait"].status == "FAILED"


async def test_two_waits_at_once(prefect_server: Api, tmp_path: Path) -> None:
    text = """
name: both
tasks:
  - id: fan
    type: parallel
    tasks:
      - {id: a, type: wait, wait_for: one}
      - {id: b, type: wait, wait_for: two}
outputs: {a: "{{ .tasks.a.output.signal.payload.n }}", b: "{{ .tasks.b.output.signal.payload.n }}"}
"""
    id, task = await begun(plan_of(text, tmp_path))
    await paused(prefect_server, id)
    async with get_client() as client:
        await deliver(client, id, "two", {"n": 2})
        await deliver(client, id, "one", {"n": 1})
    result = await asyncio.wait_for(task, 20)
    assert result.output == {"a": 1, "b": 2}
    assert prefect_server.flow_run(str(id))["state_type"] == "COMPLETED"


async def test_a_signal_starts_who_listens(prefect_server: Api, tmp_path: Path) -> None:
    (tmp_path / "order-listener.yaml").write_text(
        """
id: order-listener
triggers: [{type: signal, name: order.created, schema: {type: object, required: [n]}}]
tasks: [{id: got, with: {n: "{{ .workflow.input.n }}"}}]
"""
    )
    text = """
name: sender
workflows: [order-listener.yaml]
tasks:
  - {id: send, type: signal, signal: {id: order.created, payload: {n: "{{ add 1 1 }}"}}}
  - {id: wrong, type: signal, signal: {id: order.created, payload: {m: 1}}}
  - {id: nobody, type: signal, signal: {id: unheard}}
outputs: {sent: "{{ .tasks.send.output }}"}
"""
    _, task = await begun(plan_of(text, tmp_path))
    result = await task
    assert result.output == {"sent": {"signal_dispatched": True, "signal_id": "order.created"}}
    body = {"flows": {"name": {"any_": ["order-listener"]}}}
    (heard,) = prefect_server.post("/flow_runs/filter", body)
    assert heard["parameters"] == {"input": {"n": 2}}
    assert heard["state_type"] == "COMPLETED"
    assert heard["parent_task_run_id"] is None
