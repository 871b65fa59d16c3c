"""A hundred agents at once: bounds, answers in their places, usage to the token, and budgets."""

from __future__ import annotations

import json
import re
from pathlib import Path
from threading import Condition
from typing import Any

import pytest

from compozy_prefect.compiler.plan import AgentCall, BudgetPlan
from compozy_prefect.flows import local
from compozy_prefect.flows.attempts import Attempts, Instance, end_of, ended
from compozy_prefect.flows.journal import Journal
from compozy_prefect.flows.run import RunResult
from compozy_prefect.runtime.budgets import Budgets
from compozy_prefect.runtime.calls import Unwatched
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import FAILED, Failure, TaskState
from compozy_prefect.runtime.redaction import Redactor
from compozy_prefect.runtime.scope import Scope
from compozy_prefect.runtime.services import Services
from tests.support.compozy import Compozy
from tests.support.model_server import ModelServer, Reply, Seen
from tests.support.plans import plan, step
from tests.support.prefect_server import Api

AGENTS = 100
PRICE = {"input": 1.0, "output": 2.0}  # US dollars for a million tokens
SETTLE = 0.02  # seconds in which one too many would come


class Busy:
    """Answers with the number that a prompt names, and knows how many ask at the same time.

    Requests are held until `full` of them are there, so that a bound is seen to be reached; the
    last ones of `count` wait for nobody.
    """

    def __init__(self, full: int, count: int = AGENTS) -> None:
        self.most = self.total = 0
        self._now = self._answered = 0
        self._full, self._count = full, count
        self._change = Condition()

    def __call__(self, seen: Seen) -> Reply:
        number = int(re.findall(r"number (\d+)", seen.body["messages"][-1]["content"])[-1])
        with self._change:
            self.total += 1
            mine = self.total
            self._now += 1
            self.most = max(self.most, self._now)
            self._change.wait_for(lambda: self._answered >= mine or self._is_full, 30)
            self._change.wait(SETTLE)
            self._answered = max(self._answered, mine)
            self._change.notify_all()
            self._now -= 1
        return Reply(f"It is {number}.", prompt_tokens=100 + number, completion_tokens=number)

    @property
    def _is_full(self) -> bool:
        return self._now >= self._full or self.total >= self._count


def project(
    folder: Path,
    models: ModelServer,
    limit: dict[str, int],
    count: int = AGENTS,
    name: str = "crowd",
    **each: Any,
) -> Path:
    """A collection of so many agents; JSON is YAML."""
    model = {"id": "m", "provider": "openai", "model": f"gpt-4o-{name}", "api_url": models.url}
    model |= {"api_key": "{{ .env.A_KEY }}", "price": PRICE, "rate_limit": limit}
    asks = {"id": "say", "prompt": "Say the number {{ .input.n }}."}
    agent = {"id": "teller", "model": "m", "instructions": "Be brief.", "actions": [asks]}
    told = {"id": "t-{{ .index }}", "agent": "teller", "action": "say"}
    told |= {"with": {"n": "{{ .item }}"}}
    tasks = {"id": "each", "type": "collection", "items": [*range(count)], "task": told, **each}
    content = {
        "name": name,
        "models": [model],
        "agents": [agent],
        "tasks": [tasks],
        "outputs": {"said": "{{ .tasks.each.output | map('response') }}"},
    }
    folder.mkdir(exist_ok=True)
    (folder / "compozy.yaml").write_text(json.dumps(content))
    return folder


def check(result: RunResult, count: int = AGENTS) -> None:
    assert result.status == "SUCCESS", result.error
    assert result.output == {"said": [f"It is {number}." for number in range(count)]}
    numbers = sum(range(count))
    prompt, completion = 100 * count + numbers, numbers
    usage = result.usage
    assert (usage.calls, usage.prompt_tokens, usage.completion_tokens) == (
        count,
        prompt,
        completion,
    )
    assert usage.cost_usd == pytest.approx((prompt + 2 * completion) / 10**6)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "sk-0123456789abcdef")


