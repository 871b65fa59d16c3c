"""Fan-outs on the workers of a real Dask cluster, beside a real Prefect server."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.flows.run import RunResult, run_sync
from compozy_prefect.language.data import read_data
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.services import Services
from tests.flows.test_tasks import CASES, check, ended
from tests.support.cluster import DaskCluster, batches_of
from tests.support.compozy import Compozy
from tests.support.effects import Effects
from tests.support.prefect_server import Api, until
from tests.support.started import Started, nothing_is_open, project

HERE = "run in the process of the flow"
# On two workers nobody can say which of two steps ends first.
A_TIE = "wait_first is decided by the first, also when another succeeds at the same moment"


@pytest.fixture(autouse=True)
def on_dask(dask_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in dask_cluster.env.items():
        monkeypatch.setenv(name, value)


def _cases() -> list[Any]:
    """The text cases that have a fan-out."""
    return [
        pytest.param(case, id=f"{file.stem}: {case['name']}")
        for file in sorted(CASES.glob("*.yaml"))
        for case in read_data(file)
        if any(f"type: {kind}" in case.get("project", "") for kind in ("parallel", "collection"))
        and case["name"] != A_TIE
    ]


@pytest.mark.parametrize("case", _cases())
def test_case(case: dict[str, Any], tmp_path: Path, prefect_server: Api) -> None:
    result = ended(case, tmp_path)
    check(case, result)
    fans = [one for one in result.tasks.values() if one.type in ("parallel", "collection")]
    if not batches_of(prefect_server, result.execution_id) and any(one.children for one in fans):
        lines = prefect_server.logs(result.execution_id)
        assert any(HERE in line for line in lines)


AGENTS = """
name: p
models: [{ provider: mock, model: m }]
agents:
  - id: writer
    instructions: Write.
    actions: [{ id: write, prompt: "On {{ .input.n }}." }]
tasks:
  - id: each
    type: collection
    items: "{{ until 20 }}"
    task:
      id: "i-{{ .index }}"
      agent: writer
      action: write
      with: {n: "{{ .item }}", k: "{{ .env.KEY }}"}
outputs: {said: "{{ .tasks.each.output.i-7.response }}", k: "{{ .tasks.i-7.input.k }}"}
"""
SECRET = "rNq8-one-of-a-kind-3kZ"


def run_project(
    folder: Path, text: str, env: dict[str, str], mocks: dict[str, Any] | None = None
) -> RunResult:
    (folder / "compozy.yaml").write_text(text, "utf-8")
    compiled = compile_project(folder)
    services = Services.create(offline=True, env=env, mocks=Mocks.from_mapping(mocks or {}))
    return run_sync(compiled.plan, compiled.only_workflow(), {}, services=services)


def test_what_comes_back_is_what_threads_give(
    tmp_path: Path, prefect_server: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = run_project(tmp_path, AGENTS, {"KEY": "open"})
    monkeypatch.setenv("COMPOZY_TASK_RUNNER", "threads")
    near = run_project(tmp_path, AGENTS, {"KEY": "open"})
    assert len(batches_of(prefect_server, far.execution_id)) == 2
    assert not batches_of(prefect_server, near.execution_id)
    assert far.status == near.status == "SUCCESS"
    assert far.output == near.output
    assert far.usage == near.usage
    assert far.usage.calls == 20
    assert {key: one.to_json() for key, one in far.tasks.items()} == {
        key: one.to_json() for key, one in near.tasks.items()
    }
    found = nothing_is_open(prefect_server, far.execution_id, far.tasks)
    assert {row["name"] for row in found if "/" in row["task_key"]} == far.tasks.keys()


SECRETIVE = """
name: p
tasks:
  - id: each
    type: collection
    items: "{{ until 4 }}"
    task: {id: "i-{{ .index }}", with: {size: "{{ len .env.KEY }}"}}
outputs: {sizes: "{{ .tasks.each.output }}"}
"""


def test_the_environment_is_nowhere_on_disk_nor_on_the_server(
    tmp_path: Path, prefect_server: Api
) -> None:
    result = run_project(tmp_path, SECRETIVE, {"KEY": SECRET})
    assert result.output == {"sizes": [{"size": len(SECRET)}] * 4}
    assert batches_of(prefect_server, result.execution_id)
    nothing_is_open(prefect_server, result.execution_id)
    # The database of the server, the results of the steps and the logs of the workers.
    homes = [Path(os.environ["COMPOZY_HOME"]), Path("/tmp/dask-scratch-space")]
    for file in [one for home in homes for one in home.rglob("*") if one.is_file()]:
        assert SECRET.encode() not in file.read_bytes(), file


COLLECTION = """
tasks:
  - id: each
    type: collection
    items: "{{ until 30 }}"
    task: {id: "i-{{ .index }}", tool: effect, with: {step: "i-{{ .index }}"}}
