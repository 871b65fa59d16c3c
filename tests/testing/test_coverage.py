"""What there is to cover in a workflow, and what ways of a run cover it; all counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import check, compiled
from compozy_prefect.runtime.outcome import Taken
from compozy_prefect.testing.coverage import Counted, Coverage, coverage
from compozy_prefect.testing.report import table

PROJECT = """\
name: all
config: {on_error: {next: rescue}}
tasks:
  - id: first
    condition: "{{ .workflow.input.go }}"
    with: {v: 1}
    on_success: {next: choose}
  - id: choose
    type: router
    condition: "{{ .workflow.input.way }}"
    routes:
      left: {id: here, with: {v: 1}, final: true}
      right: wait
      again: first
    default: boxes
  - id: wait
    type: wait
    wait_for: go
    timeout: 1s
    on_timeout: rescue
    on_error: {next: boxes}
    processor: {with: {seen: true}}
    on_success: {next: boxes}
  - id: boxes
    type: composite
    tasks:
      - {id: a, with: {v: 1}, on_error: {next: c}}
      - {id: b, condition: "{{ .workflow.input.b }}", with: {v: 1}}
      - {id: c, with: {v: 1}}
    on_success: {next: each}
  - id: each
    type: collection
    items: [1, 2]
    task: {id: "item-{{ .index }}", with: {v: 1}}
    on_error: {next: rescue}
    on_success: {next: rescue}
  - {id: rescue, with: {v: 1}}
"""
# Tasks: first, choose, here, wait, its processor, boxes, a, b, c, each, item, rescue.
TASKS = 12
# Routes: three and a default. Conditions: of `first` and of `b`, both ways.
# Edges: of `wait` two, of `each`, and the one that the rest inherits; in a container there is none.
ROUTES, CONDITIONS, EDGES = 4, 4, 4


@pytest.fixture
def measured(tmp_path: Path) -> Any:
    (tmp_path / "compozy.yaml").write_text(PROJECT)
    checked = check(tmp_path)
    plan = compiled(checked).plan
    pairs = [(plan.workflows["all"], checked.project.workflows[0])]
    return lambda *taken: coverage(pairs, frozenset(taken))


def missed(found: Coverage) -> list[str]:
    return [f"{point.place} {point.missed}" for point in found.workflows[0].missed]


def test_all_there_is(measured: Any) -> None:
    found = measured()
    (workflow,) = found.workflows
    assert workflow.of("tasks") == Counted(0, TASKS)
    assert workflow.of("routes") == Counted(0, ROUTES)
    assert workflow.of("conditions") == Counted(0, CONDITIONS)
    assert found.whole == Counted(0, len(workflow.points))
    assert missed(found) == [
        "compozy.yaml:4 task `first` does not run",
        "compozy.yaml:5 the condition of `first` does not hold",
        "compozy.yaml:5 `first` is not skipped",
        "compozy.yaml:8 task `choose` does not run",
        "compozy.yaml:12 router `choose` does not take `left`",
        "compozy.yaml:13 router `choose` does not take `right`",
        "compozy.yaml:14 router `choose` does not take `again`",
        "compozy.yaml:15 router `choose` does not take its default",
        "compozy.yaml:12 task `here` does not run",
        "compozy.yaml:16 task `wait` does not run",
        "compozy.yaml:21 `on_error` of `wait` does not lead to `boxes`",
        "compozy.yaml:20 `on_timeout` of `wait` does not lead to `rescue`",
        "compozy.yaml:22 task `wait/wait-processor` does not run",
        "compozy.yaml:24 task `boxes` does not run",
        "compozy.yaml:27 task `boxes/a` does not run",
        "compozy.yaml:28 task `boxes/b` does not run",
        "compozy.yaml:28 the condition of `boxes/b` does not hold",
        "compozy.yaml:28 `boxes/b` is not skipped",
        "compozy.yaml:29 task `boxes/c` does not run",
        "compozy.yaml:31 task `each` does not run",
        "compozy.yaml:35 `on_error` of `each` does not lead to `rescue`",
        "compozy.yaml:34 task `each/item-{{ .index }}` does not run",
        "compozy.yaml:37 task `rescue` does not run",
        "compozy.yaml:2 `on_error` of `config` does not lead to `rescue`",
    ]


def test_some_of_it(measured: Any) -> None:
    found = measured(
        Taken("all", "first", "run"),  # the task, and its condition
        Taken("all", "first", "skipped"),
        Taken("all", "first", "on_success"),  # is not counted
        Taken("all", "choose", "run"),
        Taken("all", "choose", "route", "default"),
        Taken("all", "boxes", "run"),
        Taken("all", "boxes/b", "skipped"),
        Taken("all", "boxes", "on_error"),  # the one of the workflow
        Taken("all", "nowhere", "run"),
    )
    (workflow,) = found.workflows
    assert workflow.of("tasks") == Counted(3, TASKS)
    assert workflow.of("routes") == Counted(1, ROUTES)
    assert workflow.of("conditions") == Counted(3, CONDITIONS)
    assert workflow.of("edges") == Counted(1, EDGES)
    assert found.whole == Counted(8, 24)
    assert found.whole.percent == 33.3
    assert list(table(found))[:2] == [
        "WORKFLOW  TASKS  ROUTES  EDGES  CONDITIONS  COVERED",
        "all        3/12     1/4    1/4         3/4   33.3 %",
    ]
    assert list(table(found))[-1] == "33.3 % covered, 8 of 24"
    assert len(list(table(found))) == 2 + 16 + 1


def test_all_of_it(measured: Any) -> None:
    every = {way for point in measured().workflows[0].points for way in point.ways}
    found = measured(*every)
    assert (found.whole.percent, missed(found)) == (100.0, [])
    data = found.to_json()
    assert data["workflows"]["all"]["missed"] == []
    assert data["workflows"]["all"]["tasks"] == {"covered": TASKS, "total": TASKS}


def test_nearly_all_is_not_all() -> None:
    assert Counted(9999, 10000).percent == 99.9
    assert Counted(1, 3).percent == 33.3
    assert Counted(0, 0).percent == 100.0


def test_as_data(measured: Any) -> None:
    data = measured(Taken("all", "rescue", "run")).to_json()
    assert (data["covered"], data["total"], data["percent"]) == (1, 24, 4.1)
    assert data["workflows"]["all"]["missed"][1] == {
        "kind": "conditions",
        "task": "first",
        "message": "the condition of `first` does not hold",
        "file": "compozy.yaml",
        "line": 5,
        "column": 5,
    }
