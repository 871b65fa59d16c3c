"""Which steps of a fan-out go to workers, in which batches, and how many at a time."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compozy_prefect.compiler.plan import (
    AgentCall,
    BudgetPlan,
    CollectionPlan,
    FanPlan,
    MemoryCall,
    MemoryPlan,
    MemoryUse,
    SignalPlan,
    StepPlan,
    ToolCall,
    ToolPlan,
    WaitPlan,
)
from compozy_prefect.flows.cluster import Room
from compozy_prefect.flows.containers import Row
from compozy_prefect.flows.placement import divided, missing, share, why_here
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.scope import Scope
from compozy_prefect.runtime.services import Services
from tests.support.plans import agent, plan, step

ROOM = Room(workers=2, slots=8)


def fan(*steps: StepPlan, **fields: Any) -> StepPlan:
    return step("fan", type="parallel", fan=FanPlan(), steps=steps, **fields)


def scope(mocks: Any = None, **fields: Any) -> Scope:
    of = plan(step("one"), **fields)
    workflow = of.workflows["flow"]
    context = RunContext(of, workflow, "id", {}, {}, 0.0)
    services = Services.create(offline=True, mocks=Mocks.from_mapping(mocks or {}), env={})
    return Scope(workflow, {}, context, services)


def here(of: StepPlan, seen: Scope, **more: Any) -> str:
    return why_here(plan(of, **more), of, seen)


class TestWhyHere:
    def test_nothing_keeps_ordinary_steps(self) -> None:
        inner = step(
            "in", path="fan/in", type="composite", steps=(step("deep", path="fan/in/deep"),)
        )
        asks = step("ask", path="fan/ask", agent=AgentCall("writer", "write"))
        mocks = {"tools": {"lookup": {"output": {}}}}
        calls = step("call", path="fan/call", tool=ToolCall("lookup"))
        assert here(fan(inner, asks, calls), scope(mocks)) == ""

    @pytest.mark.parametrize(
        ("inner", "why"),
        [
            (step("w", type="wait", wait=WaitPlan("go")), "`w` is a wait"),
            (step("s", type="signal", signal=SignalPlan("go")), "`s` is a signal"),
            (
                step("m", type="memory", memory=MemoryCall("read", "notes", "k")),
                "the memory of `m` is kept in that process",
            ),
            (
                step("a", agent=AgentCall("keeper", "write")),
                "the memory of agent `keeper` is kept in that process",
            ),
            (step("t", tool=ToolCall("flaky")), "the mocks of `tools.flaky` answer call by call"),
            (
                step("p", agent=AgentCall("writer", "write")),  # its prompt may call the tool
                "the mocks of `tools.flaky` answer call by call",
            ),
        ],
    )
    def test_what_needs_the_process_of_the_flow(self, inner: StepPlan, why: str) -> None:
        outer = step("c", type="composite", steps=(inner,))
        of = scope(
            {"tools": {"flaky": [{"error": "one"}, {"output": {}}]}},
            agents={"writer": agent(), "keeper": agent("keeper", memory=(MemoryUse("notes"),))},
            memories={"notes": MemoryPlan("notes", store="in_memory")},
        )
        assert here(fan(outer), of) == why

    @pytest.mark.parametrize("effect", ["", "read", "idempotent", "write"])
    def test_what_may_be_asked_about(self, effect: str) -> None:
        of = scope(
            agents={"writer": agent()}, tools={"pay": ToolPlan("pay", type="http", effect=effect)}
        )
        why = "whether a call of `pay` has happened is asked there" if effect == "write" else ""
        for inner in (
            step("t", tool=ToolCall("pay")),
            step("p", agent=AgentCall("writer", "write")),  # its prompt may call the tool
        ):
            assert here(fan(inner), of) == why

    def test_a_memory_that_others_reach_needs_no_process(self) -> None:
        of = scope(memories={"notes": MemoryPlan("notes", store="redis")})
        inner = step("m", type="memory", memory=MemoryCall("read", "notes", "k"))
        assert here(fan(inner), of) == ""

    def test_budgets_and_calls_of_workflows_stay(self) -> None:
        inner = step("s", path="fan/s", budget=BudgetPlan(calls=3))
        assert here(fan(inner), scope()) == "what its budgets have left is counted in that process"
        of = scope(tools={"cp__call_workflow": ToolPlan("cp__call_workflow", type="builtin")})
        call = step("c", path="fan/c", tool=ToolCall("cp__call_workflow"))
        assert here(fan(call), of) == "`c` calls workflows"


def walk(*kept: str) -> Any:
    """As much of a walk as says what is kept."""
    journal = {f"fan/{id}": {} for id in kept}
    return SimpleNamespace(runner=SimpleNamespace(journal=journal), prefix="fan/")


class TestMissing:
    def test_steps_that_read_each_other_stay_together(self) -> None:
        steps = [step("a"), step("b", needs=("a",)), step("c"), step("d", needs=("b",)), step("e")]
        rows = [Row(walk(), steps, ["a", "b", "c", "d", "e"])]
        assert missing(walk(), fan(*steps), rows) == [[0, 1, 3], [2], [4]]
        assert missing(walk("a", "c"), fan(*steps), rows) == [[0, 1, 3], [4]]
        assert missing(walk("a", "b", "c", "d"), fan(*steps), rows) == [[4]]

    def test_the_steps_of_an_item_stay_together(self) -> None:
        steps = [step("x"), step("y")]
        of = step("fan", type="collection", steps=tuple(steps), collection=CollectionPlan([1, 2]))
        rows = [Row(walk(), steps, [f"x-{n}", f"y-{n}"], {"item": n}) for n in range(3)]
        assert missing(walk(), of, rows) == [[0, 1], [2, 3], [4, 5]]
        assert missing(walk("x-0", "y-0", "x-1"), of, rows) == [[2, 3], [4, 5]]

    def test_one_after_another_is_one_group(self) -> None:
        one = CollectionPlan([1, 2], sequential=True)
        of = step("fan", type="collection", steps=(step("x"),), collection=one)
        rows = [Row(walk(), of.steps, [f"x-{n}"], {"item": n}) for n in range(3)]
        assert missing(walk("x-0"), of, rows) == [[0, 1, 2]]
        assert missing(walk("x-0", "x-1", "x-2"), of, rows) == []


class TestDivided:
    @pytest.mark.parametrize(
        ("steps", "most", "sizes"),
        [
            (1, 0, [1]),
            (3, 0, [1, 2]),
            (100, 0, [50, 50]),
            (1000, 0, [125] * 8),
            (10_000, 0, [1250] * 8),
            (100, 1, [100]),
            (100, 3, [33, 33, 34]),
            (100, 50, [12, 13, 12, 13, 12, 13, 12, 13]),
        ],
    )
    def test_sizes(self, steps: int, most: int, sizes: list[int]) -> None:
        assert list(map(len, divided([[n] for n in range(steps)], ROOM, most))) == sizes

    def test_a_cluster_that_has_no_workers_yet(self) -> None:
        assert divided([[0], [1]], Room(0, 0), 0) == [[0, 1]]

    @given(
        st.lists(st.integers(1, 4), min_size=1, max_size=60),
        st.integers(0, 9),
        st.integers(0, 9),
        st.integers(0, 40),
    )
    @settings(deadline=None)
    def test_each_step_once_and_no_more_at_a_time(
        self, sizes: list[int], workers: int, threads: int, most: int
    ) -> None:
        count = itertools.count()
        groups = [[next(count) for _ in range(size)] for size in sizes]
        room = Room(workers, workers * threads)
        batches = divided(groups, room, most)
        assert [one for batch in batches for one in batch] == list(range(sum(sizes)))
        assert all(batches)
        assert len(batches) <= max(room.slots, 1)
        limits = [share(most, number, len(batches)) for number in range(len(batches))]
        assert sum(limits) == most
        assert not most or all(limits)
        assert max(map(len, batches)) - min(map(len, batches)) <= max(sizes) * 2 + len(groups)
