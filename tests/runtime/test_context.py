"""What templates see, and how what they give is made plain."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, ClassVar

import pytest

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.errors import MissingKey, OutputInvalid, RunError, TemplateError
from compozy_prefect.expressions import Environment
from compozy_prefect.runtime import templates
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import (
    FAILED,
    SUCCESS,
    Failure,
    Outcome,
    TaskState,
    plain,
    rfc3339,
)
from tests.support.plans import agent, plan, step

ENV = {"A": "1"}


def context(**fields: Any) -> RunContext:
    made = plan(step("one", with_={"a": "{{ .x }}"}), step("two"), **fields)
    return RunContext(made, made.workflows["flow"], "id-1", {"q": 2}, ENV, time.monotonic() - 5)


def done(id: str, output: Any = None, status: str = SUCCESS) -> TaskState:
    error = None if status == SUCCESS else Failure("boom", "X")
    return TaskState(id, "basic", status, {"in": 1}, output, error)


class TestContext:
    def test_known_tasks_that_have_not_run_are_null(self) -> None:
        of = context()
        of.record(done("one", {"r": 1}))
        assert of.for_workflow()["tasks"] == {
            "one": {
                "id": "one",
                "status": "SUCCESS",
                "input": {"in": 1},
                "output": {"r": 1},
                "error": None,
                "children": {},
                "handled": False,
            },
            "two": None,
        }

    def test_input_and_with(self) -> None:
        of = context()
        one = of.workflow.steps[0]
        before = of.for_step(one)
        assert before["input"] == {"q": 2}
        assert "with" not in before
        after = of.for_step(one, given={"a": 7})
        assert after["input"] == after["with"] == {"a": 7}
        outputs = of.for_outputs(one, {"raw": 1}, env=ENV, action=None, given={"a": 7})
        assert outputs["output"] == {"raw": 1}
        assert outputs["input"] == {"a": 7}

    def test_the_workflow(self) -> None:
        of = context(version="3")
        of.record(done("two"))
        of.record(done("one", status=FAILED))
        seen = of.for_step(of.workflow.steps[0])["workflow"]
        assert 5 <= seen.pop("execution_time") < 60
        assert seen == {
            "id": "flow",
            "name": "flow",
            "version": "3",
            "description": "",
            "input": {"q": 2},
            "execution_id": "id-1",
            "exec_id": "id-1",
            "status": "RUNNING",
            "output": None,
            "config": {"input": None, "env": {}},
            "completed_tasks": ["two"],
            "success_rate": 0.5,
        }

    def test_a_second_run_of_a_task_replaces_the_first(self) -> None:
        of = context()
        assert of.for_workflow()["workflow"]["success_rate"] == 1.0
        of.record(done("one", status=FAILED))
        of.record(done("two"))
        of.record(done("one"))
        seen = of.for_workflow()["workflow"]
        assert seen["completed_tasks"] == ["two", "one"]
        assert seen["success_rate"] == 1.0

    def test_workflow_outputs(self) -> None:
        seen = context().for_workflow_outputs(FAILED, {"last": 1}, Failure("boom", "X"))
        assert seen["status"] == seen["workflow"]["status"] == "FAILED"
        assert seen["error"] == {"message": "boom", "code": "X", "details": {}}
        assert seen["output"] == {"last": 1}
        assert (seen["workflow_id"], seen["workflow_exec_id"]) == ("flow", "id-1")
        assert seen["input"] == {"q": 2}
        assert seen["trigger"]["input"] == {"q": 2}

    def test_keys_of_providers_are_not_in_it(self) -> None:
        secret = "sk-literal-key-0123456789"
        of = context(agents={"writer": agent(model=ModelPlan("openai", "m", api_key=secret))})
        assert secret not in str(of.for_workflow())


class TestTemplates:
    SPANS: ClassVar = {"/a": ("f.yaml", 1, 2, 1, 9), "/a/b/0": ("f.yaml", 5, 7, 5, 20)}

    def render(self, value: Any, **context: Any) -> Any:
        return templates.render(value, context, Environment(), "/a", self.SPANS)

    def test_leaves_keep_their_types(self) -> None:
        value = {"{{ .k }}": ["{{ .n }}", "n={{ .n }}", 3, None, {"deep": "{{ .l }}"}]}
        assert self.render(value, n=1, l=[1, 2]) == {
            "{{ .k }}": [1, "n=1", 3, None, {"deep": [1, 2]}]
        }

    def test_the_place_of_the_leaf(self) -> None:
        with pytest.raises(templates.TemplateFailed) as caught:
            self.render({"b": ["{{ .n.x.y }}"]}, n=1)
        assert caught.value.message.startswith("f.yaml:5:7: ")
        assert ".n.x" in caught.value.message
        assert not caught.value.retryable
        assert caught.value.details["column"] == 7

    def test_the_place_of_what_encloses_it(self) -> None:
        with pytest.raises(templates.TemplateFailed, match=r"^f\.yaml:1:2: "):
            self.render({"c": "{{ .n.x.y }}"}, n=1)

    @pytest.mark.parametrize(
        ("condition", "holds"),
        [
            ("{{ .n }}", True),
            ("{{ .none }}", False),
            ("{{ .empty }}", False),
            ("n == 1", True),
            ("n > 1 || !n", False),
            (" {{ if .n }}true{{ else }}false{{ end }} ", True),
            (" {{ if .empty }}true{{ else }}false{{ end }} ", False),
            ("false", False),
        ],
    )
    def test_conditions(self, condition: str, holds: bool) -> None:
        seen = {"n": 1, "none": None, "empty": []}
        assert templates.holds(condition, seen, Environment(), "/a", {}) is holds


class TestPlain:
    class Color(StrEnum):
        RED = "red"

    class Level(IntEnum):
        HIGH = 3

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ((1, 2), [1, 2]),
            (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
            (Decimal("1.50"), 1.5),
            (Decimal("7"), 7),
            ({2: "a", None: "b", True: "c"}, {"2": "a", "null": "b", "true": "c"}),
            (Color.RED, "red"),
            (Level.HIGH, 3),
            (2**80, 2**80),
        ],
    )
    def test_values(self, value: Any, expected: Any) -> None:
        out = plain(value)
        assert out == expected
        assert type(out) is type(expected)

    @pytest.mark.parametrize("value", [math.nan, math.inf, b"x", object(), {1, 2}])
    def test_what_json_cannot_hold(self, value: Any) -> None:
        with pytest.raises(OutputInvalid, match=r"at \.a\[0\]"):
            plain({"a": [value]})

    def test_endless_values(self) -> None:
        value: list[Any] = []
        value.append(value)
        with pytest.raises(OutputInvalid, match="levels deep"):
            plain(value)

    def test_times_end_in_z(self) -> None:
        east = timezone(timedelta(hours=2))
        assert rfc3339(datetime(2026, 1, 2, 3, tzinfo=east)) == "2026-01-02T01:00:00Z"
        assert rfc3339(datetime(2026, 1, 2, 3)) == "2026-01-02T03:00:00Z"


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (MissingKey("no key"), Failure("no key", "MISSING_CONFIGURATION")),
            (RunError("x", code="C", details={"a": 1}), Failure("x", "C", {"a": 1})),
            (TimeoutError(), Failure("the time is up", "TIMEOUT")),
            (KeyError("a"), Failure("KeyError: 'a'", "RUN_ERROR", {"type": "KeyError"})),
            (
                TemplateError("bad", code="CZ410", template="{{ x }}"),
                Failure("bad", "CZ410", {"expression": "{{ x }}"}),
            ),
        ],
    )
    def test_of(self, error: Exception, expected: Failure) -> None:
        assert Failure.of(error) == expected

    def test_usage_adds_up_and_an_unknown_price_makes_the_sum_unknown(self) -> None:
        def used(*costs: float | None) -> Usage:
            states = [
                TaskState(str(n), "basic", SUCCESS, usage=Usage(1, 2, cost, 1))
                for n, cost in enumerate(costs)
            ]
            return Outcome(SUCCESS, {}, tasks={state.id: state for state in states}).usage

        assert used(0.5, 0.25) == Usage(2, 4, 0.75, 2)
        assert used(0.5, None).cost_usd is None
        assert used() == Usage()
