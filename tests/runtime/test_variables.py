"""What the checks allow a template to see is what the run gives it (language.md §11.2)."""

from __future__ import annotations

from compozy_prefect.compiler.plan import ActionPlan
from compozy_prefect.compiler.variables import TASK_FIELDS, VARIABLES, WORKFLOW_FIELDS
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.outcome import SUCCESS, TaskState
from tests.support.plans import agent, plan, step

PLAN = plan(step("a"), agents={"writer": agent(actions={"write": ActionPlan("write", "x")})})
STEP = PLAN.workflows["flow"].steps[0]


def context() -> RunContext:
    return RunContext(PLAN, PLAN.workflows["flow"], "id", {}, {}, 0.0)


def test_roots() -> None:
    run = context()
    seen = {
        "workflow": run.for_workflow(),
        "with": run.for_step(STEP),
        "prompt": run.for_prompt(STEP, env={}, action="", given={}, memory={}),
        "outputs": run.for_outputs(STEP, None, env={}, action=None, given={}),
        "workflow outputs": run.for_workflow_outputs(SUCCESS, None, None),
    }
    for scope, given in seen.items():
        assert set(given) == set(VARIABLES[scope]), scope  # type: ignore[index]
    assert run.for_step(STEP, given={}).keys() == VARIABLES["own"]
    assert VARIABLES.keys() == seen.keys() | {"key", "own", "event"}


def test_fields() -> None:
    run = context()
    run.record(TaskState("a", "basic", SUCCESS))
    seen = run.for_workflow()
    assert set(seen["workflow"]) == WORKFLOW_FIELDS
    assert set(seen["tasks"]["a"]) <= TASK_FIELDS