def test_so_many_steps_at_a_time(
    tmp_path: Path, prefect_server: Api, model_server: ModelServer
) -> None:
    busy = Busy(full=16)
    model_server.answers_by(busy)
    folder = project(tmp_path, model_server, {"concurrency": 64}, max_workers=16)
    check(local.run(folder))
    assert (busy.total, busy.most) == (AGENTS, 16)


def test_so_many_calls_of_a_model_at_a_time(
    tmp_path: Path, prefect_server: Api, model_server: ModelServer
) -> None:
    busy = Busy(full=7)
    model_server.answers_by(busy)
    check(local.run(project(tmp_path, model_server, {"concurrency": 7}, name="seven")))
    assert (busy.total, busy.most) == (AGENTS, 7)


def test_as_many_as_there_are(
    tmp_path: Path, prefect_server: Api, model_server: ModelServer
) -> None:
    busy = Busy(full=AGENTS)
    model_server.answers_by(busy)
    check(local.run(project(tmp_path, model_server, {"concurrency": 200}, name="all")))
    assert (busy.total, busy.most) == (AGENTS, AGENTS)


def test_two_processes_keep_to_one_limit(
    tmp_path: Path, compozy: Compozy, model_server: ModelServer
) -> None:
    busy = Busy(full=4, count=60)
    model_server.answers_by(busy)
    folder = project(tmp_path / "p", model_server, {"concurrency": 4}, count=30, name="shared")
    processes = [compozy.start("run", folder, "--json") for _ in range(2)]
    for out, err in [process.communicate(timeout=150) for process in processes]:
        result = json.loads(out)
        assert result["status"] == "SUCCESS", err
        assert result["output"]["said"] == [f"It is {number}." for number in range(30)]
    assert (busy.total, busy.most) == (60, 4)


@pytest.mark.parametrize(
    ("budget", "fits"),
    [({"calls": 20}, 20), ({"tokens": 2500}, 25), ({"usd": 0.0026}, 26)],
    ids=["calls", "tokens", "usd"],
)
def test_a_budget_is_overspent_by_what_was_being_asked(
    budget: dict[str, float],
    fits: int,
    tmp_path: Path,
    prefect_server: Api,
    model_server: ModelServer,
) -> None:
    """`fits` answers of at least 100 tokens are more than it has."""
    workers, busy = 8, Busy(full=1)
    model_server.answers_by(busy)
    limit = {"concurrency": 64}
    result = local.run(project(tmp_path, model_server, limit, max_workers=workers, budget=budget))
    assert result.status == "FAILED"
    failed = [one for one in result.tasks["each"].children.values() if one.status == "FAILED"]
    assert {one.error.code for one in failed if one.error} == {"BUDGET_EXCEEDED"}
    assert len(failed) == AGENTS - busy.total
    assert busy.total < fits + workers
    assert result.usage.calls == busy.total


def test_what_a_failed_step_spent_before_a_crash_still_counts() -> None:
    asks = step("ask", agent=AgentCall("writer", "write"))
    of = plan(asks)
    workflow = of.workflows["flow"]
    context = RunContext(of, workflow, "run", {}, {}, 0.0)
    budgets = Budgets(BudgetPlan(calls=2))
    services = Services.create(offline=True, env={})
    scope = Scope(workflow, {}, context, services, budgets=budgets)
    instance = Instance(asks, "ask", "ask", passed=True)
    error, spent = Failure("down", "LLM_GENERATION_ERROR"), Usage(10, 5, 0.1, 2)
    state = TaskState("ask", "basic", FAILED, error=error, usage=spent)
    attempts = Attempts(instance, scope, {}, Redactor([]), _NO_JOURNAL, lambda log: Unwatched())
    assert attempts.counted(ended(instance, end_of(state))).error == error
    (budget,) = scope.budgets_of(asks, "ask")
    assert budget.spent == spent


_NO_JOURNAL: Journal = None  # type: ignore[assignment] - nothing is kept
