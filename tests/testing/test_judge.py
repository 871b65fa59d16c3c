"""Results against expectations: which task a key means, and what each of them looks like."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compozy_prefect.diagnostics import Span
from compozy_prefect.language.source import parse
from compozy_prefect.runtime.outcome import SKIPPED, Failure, TaskState
from compozy_prefect.testing.cases import Case, ExpectedTask
from compozy_prefect.testing.expect import Fields, read
from compozy_prefect.testing.judge import MOST, judge

HERE = Span("f.test.yaml", 1, 1, 1, 2)


def fields(data: Any) -> Fields:
    node, _, _ = parse(json.dumps(data), "f.test.yaml", any_root=True)
    assert node is not None
    made = read(node, [])
    assert isinstance(made, Fields)
    return made


def case(view: Any = None, **tasks: Any) -> Case:
    listed = [
        ExpectedTask(key, HERE, state=one)
        if isinstance(one, str)
        else ExpectedTask(key, HERE, view=fields(one))
        for key, one in tasks.items()
    ]
    return Case("f.test.yaml", "a", HERE, "flow", {}, fields(view or {}), tuple(listed))


def state(id: str, status: str = "SUCCESS", parent: str | None = None, **more: Any) -> TaskState:
    return TaskState(
        id, "basic", status, **{"input": {}, "output": {"v": id}, **more}, parent=parent
    )


# As `by_key` makes them of a collection of composites, in which an id occurs twice.
TASKS = {
    "each": state("each"),
    "c-0": state("c-0", parent="each"),
    "c-0/x": state("x", parent="c-0"),
    "c-1": state("c-1", parent="each"),
    "c-1/x": state("x", parent="c-1", status="FAILED", output=None),
    "only": state("only", parent="c-1"),
    "page": state("page", input=None, output=dict(SKIPPED)),
    "echo": state("echo", output=dict(SKIPPED)),
    "route": state("route", route="big", attempts=2),
}


def said(expected: Case, tasks: dict[str, TaskState] = TASKS) -> list[str]:
    found = judge(expected, "SUCCESS", {"a": 1}, None, tasks)
    return [f"{one.path}: {one.said()}" for one in found]


@pytest.mark.parametrize(
    "key", ["c-0/x", "each/c-0/x", "only", "c-1/only", "each/c-1/only", "each"]
)
def test_a_key_means_a_task(key: str) -> None:
    assert said(case(**{key: {"status": "SUCCESS"}})) == []
    assert said(case(**{key: "SUCCESS"})) == []
    assert said(case(**{key: "not run"})) == [f'tasks.{key}: expected "not run", saw "SUCCESS"']


@pytest.mark.parametrize("key", ["c-2/x", "c-0/only", "x/c-0", "each/x", "nly"])
def test_a_key_means_none(key: str) -> None:
    assert said(case(**{key: "not run"})) == []
    assert said(case(**{key: {}})) == [f'tasks.{key}: expected {{}}, saw "not run"']


def test_a_key_means_two() -> None:
    assert said(case(x="FAILED")) == [
        'tasks.x: expected "the key of one task", saw ["c-0/x", "c-1/x"]'
    ]


def test_skipped_is_what_a_condition_did() -> None:
    assert said(case(page="skipped", echo="SUCCESS")) == []
    assert said(case(page="SUCCESS", echo="skipped")) == [
        'tasks.page: expected "SUCCESS", saw "skipped"',
        'tasks.echo: expected "skipped", saw "SUCCESS"',
    ]
    assert said(case(page={"status": "SUCCESS", "output": {"skipped": True}, "input": None})) == []


def test_all_that_can_be_said_of_a_task() -> None:
    assert said(case(route={"route_taken": "big", "attempts": {"$gt": 1}, "error": None})) == []
    assert said(case(route={"route_taken": "small", "attempts": 1, "input": {"a": 1}})) == [
        'tasks.route.route_taken: expected "small", saw "big"',
        "tasks.route.attempts: expected 1, saw 2",
        "tasks.route.input.a: expected 1, saw nothing",
    ]
    assert said(case(each={"route_taken": "x"})) == [
        'tasks.each.route_taken: expected "x", saw nothing'
    ]


def test_a_run_that_fails() -> None:
    error = Failure("task `x` failed: no", "TOOL_EXECUTION_ERROR", {"task": "x"}).to_json()
    wanted = {"status": "FAILED", "error": {"code": "TOOL_EXECUTION_ERROR"}}
    assert judge(case(wanted), "FAILED", None, error, {}) == ()
    (one,) = judge(case({"error": {"code": "X"}}), "FAILED", None, error, {})
    assert (one.path, one.said()) == ("error.code", 'expected "X", saw "TOOL_EXECUTION_ERROR"')
    (one,) = judge(case({"error": {"code": "X"}}), "SUCCESS", None, None, {})
    assert one.said() == 'expected {"code": "X"}, saw null'


def test_there_is_an_end_to_differences() -> None:
    many = case({"output": {f"k{n}": n for n in range(500)}})
    assert len(judge(many, "SUCCESS", {}, None, {})) == MOST
