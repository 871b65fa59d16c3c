"""Executions that outlive their process: killed at some moment, resumed, and right in the end."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client

import compozy_prefect
from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.plan import Plan
from compozy_prefect.errors import UsageError
from compozy_prefect.flows.executions import KEPT, Executions, Record
from compozy_prefect.flows.resume import resume
from compozy_prefect.flows.run import run, run_sync
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.services import Services
from tests.support.compozy import Compozy
from tests.support.effects import Effects
from tests.support.plans import plan, step
from tests.support.prefect_server import Api, until
from tests.support.started import Started, nothing_is_open, project, rows

Killed = Callable[[], str]

COLLECTION = """
tasks:
  - id: each
    type: collection
    items: "{{ range 30 }}"
    mode: parallel
    max_workers: 4
    task: {id: "i-{{ .index }}", tool: effect, with: {step: "i-{{ .index }}"}}
outputs: {n: "{{ len .tasks.each.output }}"}
"""


def test_killed_in_a_collection(
    prefect_server: Api, effects: Effects, start: Callable[..., Started], tmp_path: Path
) -> None:
    project(tmp_path, effects, COLLECTION.replace("range 30", "until 30"))
    held = [f"i-{n}" for n in range(12, 16)]
    effects.hold(*held)
    running = start("run", ".")
    done = [f"i-{n}" for n in range(12)]
    effects.until(*held)
    until(
        lambda: prefect_server.task_runs(running.id),
        lambda runs: all(runs.get(one, {}).get("state_type") == "COMPLETED" for one in done),
    )
    id = running.kill()
    effects.release()
    result = start("resume", id).ended()
    assert (result["execution_id"], result["status"]) == (id, "SUCCESS")
    assert len(result["tasks"]) == 31
    seen = Counter(effects.log)
    assert seen == Counter(f"i-{n}" for n in range(30)) + Counter(held)
    found = nothing_is_open(prefect_server, id, [f"i-{n}" for n in range(30)])
    batches = [row["state_name"] for row in found if "/" not in row["task_key"]]
    assert sorted(batches) == ["Completed", "Crashed"]


ROUTED = """
tasks:
  - {id: one, tool: effect, with: {step: one}}
  - {id: pick, type: router, condition: "{{ \\"high\\" }}", routes: {high: inner, low: other}}
  - id: inner
    type: composite
    tasks:
      - {id: b1, tool: effect, with: {step: b1}}
      - {id: b2, tool: effect, with: {step: b2}}
  - {id: again, type: router, condition: "{{ \\"a\\" }}", routes: {a: more, b: other}}
  - {id: other, with: {v: 1}}
  - {id: more, tool: effect, with: {step: more}}
  - {id: last, tool: effect, with: {step: last}}
outputs: {said: "{{ .tasks.last.output.status_code }}"}
"""


def test_killed_in_a_branch_and_after_it(
    prefect_server: Api,
    effects: Effects,
    compozy: Compozy,
    start: Callable[..., Started],
    tmp_path: Path,
) -> None:
    project(tmp_path, effects, ROUTED)
    effects.hold("b2")
    running = start("run", ".")
    effects.until("b2")
    refused = compozy("resume", running.id)
    assert refused.code == 2
    assert f"is running, in process {running.process.pid}" in refused.err
    id = running.kill()
    # The files change: the run goes on with the plan it began with.
    project(tmp_path, effects, "tasks: [{id: other, with: {v: 1}}]")
    effects.hold("more")
    running = start("resume", id[:12])
    effects.until("more")
    running.kill()
    effects.hold("last")
    first, second = (compozy.start("resume", id, "--json") for _ in range(2))
    until(lambda: first.poll() is not None or second.poll() is not None, bool)
    loser, winner = (first, second) if first.poll() is not None else (second, first)
    out, err = loser.communicate()
    assert (loser.returncode, out) == (2, "")
    assert "error: execution" in err
    effects.release()
    out, err = winner.communicate(timeout=60)
    assert winner.returncode == 0, err
    result = json.loads(out)
    assert result["output"] == {"said": 200}
    assert set(result["tasks"]) == {"one", "pick", "inner", "b1", "b2", "again", "more", "last"}
    assert Counter(effects.log) == Counter(["one", "b1", "b2", "b2", "more", "more", "last"])
    found = nothing_is_open(prefect_server, id, result["tasks"])
    assert {row["name"] for row in found if "/" in row["task_key"]} == result["tasks"].keys()
    over = compozy("resume", id)
    assert (over.code, over.out) == (2, "")
    assert "it succeeded" in over.err


WAITING = """
tasks:
  - {id: one, tool: effect, with: {step: one}}
  - {id: wait, type: wait, wait_for: go, processor: {tool: effect, with: {step: processor}}}
  - {id: two, tool: effect, with: {step: "two-{{ .tasks.wait.output.signal.payload.n }}"}}
  - {id: wait2, type: wait, wait_for: go}
