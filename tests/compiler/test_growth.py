"""Ten times the tasks take ten times the work, whatever the shape of a workflow.

Work is counted in calls of Python functions, which is the same on every machine and under any load;
seconds are in `make bench`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.expressions import parse, parse_condition

Tasks = list[dict[str, Any]]
SMALL, LARGE = 60, 600


def _step(index: int, **more: Any) -> dict[str, Any]:
    before = f".tasks.s{index - 1}.output.text" if index else ".workflow.input.text"
    text = f'{{{{ {before} | default "x" }}}}'
    return {"id": f"s{index}", "with": {"text": text, "id": "{{ .workflow.id }}"}, **more}


def _alone(index: int) -> dict[str, Any]:
    return {"id": f"s{index}", "with": {"text": f"{{{{ .workflow.input.f{index} }}}}"}}


def _in_line(count: int) -> Tasks:
    return [_step(index) for index in range(count)]


def _chain(count: int) -> Tasks:
    ends = {count - 1: {}}
    return [_step(i, **ends.get(i, {"on_success": {"next": f"s{i + 1}"}})) for i in range(count)]


def _parallel(count: int) -> Tasks:
    return [{"id": "all", "type": "parallel", "tasks": [_alone(i) for i in range(count)]}]


def _read_together(count: int) -> Tasks:
    """A list that starts together, of which each reads the one before."""
    return [{"id": "all", "type": "parallel", "tasks": [_step(i) for i in range(count)]}]


def _aggregated(count: int) -> Tasks:
    reads = {f"o{i}": f"{{{{ .tasks.all.output.s{i}.output.text }}}}" for i in range(count)}
    return [*_parallel(count), {"id": "sum", "type": "aggregate", "outputs": reads}]


def _nested(count: int) -> Tasks:
    """Towers of ten containers, with ten tasks in each."""
    out = []
    for tower in range(count // 20):
        tasks = [_alone(tower * 10 + i) for i in range(10)]
        for level in range(10):
            kind = "composite" if level % 2 else "parallel"
            tasks = [{"id": f"t{tower}-{level}", "type": kind, "tasks": tasks}]
        out += tasks
    return out


def _deep(count: int) -> Tasks:
    """All of them at the bottom of ten containers."""
    tasks = [_alone(index) for index in range(count)]
    for level in range(10):
        tasks = [{"id": f"d{level}", "type": "composite", "tasks": tasks}]
    return tasks


def _routed(count: int) -> Tasks:
    out: Tasks = []
    for k in range(count // 3):
        routes = {"a": f"a{k}", "b": f"b{k}"}
        after = {"on_success": {"next": f"r{k + 1}"}} if k < count // 3 - 1 else {}
        condition = "{{ .workflow.input.kind }}"
        out.append({"id": f"r{k}", "type": "router", "condition": condition, "routes": routes})
        out += [{"id": f"{name}{k}", "with": {"x": 1}, **after} for name in routes]
    return out


def _collections(count: int) -> Tasks:
    return [
        {
            "id": f"c{k}",
            "type": "collection",
            "items": f"{{{{ .workflow.input.list{k} }}}}",
            "task": {"id": f"t{k}-{{{{ .index }}}}", "with": {"v": "{{ .item }}"}},
        }
        for k in range(count // 2)
    ]


SHAPES: dict[str, Callable[[int], Tasks]] = {
    made.__name__.lstrip("_"): made
    for made in (
        _in_line,
        _chain,
        _parallel,
        _read_together,
        _aggregated,
        _nested,
        _deep,
        _routed,
        _collections,
    )
}


def _work(tasks: Tasks, directory: Path) -> int:
    """Calls of Python functions, and of their generators, from the file to the plan."""
    directory.mkdir()
    (directory / "compozy.yaml").write_text(json.dumps({"name": "grown", "tasks": tasks}))
    for cached in (parse, parse_condition):
        cached.cache_clear()
    count = 0

    def counted(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        compile_project(directory).plan.dumps()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_work_grows_with_the_tasks_and_not_faster(shape: str, tmp_path: Path) -> None:
    made = SHAPES[shape]
    _work(made(20), tmp_path / "warm")  # imports, and what is worked out once
    small = _work(made(SMALL), tmp_path / "small")
    large = _work(made(LARGE), tmp_path / "large")
    assert large / small < 10 * 1.06


def test_the_caches_hold_the_templates_of_a_large_project() -> None:
    """Passes come to all templates in turn: with a cache that is too small each parses them all."""
    assert (parse.cache_info().maxsize or 0) >= 50_000
    assert (parse_condition.cache_info().maxsize or 0) >= 50_000
