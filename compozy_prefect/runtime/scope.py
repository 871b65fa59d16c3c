"""What the steps of one execution share, and what a step sees of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from compozy_prefect.compiler.plan import Json, StepPlan, WorkflowPlan, pointer
from compozy_prefect.errors import InputInvalid, RunError
from compozy_prefect.expressions import Environment
from compozy_prefect.runtime import builtins, schemas, templates
from compozy_prefect.runtime.budgets import Budget, Budgets
from compozy_prefect.runtime.context import Context, RunContext
from compozy_prefect.runtime.services import Services
from compozy_prefect.runtime.tools.effects import Decide

Permit = Callable[[], Awaitable[None]]


async def at_once() -> None:
    """The permit of an execution that no other process can take away."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What the steps of one execution share.

    `permit` is awaited before anything that has an effect: it returns while this process has the
    execution, and not after. `decide` asks a person about a call that may have happened.
    """

    workflow: WorkflowPlan
    spans: templates.Spans
    context: RunContext
    services: Services
    workflows: builtins.Workflows | None = None  # for tools that call workflows
    budgets: Budgets = field(default_factory=Budgets)
    permit: Permit = at_once
    decide: Decide | None = None

    def at(self, step: StepPlan, *keys: str | int) -> str:
        """The JSON pointer of a field of a step."""
        return pointer("workflows", self.workflow.id, *self.workflow.pointers[step.path], *keys)

    def budgets_of(self, step: StepPlan, where: str) -> tuple[Budget, ...]:
        """What the models of a step may take, at its place in the run."""
        return self.budgets.of(self.context.execution_id, self.workflow, step, where)

    def environment(self, env: Mapping[str, str]) -> Environment:
        """What template functions see; its clock stands still for one attempt (§11.6, `now`)."""
        return Environment(now=self.services.now(), env=env, validate_schema=self._by_id)

    def layer(
        self,
        own: Mapping[str, str],
        seen: Context,
        environment: Environment,
        at: str,
        under: Mapping[str, str] | None = None,
    ) -> tuple[Mapping[str, str], Environment]:
        """`own`, rendered, over the environment so far (language.md §1.4)."""
        env = self.context.env if under is None else under
        if own:
            env = dict(env) | {
                name: templates.render_text(
                    value, seen, environment, at + pointer(name), self.spans
                )
                for name, value in own.items()
            }
            environment = replace(environment, env=env)
        return env, environment

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
class Opened:
    """A step whose own fields are rendered: its environment, and its checked `with`."""

    env: Mapping[str, str]
    environment: Environment
    given: dict[str, Json]


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
