"""A checked project → its plan.

References are followed, defaults are applied and the edges are written out, so that nothing
behind the plan has to know how the YAML said it. A key that stands in a file does not enter the
plan: it is replaced by an environment variable, and returned beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from compozy_prefect.compiler.builtins import BUILTINS, CATALOGUE, family_of, name_of
from compozy_prefect.compiler.checks.nouns import place
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.definitions import (
    attachment_limits,
    attachment_plans,
    mcp_plan,
    memory_plan,
    plain,
    router_plan,
    runner_plan,
    runtime_plan,
    schedule_plan,
    values,
    written,
)
from compozy_prefect.compiler.models import budget_plan, given_or, loop_plan, model_plan
from compozy_prefect.compiler.natives import NATIVES
from compozy_prefect.compiler.needs import waits_of
from compozy_prefect.compiler.places import (
    asked_servers,
    called_tools,
    of_server,
    of_tool,
    places,
    servers_used,
)
from compozy_prefect.compiler.plan import (
    ActionPlan,
    AgentCall,
    AgentPlan,
    CollectionPlan,
    FanPlan,
    Json,
    McpPlan,
    MemoryCall,
    MemoryPlan,
    MemoryUse,
    ModelPlan,
    Plan,
    Position,
    ProjectPlan,
    RetryPlan,
    SignalPlan,
    StepPlan,
    ToolCall,
    ToolPlan,
    Transition,
    TriggerPlan,
    WaitPlan,
    WorkflowPlan,
    pointer,
)
from compozy_prefect.compiler.scope import Scope, mcp_id, memory_references
from compozy_prefect.compiler.tree import Step
from compozy_prefect.diagnostics import Span
from compozy_prefect.errors import UsageError
from compozy_prefect.language.models import task as nouns
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import Selector
from compozy_prefect.language.models.mcp import McpReference
from compozy_prefect.language.models.memory import MemoryReferences
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.task import (
    BasicTask,
    CollectionTask,
    CompositeTask,
    ExecutionOptions,
    MemoryTask,
    ParallelTask,
    RetryPolicy,
    RouterTask,
    SignalTask,
    Task,
    WaitTask,
)
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.models.trigger import Trigger
from compozy_prefect.language.names import suggest
from compozy_prefect.language.nodes import Scalar

P = TypeVar("P", AgentPlan, McpPlan, MemoryPlan, ToolPlan)

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
        project=ProjectPlan(
            name,
            loaded.project.version,
            loaded.project.description.strip(),
            runtime_plan(loaded.project.runtime, loaded.config),
            budget=budget_plan(loaded.project.config.budget if loaded.project.config else None),
            knowledge=written(loaded.project, "knowledge"),
            runner=runner_plan(loaded.config),
        ),
        workflows=workflows,
        spans=spans,
    )
    return Lowered(plan, secrets)


def tool_plan(
    project: Project, plan: Plan, id: str, workflow_id: str | None = None
) -> tuple[Plan, str, ToolPlan]:
    """A tool, used or not, with the plan that has its places and the workflow that it is in.

    Raises UsageError, which lists the tools, when there is no such one.
    """
    known: dict[str, None] = {}
    for checked in project.workflows:
        key = checked.scope.workflow.key
        if workflow_id not in (None, key):
            continue
        if id in NATIVES:
            return plan, key, NATIVES[id]
        if id in CATALOGUE:
            return _Workflow(checked, project, {}).listing(plan), key, CATALOGUE[id]
        known |= dict.fromkeys(checked.scope.tools)
        if id in checked.scope.tools:
            one = _Workflow(checked, project, {})
            return one.tool(plan, id)
    hint = suggest(id, [*known, *NATIVES, *CATALOGUE], what="there are", limit=20)
    if family := family_of(id):
        hint = f"`compozy run` runs {family.noun}s"
    raise UsageError(f"there is no tool `{id}` to call; {hint}")


def _code(tool: Tool, at: str) -> dict[str, Position]:
    """Where a tool stands, and its code or its program."""
    found = {at: _position(tool.node.at("id").span)}
    code = tool.node.get("execute")
    if isinstance(code, Scalar):
        found[at + "/execute"] = _position(code.span_of(0, 1))
    name = {"cli": "command", "python": "function"}.get(tool.type or "")
    if name is not None:
        found[at + pointer("config", name)] = _position(tool.node.at("config", name).span)
    return found


class _Workflow:
    def __init__(self, checked: Checked, project: Project, secrets: dict[str, str]) -> None:
        self._scope: Scope = checked.scope
        self._tree = checked.tree
        self._config = project.loaded.config
        self._lock = project.lock.lock
        self._secrets = secrets
        own = checked.scope.workflow.config
        given = project.loaded.project.config if project.loaded.project else None
        self._options: list[ExecutionOptions] = [o for o in (own, given) if o is not None]
        self._agents: dict[str, AgentPlan] = {}
        self._tools: dict[str, ToolPlan] = {}
        self._mcps: dict[str, McpPlan] = {}
        self._memories: dict[str, MemoryPlan] = {}
        self._waits = waits_of(checked.scope)
        self._keys: dict[int, str] = {}  # of agents and tools, by the node they are written in

    def plan(self) -> WorkflowPlan:
        workflow = self._scope.workflow
        # First, since templates ask them by their ids: of two with one id the other gets a number.
        self._servers(asked_servers(self._scope))
        steps = tuple(self._step(step) for step in self._tree.steps)
        callable = {id: self._agent(one) for id, one in self._scope.callable_agents.items()}
        for name in called_tools(self._scope):
            self._tool_key(name)
        project = self._scope.loaded.project
        env = dict(project.config.env) if project and project.config else {}
        env |= workflow.config.env if workflow.config else {}
        return WorkflowPlan(
            id=workflow.key,
            name=workflow.name or workflow.key,
            version=workflow.version,
            description=workflow.description.strip(),
            input_schema=self._schema(workflow.config.input if workflow.config else None),
            schemas={name: plain(schema) for name, schema in self._scope.schemas.items()},
            env=env,
            agents=dict(sorted(self._agents.items())),
            callable_agents=dict(sorted(callable.items())),
            tools=dict(sorted(self._tools.items())),
            mcps=dict(sorted(self._mcps.items())),
            memories=dict(sorted(self._memories.items())),
            triggers=tuple(t for trigger in workflow.triggers for t in self._triggers(trigger)),
            schedule=schedule_plan(workflow.schedule),
            knowledge=written(workflow, "knowledge"),
            recover_on_error=self._recovers(),
            budget=budget_plan(workflow.config.budget if workflow.config else None),
            attachments=attachment_limits(self._config),
            start=self._tree.sequence.start,
            steps=steps,
            outputs=plain(workflow.outputs),
        )

    def spans(self) -> dict[str, Position]:
        """Where the templates of the plan stand, and its steps."""
        key = self._scope.workflow.key
        out: dict[str, Position] = {}
        for step in self._tree.all:
            out[pointer("workflows", key, *step.pointer)] = _position(step.task.node.at("id").span)
        tools = (place for tool in self._scope.tools_used for place in of_tool(tool))
        used = servers_used(self._scope)
        servers = (place for mcp in used for place in of_server(mcp))
        for one in (*places(self._scope), *tools, *servers):
            at = one.pointer
            if one.owner is not None:
                if id(one.owner) not in self._keys:
                    continue  # nothing uses it, and the plan does not hold it
                at = (at[0], self._keys[id(one.owner)], *at[2:])
            if at and ("{{" in str(one.node.value) or one.condition):
                out[pointer("workflows", key, *at)] = _position(one.node.span)
        for tool in self._scope.tools_used:
            if id(tool.node) in self._keys:
                out |= _code(tool, pointer("workflows", key, "tools", self._keys[id(tool.node)]))
        for mcp in used:
            if id(mcp.node) in self._keys:
                where = pointer("workflows", key, "mcps", self._keys[id(mcp.node)])
                out[where] = _position(place(mcp, "id", "url", "command"))
        return out

    def tool(self, plan: Plan, id: str) -> tuple[Plan, str, ToolPlan]:
        """A tool in sight, and the plan with its places."""
        made = self._tools[self._tool_key(id)]
        spans = {**plan.spans, **self.spans()}
        return replace(plan, spans=spans), self._scope.workflow.key, made

    def listing(self, plan: Plan) -> Plan:
        """The plan with the agents that may be called, also where nothing calls any."""
        scope, key = self._scope, self._scope.workflow.key
        agents = [one for one in scope.agents_used if scope.agents.get(one.id) is one]
        callable = {one.id: self._agent(one) for one in agents}
        workflow = replace(
            plan.workflows[key],
            agents=self._agents,
            tools=self._tools,
            callable_agents=dict(sorted(callable.items())),
        )
        return replace(plan, workflows={**plan.workflows, key: workflow})

    def _recovers(self) -> bool:
        given = (options.recover_on_error for options in self._options)
        return next((value for value in given if value is not None), False)

    def _step(self, step: Step) -> StepPlan:
        task = step.task
        order = self._tree.around(step)
        after = order.success.get(step.id) if order else None
        handler = order.failure.get(step.id) if order else None
        plan = StepPlan(
            id=step.id,
            path=step.path,
            type=task.type,
            with_=plain(task.with_),
            env=dict(task.env),
            outputs=plain(task.outputs),
            input_schema=self._schema(task.input),
            output_schema=self._schema(task.output),
            condition=task.condition or "",
            retry=self._retry(task),
            timeout=self._timeout(task),
            sleep=task.sleep or 0.0,
            on_success=_transition(None if step.parent else task.on_success, after),
            on_error=_transition(None if step.parent else task.on_failure, handler),
            role="" if step.role == "line" else step.role,
            final=task.final and step.role == "route",
            needs=tuple(sorted(one.id for one in self._waits.get(step, ()))),
            steps=tuple(self._step(one) for one in step.steps),
            budget=budget_plan(task.budget or (task.config.budget if task.config else None)),
            attachments=attachment_plans(task.attachments),
            knowledge=written(task, "knowledge"),
        )
        match task:
            case BasicTask():
                return self._basic(plan, task)
            case ParallelTask():
                return replace(plan, fan=FanPlan(task.strategy, task.max_workers))
            case CollectionTask():
                limits = [limit for limit in (task.max_workers, task.batch) if limit]
                collection = CollectionPlan(
                    items=plain(task.items),
                    filter=task.filter or "",
                    item_var=task.item_var,
                    index_var=task.index_var,
                    sequential=task.mode == "sequential",
                    single=task.task is not None,
                )
                fan = FanPlan(task.strategy, min(limits, default=0))
                return replace(plan, fan=fan, collection=collection)
            case CompositeTask():
                start = step.sequence.start if step.sequence else ""
                return replace(plan, fan=FanPlan(task.strategy), start=start)
            case RouterTask():
                return replace(plan, condition="", router=router_plan(task))
            case WaitTask():
                wait = WaitPlan(
                    signal=task.wait_for,
                    condition=task.condition or "",
                    timeout=task.timeout or 0.0,
                    on_timeout=task.on_timeout or "",
                )
                return replace(plan, condition="", timeout=0.0, wait=wait)
            case SignalTask():
                signal = SignalPlan(task.signal.id, plain(task.signal.payload))
                return replace(plan, signal=signal)
            case MemoryTask():
                return replace(plan, memory=self._memory_call(task))
        return plan

    def _basic(self, plan: StepPlan, task: BasicTask) -> StepPlan:
        agent, tool = self._scope.agent_of(task), self._scope.tool_of(task)
        if agent is not None:
            call = AgentCall(self._agent(agent), task.action or "", task.prompt or "")
            return replace(plan, agent=call)
        if tool is not None or name_of(task.tool) in BUILTINS:
            return replace(plan, tool=ToolCall(self._tool_key(task.tool)))
        if task.prompt:
            return replace(plan, agent=AgentCall(self._prompted(task), "", task.prompt))
        return plan

    def _prompted(self, task: BasicTask) -> str:
        """The agent of a task that only has a prompt (§3.2)."""
        model = task.model_config or self._scope.default_model
        assert model is not None
        made = AgentPlan(
            id=task.id,
            model=self._model(model),
            instructions="",
            tools=tuple(self._tool_key(tool) for tool in task.tools),
            mcps=self._servers(task.mcps),
            memory=self._uses(task.memory),
            loop=loop_plan(self._config, model, task.max_iterations),
        )
        return _keep(self._agents, made)

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
        if task.timeout is not None and not isinstance(task.timeout, str):
            return task.timeout
        if not isinstance(task, BasicTask):
            return 0.0
        given = self._option(task, "start_to_close_timeout")
        return ATTEMPT_TIMEOUT if given is None else float(given)

    def _retry(self, task: Task) -> RetryPlan:
        policies = [task.retry_policy, task.config.retry_policy if task.config else None]
        if isinstance(task, BasicTask):
            policies += [options.retry_policy for options in self._options]
        given = [policy for policy in policies if policy is not None]
        default = RetryPlan()
        attempts = _first(given, "maximum_attempts") or default.attempts
        retries = task.retries
        if not given and not isinstance(task, BasicTask):
            attempts = 1  # what is in a container has attempts of its own
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
            given=bool(given) or retries is not None,
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
                    with_=plain(action.with_),
                    input_schema=self._schema(action.input),
                    output_schema=self._schema(action.output),
                    json_mode=action.json_mode,
                    attachments=attachment_plans(action.attachments),
                )
                for action in agent.actions
            },
            with_=plain(agent.with_),
            env=dict(agent.env),
            json_mode=agent.json_mode,
            tools=tuple(self._tool_key(tool) for tool in agent.tools),
            mcps=self._servers(agent.mcps),
            memory=self._uses(agent.memory),
            loop=loop_plan(self._config, model, agent.max_iterations),
            budget=budget_plan(agent.budget),
            attachments=attachment_plans(agent.attachments),
            knowledge=written(agent, "knowledge"),
        )

    def _model(self, model: Model) -> ModelPlan:
        return model_plan(self._config, model, self._secrets, self._scope.model_named)

    def _tool_key(self, given: str | Selector | Tool | None) -> str:
        """The key under which the plan holds a tool: its id, numbered if two differ."""
        tool = self._scope.tool(given)
        if tool is None:
            return _keep(self._tools, BUILTINS[name_of(given)])
        default = ToolPlan(tool.id)
        made = ToolPlan(
            id=tool.id,
            type=tool.type or default.type,
            description=tool.description or "",
            execute=tool.execute or "",
            config=plain(tool.config),
            with_=plain(tool.with_),
            env=dict(tool.env),
            input_schema=self._schema(tool.input),
            output_schema=self._schema(tool.output),
            timeout=given_or(tool.timeout, self._config["runtime.tool_execution_timeout"]),
            effect=tool.effect or "",
        )
        self._keys[id(tool.node)] = _keep(self._tools, made)
        return self._keys[id(tool.node)]

    def _servers(self, given: Iterable[McpReference]) -> tuple[str, ...]:
        allowed, keys = self._config["llm.allowed_mcp_names"], list[str]()
        for mcp in (self._scope.mcp(one) for one in given):
            if mcp is None or (allowed and mcp_id(mcp) not in allowed):
                continue
            made = self._lock.locked(self._scope.workflow.key, mcp_plan(mcp, self._config))
            self._keys[id(mcp.node)] = _keep(self._mcps, made)
            keys.append(self._keys[id(mcp.node)])
        return tuple(dict.fromkeys(keys))

    def _uses(self, given: MemoryReferences | None) -> tuple[MemoryUse, ...]:
        out = []
        for one in memory_references(given):
            privacy = one.privacy
            ttl = (privacy.retention_policy or 0.0) if privacy else 0.0
            memory = self._memory(one.id, ttl)
            out.append(
                MemoryUse(
                    memory=memory,
                    key=one.key or self._memories[memory].key,
                    read_only=one.mode == "read-only",
                    redact=privacy.enabled if privacy else False,
                    ttl=ttl,
                )
            )
        return tuple(out)

    def _memory(self, name: str, ttl: float = 0.0) -> str:
        """The key of a memory in the plan; one that nobody declared is implied (§7.4)."""
        declared = self._scope.memories.get(name)
        if declared is not None:
            return _keep(self._memories, memory_plan(declared, self._config))
        ttl = ttl or self._config["memory.ttl"]
        return _keep(self._memories, MemoryPlan(name, max_tokens=2000, max_messages=100, ttl=ttl))

    def _memory_call(self, task: MemoryTask) -> MemoryCall:
        options = {"max_keys": task.max_keys, "batch_size": task.batch_size}
        given = {name: value for name, value in options.items() if value is not None}
        for part in (task.flush_config, task.health_config, task.stats_config, task.clear_config):
            given |= values(part)
        return MemoryCall(
            operation=task.operation,
            memory=self._memory(task.memory_ref),
            key=task.key_template,
            payload=plain(task.payload),
            options=given,
        )

    def _triggers(self, trigger: Trigger) -> Iterator[TriggerPlan]:
        if trigger.webhook is None:
            yield TriggerPlan(trigger.name or "", self._schema(trigger.schema))
            return
        hook = plain(trigger.webhook.node.data())
        for event in hook["events"]:
            event["schema"] = self._schema(event.get("schema"))
        yield TriggerPlan(trigger.webhook.slug, webhook=hook)

    def _schema(self, given: Any) -> Json:
        return plain(self._scope.schema(given))


def _keep(plans: dict[str, P], made: P) -> str:
    key, number = made.id, 2
    while key in plans and plans[key] != made:
        key, number = f"{made.id}#{number}", number + 1
    plans[key] = made
    return key


def _first(policies: Iterable[RetryPolicy], name: str) -> Any:
    for policy in policies:
        if name in policy.given:
            value = getattr(policy, name)
            if value is not None:
                return value
    return None


def _transition(given: nouns.Transition | None, target: str | None) -> Transition:
    return Transition(next=target or "", with_=plain(given.with_) if given else {})


def _position(span: Span) -> Position:
    return (span.file, span.line, span.column, span.end_line, span.end_column)
