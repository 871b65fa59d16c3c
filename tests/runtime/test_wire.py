"""What one process sends another of the steps that have ended."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from compozy_prefect.expressions import render
from compozy_prefect.expressions.members import Named, View
from compozy_prefect.runtime import views
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import FAILED, SUCCESS, Failure, TaskState
from compozy_prefect.runtime.wire import from_wire, state_from_wire, state_to_wire, to_wire
from tests.support.plans import plan, step

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "$kind", "of", "beside", "view"]), inner)
    ),
)


def sent(value: Any) -> Any:
    return json.loads(json.dumps(value))


@given(PLAIN)
@settings(deadline=None)
def test_data_is_data_whatever_it_says(value: Any) -> None:
    assert from_wire(sent(to_wire(value))) == value


def test_names_beside_the_value() -> None:
    inner = View({"x": 1}, {"status": "SUCCESS"})
    value = from_wire(sent(to_wire({"list": Named([inner], {"a-0": inner}), "view": inner})))
    assert isinstance(value["list"], Named)
    assert value["list"]["a-0"]["status"] == "SUCCESS"
    assert value["list"] == [{"x": 1}]
    assert isinstance(value["view"], View)


def container() -> TaskState:
    good = TaskState(
        "a", "basic", SUCCESS, {"i": 1}, {"x": 1}, parent="c", usage=Usage(1, 2, None, 3)
    )
    bad = TaskState("b", "basic", FAILED, error=Failure("no", "X", {"k": [1]}), parent="c")
    children = {"a": good, "b": bad}
    view = views.of_children(children, "best_effort")
    return TaskState("c", "parallel", SUCCESS, output=dict(view), children=children, view=view)


def test_a_state_comes_back_as_it_was() -> None:
    state = container()
    again = state_from_wire(sent(state_to_wire(state)))
    assert again == state
    assert again.for_templates() == state.for_templates()
    assert again.view["b"] is None
    assert again.view.beside == state.view.beside


def test_templates_see_the_same_in_another_process() -> None:
    of = plan(step("one"), step("c"))
    workflow = of.workflows["flow"]
    outer = RunContext(of, workflow, "id", {"q": 7}, {"E": "v"}, 0.0, {"block": {"f": 1}})
    outer.record(container())
    inside = outer.inside({"w": 1}, {"item": 3}, {"E": "w"}, {"u": 2})
    inside.record(TaskState("one", "basic", SUCCESS, output={"z": 5}))
    again = RunContext.from_json(of, workflow, sent(inside.to_json()))
    here, there = inside.for_step(workflow.steps[0]), again.for_step(workflow.steps[0])
    here["workflow"].pop("execution_time"), there["workflow"].pop("execution_time")
    assert there == here
    template = (
        "{{ .tasks.c.output.a.status }} {{ .tasks.c.children.b.error.code }} "
        "{{ .tasks.one.output.z }} {{ .item }} {{ .env.E }} {{ .workflow.input.q }} "
        "{{ .blocks.block.f }} {{ .input.w }}"
    )
    assert render(template, there) == render(template, here) == "SUCCESS X 5 3 w 7 1 1"
    assert again.under == {"u": 2}
