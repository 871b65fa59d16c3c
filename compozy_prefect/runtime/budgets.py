"""What models may take of a run, of a workflow, an agent and a task, and what they have taken.

A call is refused when a limit is reached, so that what is spent too much is at most what was being
asked at that moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from compozy_prefect.compiler.plan import AgentPlan, BudgetPlan, StepPlan, WorkflowPlan
from compozy_prefect.errors import BudgetExceeded
from compozy_prefect.runtime.llm.client import Usage

_TOLD = 5  # spenders in a message

Spend = Callable[[Usage], None]  # hears what calls of models have taken


@dataclass
class Budget:
    """One limit, of `what`. `by` is what each step has spent."""

    what: str
    limit: BudgetPlan
    clock: Callable[[], float]
    spent: Usage = field(default_factory=Usage)
    by: dict[str, Usage] = field(default_factory=dict)
    _since: float | None = None

    def allow(self) -> None:
        """Raises BudgetExceeded when nothing is left. The time runs from the first call."""
        now = self.clock()
        if self._since is None:
            self._since = now
        limit, spent = self.limit, self.spent
        tokens = spent.prompt_tokens + spent.completion_tokens
        if limit.calls and spent.calls >= limit.calls:
            raise self._reached(f"{limit.calls} calls of models")
        if limit.tokens and tokens >= limit.tokens:
            raise self._reached(f"{limit.tokens:,} tokens")
        if limit.seconds and now - self._since >= limit.seconds:
            raise self._reached(f"{limit.seconds:g} s")
        if limit.usd:
            if spent.cost_usd is None:
                raise self._reached(
                    f"{limit.usd:g} USD",
                    "; the price of a model is unknown, so that nobody can say what is left: "
                    "give it under `price` of the model",
                )
            if spent.cost_usd >= limit.usd:
                raise self._reached(f"{limit.usd:g} USD")

    def add(self, usage: Usage, step: str) -> None:
        self.spent += usage
        self.by[step] = self.by.get(step, Usage()) + usage

    def _reached(self, limit: str, more: str = "") -> BudgetExceeded:
        most = sorted(self.by.items(), key=lambda one: -one[1].calls)[:_TOLD]
        spent = "; ".join(f"`{step}` {_said(usage)}" for step, usage in most) or "nothing"
        left = len(self.by) - len(most)
        return BudgetExceeded(
            f"the budget of {self.what}, {limit}, is used up{more}. Spent: {_said(self.spent)} ("
            f"{spent}{f'; and {left} more' if left > 0 else ''})",
            details={
                "budget": self.what,
                "limit": limit,
                "spent": self.spent.to_json() | {"calls": self.spent.calls},
                "by": {step: usage.to_json() | {"calls": usage.calls} for step, usage in most},
            },
        )


class Budgets:
    """The budgets of one run, with those of the workflows that it calls."""

    def __init__(
        self, run: BudgetPlan | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run, self._clock = run, clock
        self._known: dict[tuple[str, str], Budget] = {}

    def of(
        self, execution: str, workflow: WorkflowPlan, step: StepPlan, where: str
    ) -> tuple[Budget, ...]:
        """Those that a step spends of, the nearest first. `where` is its place in the execution.

        The budget of a container is for all that is in it; that of an agent for all that it is
        asked in the execution.
        """
        return tuple(self._of(execution, workflow, step, where))

    def _of(
        self, execution: str, workflow: WorkflowPlan, step: StepPlan, where: str
    ) -> Iterator[Budget]:
        path, at = step.path, where
        while path:
            plan = workflow.all_steps.get(path)
            if plan is not None and plan.budget is not None:
                yield self._get(f"task `{plan.id}`", f"{execution}/{at}", plan.budget)
            path, at = path.rpartition("/")[0], at.rpartition("/")[0]
        agent = self._agent(workflow, step)
        if agent is not None and agent.budget is not None:
            yield self._get(f"agent `{agent.id}`", f"{execution} {agent.id}", agent.budget)
        if workflow.budget is not None:
            yield self._get(f"workflow `{workflow.id}`", execution, workflow.budget)
        if self._run is not None:
            yield self._get("the run", "", self._run)

    @staticmethod
    def _agent(workflow: WorkflowPlan, step: StepPlan) -> AgentPlan | None:
        return workflow.agents[step.agent.agent] if step.agent is not None else None

    def _get(self, what: str, key: str, limit: BudgetPlan) -> Budget:
        known = self._known.get((what, key))
        if known is None:
            known = self._known[what, key] = Budget(what, limit, self._clock)
        return known


@dataclass(frozen=True, slots=True)
class Meter:
    """What one attempt spends, of all the budgets that it has a share in."""

    step: str
    budgets: tuple[Budget, ...]
    spend: Spend

    def allow(self) -> None:
        """Raises BudgetExceeded when no call may be made any more."""
        for budget in self.budgets:
            budget.allow()

    def add(self, usage: Usage) -> None:
        self.spend(usage)
        for budget in self.budgets:
            budget.add(usage, self.step)


def _said(usage: Usage) -> str:
    cost = "an unknown price" if usage.cost_usd is None else f"{usage.cost_usd:.6g} USD"
    tokens = usage.prompt_tokens + usage.completion_tokens
    return f"{usage.calls} call{'' if usage.calls == 1 else 's'}, {tokens:,} tokens, {cost}"
