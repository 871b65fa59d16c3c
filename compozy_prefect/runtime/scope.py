"""What the steps of one execution share, and what a step sees of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from compozy_prefect.compiler.plan import Json, StepPlan, WorkflowPlan, pointer
from compozy_prefect.errors import InputInvalid, RunError
from compozy_prefect.expressions import Environment
from compozy_prefect.runtime import schemas, templates
from compozy_prefect.runtime.budgets import Budget, Budgets, Spend
from compozy_prefect.runtime.clocks import Clocks
from compozy_prefect.runtime.context import Context, RunContext
from compozy_prefect.runtime.outcome import Outcome, TaskState
from compozy_prefect.runtime.services import Services
from compozy_prefect.runtime.tools.effects import Decide, Effects

Permit = Callable[[], Awaitable[None]]


async def at_once() -> None:
    """The permit of an execution that no other process can take away."""


@dataclass(frozen=True, slots=True)
class Within:
    """What a tool has called stands inside of: so many calls, whose `budgets` it spends of too.

    Its `clocks` run with those of the step that calls it, and its `effects` are that step's, too.
    """

    depth: int = 0
    budgets: tuple[Budget, ...] = ()
    effects: Effects | None = None
    clocks: Clocks | None = None


class Ran(NamedTuple):
    execution_id: str
    outcome: Outcome


class Workflows(Protocol):
    """Runs another workflow of the plan as a part of this run.

    `key` names the call, also when it is made again: what the run of that key has done is not done
    again. `first` is the task to begin with, if not the first one. Raises InputInvalid when the
    input breaks the workflow's schema, and RunError when there is no such workflow or task. It
    stands `depth` calls deep.
    """

    async def __call__(
        self, workflow_id: str, input: Mapping[str, Json], *, key: str, depth: int, first: str = ""
    ) -> Ran: ...


class RanTask(NamedTuple):
    execution_id: str
    state: TaskState


class Tasks(Protocol):
    """Runs a task of the workflow once more, by itself: nothing follows it.

    `given` is laid over its `with`. `caller` is the place of the step that calls it, and `key`
    names the call there, also when it is made again: what was done under it is not done again.
    `spend` hears what models took of the task and of those in it, also when it is cancelled.
    Raises RunError when there is no such task, or it cannot be called.
    """

    async def __call__(
        self,
        task_id: str,
        given: Mapping[str, Json],
        *,
        caller: str,
        key: str,
        within: Within,
        spend: Spend,
    ) -> RanTask: ...


@dataclass(frozen=True, slots=True)
class Scope:
    """What the steps of one execution share.

    `permit` is awaited before anything that has an effect: it returns while this process has the
    execution, and not after. `decide` asks a person about a call that may have happened.
    `workflows` and `tasks` are for tools that call some, and `within` is where one was called.
    """

    workflow: WorkflowPlan
    spans: templates.Spans
    context: RunContext
    services: Services
    workflows: Workflows | None = None
    tasks: Tasks | None = None
    budgets: Budgets = field(default_factory=Budgets)
    permit: Permit = at_once
    decide: Decide | None = None
    within: Within = Within()

    def at(self, step: StepPlan, *keys: str | int) -> str:
        """The JSON pointer of a field of a step."""
        return pointer("workflows", self.workflow.id, *self.workflow.pointers[step.path], *keys)

    def budgets_of(self, step: StepPlan, where: str) -> tuple[Budget, ...]:
        """What the models of a step may take, at its place in the run."""
        own = self.budgets.of(self.context.execution_id, self.workflow, step, where)
        above = self.within.budgets
        return (*own, *(one for one in above if not any(one is known for known in own)))

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
