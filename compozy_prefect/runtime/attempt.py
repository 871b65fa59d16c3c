"""One attempt of one step: the plan of the step and the state of the run → what the step gives.

This is the pipeline of language.md §3.1 between `sleep` and the choice of what comes next. It
knows nothing of Prefect: time-outs, retries, persistence and states are around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compozy_prefect.compiler.plan import Json, StepPlan
from compozy_prefect.errors import OutputInvalid
from compozy_prefect.runtime import templates
from compozy_prefect.runtime.budgets import Meter
from compozy_prefect.runtime.calls import Calls, Nowhere, Unwatched, Watch
from compozy_prefect.runtime.executors import Executors
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import SKIPPED, plain
from compozy_prefect.runtime.scope import Opened, Scope, check, valid
from compozy_prefect.runtime.tools import dispatch
from compozy_prefect.runtime.tools.effects import Effects


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


class Attempt:
    """One attempt. `given` is what the transition to the step lays over its `with`, rendered.

    `where` tells the step from others of its path, such as those of other items; `calls` and
    `watch` are for the calls that it makes. `input` becomes the rendered `with`, and `usage` what
    models took, as soon as there is one, so that a failure has them too.
    """

    def __init__(
        self,
        scope: Scope,
        step: StepPlan,
        given: Mapping[str, Json],
        where: str = "",
        calls: Calls | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.input: Json = None
        self.usage: Usage | None = None
        self._where = where or step.path
        budgets = scope.budgets_of(step, self._where)
        self._meter = Meter(step.id, budgets, self._spend)
        self._calls, self._watch = calls or Nowhere(), watch or Unwatched()
        self.effects = Effects(self._calls, scope.decide, scope.within.effects)
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
        given, action = opened.given, None
        executors = Executors(
            self._scope,
            step,
            opened,
            self._where,
            self._meter,
            self._calls,
            self._watch,
            self.effects,
        )
        if step.agent is not None:
            action, answer = await executors.ask(step.agent)
            raw: Any = answer.output
        elif step.tool is not None:
            raw = await executors.use(self._scope.workflow.tools[step.tool.tool])
        elif step.type == "aggregate":
            raw = {}
        else:
            # What a container lays below is no part of what the task says (design.md).
            raw = {key: value for key, value in given.items() if key not in self._under}
        output = self.close(opened, plain(raw), action=action)
        return Performed(given, output, self.usage)

    def _spend(self, usage: Usage) -> None:
        self.usage = usage if self.usage is None else self.usage + usage

    def open(self) -> Opened | None:
        """The rendered and checked `with`; None when the condition says to skip the task."""
        scope, step = self._scope, self._step
        environment = scope.environment(scope.context.env)
        seen = scope.context.for_step(step)
        if step.condition and not templates.holds(
            step.condition, seen, environment, scope.at(step, "condition"), scope.spans
        ):
            return None
        env, environment = scope.layer(step.env, seen, environment, scope.at(step, "env"))
        seen = scope.context.for_step(step, env=env)
        own = templates.render(step.with_, seen, environment, scope.at(step, "with"), scope.spans)
        own = dispatch.merged(own, dict(self._given))
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
