"""One attempt of one step: the plan of the step and the state of the run → what the step gives.

This is the pipeline of language.md §3.1 between `sleep` and the choice of what comes next. It
knows nothing of Prefect: time-outs, retries, persistence and states are around it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from compozy_prefect.compiler.plan import (
    ActionPlan,
    AgentCall,
    AgentPlan,
    Json,
    ModelPlan,
    StepPlan,
    ToolPlan,
    WorkflowPlan,
    pointer,
)
from compozy_prefect.errors import InputInvalid, OutputInvalid, RunError
from compozy_prefect.expressions import Environment
from compozy_prefect.runtime import agents, schemas, templates, tools
from compozy_prefect.runtime.context import Context, RunContext
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import plain
from compozy_prefect.runtime.services import Services

SKIPPED: dict[str, Json] = {"skipped": True}  # the output of a task whose condition is false
MOST_CALLS = 50  # of tools in the prompts of one step
ONLY_PROMPT = "prompt"  # the id of the action of a task that has only a prompt


@dataclass(frozen=True, slots=True)
class Scope:
    """What the steps of one execution share."""

    workflow: WorkflowPlan
    spans: templates.Spans
    context: RunContext
    services: Services

    def at(self, step: StepPlan, *keys: str | int) -> str:
        """The JSON pointer of a field of a step."""
        return pointer("workflows", self.workflow.id, *self.workflow.pointers[step.path], *keys)

    def environment(self, env: Mapping[str, str]) -> Environment:
        """What template functions see; its clock stands still for one attempt (§11.6, `now`)."""
        return Environment(now=self.services.now(), env=env, validate_schema=self._by_id)

    def _by_id(self, value: Any, schema_id: str) -> Json:
        """`validateSchema`: under the schema of no list, a list is checked item by item (§9)."""
        schema = self.workflow.schemas.get(schema_id)
        if schema is None:
            known = ", ".join(sorted(self.workflow.schemas)) or "none"
            raise InputInvalid(f"validateSchema: no schema `{schema_id}`; there are: {known}")
        kind = schema.get("type") if isinstance(schema, dict) else None
        what = f"validateSchema('{schema_id}'): the value"
        if isinstance(value, list) and kind != "array":
            return [valid(item, schema, f"{what}, item {i},") for i, item in enumerate(value)]
        return valid(value, schema, what)


@dataclass(frozen=True, slots=True)
class Performed:
    """What a successful attempt gives, and what Prefect persists of it."""

    input: Json
    output: Json
    usage: Usage | None = None

    def to_json(self) -> dict[str, Json]:
        out = {"input": self.input, "output": self.output}
        if self.usage is not None:
            out["usage"] = self.usage.kept()
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Performed:
        usage = Usage.from_json(data["usage"]) if "usage" in data else None
        return cls(data["input"], data["output"], usage)


@dataclass(frozen=True, slots=True)
class Opened:
    """A step whose own fields are rendered: its environment, and its checked `with`."""

    env: Mapping[str, str]
    environment: Environment
    given: dict[str, Json]


class Attempt:
    """One attempt. `given` is what the transition to the step lays over its `with`, rendered.

    `where` tells the step from others of its path, such as those of other items.

    `input` becomes the rendered `with` as soon as there is one, so that a failure has it too.
    """

    def __init__(
        self, scope: Scope, step: StepPlan, given: Mapping[str, Json], where: str = ""
    ) -> None:
        self.input: Json = None
        self._key_of_call = f"{scope.context.execution_id}/{where or step.path}"
        self._scope = scope
        self._step = step
        self._given = given
        self._under: dict[str, Json] = {}

    async def run(self) -> Performed:
        """Raises RunError, and whatever an executor did not foresee."""
        step = self._step
        opened = self.open()
        if opened is None:
            return Performed(None, SKIPPED)
        env, environment, given = opened.env, opened.environment, opened.given
        action = usage = None
        if step.agent is not None:
            action, answer = await self._ask(step.agent, env, environment, given)
            raw, usage = answer.output, answer.usage
        elif step.tool is not None:
            tool = self._scope.workflow.tools[step.tool.tool]
            raw = await self._use(tool, env, environment, given)
        elif step.type == "aggregate":
            raw = {}
        else:
            # What a container lays below is no part of what the task says (design.md).
            raw = {key: value for key, value in given.items() if key not in self._under}
        output = self.close(opened, plain(raw), action=action)
        return Performed(given, output, usage)

    def open(self) -> Opened | None:
        """The rendered and checked `with`; None when the condition says to skip the task."""
        scope, step = self._scope, self._step
        environment = scope.environment(scope.context.env)
        seen = scope.context.for_step(step)
        if step.condition and not templates.holds(
            step.condition, seen, environment, scope.at(step, "condition"), scope.spans
        ):
            return None
        env, environment = self._layer(step.env, seen, environment, scope.at(step, "env"))
        seen = scope.context.for_step(step, env=env)
        own = templates.render(step.with_, seen, environment, scope.at(step, "with"), scope.spans)
        own = tools.merged(own, dict(self._given))
        self._under = {k: v for k, v in scope.context.under.items() if k not in own}
        self.input = given = {**self._under, **own}
        if step.input_schema is not None:
            what = f"the `with` of task `{step.id}`"
            self.input = given = valid(given, step.input_schema, what)
        return Opened(env, environment, given)

    def close(
        self,
        opened: Opened,
        raw: Any,
        *,
        action: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Json:
        """The output: `raw`, or what `outputs` make of it; `more` is what these see besides.

        The schema is that of the raw output; an aggregate is what its `outputs` give (§3.7).
        """
        scope, step = self._scope, self._step
        what = f"the output of task `{step.id}`"
        if step.output_schema is not None and step.type != "aggregate":
            check(plain(raw), step.output_schema, what, OutputInvalid)
        if step.outputs is None or raw is None:
            return raw
        seen = scope.context.for_outputs(
            step, raw, env=opened.env, action=action, given=opened.given
        )
        seen |= more or {}
        at = scope.at(step, "outputs")
        output = templates.render(step.outputs, seen, opened.environment, at, scope.spans)
        if step.output_schema is not None and step.type == "aggregate":
            check(output, step.output_schema, what, OutputInvalid)
        return output

    async def _ask(
        self, call: AgentCall, env: Mapping[str, str], environment: Environment, given: Json
    ) -> tuple[str, agents.AgentAnswer]:
        """The id of an agent's action and its answer (language.md §4.3, §4.5)."""
        scope, step = self._scope, self._step
        agent = scope.workflow.agents[call.agent]
        at = pointer("workflows", scope.workflow.id, "agents", call.agent)
        seen = scope.context.for_step(step, env=env, given=given)
        place = scope.at(step, "agent", "action")
        name = templates.render_text(call.action, seen, environment, place, scope.spans).strip()
        if call.action and name not in agent.actions:
            raise _no_action(agent, name)
        # Without an action the task's own prompt is one (§3.2).
        name = name or ONLY_PROMPT
        action = agent.actions[name] if call.action else ActionPlan(name)
        at_action = at + pointer("actions", name)
        env, environment = self._layer(agent.env, seen, environment, at + "/env", env)
        seen = scope.context.for_step(step, env=env, action=name, given=given)
        effective = given
        for defaults, place in ((action.with_, at_action), (agent.with_, at)):
            under = templates.render(defaults, seen, environment, place + "/with", scope.spans)
            effective = tools.merged(under, effective)
        if action.input_schema is not None:
            what = f"the input of action `{name}` of agent `{agent.id}`"
            effective = valid(effective, action.input_schema, what)
        seen = scope.context.for_prompt(step, agent, env=env, action=name, given=effective)

        results: dict[str, Json] = {}

        def text(template: str, place: str) -> str:
            return templates.render_text(template, seen, environment, place, scope.spans)

        async def prompt(template: str, place: str) -> str:
            calling = replace(environment, tool=partial(_result, results))
            while True:
                try:
                    return templates.render_text(template, seen, calling, place, scope.spans)
                except _ToolNeeded as needed:
                    if len(results) >= MOST_CALLS:
                        raise RunError(
                            f"a prompt calls tools more than {MOST_CALLS} times", retryable=False
                        ) from None
                    results[needed.key] = await self._method(needed, env, environment, given)

        prompts = [await prompt(action.prompt, at_action + "/prompt")] if action.prompt else []
        if call.prompt:
            own = await prompt(call.prompt, scope.at(step, "agent", "prompt"))
            prompts.append(f"Additional context:\n{own}" if prompts else own)
        key = None
        if scope.services.asks_a_provider(agent.id, name):
            key = self._key(agent.model, seen, environment, at)
        request = agents.AgentRequest(
            agent=agent.id,
            action=name,
            step=step.path,
            model=replace(
                agent.model,
                api_key="",
                api_url=text(agent.model.api_url, at + "/model/api_url"),
                organization=text(agent.model.organization, at + "/model/organization"),
            ),
            api_key=key,
            instructions=await prompt(agent.instructions, at + "/instructions"),
            prompt="\n\n".join(prompts),
            input=effective,
            schema=action.output_schema,
            json_mode=action.json_mode or agent.json_mode,
        )
        return name, await agents.answer(request, scope.services.client)

    def _key(
        self, model: ModelPlan, seen: Context, environment: Environment, at: str
    ) -> str | None:
        """The provider's key, looked up for the call and kept nowhere. Raises MissingKey."""
        from compozy_prefect.runtime.llm.keys import resolve_key

        rendered = templates.render_text(
            model.api_key, seen, environment, at + "/model/api_key", self._scope.spans
        )
        return resolve_key(model, rendered or None, environment.env)

    async def _method(
        self, call: _ToolNeeded, env: Mapping[str, str], environment: Environment, given: Json
    ) -> Json:
        """The result of `.tools.<id>.<method>(…)` (language.md §6.2)."""
        tool = self._scope.workflow.tools.get(call.tool)
        if tool is None:
            known = ", ".join(sorted(self._scope.workflow.tools)) or "none"
            message = f"there is no tool `{call.tool}`; there are: {known}"
            raise RunError(message, code="TOOL_NOT_FOUND", retryable=False)
        tool, input = tools.method_call(tool, call.method, call.given)
        result = await self._use(tool, env, environment, given, input)
        return result.get("data") if tool.type == "http" and isinstance(result, dict) else result

    async def _use(
        self,
        tool: ToolPlan,
        env: Mapping[str, str],
        environment: Environment,
        given: Json,
        input: dict[str, Json] | None = None,
    ) -> Json:
        """A tool's result; the tool checks its own schemas (language.md §6.1).

        `input` is what it is called with, if not with the `with` of the step.
        """
        scope, step = self._scope, self._step
        at = pointer("workflows", scope.workflow.id, "tools", tool.id)
        seen = scope.context.for_step(step, env=env, given=given)
        env, environment = self._layer(tool.env, seen, environment, at + "/env", env)
        seen["env"] = env
        defaults = templates.render(tool.with_, seen, environment, at + "/with", scope.spans)

        def config() -> dict[str, Any]:
            place = at + "/config"
            return dict(templates.render(tool.config, seen, environment, place, scope.spans))

        return await tools.call(
            replace(tool, with_=defaults, env=dict(env)),
            given if input is None else input,
            config=config,
            key=self._key_of_call,
            mocks=scope.services.mocks,
            offline=scope.services.offline,
        )

    def _layer(
        self,
        own: Mapping[str, str],
        seen: Context,
        environment: Environment,
        at: str,
        under: Mapping[str, str] | None = None,
    ) -> tuple[Mapping[str, str], Environment]:
        """`own`, rendered, over the environment so far (language.md §1.4)."""
        env = self._scope.context.env if under is None else under
        if own:
            env = dict(env) | {
                name: templates.render_text(
                    value, seen, environment, at + pointer(name), self._scope.spans
                )
                for name, value in own.items()
            }
            environment = replace(environment, env=env)
        return env, environment


