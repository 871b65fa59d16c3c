"""The calls of models in one run, as its usage table shows them.

A process of a cluster has a ledger of its own and sends it to that of the flow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime.calls import Called
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.outcome import TaskState

_MOST = 1_000  # calls that a table shows one by one


class Entry(NamedTuple):
    """A call that is over. `where` is the place of its step in the run."""

    where: str
    call: Called


class Ledger:
    """`count` hears of each call that this run has paid for, once."""

    def __init__(self, count: Callable[[Called], None] | None = None) -> None:
        self._count = count
        self._entries: list[Entry] = []

    def add(self, where: str, call: Called) -> None:
        self._entries.append(Entry(where, call))
        if self._count is not None and not call.again:
            self._count(call)

    def inside(self, where: str) -> Inside:
        """That of a task which the step at `where` calls: what it pays is the step's."""
        return Inside(self, where)

    def to_json(self) -> list[Json]:
        """For `take`, in another process."""
        return [
            [where, call._asdict() | {"usage": call.usage.kept()}] for where, call in self._entries
        ]

    def take(self, told: Iterable[Json]) -> None:
        for where, call in told:
            self.add(where, Called(**call | {"usage": Usage.from_json(call["usage"])}))

    def table(self, states: Mapping[str, TaskState | None]) -> list[dict[str, Json]]:
        """A row for each call; one for what a step has taken besides.

        That is in an earlier process, or in a workflow that it called. Where there are too many
        calls, it is a row for each step.
        """
        by_step: defaultdict[str, list[Called]] = defaultdict(list)
        if len(self._entries) <= _MOST:
            for where, call in self._entries:
                by_step[where].append(call)
        rows = []
        for where in dict.fromkeys([*states, *by_step]):
            known = Usage()
            for call in by_step[where]:
                rows.append(_row(where, call.key, call.name, call.usage))
                known += call.usage
            state = states.get(where)
            if state is not None and state.usage is not None:
                rest = state.usage.calls - known.calls
                if rest > 0 or not by_step[where]:
                    rows.append(_row(where, "", "", _less(state.usage, known)))
        return rows


class Inside(Ledger):
    """Of a called task. `usage` is what its calls have taken in this process."""

    def __init__(self, outer: Ledger, where: str) -> None:
        super().__init__()
        self._outer, self._where = outer, where
        self.usage = Usage()

    def add(self, where: str, call: Called) -> None:
        self.usage += call.usage
        self._outer.add(self._where, call._replace(key=f"{where}@{call.key}"))


def _less(usage: Usage, known: Usage) -> Usage:
    cost = None
    if usage.cost_usd is not None and known.cost_usd is not None:
        cost = max(usage.cost_usd - known.cost_usd, 0.0)
    return Usage(
        max(usage.prompt_tokens - known.prompt_tokens, 0),
        max(usage.completion_tokens - known.completion_tokens, 0),
        cost,
        usage.calls - known.calls,
    )


def _row(task: str, call: str, model: str, usage: Usage) -> dict[str, Json]:
    return {"task": task, "call": call, "model": model, **usage.to_json(), "calls": usage.calls}