outputs: {n: "{{ len .tasks.each.output }}"}
"""
STARTS = 150.0  # seconds in which a cluster has, and has imported what the steps need
ITEMS = [f"i-{n}" for n in range(30)]


def _until_done(server: Api, id: str, steps: list[str]) -> None:
    """Returns when the server shows that these steps are over: they are kept before."""
    until(
        lambda: server.task_runs(id),
        lambda runs: all(runs.get(one, {}).get("state_type") == "COMPLETED" for one in steps),
        seconds=60,
    )


def same_effects(effects: Effects, again: list[str]) -> None:
    """Every item had its effect once, and those of `again` perhaps twice, under the same key."""
    seen = Counter(effects.log)
    assert set(seen) == set(ITEMS)
    assert {step for step, count in seen.items() if count > 1} <= set(again)
    assert max(seen.values()) <= 2
    assert {step: len(keys) for step, keys in effects.keys.items()} == dict.fromkeys(ITEMS, 1)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("where", ["a cluster that stands", "a cluster of the run"])
def test_killed_with_the_flow(
    where: str,
    prefect_server: Api,
    effects: Effects,
    compozy: Compozy,
    start: Callable[..., Started],
    tmp_path: Path,
) -> None:
    if where == "a cluster of the run":
        del compozy.env["COMPOZY_TASK_RUNNER_ADDRESS"]
        compozy.env["COMPOZY_TASK_RUNNER_WORKERS"] = "2"
    project(tmp_path, effects, COLLECTION)
    held = ["i-3", "i-14", "i-15", "i-29"]
    effects.hold(*held)
    running = start("run", ".")
    effects.until(*held, seconds=STARTS)
    _until_done(prefect_server, running.id, [one for one in ITEMS if one not in held])
    id = running.kill()
    effects.release()
    result = start("resume", id).ended()
    assert (result["status"], result["output"]) == ("SUCCESS", {"n": 30})
    same_effects(effects, held)
    nothing_is_open(prefect_server, id, ITEMS)


def test_killed_with_a_worker(
    prefect_server: Api,
    dask_cluster: DaskCluster,
    effects: Effects,
    start: Callable[..., Started],
    tmp_path: Path,
) -> None:
    project(tmp_path, effects, COLLECTION)
    held = ["i-3", "i-29"]
    effects.hold(*held)
    running = start("run", ".")
    effects.until(*held, seconds=STARTS)
    _until_done(prefect_server, running.id, [one for one in ITEMS if one not in held])
    dask_cluster.kill_one()
    until(lambda: len(effects.log), lambda count: count > 30, seconds=60)  # it runs again elsewhere
    effects.release()
    result = running.ended()
    assert (result["status"], result["output"]) == ("SUCCESS", {"n": 30})
    same_effects(effects, held)
    assert len(batches_of(prefect_server, running.id)) == 3
    nothing_is_open(prefect_server, running.id)


@pytest.mark.parametrize("way", ["a signal", "a command"])
def test_cancelled(
    way: str,
    prefect_server: Api,
    effects: Effects,
    compozy: Compozy,
    start: Callable[..., Started],
    tmp_path: Path,
) -> None:
    project(tmp_path, effects, COLLECTION)
    held = ["i-3", "i-29"]
    effects.hold(*held)
    running = start("run", ".")
    effects.until(*held, seconds=STARTS)
    _until_done(prefect_server, running.id, [one for one in ITEMS if one not in held])
    if way == "a signal":
        running.process.send_signal(signal.SIGINT)
    else:
        assert compozy("cancel", running.id).code == 0
    out, err = running.process.communicate(timeout=60)
    assert running.process.returncode == 130, err
    tasks = json.loads(out)["tasks"]
    assert {key for key, one in tasks.items() if one["status"] == "CANCELED"} == {*held, "each"}
    found = nothing_is_open(prefect_server, running.id)
    states = {row["name"]: row["state_type"] for row in found}
    assert {name for name in held if states[name] == "CANCELLED"} == set(held)


def test_a_cluster_that_is_not_there(
    tmp_path: Path, prefect_server: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("COMPOZY_TASK_RUNNER_ADDRESS", address)
        result = run_project(tmp_path, SECRETIVE, {"KEY": "open"})
    assert result.status == "FAILED"
    assert result.error is not None
    assert result.error.code == "CLUSTER_UNAVAILABLE"
    assert f"the Dask cluster at {address} cannot be reached" in result.error.message