outputs: {n: "{{ .tasks.wait2.output.signal.payload.n }}"}
"""


def test_killed_while_it_waits(
    prefect_server: Api,
    effects: Effects,
    compozy: Compozy,
    start: Callable[..., Started],
    tmp_path: Path,
) -> None:
    project(tmp_path, effects, WAITING)
    running = start("run", ".")
    waits(prefect_server, running.id, 1)
    id = running.kill()
    sent = compozy("signal", id[:8], "go", "-d", '{"n": 1}')
    assert sent.code == 0
    assert f"`compozy resume {id}` continues it" in sent.err
    running = start("resume", id)
    waits(prefect_server, id, 2)
    running.kill()
    running = start("resume", id)  # the signal that was taken is not taken again
    waits(prefect_server, id, 2)
    shown = compozy("show", id, "--json").json
    assert (shown["status"], shown["waits_for"], shown["alive"]) == ("WAITING", "go", True)
    delivered = compozy_prefect.signal(id, "go", {"n": 2})
    assert (delivered.number, delivered.awaited, delivered.alive) == (2, True, True)
    assert running.ended()["output"] == {"n": 2}
    assert effects.log == ["one", "processor", "two-1"]
    nothing_is_open(prefect_server, id)


def waits(server: Api, id: str, number: int) -> None:
    def keys() -> Any:
        state = server.flow_run(id)["state"]
        return state["type"], state["state_details"].get("run_input_keyset")

    wanted = f"signal-go-{number}-response"
    until(keys, lambda seen: seen[0] == "PAUSED" and seen[1] and seen[1]["response"] == wanted)


async def again(id: str, **mocks: Any) -> Any:
    """`resume` inside of the event loop of the test."""
    executions = Executions.here()
    record = executions.find(id)
    assert record is not None
    services = Services.create(offline=True, mocks=Mocks.from_mapping({"tools": mocks}), env={})
    return await resume(record, executions.plan_of(record), services=services)


async def test_resumed_after_a_failure(prefect_server: Api, tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text(
        "name: demo\ntools: [{id: t, description: It}]\n"
        "config: {input: {type: object, properties: {who: {type: string, default: Ada}}}}\n"
        "tasks: [{id: a, with: {v: '{{ .workflow.input.who }}'}}, {id: b, tool: t, "
        "retry_policy: {maximum_attempts: 1}}]\n"
        "outputs: {v: '{{ .tasks.a.output.v }}', ok: '{{ .tasks.b.output.ok }}'}\n"
    )
    of = compile_project(tmp_path).plan
    broken = Services.create(
        offline=True, mocks=Mocks.from_mapping({"tools": {"t": {"error": "boom"}}}), env={}
    )
    result = await run(of, next(iter(of.workflows)), {}, services=broken)
    assert result.status == "FAILED"
    record = Executions.here().find(result.execution_id)
    assert record is not None
    assert record.mocks == {"tools": {"t": {"error": "boom"}}}
    assert (await again(record.id, t={"error": "still"})).status == "FAILED"
    result = await again(record.id, t={"output": {"ok": 1}})
    assert (result.status, result.output) == ("SUCCESS", {"v": "Ada", "ok": 1})
    assert result.input == {"who": "Ada"}
    with pytest.raises(UsageError, match="it succeeded"):
        await again(record.id)
    until(
        lambda: [row["state_type"] for row in rows(prefect_server, record.id)],
        ["COMPLETED", "COMPLETED"].__eq__,
    )


async def test_unknown_to_the_server(prefect_server: Api) -> None:
    of, executions = plan(step("one")), Executions.here()
    record = Record(str(uuid4()), "flow", of.hash)
    begin(executions, record, of)
    with pytest.raises(UsageError, match="knows no execution"):
        await again(record.id)
    assert executions.holder(record.id) is None


def test_what_has_no_lease_cannot_be_resumed(
    prefect_server: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Executions, "lease", full)
    result = run_sync(plan(step("one")), "flow", {}, services=Services.create(offline=True))
    assert result.status == "SUCCESS"
    monkeypatch.undo()
    with pytest.raises(UsageError, match="was not started by this user"):
        compozy_prefect.resume(result.execution_id)


def begin(executions: Executions, record: Record, of: Plan) -> None:
    executions.announce(record, of)
    executions.adopt(record.id, record.id)


class TestFiles:
    RECORD = Record("0f8c3f6e-0000-4000-8000-000000000001", "flow", "")

    def test_what_is_written(self, tmp_path: Path) -> None:
        of, executions = plan(step("one", with_={"n": 1})), Executions(tmp_path)
        record = replace(self.RECORD, plan=of.hash, mocks={"tools": {}}, root="/x")
        begin(executions, record, of)
        assert executions.find(record.id) == record
        assert executions.plan_of(record) == of
        assert executions.find("nonsense") is None
        for file in tmp_path.rglob("*.json"):
            assert file.stat().st_mode & 0o777 == 0o600

    def test_an_id_may_be_cut_short(self, tmp_path: Path) -> None:
        of, executions = plan(step("one")), Executions(tmp_path)
        other = replace(self.RECORD, id="0f8c9999-0000-4000-8000-000000000001")
        for record in (self.RECORD, other):
            begin(executions, record, of)
        assert executions.resolve("0f8c3") == self.RECORD.id
        assert executions.resolve(str(other.id).upper()) == other.id
        for text, said in {
            "0f8c": "may be any of",
            "0f8": "first 4 characters",
            "hello": "is no execution",
            "beef": "no execution that was started here",
        }.items():
            with pytest.raises(UsageError, match=said):
                executions.resolve(text)

    def test_one_process_has_the_lease(self, tmp_path: Path) -> None:
        executions = Executions(tmp_path)
        id = self.RECORD.id
        with executions.lease(id):
            assert executions.holder(id) == os.getpid()
            with pytest.raises(UsageError, match=f"in process {os.getpid()}"), executions.lease(id):
                pass
        assert executions.holder(id) is None
        assert not list((tmp_path / "executions").glob("*.lock"))

    def test_old_successes_are_removed(self, tmp_path: Path) -> None:
        executions = Executions(tmp_path)
        plans = [plan(step(id)) for id in ("done", "failed", "young")]
        long_ago = time.time() - KEPT - 60
        records = [
            replace(self.RECORD, id=str(uuid4()), plan=of.hash, done=done)
            for of, done in zip(plans, (long_ago, None, time.time()), strict=True)
        ]
        for record, of in zip(records, plans, strict=True):
            begin(executions, record, of)
        for file in [*(tmp_path / "plans").iterdir(), tmp_path / "executions" / ".pruned"]:
            os.utime(file, (long_ago, long_ago))
        begin(executions, replace(records[2], id=str(uuid4())), plans[2])
        assert [executions.find(record.id) is None for record in records] == [True, False, False]
        kept = {file.stem for file in (tmp_path / "plans").iterdir()}
        assert kept == {of.hash for of in plans[1:]}


async def test_a_dead_one_is_cancelled_at_once(prefect_server: Api) -> None:
    from compozy_prefect.flows.control import cancel

    of = plan(step("one"))
    result = await run(of, "flow", {}, services=Services.create(offline=True, env={}))
    with pytest.raises(UsageError, match="is over: Completed"):
        await cancel(result.execution_id)
    async with get_client() as client:
        from prefect.states import Running

        flow_run = await client.read_flow_run(result.execution_id)  # type: ignore[arg-type]
        await client.set_flow_run_state(flow_run.id, Running(), force=True)
    ended = await asyncio.wait_for(cancel(result.execution_id), 10)
    assert ended.state is not None
    assert ended.state.is_cancelled()
