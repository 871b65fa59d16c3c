"""A checked project → its plan.

References are followed, defaults are applied and the edges are written out, so that nothing
behind the plan has to know how the YAML said it. A key that stands in a file does not enter the
plan: it is replaced by an environment variable, and returned beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.places import of_tool, places
from compozy_prefect.compiler.plan import (
    ActionPlan,
    AgentCall,
    AgentPlan,
    Json,
    ModelPlan,
    Plan,
    Position,
    ProjectPlan,
    RetryPlan,
    StepPlan,
    ToolCall,
    ToolPlan,
    Transition,
    WorkflowPlan,
    pointer,
)
from compozy_prefect.compiler.scope import Scope
from compozy_prefect.diagnostics import Span
from compozy_prefect.language.models import task as nouns
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.task import ExecutionOptions, RetryPolicy, Task
from compozy_prefect.language.models.tool import Tool

P = TypeVar("P", AgentPlan, ToolPlan)

ATTEMPT_TIMEOUT = 300.0  # seconds; `start_to_close_timeout` of language.md §2.5


@dataclass(frozen=True, slots=True)
class Lowered:
    """A plan, and the values of the variables that stand in it for keys found in the files."""

    plan: Plan
    secrets: dict[str, str] = field(repr=False)


def lower(project: Project) -> Lowered:
    """The plan of a project without errors."""
    loaded = project.loaded
    assert loaded.project is not None
    secrets: dict[str, str] = {}
    spans: dict[str, Position] = {}
    workflows = {}
    for checked in project.workflows:
        workflow = _Workflow(checked, project, secrets)
        workflows[checked.scope.workflow.key] = workflow.plan()
        spans |= workflow.spans()
    name = loaded.project.name or loaded.project.id or ""
    plan = Plan(
        project=ProjectPlan(name, loaded.project.version, loaded.project.description.strip()),
        workflows=workflows,
        spans=spans,
    )
    return Lowered(plan, secrets)


class _Workflow:
    def __init__(self, checked: Checked, project: Project, secrets: dict[str, str]) -> None:
        self._scope: Scope = checked.scope
        self._sequence = checked.sequence
        self._secrets = secrets
        own = checked.scope.workflow.config
        given = project.loaded.project.config if project.loaded.project else None
        self._options: list[ExecutionOptions] = [o for o in (own, given) if o is not None]
        self._agents: dict[str, AgentPlan] = {}
        self._tools: dict[str, ToolPlan] = {}
        self._keys: dict[int, str] = {}  # of agents and tools, by the node they are written in

    def plan(self) -> WorkflowPlan:
        workflow = self._scope.workflow
        steps = tuple(self._step(task) for task in workflow.tasks)
        project = self._scope.loaded.project
        env = dict(project.config.env) if project and project.config else {}
        env |= workflow.config.env if workflow.config else {}
        return WorkflowPlan(
            id=workflow.key,
            name=workflow.name or workflow.key,
            version=workflow.version,
            description=workflow.description.strip(),
            input_schema=self._schema(workflow.config.input if workflow.config else None),
            schemas={name: _plain(schema) for name, schema in self._scope.schemas.items()},
            env=env,
            agents=dict(sorted(self._agents.items())),
            tools=dict(sorted(self._tools.items())),
            start=self._sequence.start,
            steps=steps,
            outputs=_plain(workflow.outputs),
        )

    def spans(self) -> dict[str, Position]:
        """Where the templates of the plan stand, and its steps."""
        key = self._scope.workflow.key
        out: dict[str, Position] = {}
        for index, task in enumerate(self._scope.workflow.tasks):
            out[pointer("workflows", key, "steps", index)] = _position(task.node.at("id").span)
        tools = (place for tool in self._scope.tools_used() for place in of_tool(tool))
        for place in (*places(self._scope), *tools):
            at = place.pointer
            if place.owner is not None:
                if id(place.owner) not in self._keys:
                    continue  # nothing uses it, and the plan does not hold it
                at = (at[0], self._keys[id(place.owner)], *at[2:])
            if "{{" in str(place.node.value) or place.condition:
                out[pointer("workflows", key, *at)] = _position(place.node.span)
        return out

    def _step(self, task: Task) -> StepPlan:
        agent, tool = self._scope.agent_of(task), self._scope.tool_of(task)
        call = None
        if agent is not None:
            call = AgentCall(self._agent(agent), task.action or "")
        return StepPlan(
            id=task.id,
            path=task.id,
            type=task.type,
            agent=call,
            tool=ToolCall(self._tool(tool)) if tool is not None else None,
            with_=_plain(task.with_),
            env=dict(task.env),
            outputs=_plain(task.outputs),
            input_schema=self._schema(task.input),
            output_schema=self._schema(task.output),
            condition=task.condition or "",
            retry=self._retry(task),
            timeout=self._timeout(task),
            sleep=task.sleep or 0.0,
            on_success=_transition(task.on_success, self._sequence.success.get(task.id)),
            on_error=_transition(task.on_failure, self._sequence.failure.get(task.id)),
        )

    def _option(self, task: Task, name: str) -> Any:
        """The nearest of the task, its workflow and its project that sets an option (§2.5)."""
        direct = getattr(task, name, None)
        if direct is not None:
            return direct
        for options in (task.config, *self._options):
            value = getattr(options, name, None) if options is not None else None
            if value is not None:
                return value
        return None

    def _timeout(self, task: Task) -> float:
        if task.timeout is not None:
            return task.timeout
        given = self._option(task, "start_to_close_timeout")
        return ATTEMPT_TIMEOUT if given is None else float(given)

    def _retry(self, task: Task) -> RetryPlan:
        policies = [task.retry_policy]
        policies += [o.retry_policy for o in (task.config, *self._options) if o is not None]
        given = [policy for policy in policies if policy is not None]
        default = RetryPlan()
        attempts = _first(given, "maximum_attempts") or default.attempts
        retries = task.retries
        for given_error in (task.on_error, task.on_failure):
            if retries is None and given_error is not None:
                retries = given_error.retry
        initial = _first(given, "initial_interval")
        coefficient = _first(given, "backoff_coefficient")
        maximum = _first(given, "maximum_interval")
        return RetryPlan(
            attempts=int(attempts) if retries is None else retries + 1,
            initial=default.initial if initial is None else initial,
            coefficient=default.coefficient if coefficient is None else coefficient,
            maximum=default.maximum if maximum is None else maximum,
            non_retryable=tuple(_first(given, "non_retryable_error_types") or ()),
        )

    def _agent(self, agent: Agent) -> str:
        """The key under which the plan holds an agent: its id, numbered if two differ."""
        node = id(agent.node)
        if node not in self._keys:
            self._keys[node] = _keep(self._agents, self._agent_plan(agent))
        return self._keys[node]

    def _agent_plan(self, agent: Agent) -> AgentPlan:
        model = self._scope.model_of(agent)
        assert model is not None
        return AgentPlan(
            id=agent.id,
            model=self._model(model),
            instructions=agent.instructions,
            actions={
                action.id: ActionPlan(
                    id=action.id,
                    prompt=action.prompt,
                    with_=_plain(action.with_),
                    input_schema=self._schema(action.input),
                    output_schema=self._schema(action.output),
                    json_mode=action.json_mode,
                )
                for action in agent.actions
            },
            with_=_plain(agent.with_),
            env=dict(agent.env),
            json_mode=agent.json_mode,
        )

    def _model(self, model: Model) -> ModelPlan:
        defaults = ModelPlan(model.provider, model.model)
        api_key = model.api_key or ""
        if api_key and "{{" not in api_key:
            api_key = self._hidden(model, api_key)
        return ModelPlan(
            provider=model.provider,
            model=model.model,
            api_key=api_key,
            api_url=model.api_url or model.base_url or "",
            organization=model.organization or "",
            params=_plain(model.parameters()),
            timeout=defaults.timeout if model.timeout is None else model.timeout,
            # None at all is one: the first.
            retry_attempts=defaults.retry_attempts
            if model.retry_attempts is None
            else max(1, model.retry_attempts),
        )

    def _hidden(self, model: Model, api_key: str) -> str:
        """A template that reads the key from a variable of the run's environment."""
        number = 1
        while True:
            name = f"COMPOZY_{model.provider.upper()}_API_KEY_{number}"
            if self._secrets.setdefault(name, api_key) == api_key:
                return f"{{{{ .env.{name} }}}}"
            number += 1

    def _tool(self, tool: Tool) -> str:
        """The key under which the plan holds a tool: its id, numbered if two differ."""
        default = ToolPlan(tool.id)
        made = ToolPlan(
            id=tool.id,
            type=tool.type or default.type,
            description=tool.description or "",
            execute=tool.execute or "",
            config=_plain(tool.config),
            with_=_plain(tool.with_),
            env=dict(tool.env),
            input_schema=self._schema(tool.input),
            output_schema=self._schema(tool.output),
            timeout=default.timeout if tool.timeout is None else tool.timeout,
        )
        self._keys[id(tool.node)] = _keep(self._tools, made)
        return self._keys[id(tool.node)]

    def _schema(self, given: Any) -> Json:
        return _plain(self._scope.schema(given))


def _keep(plans: dict[str, P], made: P) -> str:
    key, number = made.id, 2
    while key in plans and plans[key] != made:
        key, number = f"{made.id}#{number}", number + 1
    plans[key] = made
    return key


def _first(policies: Iterable[RetryPolicy], name: str) -> Any:
    for policy in policies:
        if name in policy.model_fields_set:
            value = getattr(policy, name)
            if value is not None:
                return value
    return None


def _transition(given: nouns.Transition | None, target: str | None) -> Transition:
    return Transition(next=target or "", with_=_plain(given.with_) if given else {})


def _plain(value: Any) -> Any:
    """Data without the nodes that `LocatedDict` carries along."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _position(span: Span) -> Position:
    return (span.file, span.line, span.column, span.end_line, span.end_column)
