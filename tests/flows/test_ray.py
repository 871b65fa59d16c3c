"""Fan-outs on the workers of a local Ray cluster, where Ray is installed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.test_cluster import COLLECTION, ITEMS, STARTS, run_project, same_effects
from tests.support.cluster import batches_of
from tests.support.effects import Effects
from tests.support.prefect_server import Api
from tests.support.started import Started, nothing_is_open, project

pytest.importorskip("ray")
pytest.importorskip("prefect_ray")

STRATEGIES = """
name: p
tools: [{id: bad}, {id: slow}]
tasks:
  - id: all
    type: collection
    items: "{{ until 12 }}"
    task: {id: "i-{{ .index }}", with: {n: "{{ mul .item .item }}"}}
  - id: best
    type: parallel
    strategy: best_effort
    tasks: [{id: b1, tool: bad, retries: 0}, {id: b2, with: {x: "{{ .tasks.i-3.output.n }}"}}]
  - id: race
    type: parallel
    strategy: race
    tasks: [{id: r1, tool: slow}, {id: r2, with: {x: 2}}]
  - id: inner
    type: collection
    items: [1, 2]
    mode: sequential
    task:
      id: "c-{{ .index }}"
      type: composite
      tasks:
        - {id: one, with: {v: "{{ .item }}"}}
        - {id: two, with: {v: "{{ .tasks.one.output.v }}"}}
  - id: fast
    type: parallel
    strategy: fail_fast
    on_error: {next: last}
    tasks: [{id: f1, tool: bad, retries: 0}, {id: f2, tool: slow}]
  - {id: last, with: {n: "{{ len .tasks.all.output }}"}}
"""


@pytest.fixture(autouse=True)
def on_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOZY_TASK_RUNNER", "ray")
    monkeypatch.setenv("COMPOZY_TASK_RUNNER_WORKERS", "2")


@pytest.mark.timeout(400)
def test_strategies(tmp_path: Path, prefect_server: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    mocks = {"tools": {"bad": {"error": "boom"}, "slow": {"output": {"x": 1}, "delay": "20s"}}}
    far = run_project(tmp_path, STRATEGIES, {}, mocks)
    monkeypatch.setenv("COMPOZY_TASK_RUNNER", "threads")
    near = run_project(tmp_path, STRATEGIES, {}, mocks)
    assert len(batches_of(prefect_server, far.execution_id)) == 9
    assert {key: one.status for key, one in far.tasks.items()} == {
        key: one.status for key, one in near.tasks.items()
    }
    assert far.output == near.output
    nothing_is_open(prefect_server, far.execution_id)


@pytest.mark.timeout(400)
def test_killed_with_the_flow(
    prefect_server: Api, effects: Effects, start: Callable[..., Started], tmp_path: Path
) -> None:
    project(tmp_path, effects, COLLECTION)
    held = ["i-3", "i-29"]
    effects.hold(*held)
    running = start("run", ".")
    effects.until(*ITEMS, seconds=STARTS)
    id = running.kill()
    effects.release()
    result = start("resume", id).ended()
    assert (result["status"], result["output"]) == ("SUCCESS", {"n": 30})
    same_effects(effects, ITEMS)
    nothing_is_open(prefect_server, id, ITEMS)


@pytest.mark.timeout(400)
def test_cancelled(
    prefect_server: Api, effects: Effects, start: Callable[..., Started], tmp_path: Path
) -> None:
    project(tmp_path, effects, COLLECTION)
    held = ["i-3", "i-29"]
    effects.hold(*held)
    running = start("run", ".")
    effects.until(*ITEMS, seconds=STARTS)
    running.process.send_signal(signal.SIGINT)
    out, err = running.process.communicate(timeout=90)
    assert running.process.returncode == 130, err
    tasks = json.loads(out)["tasks"]
    assert {key for key, one in tasks.items() if one["status"] == "CANCELED"} >= {*held, "each"}
    nothing_is_open(prefect_server, running.id)
