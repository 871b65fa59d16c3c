"""The steps of a fan-out → those that workers may run, cut into batches.

Nothing is sent here. Positions count the steps of all rows, in their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from compozy_prefect.compiler.builtins import family_of
from compozy_prefect.compiler.plan import MemoryPlan, Plan, StepPlan, walk
from compozy_prefect.flows.cluster import Room
from compozy_prefect.runtime.scope import Scope
from compozy_prefect.runtime.tools.effects import WRITE

if TYPE_CHECKING:
    from compozy_prefect.flows.containers import Row
    from compozy_prefect.flows.walk import Walk

FEW = 100  # steps; cutting smaller than this costs more than it gives, once each worker has some


def why_here(plan: Plan, step: StepPlan, scope: Scope) -> str:
    """Why the steps of a fan-out have to run in the process of the flow; empty when they need not.

    A worker has no conversations of that process, is sent no signals, calls nothing else of the
    run, and counts no calls but its own.
    """
    if _has_budget(plan):
        return "what its budgets have left is counted in that process"
    inner = list(walk(step.steps))
    memories = scope.workflow.memories
    agents = [scope.workflow.agents[one.agent.agent] for one in inner if one.agent is not None]
    for one in inner:
        if one.type in ("wait", "signal"):
            return f"`{one.id}` is a {one.type}"
        if one.memory is not None and _ends_with_process(memories[one.memory.memory]):
            return f"the memory of `{one.id}` is kept in that process"
        if one.tool is not None and (family := family_of(one.tool.tool)):
            return f"`{one.id}` calls {family.noun}s"
    for agent in agents:
        if family := next(filter(None, map(family_of, agent.tools)), None):
            return f"agent `{agent.id}` may call {family.noun}s"
        if any(_ends_with_process(memories[use.memory]) for use in agent.memory):
            return f"the memory of agent `{agent.id}` is kept in that process"
    # A prompt may call any tool, and ask any server.
    tools = set(scope.workflow.tools) if agents else {one.tool.tool for one in inner if one.tool}
    writing = sorted(id for id in tools if scope.workflow.tools[id].effect == WRITE)
    servers = {key for agent in agents for key in agent.mcps}
    writing += sorted(key for key in servers if WRITE in scope.workflow.mcps[key].effects.values())
    if writing:
        return f"whether a call of `{writing[0]}` has happened is asked there"
    if scope.services.mocks is None:
        return ""
    used = {f"agents.{agent.id}" for agent in agents} | {f"tools.{id}" for id in tools}
    used |= {f"mcps.{id}" for id in scope.workflow.mcps} if agents else set()
    counted = sorted(used & scope.services.mocks.counted())
    return f"the mocks of `{counted[0]}` answer call by call" if counted else ""


def _has_budget(plan: Plan) -> bool:
    given = [plan.project.budget]
    for workflow in plan.workflows.values():
        given.append(workflow.budget)
        given += [agent.budget for agent in workflow.agents.values()]
        given += [step.budget for step in workflow.all_steps.values()]
    return any(budget is not None for budget in given)


def _ends_with_process(memory: MemoryPlan) -> bool:
    return memory.store == "in_memory"


def missing(inside: Walk, step: StepPlan, rows: Sequence[Row]) -> list[list[int]]:
    """The steps that have to run, in groups that stay together; of a group, also those kept.

    The steps of an item stay together, and those of a parallel that read each other.
    """
    journal, found, first = inside.runner.journal, list[list[int]](), 0
    for row in rows:
        groups = _reading(row.steps) if row.variables is None else [list(range(len(row.steps)))]
        for group in groups:
            if any(journal.get(inside.prefix + row.ids[n]) is None for n in group):
                found.append([first + n for n in group])
        first += len(row.steps)
    if found and step.collection is not None and step.collection.sequential:
        return [[*range(first)]]  # what comes later may read what is kept
    return found


def _reading(steps: Sequence[StepPlan]) -> list[list[int]]:
    """The positions of the steps, together where one needs another."""
    place = {step.id: n for n, step in enumerate(steps)}
    group = list(range(len(steps)))
    for n, step in enumerate(steps):
        for needed in step.needs:
            if needed in place:
                one, other = group[n], group[place[needed]]
                group = [min(one, other) if of in (one, other) else of for of in group]
    return [[n for n, of in enumerate(group) if of == first] for first in sorted(set(group))]


def divided(groups: list[list[int]], room: Room, most: int) -> list[list[int]]:
    """The groups as batches, `most` of whose steps may run at a time, 0 for all.

    There are no more batches than run at the same time: none waits for the end of another, just as
    all steps begin at once in one process. So they may also share `most` without asking each other.
    """
    lanes = min(max(room.slots, 1), most or len(groups), len(groups))
    steps = sum(map(len, groups))
    count = lanes if most else min(lanes, max(room.workers, math.ceil(steps / FEW), 1))
    edges = [len(groups) * n // count for n in range(count + 1)]
    return [
        [position for group in groups[start:end] for position in group]
        for start, end in pairwise(edges)
    ]


def share(most: int, batch: int, batches: int) -> int:
    """How many steps of one batch may run at a time, so that `most` of all do; 0 for all."""
    return most and most // batches + (batch < most % batches)