class _ToolNeeded(Exception):
    """A prompt is being rendered and needs the result of a call that has not been made."""

    def __init__(self, key: str, tool: str, method: str, args: list[Json]) -> None:
        super().__init__(tool, method)
        self.key, self.tool, self.method, self.given = key, tool, method, args


def _result(results: Mapping[str, Json], tool: str, method: str, args: list[object]) -> Json:
    """What a call gave; equal calls of one attempt are made once."""
    given = plain(args)
    key = json.dumps([tool, method, given], sort_keys=True)
    if key not in results:
        raise _ToolNeeded(key, tool, method, given)
    return results[key]


def valid(value: Json, schema: Json, what: str) -> Any:
    """`value` with the schema's shallow defaults. Raises InputInvalid."""
    value = schemas.with_defaults(value, schema)
    check(value, schema, what, InputInvalid)
    return value


def check(value: Json, schema: Json, what: str, error: type[RunError]) -> None:
    """Raises `error` with what breaks the schema."""
    broken = schemas.violations(value, schema)
    if broken:
        raise error(
            f"{what} breaks its schema: {'; '.join(broken)}", details={"violations": broken}
        )


def _no_action(agent: AgentPlan, name: str) -> RunError:
    known = ", ".join(f"`{key}`" for key in agent.actions) or "none"
    return RunError(
        f"agent `{agent.id}` has no action `{name}`; its actions: {known}",
        code="ACTION_NOT_FOUND",
        details={"agent": agent.id, "action": name, "actions": list(agent.actions)},
        retryable=False,
    )
