"""Small plans for tests, written without YAML."""

from __future__ import annotations

from typing import Any

from compozy_prefect.compiler.plan import (
    ActionPlan,
    AgentPlan,
    ModelPlan,
    Plan,
    ProjectPlan,
    RetryPlan,
    StepPlan,
    ToolPlan,
    Transition,
    WorkflowPlan,
)

ONCE = RetryPlan(attempts=1)


def step(id: str, *, then: str = "", otherwise: str = "", **fields: Any) -> StepPlan:
    """A step with one attempt, unless `retry` says otherwise."""
    fields = {
        "retry": ONCE,
        "on_success": Transition(then),
        "on_error": Transition(otherwise),
        **fields,
    }
    return StepPlan(id, fields.pop("path", id), **fields)


def agent(id: str = "writer", *, provider: str = "openai", **fields: Any) -> AgentPlan:
    fields = {
        "instructions": "You write.",
        "actions": {"write": ActionPlan("write", "Write about {{ .input.topic }}.")},
        "model": ModelPlan(provider, "gpt-4o", api_key="{{ .env.OPENAI_API_KEY }}"),
        **fields,
    }
    return AgentPlan(id, **fields)


def plan(*steps: StepPlan, spans: dict[str, Any] | None = None, **fields: Any) -> Plan:
    """A plan of the one workflow `flow`, which starts with the first step."""
    fields = {
        "agents": {"writer": agent()},
        "tools": {name: ToolPlan(name) for name in ("lookup", "flaky", "slow")},
        **fields,
    }
    workflow = WorkflowPlan("flow", start=steps[0].id, steps=steps, **fields)
    return Plan(ProjectPlan("demo", "1.0", "A demo."), {"flow": workflow}, spans=spans or {})
