"""The body of every flow: a plan and the parameters of a flow run → the workflow, run to its end.

Built flows and the literal functions that `compozy compile` writes both end here. What the workflow
gives is evaluated once, after the last of its steps (language.md §2.4).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from traceback import format_exception
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import Abort, PrefectHTTPStatusError
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Failed

from compozy_prefect import faults
from compozy_prefect.compiler import types
from compozy_prefect.compiler.blocks import blocks_of
from compozy_prefect.compiler.plan import Json, Plan, WorkflowPlan, pointer
from compozy_prefect.errors import RunError, UsageError
from compozy_prefect.flows import artifacts, engine, lease, metrics
from compozy_prefect.flows.activity import Activity
from compozy_prefect.flows.batches import collected
from compozy_prefect.flows.branch import Branches
from compozy_prefect.flows.called import CalledTasks
from compozy_prefect.flows.claim import settle
from compozy_prefect.flows.cluster import Cluster
from compozy_prefect.flows.doubts import Doubts
from compozy_prefect.flows.engine import stop_retrying
from compozy_prefect.flows.events import keep_events
from compozy_prefect.flows.journal import Journal
from compozy_prefect.flows.ledger import Ledger
from compozy_prefect.flows.limits import SharedLimits
from compozy_prefect.flows.nested import Nested
from compozy_prefect.flows.observer import Watched
from compozy_prefect.flows.pace import Pace
from compozy_prefect.flows.runners import THREADS, runner_of
from compozy_prefect.flows.session import SESSION, Session
from compozy_prefect.flows.signals import Sender
from compozy_prefect.flows.steps import StepRunner
from compozy_prefect.flows.wait import Signals
from compozy_prefect.flows.walk import Placer, Run, Walk
from compozy_prefect.flows.watch import look_at, looked_after
from compozy_prefect.flows.worker import LOST, WorkerProcess
from compozy_prefect.runtime import templates
from compozy_prefect.runtime.budgets import Budgets
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.inputs import check_input
from compozy_prefect.runtime.mcp.connection import TOKENS
from compozy_prefect.runtime.outcome import (
    CANCELED,
    CANCELED_CODE,
    FAILED,
    SUCCESS,
    Failure,
    Outcome,
    TaskState,
)
from compozy_prefect.runtime.redaction import Redactor, variables
from compozy_prefect.runtime.scope import Scope, Within
from compozy_prefect.runtime.services import Services, warm

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH|DSN")


class WorkflowFailed(RunError):
    """What awaiting a flow of ours raises when its workflow failed."""


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
    assert isinstance(flow_context.client, PrefectClient)  # the flow is async
    keep_events()
    client, flow_run, activity = flow_context.client, flow_context.flow_run, Activity()
    session, worker = SESSION.get(), None
    is_alone = session is None
    if session is None:
        services = Services.from_environment(env_dir, SharedLimits())
        session = Session(services)
        warm(plan.workflows[workflow_id], offline=services.offline, mocks=services.mocks)
    if session.pace is None:
        session.pace = Pace(engine.events_sent, partial(client.read_flow_run, flow_run.id))
    if session.budgets is None:
        session.budgets = Budgets(plan.project.budget)
    pace = session.pace
    if is_alone and flow_run.deployment_id is not None:
        worker = WorkerProcess(client, flow_run, activity, pace, session.cancellation)
        session.permit = worker.permit
    elif is_alone and flow_run.run_count > 1:
        session.claimed = datetime.now(UTC)
        session.term = await lease.begin(client, flow_run.id)
    workflow = plan.workflows[workflow_id]
    given = types.to_input(workflow.input_schema, parameters)
    # Keys that the schema allows without listing them are no parameters of the flow, but
    # `flows.run` stores them with the run.
    if not types.single(workflow.input_schema):
        declared = {item.name for item in types.parameters(workflow.input_schema)}
        given |= {k: v for k, v in flow_run.parameters.items() if k not in declared}
    async with worker or nullcontext(), _with_cluster(session):
        if worker is not None:
            session.term = worker.term
        journal = Journal(flow_context.result_store, flow_run.id, session.term, session.permit)
        execution = _Execution(
            plan, workflow, client, flow_run, journal, given, session, activity, pace, worker
        )
        drawing = asyncio.ensure_future(execution.draw())
        look = partial(look_at, session.cancellation, execution.gate, worker)
        with looked_after(client, flow_run.id, look):
            finished = await session.cancellation.guard(execution.run())
        if session.cancellation.reason == LOST:
            raise Abort(LOST)
        outcome = session.outcome = finished or execution.cancelled()
        if worker is not None:
            await worker.permit()  # what comes now is told of a run that is ours
            if outcome.status != SUCCESS:
                await worker.left()
    if session.claimed is not None:
        await settle(client, flow_run, session.claimed)
    await drawing
    spent = execution.ledger.table(execution.states)
    if not await artifacts.publish(client, flow_run, workflow_id, outcome, spent):
        stop_retrying(client)
    if is_alone:
        await pace.told()  # this process may end with the flow run
    return _state(outcome)


@asynccontextmanager
async def _with_cluster(session: Session) -> AsyncIterator[None]:
    """Closes the cluster of the run in the end, if it came to have one."""
    try:
        yield
    finally:
        if session.cluster is not None:
            await session.cluster.close()


def _ledger() -> Ledger:
    return Ledger(metrics.counting())


def _open() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


@dataclass
class _Execution:
    """One walk through a workflow. `failure` is the first that decided the status."""

    plan: Plan
    workflow: WorkflowPlan
    client: PrefectClient
    flow_run: FlowRun
    journal: Journal
    input: dict[str, Json]
    session: Session
    activity: Activity
    pace: Pace
    worker: WorkerProcess | None
    blocks: dict[str, Json] = field(default_factory=dict, init=False)
    started: float = field(default_factory=time.monotonic, init=False)
    states: dict[str, TaskState | None] = field(default_factory=dict, init=False)
    gate: asyncio.Event = field(default_factory=_open, init=False)
    failure: Failure | None = field(default=None, init=False)
    ledger: Ledger = field(default_factory=_ledger, init=False)

    async def draw(self) -> None:
        """Shows the plan, once. A run does not fail because its picture does."""
        if self.flow_run.run_count > 1:
            return
        try:
            await artifacts.picture(self.client, self.flow_run, self.plan, self.workflow.id)
        except Exception as fault:
            get_run_logger().warning("The plan was not drawn: %s", fault)

    async def run(self) -> Outcome:
        redactor = Redactor(())
        last: TaskState | None = None
        try:
            await self._taken_over()
            self.input = check_input(self.workflow, self.input)
            secrets = await self._load_blocks()
            scope = self._scope()
            redactor = Redactor(hidden := [*_keys(scope), *secrets])
            if self.session.services.cassette is not None:
                self.session.services.cassette.hide(hidden)
                self.session.services.cassette.stands_for(str(self.flow_run.id))
            walk = await self._walk(scope, redactor)
            await faults.point("run.begun")
            last = await walk.line(self.workflow.steps, self.session.first or self.workflow.start)
            self.failure = self._failed()
            output = self._output(scope, last.output if last else None)
        except RunError as fault:
            self.failure = self.failure or self._failed() or Failure.of(fault)
            output = self._all_outputs()
        except (httpx.TransportError, PrefectHTTPStatusError):
            raise  # the server is gone, which whoever began the run says
        except Exception as fault:
            get_run_logger().error("%s", redactor.text("".join(format_exception(fault))))
            self.failure = self.failure or self._failed() or Failure.of(fault)
            output = self._all_outputs()
        failure = self.failure
        if failure is not None:
            failure = replace(failure, message=redactor.text(failure.message))
            with suppress(RunError):
                await self.journal.finish()
        await faults.point("run.ended")
        status = SUCCESS if failure is None else FAILED
        output = redactor.json(output)
        return replace(self._ended(status, failure), output=output)

    async def _taken_over(self) -> None:
        """Waits for the process that had the run before, if that may not have noticed yet."""
        if self.worker is not None:
            await self.worker.ready()
            if self.flow_run.run_count > 1:
                self.session.claimed = datetime.now(UTC)

    def cancelled(self) -> Outcome:
        """The outcome of a walk that `Cancellation` ended."""
        reason = self.session.cancellation.reason or "cancelled"
        return self._ended(CANCELED, Failure(reason, CANCELED_CODE))

    def _ended(self, status: str, failure: Failure | None) -> Outcome:
        return Outcome(status, self.input, None, failure, by_key(self.states))

    async def _load_blocks(self) -> list[str]:
        """Loads the blocks that templates read; the secrets in them."""
        wanted, services = blocks_of(self.workflow), self.session.services
        if not wanted:
            return []
        from compozy_prefect.flows import blocks

        mocks = services.mocks.blocks if services.mocks else {}
        self.blocks, secrets = await blocks.load(
            self.client, wanted, mocks, offline=services.offline, spans=self.plan.spans
        )
        return secrets

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
            self.plan,
            self.workflow,
            str(self.flow_run.id),
            self.input,
            env,
            self.started,
            self.blocks,
        )
        session = self.session
        assert session.budgets is not None
        return Scope(
            self.workflow,
            self.plan.spans,
            context,
            session.services,
            workflows=Nested(self.plan, self.client, self.flow_run.id, session, self.gate),
            budgets=session.budgets,
            permit=session.permit,
            within=Within(session.depth),
        )

    async def _walk(self, scope: Scope, redactor: Redactor) -> Walk:
        cancellation, log = self.session.cancellation, get_run_logger()
        journal, watched = self.journal, Watched(self.session.observer)
        await journal.load(step.id for step in self.workflow.steps)
        if self.worker is not None:
            self.worker.keeps(journal)
        await collected(self.client, journal)
        signals = Signals(
            self.client, self.flow_run.id, journal, self.activity, self.worker, watched
        )

        def runner(flow_run: UUID) -> StepRunner:
            return StepRunner(
                flow_run,
                redactor,
                journal,
                log,
                cancellation,
                self.pace,
                self.activity,
                watched,
                self.ledger,
                Doubts(signals, redactor),
            )

        run = Run(
            watched=watched,
            cancellation=cancellation,
            redactor=redactor,
            log=log,
            branch=Branches(self.workflow.id, runner, cancellation, self.client, journal),
            wait=signals,
            send=Sender(self.plan, self.flow_run.id, self.session.start, journal),
            gates=(*self.session.gates, self.gate),
            progress=partial(artifacts.progress, self.client),
            ledger=self.ledger,
            place=self._placer(scope.services),
            states=self.states,
            taken=self.session.taken,
        )
        walk = Walk(run, scope, runner(self.flow_run.id))
        return replace(walk, scope=replace(scope, tasks=CalledTasks(walk)))

    def _placer(self, services: Services) -> Placer | None:
        """What sends fan-outs to a cluster, if the run has one."""
        try:
            wanted = runner_of(self.plan, services.env)
        except UsageError as fault:
            raise RunError(str(fault), code="RUNNER_UNAVAILABLE", retryable=False) from None
        if wanted.type == THREADS:
            return None
        from compozy_prefect.flows.dispatch import Dispatcher

        called = "another workflow calls this one" if self.session.depth else ""
        dispatcher = Dispatcher(self.plan, Cluster(wanted), self.session.term, called)
        self.session.cluster = dispatcher.cluster
        return dispatcher

    def _failed(self) -> Failure | None:
        """The first failure of a step at the top: it decides, handled or not (language.md §2.3)."""
        top = {step.id for step in self.workflow.steps}
        for path, state in self.states.items():
            if path not in top or state is None or state.ok or state.error is None:
                continue
            if state.handled and self.workflow.recover_on_error:
                continue
            details = {"task": state.id} | state.error.details
            message = f"task `{state.id}` failed: {state.error.message}"
            return Failure(message, state.error.code, details)
        return None

    def _output(self, scope: Scope, last: Json) -> Json:
        if self.workflow.outputs is None:
            return self._all_outputs()
        status = SUCCESS if self.failure is None else FAILED
        try:
            return templates.render(
                self.workflow.outputs,
                scope.context.for_workflow_outputs(status, last, self.failure),
                scope.environment(scope.context.env),
                pointer("workflows", self.workflow.id, "outputs"),
                scope.spans,
            )
        except RunError as fault:
            if self.failure is None:
                self.failure = Failure.of(fault)
            return self._all_outputs()

    def _all_outputs(self) -> Json:
        return {key: {"output": state.output} for key, state in by_key(self.states).items()}


def by_key(states: Mapping[str, TaskState | None]) -> dict[str, TaskState]:
    """How the steps ended, by id; by container and id where an id occurs twice (design.md).

    The `parent` of a state is then the key of its container.
    """
    ended = {path: state for path, state in states.items() if state is not None}
    counts = Counter(state.id for state in ended.values())
    keys: dict[str, str] = {}
    out: dict[str, TaskState] = {}
    for path, state in ended.items():
        # A container may have run again: its steps stand under the path of that run.
        parent = keys.get(state.parent or "", (state.parent or "").rpartition("/")[2] or None)
        key = state.id
        if counts[state.id] > 1 and parent is not None:
            key = f"{parent}/{state.id}"
        keys[path] = key
        out[key] = replace(state, parent=parent)
    return out


def _keys(scope: Scope) -> Iterator[str | None]:
    """What must not be shown: the keys of models, and what tools are configured with."""
    for tool in scope.workflow.tools.values():
        for name in variables([tool.config, tool.env]):
            yield scope.context.env.get(name)
    for server in scope.workflow.mcps.values():
        for name in (*variables(dict(server.headers)), *(TOKENS if server.bearer_env else ())):
            yield scope.context.env.get(name)
        # The rest may be paths and levels, which results are full of.
        for name in variables([server.url, list(server.args), dict(server.env)]):
            if _SECRET_NAME.search(name):
                yield scope.context.env.get(name)
    from compozy_prefect.runtime.llm.keys import resolve_key

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
    return Failed(message=failure.placed_message, data=error)
