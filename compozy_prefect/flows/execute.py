"""The body of every flow: a plan and the parameters of a flow run → the workflow, run to its end.

Built flows and the literal functions that `compozy compile` writes both end here. Steps follow
the edges of the plan one after another (language.md §2.3); what the workflow gives is evaluated
once, after the last of them (§2.4).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Failed

from compozy_prefect.compiler import types
from compozy_prefect.compiler.plan import Json, Plan, StepPlan, WorkflowPlan, pointer
from compozy_prefect.errors import RunError, UsageError
from compozy_prefect.flows import artifacts
from compozy_prefect.flows.engine import Cancellation, stop_retrying
from compozy_prefect.flows.observer import Observer, Watched
from compozy_prefect.flows.steps import StepRunner
from compozy_prefect.runtime import templates
from compozy_prefect.runtime.attempt import Scope
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.inputs import check_input
from compozy_prefect.runtime.outcome import (
    CANCELED,
    CANCELED_CODE,
    FAILED,
    SUCCESS,
    Failure,
    Outcome,
    TaskState,
)
from compozy_prefect.runtime.redaction import Redactor
from compozy_prefect.runtime.services import Services

WATCH_AFTER, WATCH_EVERY = 1.0, 1.0  # seconds between looks at whether the run was cancelled


class WorkflowFailed(RunError):
    """What awaiting a flow of ours raises when its workflow failed."""


@dataclass
class Session:
    """What `flows.run` gives to the flow runs it starts, and what it takes back: `outcome`.

    A run that a worker started has no session, and configures itself from the environment.
    """

    services: Services
    observer: Observer | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    outcome: Outcome | None = None


SESSION: ContextVar[Session | None] = ContextVar("compozy_session", default=None)


async def execute(
    plan: Plan,
    workflow_id: str,
    parameters: Mapping[str, Any],
    *,
    env_dir: Path | None = None,
) -> Json | State[Any]:
    """The output of the workflow, or the state of a run that failed or was cancelled.

    Call it inside a flow run, with the values of the flow's own parameters. `env_dir` is the
    directory with the `.env` of a deployed project. Prefect shows the returned state with its
    message; a caller of the flow gets WorkflowFailed.
    """
    flow_context = FlowRunContext.get()
    if flow_context is None or flow_context.flow_run is None:
        raise UsageError("execute() belongs inside a flow run; call the flow instead")
    session = SESSION.get()
    if session is None:
        session = Session(Services.from_environment(env_dir))
    flow_run = flow_context.flow_run
    workflow = plan.workflows[workflow_id]
    given = types.to_input(workflow.input_schema, parameters)
    # Keys that the schema allows without listing them are no parameters of the flow, but
    # `flows.run` stores them with the run.
    if not types.single(workflow.input_schema):
        declared = {item.name for item in types.parameters(workflow.input_schema)}
        given |= {k: v for k, v in flow_run.parameters.items() if k not in declared}
    execution = _Execution(plan, workflow, flow_run, given, session)
    client = flow_context.client
    assert isinstance(client, PrefectClient)  # the flow is async
    with _watching(client, flow_run.id, session.cancellation):
        finished = await session.cancellation.guard(execution.run())
    outcome = session.outcome = finished or execution.cancelled()
    if not await artifacts.publish(client, flow_run, workflow_id, outcome):
        stop_retrying(client)
    return _state(outcome)


class _Execution:
    """One walk through a workflow."""

    def __init__(
        self,
        plan: Plan,
        workflow: WorkflowPlan,
        flow_run: FlowRun,
        given: dict[str, Json],
        session: Session,
    ) -> None:
        self.plan = plan
        self.workflow = workflow
        self.run_id = flow_run.id
        self.fresh = flow_run.run_count <= 1
        self.input: dict[str, Json] = given
        self.session = session
        self.watched = Watched(session.observer)
        self.started = time.monotonic()
        self.states: dict[str, TaskState] = {}
        self.failure: Failure | None = None  # the first that decided the status
        self.last: Json = None

    async def run(self) -> Outcome:
        redactor = Redactor(())
        try:
            self.input = check_input(self.workflow, self.input)
            scope = self._scope()
            redactor = Redactor(_keys(scope))
            await self._walk(scope, redactor)
            output = self._output(scope)
        except RunError as fault:
            self.failure = self.failure or Failure.of(fault)
            output = self._all_outputs()
        failure = self.failure
        if failure is not None:
            failure = replace(failure, message=redactor.text(failure.message))
        status = SUCCESS if failure is None else FAILED
        return Outcome(status, self.input, redactor.json(output), failure, self.states)

    def cancelled(self) -> Outcome:
        """The outcome of a walk that `Cancellation` ended."""
        reason = self.session.cancellation.reason or "cancelled"
        return Outcome(CANCELED, self.input, None, Failure(reason, CANCELED_CODE), self.states)

    def _scope(self) -> Scope:
        """What the steps see: the workflow's env, rendered, lies over that of the services."""
        env = self.session.services.env
        scope = self._scope_with(env)
        if self.workflow.env:
            seen, environment = scope.context.for_workflow(), scope.environment(env)
            at = pointer("workflows", self.workflow.id, "env")
            scope = self._scope_with(
                dict(env)
                | {
                    name: templates.render_text(
                        value, seen, environment, at + pointer(name), self.plan.spans
                    )
                    for name, value in self.workflow.env.items()
                }
            )
        return scope

    def _scope_with(self, env: Mapping[str, str]) -> Scope:
        context = RunContext(
            self.plan, self.workflow, str(self.run_id), self.input, env, self.started
        )
        return Scope(self.workflow, self.plan.spans, context, self.session.services)

    async def _walk(self, scope: Scope, redactor: Redactor) -> None:
        log = get_run_logger()
        cancellation = self.session.cancellation
        runner = StepRunner(self.run_id, self.run_id, self.fresh, scope, redactor, cancellation)
        current, given = self.workflow.start, dict[str, Json]()
        visits: dict[str, int] = {}
        after: UUID | None = None
        while current:
            step = self.workflow.by_id.get(current)
            if step is None:
                known = ", ".join(f"`{one.id}`" for one in self.workflow.steps)
                raise RunError(
                    f"workflow `{self.workflow.id}` has no task `{current}`; its tasks: {known}",
                    code="TASK_NOT_FOUND",
                )
            visits[step.path] = visit = visits.get(step.path, 0) + 1
            self.watched.tell("step_started", step)
            try:
                state, after = await runner.run(step, given, visit=visit, after=after)
            except asyncio.CancelledError:
                self.watched.tell("step_finished", step, CANCELED, 0.0, None)
                reason = cancellation.reason or "cancelled"
                failure = Failure(reason, CANCELED_CODE)
                self.states[step.id] = TaskState(step.id, step.type, CANCELED, error=failure)
                raise
            transition = step.on_success if state.ok else step.on_error
            if not state.ok:
                state = replace(state, handled=bool(transition.next))
                self._failed(step, state)
                log.error("Task '%s' failed: %s", step.id, state.error and state.error.message)
            self.states[step.id] = state
            self.last = state.output
            scope.context.record(state)
            self.watched.tell("step_finished", step, state.status, state.seconds, state.error)
            current, given = transition.next, {}
            if current and transition.with_:
                edge = "on_success" if state.ok else "on_error"
                given = templates.render(
                    transition.with_,
                    scope.context.for_step(step, given=state.input or {})
                    | {"output": state.output},
                    scope.environment(scope.context.env),
                    scope.at(step, edge, "with"),
                    scope.spans,
                )

    def _failed(self, step: StepPlan, state: TaskState) -> None:
        """The first failure decides: handled or not, the workflow is FAILED (language.md §2.3)."""
        if self.failure is None and state.error is not None:
            details = {"task": step.id} | state.error.details
            self.failure = Failure(
                f"task `{step.id}` failed: {state.error.message}", state.error.code, details
            )

    def _output(self, scope: Scope) -> Json:
        if self.workflow.outputs is None:
            return self._all_outputs()
        status = SUCCESS if self.failure is None else FAILED
        try:
            return templates.render(
                self.workflow.outputs,
                scope.context.for_workflow_outputs(status, self.last, self.failure),
                scope.environment(scope.context.env),
                pointer("workflows", self.workflow.id, "outputs"),
                scope.spans,
            )
        except RunError as fault:
            if self.failure is None:
                self.failure = Failure.of(fault)
            return self._all_outputs()

    def _all_outputs(self) -> Json:
        return {name: {"output": state.output} for name, state in self.states.items()}


