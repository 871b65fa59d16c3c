"""What a run gave and what its case expects → the differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime.outcome import TaskState
from compozy_prefect.testing.cases import Case, ExpectedTask
from compozy_prefect.testing.expect import Same
from compozy_prefect.testing.match import NOTHING, Difference, differences

MOST = 100  # differences of a case
NOT_RUN, WAS_SKIPPED = "not run", "skipped"


def judge(
    case: Case, status: str, output: Json, error: Json, tasks: Mapping[str, TaskState]
) -> tuple[Difference, ...]:
    """The differences of a run, as `RunResult` has it; `error` as JSON. Not more than MOST."""
    return tuple(islice(_judged(case, status, output, error, tasks), MOST))


def _judged(
    case: Case, status: str, output: Json, error: Json, tasks: Mapping[str, TaskState]
) -> Iterator[Difference]:
    seen = {"status": status, "output": output, "error": error}
    for name, expected in case.view.fields.items():
        yield from differences(expected, seen[name], name)
    for task in case.tasks:
        yield from _of_task(task, tasks)


def _of_task(task: ExpectedTask, tasks: Mapping[str, TaskState]) -> Iterator[Difference]:
    at = f"tasks.{task.key}"
    found = {key: state for key, state in tasks.items() if _is_meant(task.key, key, tasks)}
    if len(found) > 1:
        yield Difference(at, Same(task.span, "the key of one task"), list(found))
        return
    state = next(iter(found.values()), None)
    if task.view is None:
        ended = _ended(state)
        if ended != task.state:
            yield Difference(at, Same(task.span, task.state), ended)
    elif state is None:
        yield Difference(at, task.view, NOT_RUN)
    else:
        seen = view_of(state)
        for name, expected in task.view.fields.items():
            yield from differences(expected, seen[name], f"{at}.{name}")


def _ended(state: TaskState | None) -> str:
    if state is None:
        return NOT_RUN
    return WAS_SKIPPED if state.skipped else state.status


def view_of(state: TaskState) -> dict[str, Any]:
    """A task as `ExpectedTask` speaks of it."""
    return {
        "status": state.status,
        "input": state.input,
        "output": state.output,
        "error": state.error and state.error.to_json(),
        "route_taken": state.route or NOTHING,
        "attempts": state.attempts,
    }


def _is_meant(wanted: str, key: str, tasks: Mapping[str, TaskState]) -> bool:
    """Whether a key of a test is that of a result: its id, perhaps behind its containers'."""
    parts = wanted.split("/")
    if wanted == key or parts[-1] != tasks[key].id:
        return wanted == key
    path = _path(key, tasks)
    return len(parts) <= len(path) and path[-len(parts) :] == parts


def _path(key: str, tasks: Mapping[str, TaskState]) -> list[str]:
    """The ids of a task and the containers around it, from outside."""
    out: list[str] = []
    seen = set()
    at: str | None = key
    while at is not None and at not in seen:
        seen.add(at)
        state = tasks.get(at)
        out.append(state.id if state is not None else at)
        at = state.parent if state is not None else None
    return out[::-1]
