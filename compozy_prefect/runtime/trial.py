"""One tool and an input → its result, outside of a run: with its own settings, and nothing else."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from compozy_prefect.compiler.plan import (
    Json,
    Plan,
    StepPlan,
    ToolCall,
    ToolPlan,
    WorkflowPlan,
    pointer,
)
from compozy_prefect.errors import RunError
from compozy_prefect.runtime.attempt import Attempt
from compozy_prefect.runtime.calls import Nowhere, Unwatched
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.outcome import Failure
from compozy_prefect.runtime.redaction import Redactor, variables
from compozy_prefect.runtime.scope import Scope
from compozy_prefect.runtime.services import Services


@dataclass(frozen=True, slots=True)
class Called:
    """What a call gave, without secrets. `error` is None when it succeeded."""

    tool: str
    type: str
    input: Json
    output: Json
    error: Failure | None
    seconds: float

    def to_json(self) -> dict[str, Json]:
        return {
            "tool": self.tool,
            "type": self.type,
            "status": "SUCCESS" if self.error is None else "FAILED",
            "input": self.input,
            "output": self.output,
            "error": None if self.error is None else self.error.to_json(),
            "duration_seconds": round(self.seconds, 6),
        }


class _Printing(Unwatched):
    def __init__(self, printed: Callable[[str], None], redactor: Redactor) -> None:
        self._printed, self._redactor = printed, redactor

    def printed(self, tool: str, text: str) -> None:
        self._printed(self._redactor.text(text))


async def call(
    plan: Plan,
    workflow_id: str,
    tool: ToolPlan,
    input: Mapping[str, Json],
    services: Services,
    printed: Callable[[str], None] = lambda text: None,
) -> Called:
    """Calls a tool as a task of the workflow would, with `input` in the place of its `with`.

    `printed` hears what the tool writes while it runs.
    """
    step = StepPlan(tool.id, path=tool.id, tool=ToolCall(tool.id))
    workflow = plan.workflows[workflow_id]
    workflow = replace(
        workflow,
        input_schema=None,
        tools={**workflow.tools, tool.id: tool},
        steps=(step,),
        start=step.id,
    )
    redactor, began = Redactor(()), time.monotonic()
    output: Json = None
    error = None
    try:
        scope = _scope(plan, workflow, services)
        read = variables([tool.config, tool.env])
        redactor = Redactor(scope.context.env.get(name) for name in read)
        watch = _Printing(printed, redactor)
        attempt = Attempt(scope, step, input, calls=Nowhere(), watch=watch)
        output = redactor.json((await attempt.run()).output)
    except RunError as fault:
        failure = Failure.of(fault)
        error = replace(
            failure,
            message=redactor.text(failure.message),
            details=redactor.json(failure.details),
        )
    seconds = time.monotonic() - began
    return Called(tool.id, tool.type, redactor.json(dict(input)), output, error, seconds)


def _scope(plan: Plan, workflow: WorkflowPlan, services: Services) -> Scope:
    """What the tool sees: the workflow's variables lie over those of the services."""
    execution = str(uuid.uuid4())

    def scope_with(env: Mapping[str, str]) -> Scope:
        context = RunContext(plan, workflow, execution, {}, env, time.monotonic())
        return Scope(workflow, plan.spans, context, services)

    scope = scope_with(services.env)
    seen, environment = scope.context.for_workflow(), scope.environment(services.env)
    env, _ = scope.layer(workflow.env, seen, environment, pointer("workflows", workflow.id, "env"))
    return scope_with(env) if workflow.env else scope