def _keys(scope: Scope) -> Iterator[str | None]:
    """The keys of the workflow's models, as far as they are known: what must not be shown."""
    from compozy_prefect.runtime.llm.providers import resolve_key

    seen = scope.context.for_workflow()
    for agent in scope.workflow.agents.values():
        env = dict(scope.context.env) | {k: v for k, v in agent.env.items() if "{{" not in v}
        # A key that is missing or cannot be rendered yet is told by the step that needs it.
        with suppress(RunError):
            yield resolve_key(agent.model, None, env)
        with suppress(RunError):
            yield templates.render_text(
                agent.model.api_key, seen | {"env": env}, scope.environment(env), "", {}
            )


def _state(outcome: Outcome) -> Json | State[Any]:
    if outcome.status == SUCCESS:
        return outcome.output
    failure = outcome.error or Failure("the run failed", RunError.code)
    if outcome.status == CANCELED:
        return Cancelled(message=failure.message)
    error = WorkflowFailed(failure.message, code=failure.code, details=failure.details)
    return Failed(message=failure.message, data=error)


@contextmanager
def _watching(
    client: PrefectClient, flow_run_id: UUID, cancellation: Cancellation
) -> Iterator[None]:
    """Looks now and then whether somebody asked the server to cancel the run.

    Nothing else tells an in-process run (prefect-facts.md §9). A short run ends before the first
    look.
    """

    async def watch() -> None:
        await asyncio.sleep(WATCH_AFTER)
        while cancellation.reason is None:
            with suppress(httpx.HTTPError, PrefectHTTPStatusError):
                state = (await client.read_flow_run(flow_run_id)).state
                if state and state.type in (StateType.CANCELLING, StateType.CANCELLED):
                    cancellation.request("cancelled on request")
            await asyncio.sleep(WATCH_EVERY)

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watcher.cancel()
