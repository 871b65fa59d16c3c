"""One step of the plan → its state, as one Prefect task run (language.md §3.1).

`StepRun.perform` is the pipeline of one attempt; `run_step` wraps it in a task whose retries,
persisted result and states are Prefect's.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid5

from prefect import Task
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.states import State

from compozy_prefect.compiler.plan import AgentCall, Json, StepPlan, WorkflowPlan, pointer
from compozy_prefect.errors import InputInvalid, OutputInvalid, RunError, TemplateError
from compozy_prefect.expressions import Environment
from compozy_prefect.flows import engine
from compozy_prefect.runtime import agents, schemas, templates, tools
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import (
    FAILED,
    SUCCESS,
    TIMED_OUT,
    Failure,
    TaskState,
    plain,
)
from compozy_prefect.runtime.redaction import Redactor
from compozy_prefect.runtime.services import Services

_LONGEST = 100  # characters of an id in a file name; longer ones are cut and told apart by a hash


@dataclass(frozen=True, slots=True)
class Scope:
    """What the steps of one execution share.

    `root` is the id of the root flow run, which names the persisted results: a failed subflow
    comes back under another id (prefect-recipes.md §2).
    """

    root: UUID
    flow_run: UUID
    workflow: WorkflowPlan
    spans: templates.Spans
    context: RunContext
    services: Services
    redactor: Redactor
    cancellation: engine.Cancellation

    def at(self, step: StepPlan, *keys: str | int) -> str:
        """The JSON pointer of a field of a step."""
        index = self.workflow.steps.index(step)
        return pointer("workflows", self.workflow.id, "steps", index, *keys)

    def environment(self, env: Mapping[str, str]) -> Environment:
        """What template functions see; its clock stands still for one attempt (§11.6, `now`)."""
        return Environment(now=self.services.now(), env=env, validate_schema=self._validated_by_id)

    def _validated_by_id(self, value: Any, schema_id: str) -> Json:
        """`validateSchema`: a list under the schema of no list is checked item by item (§9)."""
        schema = self.workflow.schemas.get(schema_id)
        if schema is None:
            known = ", ".join(sorted(self.workflow.schemas)) or "none"
            raise InputInvalid(f"validateSchema: no schema `{schema_id}`; there are: {known}")
        kind = schema.get("type") if isinstance(schema, dict) else None
        what = f"validateSchema('{schema_id}')"
        if isinstance(value, list) and kind != "array":
            return [_valid(item, schema, f"{what}, item {i}") for i, item in enumerate(value)]
        return _valid(value, schema, what)


async def run_step(
    scope: Scope, step: StepPlan, given: Mapping[str, Json], *, visit: int, after: UUID | None
) -> tuple[TaskState, UUID]:
    """The state of `step` and the id of its task run.

    `given` are the values that the transition to the step lays over its `with`, already rendered;
    `visit` counts from 1 how often the run came here. A step that completed in an earlier process
    is not run again: its persisted result is read. Raises CancelledError when the run is cancelled.
    """
    where = step.path if visit == 1 else f"{step.path}#{visit}"
    task_run_id = uuid5(scope.flow_run, where)
    attempt = _Attempts(scope, step, given)
    task = _task(scope, step, where, attempt)
    started = time.monotonic()
    try:
        result = await engine.run_task(task, task_run_id, after, scope.cancellation)
    except (RunError, engine.StepTimeout) as fault:
        state = TaskState(
            id=step.id,
            type=step.type,
            status=TIMED_OUT if isinstance(fault, engine.StepTimeout) else FAILED,
            input=attempt.input,
            error=Failure.of(fault),
            seconds=time.monotonic() - started,
        )
    else:
        state = TaskState(
            id=step.id,
            type=step.type,
            status=SUCCESS,
            input=result["input"],
            output=result["output"],
            usage=Usage.from_json(result["usage"]) if "usage" in result else None,
            seconds=time.monotonic() - started,
        )
    return state, task_run_id


def result_key(root: UUID, where: str) -> str:
    """The key of a persisted result: the root flow run and the full path of the step.

    Storage may be a file system, so each id becomes a harmless file name. Two steps never share
    a key, not even two with equal inputs, both of which must run.
    """
    return "/".join([str(root), *map(_file_name, where.split("/"))])


def _file_name(id: str) -> str:
    name = quote(id, safe="")
    if not name.strip("."):
        name = name.replace(".", "%2E")
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}~{hashlib.sha256(id.encode('utf-8', 'replace')).hexdigest()[:16]}"
    return name


def _task(
    scope: Scope, step: StepPlan, where: str, attempt: Callable[[], Awaitable[Json]]
) -> Task[Any, Any]:
    async def run(after: None = None) -> Json:
        return await attempt()

    def worth_retrying(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
        return _retryable(state.data, step.retry.non_retryable)

    key = result_key(scope.root, where)
    task: Task[Any, Any] = Task(
        run,
        name=step.id,
        # A function: Prefect would take braces in a text for fields of a format.
        task_run_name=lambda: step.id,
        description=f"{step.type} task {step.path} of workflow {scope.workflow.id}",
        retries=step.retry.attempts - 1,
        retry_delay_seconds=step.retry.delays()[: engine.DELAYS],
        retry_condition_fn=worth_retrying,
        persist_result=True,
        result_serializer=engine.RESULTS,
        cache_key_fn=lambda context, parameters: key,
    )
    task.task_key = f"{scope.workflow.id}/{step.path}"
    return task


def _retryable(error: object, non_retryable: tuple[str, ...]) -> bool:
    """Whether another attempt could help: not for data, templates and keys that are wrong.

    `non_retryable_error_types` are compared with the type of the error and with its code.
    """
    if isinstance(error, RunError):
        names = {type(error).__name__, error.code, error.details.get("type")}
        return error.retryable and not names & set(non_retryable)
    return not {type(error).__name__, "TimeoutError", "TIMEOUT"} & set(non_retryable)


class _Attempts:
    """The attempts of one step: called once for each, it gives what Prefect persists.

    That is `{input, output, usage?}`, so that a resumed run has all of it. Whatever goes wrong
    leaves as a RunError or a StepTimeout without secrets. `input` is the `with` of the last attempt.
    """

    def __init__(self, scope: Scope, step: StepPlan, given: Mapping[str, Json]) -> None:
        self.input: Json = None
        self._scope = scope
        self._step = step
        self._given = given

    async def __call__(self) -> Json:
        scope, step = self._scope, self._step
        context = TaskRunContext.get()
        number = context.task_run.run_count if context else 1
        log = get_run_logger()
        log.info("Started%s", f", attempt {number} of {step.retry.attempts}" if number > 1 else "")
        try:
            if step.sleep and number == 1:
                await asyncio.sleep(step.sleep)
            try:
                async with asyncio.timeout(step.timeout or None) as clock:
                    result = await self._perform()
            except TimeoutError:
                if not clock.expired():
                    raise
                raise engine.StepTimeout(
                    f"task `{step.id}` took longer than {step.timeout:g} s"
                ) from None
            return scope.redactor.json(result)
        except engine.StepTimeout:
            raise
        except RunError as fault:
            raise _clean(fault, scope.redactor) from None
        except TemplateError as fault:
            raise _clean(
                templates.located(fault, fault.template, scope.at(step), scope.spans),
                scope.redactor,
            ) from None
        except Exception as fault:
            # A bug of ours or of a library: the failure is one sentence, the traceback is logged.
            log.error("%s", scope.redactor.text(_traceback(fault)))
            failure = Failure.of(fault)
            raise _clean(
                RunError(failure.message, details=failure.details), scope.redactor
            ) from None

    async def _perform(self) -> Json:
        scope, step = self._scope, self._step
        base = scope.environment(scope.context.env)
        before = scope.context.for_step(step)
        if step.condition and not templates.holds(
            step.condition, before, base, scope.at(step, "condition"), scope.spans
        ):
            return {"input": None, "output": {"skipped": True}}
        env = self._env(before, base, step.env, scope.at(step, "env"), scope.context.env)
        environment = replace(base, env=env)
        context = before | {"env": env}
        given = templates.render(
            step.with_, context, environment, scope.at(step, "with"), scope.spans
        )
        self.input = given = tools.merged(given, dict(self._given))
        if step.input_schema is not None:
            what = f"the `with` of task `{step.id}`"
            self.input = given = _valid(given, step.input_schema, what, InputInvalid)
        usage = None
        action = None
        if step.agent is not None:
            action, raw, usage = await self._ask(step.agent, env, environment, given)
        elif step.tool is not None:
            raw = await self._use(step.tool.tool, env, environment, given)
        else:
            raw = given
        raw = plain(raw)
        if step.output_schema is not None:
            what = f"the output of task `{step.id}`"
            _check(raw, step.output_schema, what, OutputInvalid)
        output = raw
        if step.outputs is not None and raw is not None:
            seen = scope.context.for_outputs(step, raw, env=env, action=action, given=given)
            output = templates.render(
                step.outputs, seen, environment, scope.at(step, "outputs"), scope.spans
            )
        result = {"input": given, "output": output}
        if usage is not None:
            result["usage"] = usage.to_json() | {"calls": usage.calls}
        return result

    async def _ask(
        self,
        call: AgentCall,
        env: Mapping[str, str],
        environment: Environment,
        given: dict[str, Json],
    ) -> tuple[str, Json, Usage]:
        """An agent's action: its id, the answer and what it cost (language.md §4.3, §4.5)."""
        scope, step = self._scope, self._step
        agent = scope.workflow.agents[call.agent]
        at = pointer("workflows", scope.workflow.id, "agents", call.agent)
        seen = scope.context.for_step(step, env=env, given=given)
        name = templates.render_text(
            call.action, seen, environment, scope.at(step, "agent", "action"), scope.spans
        ).strip()
        action = agent.actions.get(name)
        if action is None:
            known = ", ".join(f"`{key}`" for key in agent.actions) or "none"
            raise RunError(
                f"agent `{agent.id}` has no action `{name}`; its actions: {known}",
                code="ACTION_NOT_FOUND",
                details={"agent": agent.id, "action": name, "actions": sorted(agent.actions)},
                retryable=False,
            )
        env = self._env(seen, environment, agent.env, at + "/env", env)
        environment = replace(environment, env=env)
        at_action = at + pointer("actions", name)
        seen = scope.context.for_step(step, env=env, action=name, given=given)
        effective = tools.merged(
            tools.merged(
                templates.render(agent.with_, seen, environment, at + "/with", scope.spans),
                templates.render(action.with_, seen, environment, at_action + "/with", scope.spans),
            ),
            given,
        )
        if action.input_schema is not None:
            what = f"the input of action `{name}` of agent `{agent.id}`"
            effective = _valid(effective, action.input_schema, what, InputInvalid)
        seen = scope.context.for_step(step, env=env, action=name, given=effective)

        def text(template: str, *keys: str) -> str:
            place = at + pointer(*keys)
            return templates.render_text(template, seen, environment, place, scope.spans)

        key = None
        if scope.services.asks_a_provider(agent.id, name):
            from compozy_prefect.runtime.llm.providers import resolve_key

            rendered = text(agent.model.api_key, "model", "api_key") or None
            key = resolve_key(agent.model, rendered, env)
        model = replace(
            agent.model,
            api_key="",
            api_url=text(agent.model.api_url, "model", "api_url"),
            organization=text(agent.model.organization, "model", "organization"),
        )
        answer = await agents.answer(
            agents.AgentRequest(
                agent=agent.id,
                action=name,
                step=step.path,
                model=model,
                api_key=key,
                instructions=text(agent.instructions, "instructions"),
                prompt=text(action.prompt, "actions", name, "prompt"),
                input=effective,
                schema=action.output_schema,
                json_mode=action.json_mode or agent.json_mode,
            ),
            scope.services.client,
        )
        return name, answer.output, answer.usage

    async def _use(
        self,
        id: str,
        env: Mapping[str, str],
        environment: Environment,
        given: dict[str, Json],
    ) -> Json:
        """A tool's result; what the tool's own YAML holds is rendered for this call only."""
        scope, step = self._scope, self._step
        tool = scope.workflow.tools[id]
        at = pointer("workflows", scope.workflow.id, "tools", id)
        seen = scope.context.for_step(step, env=env, given=given)
        env = self._env(seen, environment, tool.env, at + "/env", env)
        environment = replace(environment, env=env)
        seen["env"] = env
        defaults = templates.render(tool.with_, seen, environment, at + "/with", scope.spans)
        return await tools.call(
            replace(tool, with_=defaults, env=env),
            given,
            mocks=scope.services.mocks,
            offline=scope.services.offline,
        )

    def _env(
        self,
        context: Mapping[str, Any],
        environment: Environment,
        own: Mapping[str, str],
        at: str,
        under: Mapping[str, str],
    ) -> Mapping[str, str]:
        """`own`, rendered, over `under` (language.md §1.4)."""
        if not own:
            return under
        spans = self._scope.spans
        out = dict(under)
        for name, value in own.items():
            out[name] = templates.render_text(
                value, context, environment, at + pointer(name), spans
            )
        return out


def _valid(value: Json, schema: Json, what: str, error: type[RunError] = InputInvalid) -> Any:
    """`value` with the schema's shallow defaults. Raises `error`."""
    value = schemas.with_defaults(value, schema)
    _check(value, schema, what, error)
    return value


def _check(value: Json, schema: Json, what: str, error: type[RunError]) -> None:
    broken = schemas.violations(value, schema)
    if broken:
        raise error(
            f"{what} breaks its schema: {'; '.join(broken)}", details={"violations": broken}
        )


def _clean(fault: RunError, redactor: Redactor) -> RunError:
    """The same failure without secrets, and without the exceptions that led to it."""
    clean = type(fault)(
        redactor.text(fault.message),
        code=fault.code,
        details=redactor.json(plain(fault.details)),
        retryable=fault.retryable,
    )
    clean.__suppress_context__ = True
    return clean


def _traceback(fault: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(fault))
