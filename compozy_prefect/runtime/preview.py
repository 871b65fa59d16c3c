"""A step that asks an agent, and what came before it → what the model would be asked, unsent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from compozy_prefect.compiler.plan import AgentCall, Json, Plan, StepPlan, WorkflowPlan
from compozy_prefect.errors import UsageError
from compozy_prefect.expressions.template import parse
from compozy_prefect.language.names import suggest
from compozy_prefect.runtime.agents import AgentRequest
from compozy_prefect.runtime.attempt import Attempt
from compozy_prefect.runtime.budgets import Meter
from compozy_prefect.runtime.calls import Nowhere, Unwatched
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.executors import Executors
from compozy_prefect.runtime.inputs import check_input
from compozy_prefect.runtime.llm import engine, media, offers, structured
from compozy_prefect.runtime.llm.capabilities import PREFIXES, capabilities
from compozy_prefect.runtime.llm.prices import price_of
from compozy_prefect.runtime.outcome import SUCCESS, TaskState
from compozy_prefect.runtime.scope import Scope
from compozy_prefect.runtime.services import Services
from compozy_prefect.runtime.tools.effects import Effects

EXECUTION = "00000000-0000-0000-0000-000000000000"  # the id of a run that there is not


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be sent. `tokens` are those of the prompt, `usd` its price without an answer.

    Either is None where nobody knows. `skipped`: the condition of the task is false. `missing` are
    the ids of tasks whose outputs are read and were not given: they read as null.
    """

    step: str
    model: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    response_format: Json = None
    params: dict[str, Json] | None = None
    tokens: int | None = None
    usd: float | None = None
    skipped: bool = False
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        return {name: getattr(self, name) for name in self.__slots__}


def find(workflow: WorkflowPlan, name: str) -> StepPlan:
    """The step of that id or path that asks an agent. Raises UsageError."""
    asking = {path: step for path, step in workflow.all_steps.items() if step.agent is not None}
    found = [step for path, step in asking.items() if name in (path, step.id)]
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(step.path for step in found)
        raise UsageError(f"several tasks are called `{name}`: {paths}")
    if any(name in (path, step.id) for path, step in workflow.all_steps.items()):
        raise UsageError(f"the task `{name}` asks no agent")
    hint = suggest(name, asking, what="those that ask an agent") or "no task asks an agent"
    raise UsageError(f"workflow `{workflow.id}` has no task `{name}`; {hint}")


async def preview(
    plan: Plan,
    workflow: WorkflowPlan,
    step: StepPlan,
    input: Mapping[str, Json],
    services: Services,
    *,
    outputs: Mapping[str, Json],
    brought: Mapping[str, Json],
) -> Preview:
    """What the step would ask.

    `outputs` are those of tasks that come before it, by id, `brought` what a container around it
    brings, such as `item`. Nothing is sent; tools that the prompt calls are answered by the mocks
    of `services` only. Raises RunError when it cannot be rendered, and InputInvalid.
    """
    assert step.agent is not None
    context = RunContext(
        plan, workflow, EXECUTION, check_input(workflow, input), services.env, time.monotonic()
    )
    for id, output in outputs.items():
        context.record(TaskState(id, "basic", SUCCESS, output=output))
    if brought:
        context = context.inside({}, brought, services.env)
    scope = Scope(workflow, plan.spans, context, services)
    opened = Attempt(scope, step, {}).open()
    model = workflow.agents[step.agent.agent].model
    name = f"{model.provider}/{model.model}"
    if opened is None:
        return Preview(step.path, name, [], [], skipped=True)
    meter = Meter(step.id, (), lambda _: None)
    calls = Nowhere()
    executors = Executors(
        scope, step, opened, step.path, meter, calls, Unwatched(), Effects(calls, None)
    )
    request = (await executors.asked(step.agent)).request
    read = _tasks_read(workflow, step, step.agent)
    return replace(await _shown(step, name, request), missing=tuple(sorted(read - set(outputs))))


def _tasks_read(workflow: WorkflowPlan, step: StepPlan, call: AgentCall) -> set[str]:
    """The ids of the tasks whose outputs the templates of the question read."""
    agent = workflow.agents[call.agent]
    asked = [one for one in agent.actions.values() if call.action in (one.id, "")]
    written: list[Json] = [agent.instructions, call.prompt, step.with_]
    written += [part for one in asked for part in (one.prompt, one.with_)]
    known = {one.id for one in workflow.all_steps.values()}
    read = (one.segments for text in _texts(written) for one in parse(text).reads)
    return {str(path[1]) for path in read if len(path) > 1 and path[0] == "tasks"} & known


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


async def _shown(step: StepPlan, name: str, request: AgentRequest) -> Preview:
    question = request.question(request.messages())
    names = offers.Names.of(question)
    form = structured.form(question, await capabilities(request.model))
    messages = structured.instructed(offers.messages(question, names), form)
    tools = offers.options(question, names).get("tools", [])
    tokens = usd = None
    if request.model.provider in PREFIXES:
        litellm = await engine.litellm()
        # Of images it would fetch what has an address, and of other files it knows nothing.
        tokens = sum(media.tokens(part) for part in media.parts(messages))
        tokens += litellm.token_counter(
            model=request.model.model, messages=_words(messages), tools=tools or None
        )
        price = await price_of(request.model)
        usd = None if price is None else tokens * price.input
    return Preview(
        step.path,
        name,
        media.kept(messages),
        tools,
        form.response_format,
        dict(request.model.params),
        tokens,
        usd,
    )


def _words(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages without files."""
    out = []
    for message in messages:
        if media.parts([message]):
            said = [part for part in message["content"] if media.medium(part) is None]
            message = {**message, "content": said}
        out.append(message)
    return out
