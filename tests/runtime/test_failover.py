"""failover, limits and budgets: which model is asked, how often, and until when."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from compozy_prefect.compiler.plan import BudgetPlan, ModelPlan, StepPlan, WorkflowPlan
from compozy_prefect.errors import BudgetExceeded, ModelFailed
from compozy_prefect.runtime.budgets import Budgets, Meter
from compozy_prefect.runtime.llm.client import (
    Candidate,
    ModelAnswer,
    ModelRequest,
    ToolOffer,
    Usage,
    paid_for,
)
from compozy_prefect.runtime.llm.failover import OPEN, Failover, Health
from compozy_prefect.runtime.llm.limits import Limited


def model(name: str, **more: Any) -> ModelPlan:
    price = more.pop("price", {"input": 1.0, "output": 1.0})
    return ModelPlan("custom", name, price=price, **more)


def asking(*models: ModelPlan) -> ModelRequest:
    first, *others = models
    return ModelRequest(
        agent="a",
        action="x",
        step="s",
        model=first,
        api_key="k1",
        messages=({"role": "user", "content": "Who?"},),
        input={},
        others=tuple(Candidate(one, f"k-{one.model}") for one in others),
    )


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def down(**details: Any) -> ModelFailed:
    return ModelFailed("it is down", details={"attempts": 3, "reason": "TIMEOUT", **details})


class Models:
    """Answers by the name of the model: a text, an exception, or a function."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked = answers, list[str]()
        self.keys: dict[str, str | None] = {}

    async def complete(self, request: ModelRequest, *, on_chunk: Any = None) -> ModelAnswer:
        name = request.model.model
        self.asked.append(name)
        self.keys[name] = request.api_key
        found = self.answers[name]
        found = found() if callable(found) else found
        if isinstance(found, Exception):
            raise found
        return ModelAnswer(found, Usage(10, 5, 0.5, 1), name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_the_next_one_is_asked_with_its_own_key(clock: Clock) -> None:
    models = Models(a=down(), b="from b", c="from c")
    answer = await Failover(models, Health(clock)).complete(
        asking(model("a"), model("b"), model("c"))
    )
    assert (answer.text, models.asked) == ("from b", ["a", "b"])
    assert models.keys == {"a": "k1", "b": "k-b"}


async def test_what_another_model_would_not_cure_is_raised_at_once(clock: Clock) -> None:
    refused = ModelFailed("no", details={"reason": "CONTENT_POLICY"}, retryable=False)
    models = Models(a=refused, b="b")
    with pytest.raises(ModelFailed, match="no"):
        await Failover(models, Health(clock)).complete(asking(model("a"), model("b")))
    assert models.asked == ["a"]


@pytest.mark.parametrize(
    "reason", ["UNAUTHORIZED", "NOT_FOUND", "INVALID_MODEL", "CONTEXT_LENGTH", "TOO_LARGE"]
)
async def test_what_is_wrong_with_one_model_alone_goes_to_the_next(reason: str) -> None:
    refused = ModelFailed("no", details={"reason": reason}, retryable=False)
    models = Models(a=refused, b="b")
    assert (await Failover(models, Health()).complete(asking(model("a"), model("b")))).text == "b"


async def test_all_that_failed_are_told(clock: Clock) -> None:
    models = Models(a=down(), b=down())
    request = asking(model("a"), model("b"))
    request = replace(request, others=(*request.others, Candidate(model("c"), None, "no key")))
    with pytest.raises(ModelFailed) as raised:
        await Failover(models, Health(clock)).complete(request)
    assert raised.value.retryable
    assert raised.value.details["attempts"] == 6
    for said in ("step s", "it is down", "custom/c was not asked: no key"):
        assert said in raised.value.message


async def test_one_may_recover_though_another_never_will(clock: Clock) -> None:
    refused = ModelFailed("no", details={"reason": "UNAUTHORIZED"}, retryable=False)
    models = Models(a=down(), b=refused)
    with pytest.raises(ModelFailed) as raised:
        await Failover(models, Health(clock)).complete(asking(model("a"), model("b")))
    assert raised.value.retryable


async def test_an_answer_that_could_not_be_used_is_paid_for(clock: Clock) -> None:
    models = Models(a=down(usage=Usage(7, 3, 0.25, 1).kept()), b="b", c=down())
    failover = Failover(models, Health(clock))
    answer = await failover.complete(asking(model("a"), model("b")))
    assert answer.usage == Usage(17, 8, 0.75, 1)
    with pytest.raises(ModelFailed) as raised:
        await failover.complete(asking(model("a"), model("c")))
    assert paid_for(raised.value) == Usage(7, 3, 0.25)


async def test_one_that_keeps_failing_rests_and_comes_back_first(clock: Clock) -> None:
    models = Models(a=down(), b="b")
    failover, request = Failover(models, Health(clock)), asking(model("a"), model("b"))
    for _ in range(4):
        await failover.complete(request)
    assert models.asked == ["a", "b", "a", "b", "b", "b"], "five attempts, then it rests"
    clock.now += OPEN + 1
    await failover.complete(request)
    assert models.asked[-2:] == ["a", "b"], "tried again, and one failure is enough to rest"
    await failover.complete(request)
    assert models.asked[-1] == "b"
    assert models.asked[-2] == "b"
    clock.now += OPEN + 1
    models.answers["a"] = "a is back"
    assert (await failover.complete(request)).text == "a is back"
    assert (await failover.complete(request)).text == "a is back"


async def test_when_all_rest_they_are_asked_all_the_same(clock: Clock) -> None:
    models = Models(a=down(attempts=5), b=down(attempts=5))
    failover, request = Failover(models, Health(clock)), asking(model("a"), model("b"))
    for _ in range(2):
        with pytest.raises(ModelFailed):
            await failover.complete(request)
    assert models.asked == ["a", "b", "a", "b"]


async def test_routing_by_cost() -> None:
    dear = model("dear", price={"input": 10.0, "output": 10.0}, routing="cost")
    cheap = model("cheap", price={"input": 0.1, "output": 0.1})
    unknown = model("unknown", price={})
    models = Models(dear="d", cheap=down(), unknown="u")
    answer = await Failover(models, Health()).complete(asking(dear, unknown, cheap))
    assert (answer.text, models.asked) == ("d", ["cheap", "dear"])


async def test_routing_by_latency(clock: Clock) -> None:
    def takes(seconds: float, text: str) -> Any:
        def answer() -> str:
            clock.now += seconds
            return text

        return answer

    models = Models(slow=takes(3, "s"), fast=takes(1, "f"))
    failover = Failover(models, Health(clock))
    request = asking(model("slow", routing="latency"), model("fast"))
    for _ in range(5):
        await failover.complete(request)
    assert models.asked == ["slow", "fast", "fast", "fast", "fast"]
    models.answers["fast"] = takes(30, "f")
    for _ in range(3):
        await failover.complete(request)
    assert models.asked[-1] == "slow"


async def test_one_that_is_too_small_is_not_asked(clock: Clock) -> None:
    models = Models(small="s", large="l")
    request = asking(model("small", context_window=100), model("large", context_window=100_000))
    request = replace(request, messages=({"role": "user", "content": "word " * 1000},))
    answer = await Failover(models, Health(clock)).complete(request)
    assert (answer.text, models.asked) == ("l", ["large"])


async def test_a_mock_that_has_no_tools_is_not_asked_for_them(clock: Clock) -> None:
    models = Models(m="m", b="b")
    request = replace(asking(ModelPlan("mock", "m"), model("b")), tools=(ToolOffer("t"),))
    assert (await Failover(models, Health(clock)).complete(request)).text == "b"


# --- limits ---------------------------------------------------------------------------------------


class Busy:
    """Counts how many calls run at a time."""

    def __init__(self, tokens: int = 0) -> None:
        self.now = self.most = self.calls = 0
        self.tokens, self.at = tokens, list[float]()
        self.clock: Any = None

    async def complete(self, request: ModelRequest, *, on_chunk: Any = None) -> ModelAnswer:
        self.calls += 1
        self.at.append(self.clock() if self.clock else 0.0)
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(3):
            await asyncio.sleep(0)
        self.now -= 1
        return ModelAnswer("ok", Usage(self.tokens, 0), "m")


async def test_so_many_at_a_time() -> None:
    busy = Busy()
    limited = Limited(busy)
    request = asking(model("a", rate_limit={"concurrency": 3}))
    await asyncio.gather(*(limited.complete(request) for _ in range(40)))
    assert (busy.calls, busy.most) == (40, 3)
    free = Busy()
    await asyncio.gather(*(Limited(free).complete(asking(model("b"))) for _ in range(40)))
    assert free.most == 40, "another instance, another process"


async def test_a_queue_that_is_full_is_an_error() -> None:
    limited = Limited(Busy())
    request = asking(model("a", rate_limit={"concurrency": 1, "queue_size": 2}))
    done = await asyncio.gather(
        *(limited.complete(request) for _ in range(5)), return_exceptions=True
    )
    failed = [one for one in done if isinstance(one, ModelFailed)]
    assert len(failed) == 2
    assert "queue_size" in failed[0].message


async def test_so_many_a_minute(clock: Clock) -> None:
    busy = Busy()
    busy.clock = clock
    limited = Limited(busy, clock=clock, sleep=clock.sleep)
    request = asking(model("a", rate_limit={"requests_per_minute": 10}))
    await asyncio.gather(*(limited.complete(request) for _ in range(35)))
    for start in busy.at:
        assert sum(start <= at < start + 60 for at in busy.at) <= 10
    assert 180 <= clock.now - 1000 < 200, "and no slower than that"


async def test_so_many_tokens_a_minute(clock: Clock) -> None:
    busy = Busy(tokens=100)
    busy.clock = clock
    limited = Limited(busy, clock=clock, sleep=clock.sleep)
    request = asking(model("a", rate_limit={"tokens_per_minute": 250}))
    for _ in range(9):
        await limited.complete(request)
    for start in busy.at:
        assert sum(start <= at < start + 60 for at in busy.at) <= 3, "one more than fits, at most"


# --- budgets --------------------------------------------------------------------------------------


def workflow(**more: Any) -> WorkflowPlan:
    inner = StepPlan("i", "each/i", **more.pop("inner", {}))
    each = StepPlan("each", "each", type="collection", steps=(inner,), **more.pop("each", {}))
    return WorkflowPlan("w", steps=(each,), **more)


@pytest.mark.parametrize(
    ("limit", "said", "calls"),
    [
        (BudgetPlan(calls=3), "3 calls of models", 3),
        (BudgetPlan(tokens=40), "40 tokens", 3),
        (BudgetPlan(usd=1.0), "1 USD", 2),
        (BudgetPlan(seconds=25), "25 s", 3),
    ],
)
def test_a_call_is_refused_when_nothing_is_left(
    limit: BudgetPlan, said: str, calls: int, clock: Clock
) -> None:
    plan = workflow(budget=limit)
    budgets, spent = Budgets(None, clock), list[Usage]()
    step = plan.all_steps["each/i"]
    meter = Meter("i", budgets.of("run", plan, step, "each/i-0"), spent.append)
    for _ in range(calls):
        meter.allow()
        meter.add(Usage(10, 5, 0.5, 1))
        clock.now += 10
    with pytest.raises(BudgetExceeded) as raised:
        meter.allow()
    assert len(spent) == calls
    message = raised.value.message
    assert f"the budget of workflow `w`, {said}, is used up" in message
    assert f"`i` {calls} calls" in message
    assert not raised.value.retryable


def test_an_unknown_price_holds_no_budget_of_money() -> None:
    budgets = Budgets(BudgetPlan(usd=5))
    plan = workflow()
    meter = Meter("i", budgets.of("run", plan, plan.all_steps["each"], "each"), lambda _: None)
    meter.allow()
    meter.add(Usage(10, 5, None, 1))
    with pytest.raises(BudgetExceeded, match="the price of a model is unknown"):
        meter.allow()


def test_a_container_pays_for_all_that_is_in_it_and_an_item_for_itself() -> None:
    plan = workflow(each={"budget": BudgetPlan(calls=3)}, inner={"budget": BudgetPlan(calls=2)})
    budgets, step = Budgets(), plan.all_steps["each/i"]

    def meter(item: int) -> Meter:
        budget = budgets.of("run", plan, step, f"each/i-{item}")
        return Meter("i", budget, lambda _: None)

    for _ in range(2):
        meter(0).allow()
        meter(0).add(Usage(calls=1))
    with pytest.raises(BudgetExceeded, match="task `i`"):
        meter(0).allow()
    meter(1).allow()
    meter(1).add(Usage(calls=1))
    with pytest.raises(BudgetExceeded, match="task `each`"):
        meter(1).allow()
    other = budgets.of("another run", plan, step, "each/i-1")
    Meter("i", other, lambda _: None).allow()
