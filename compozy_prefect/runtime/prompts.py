"""A step that asks an agent → what the agent is asked, rendered (language.md §4.3, §4.5).

A prompt may call tools, `{{ .tools.<id>.<method>(…) }}`, and ask MCP servers, `{{ .mcps.<id>.… }}`:
it is rendered again with the results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from compozy_prefect.compiler.canonical import canonical
from compozy_prefect.compiler.plan import (
    ActionPlan,
    AgentCall,
    AgentPlan,
    AttachmentPlan,
    Json,
    ModelPlan,
    StepPlan,
    pointer,
)
from compozy_prefect.errors import MissingKey, RunError
from compozy_prefect.expressions import Environment
from compozy_prefect.runtime import agents, templates
from compozy_prefect.runtime.attachments import Attachments, Written
from compozy_prefect.runtime.context import Context
from compozy_prefect.runtime.llm.client import Candidate, ToolOffer
from compozy_prefect.runtime.llm.media import fetches
from compozy_prefect.runtime.memory.transcripts import transcripts
from compozy_prefect.runtime.outcome import plain
from compozy_prefect.runtime.redaction import variables
from compozy_prefect.runtime.scope import Opened, Scope, valid
from compozy_prefect.runtime.tools import dispatch

MOST_CALLS = 50  # of tools and servers in the prompts of one step
ONLY_PROMPT = "prompt"  # the id of the action of a task that has only a prompt


@dataclass(frozen=True, slots=True)
class MethodCall:
    """`.<root>.<id>.<method>(…)`, where `root` is `tools` or `mcps`."""

    root: str
    id: str
    method: str
    args: list[Json]

    @property
    def key(self) -> str:
        """Equal calls have the same."""
        said = canonical([self.root, self.id, self.method, self.args])
        return hashlib.sha256(said).hexdigest()[:16]


# The result of a call in the environment of the agent.
Method = Callable[[MethodCall, Mapping[str, str], Environment], Awaitable[Json]]


@dataclass(frozen=True, slots=True)
class Asked:
    """`env` and `environment` are those of the agent, in which its tools are called, too."""

    request: agents.AgentRequest
    env: Mapping[str, str]
    environment: Environment


async def asked(
    scope: Scope,
    step: StepPlan,
    call: AgentCall,
    opened: Opened,
    method: Method,
    words: str = "",
) -> Asked:
    """What the agent of a step is asked. Raises RunError when it cannot be rendered.

    `words` stand in the place of the call's own prompt, and are no template.
    """
    env, environment, given = opened.env, opened.environment, opened.given
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
    env, environment = scope.layer(agent.env, seen, environment, at + "/env", env)
    seen = scope.context.for_step(step, env=env, action=name, given=given)
    effective: Json = given
    for defaults, place in ((action.with_, at_action), (agent.with_, at)):
        under = templates.render(defaults, seen, environment, place + "/with", scope.spans)
        effective = dispatch.merged(under, effective)
    if action.input_schema is not None:
        what = f"the input of action `{name}` of agent `{agent.id}`"
        effective = valid(effective, action.input_schema, what)
    seen = scope.context.for_step(step, env=env, action=name, given=effective)
    said = await transcripts(
        agent.memory,
        scope.workflow.memories,
        scope.services.in_memory,
        str(seen["project"]["name"]),
        lambda index, use: templates.render_text(
            use.key, seen, environment, f"{at}/memory/{index}/key", scope.spans
        ),
    )
    seen = scope.context.for_prompt(step, env=env, action=name, given=effective, memory=said)
    rendering = _Rendering(scope, seen, env, environment, method)

    prompts = []
    if action.prompt:
        prompts.append(await rendering.prompt(action.prompt, at_action + "/prompt"))
    own = words
    if call.prompt:
        own = await rendering.prompt(call.prompt, scope.at(step, "agent", "prompt"))
    if own:
        prompts.append(f"Additional context:\n{own}" if prompts else own)
    key, others = None, list[Candidate]()
    is_real = scope.services.asks_a_provider(agent.id, name)
    attached = Attachments(
        scope.services.root,
        scope.workflow.attachments,
        scope.services.cassette,
        fetches([agent.model, *agent.model.fallbacks]),
        is_real,
        scope.context.runtime.permissions,
    )
    if is_real:
        key = rendering.key(agent.model, at + "/model")
        others = [
            rendering.candidate(other, f"{at}/model/fallbacks/{number}")
            for number, other in enumerate(agent.model.fallbacks)
        ]
    request = agents.AgentRequest(
        agent=agent.id,
        action=name,
        step=step.path,
        model=rendering.model(agent.model, at + "/model"),
        api_key=key,
        instructions=await rendering.prompt(agent.instructions, at + "/instructions"),
        prompt="\n\n".join(prompts),
        input=effective,
        schema=action.output_schema,
        json_mode=action.json_mode or agent.json_mode,
        tools=tuple(_offer(scope, tool) for tool in agent.tools),
        loop=agent.loop,
        others=tuple(others),
        content=await attached.parts(
            [
                *_written(step.attachments, scope.at(step)),
                *_written(agent.attachments, at),
                *_written(action.attachments, at_action),
            ],
            rendering.text,
        ),
    )
    return Asked(request, env, environment)


def _written(given: tuple[AttachmentPlan, ...], at: str) -> Iterator[Written]:
    for index, one in enumerate(given):
        yield Written(one, f"{at}/attachments/{index}")


def _offer(scope: Scope, key: str) -> ToolOffer:
    """A tool under its key in the plan, which no other tool of the workflow has."""
    tool = scope.workflow.tools[key]
    return ToolOffer(key, tool.description, tool.input_schema)


class _Rendering:
    """Texts of one agent. Equal calls of tools are made once."""

    def __init__(
        self,
        scope: Scope,
        seen: Context,
        env: Mapping[str, str],
        environment: Environment,
        method: Method,
    ) -> None:
        self._scope, self._seen, self._env = scope, seen, env
        self._environment, self._method = environment, method
        self._results: dict[str, Json] = {}

    def text(self, template: str, place: str) -> str:
        return templates.render_text(
            template, self._seen, self._environment, place, self._scope.spans
        )

    async def prompt(self, template: str, place: str) -> str:
        calling = replace(
            self._environment,
            tool=partial(_result, self._results, "tools"),
            server=partial(_result, self._results, "mcps"),
        )
        while True:
            try:
                return templates.render_text(
                    template, self._seen, calling, place, self._scope.spans
                )
            except _Needed as needed:
                if len(self._results) >= MOST_CALLS:
                    message = f"a prompt calls tools and servers more than {MOST_CALLS} times"
                    raise RunError(message, retryable=False) from None
                call = needed.call
                self._results[call.key] = await self._method(call, self._env, self._environment)

    def model(self, model: ModelPlan, at: str) -> ModelPlan:
        """The model without templates; of its key there is the variable that holds it."""
        variable = next(variables(model.api_key), None)
        return replace(
            model,
            api_key=f"{{{{ .env.{variable} }}}}" if variable else "",
            api_url=self.text(model.api_url, at + "/api_url"),
            organization=self.text(model.organization, at + "/organization"),
            fallbacks=(),
        )

    def candidate(self, model: ModelPlan, at: str) -> Candidate:
        """A model that may answer instead; one without a key is no reason to fail."""
        try:
            return Candidate(self.model(model, at), self.key(model, at))
        except MissingKey as fault:
            return Candidate(self.model(model, at), None, fault.message)

    def key(self, model: ModelPlan, at: str) -> str | None:
        """The provider's key, looked up for the call and kept nowhere. Raises MissingKey."""
        from compozy_prefect.runtime.llm.keys import resolve_key

        rendered = self.text(model.api_key, at + "/api_key")
        return resolve_key(model, rendered or None, self._environment.env)


class _Needed(Exception):
    """A prompt is being rendered and needs the result of a call that has not been made."""

    def __init__(self, call: MethodCall) -> None:
        super().__init__(call)
        self.call = call


def _result(
    results: Mapping[str, Json], root: str, id: str, method: str, args: list[object]
) -> Json:
    """What a call gave; equal calls of one attempt are made once."""
    call = MethodCall(root, id, method, plain(args))
    key = call.key
    if key not in results:
        raise _Needed(call)
    return results[key]


def _no_action(agent: AgentPlan, name: str) -> RunError:
    known = ", ".join(f"`{key}`" for key in agent.actions) or "none"
    return RunError(
        f"agent `{agent.id}` has no action `{name}`; its actions: {known}",
        code="ACTION_NOT_FOUND",
        details={"agent": agent.id, "action": name, "actions": list(agent.actions)},
        retryable=False,
    )
