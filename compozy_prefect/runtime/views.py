"""How the output of a container reads in templates (language.md §3.3 to §3.6).

The value is plain JSON, and is what is kept and shown; beside it templates find the states of the
children, and what the container made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compozy_prefect.compiler.plan import Json
from compozy_prefect.expressions.members import Named, View
from compozy_prefect.runtime.outcome import CANCELED, FAILED, SUCCESS, TIMED_OUT, TaskState

States = Mapping[str, TaskState]


def of_child(state: TaskState) -> Any:
    """The output of a child, with `output`, `status` and `error` where it has no such keys.

    One that failed gave nothing, a container too of which some steps had succeeded (§3.4).
    """
    output = state.view if state.ok and state.view is not None else state.output
    beside = {
        "output": output,
        "status": state.status,
        "error": state.error and state.error.to_json(),
    }
    if isinstance(output, View):
        return View(output, {**beside, **output.beside})
    if isinstance(output, dict):
        return View(output, beside)
    if isinstance(output, list):
        return Named(output, {**beside, **getattr(output, "beside", {})})
    return output


def of_children(states: States, strategy: str) -> View:
    """The raw output of a parallel or a composite: child id → its output."""
    return View({id: of_child(state) for id, state in states.items()}, _beside(states, strategy))


def of_items(items: list[Any], states: States, strategy: str, skipped: int) -> Named:
    """The raw output of a collection: the outputs of its items, in their order."""
    counts = {"item_count": len(items) + skipped, "skipped_count": skipped}
    metadata = {**counts, "child_count": len(states)}
    beside = {id: of_child(state) for id, state in states.items()}
    beside |= _beside(states, strategy) | {"collection_metadata": metadata}
    return Named(items, beside)


def of_container(output: Json, raw: View | Named) -> View:
    """The output of a container with `outputs`: its own keys shadow the ids of its children."""
    children = dict(raw) if isinstance(raw, View) else {}
    beside = {**raw.beside, **children, "output": output}
    return View(output, beside) if isinstance(output, dict) else View({}, beside)


def of_router(target: TaskState, routed: Mapping[str, Json]) -> View:
    """The raw output of a router: that of the step it chose, and what it decided."""
    chosen = of_child(target)
    if isinstance(chosen, View):
        return View({**routed, **chosen}, chosen.beside)
    return View(routed, {"output": chosen})


def of_routed(output: Json, raw: View) -> View:
    """The output of a router with `outputs`, whose own keys come first."""
    held = output if isinstance(output, dict) else {}
    return View(held, {**raw.beside, **raw, "output": output})


def progress(states: States, strategy: str, total: int | None = None) -> dict[str, Json]:
    """`progress_info` of a container."""
    ended = [state.status for state in states.values()]
    count = len(ended) if total is None else total
    succeeded = ended.count(SUCCESS)
    failed = ended.count(FAILED)
    timed_out = ended.count(TIMED_OUT)
    return {
        "total_children": count,
        "success_count": succeeded,
        "completed_count": succeeded,
        "failed_count": failed,
        "canceled_count": ended.count(CANCELED),
        "timed_out_count": timed_out,
        "terminal_count": len(ended),
        "running_count": 0,
        "pending_count": count - len(ended),
        "completion_rate": succeeded / count if count else 0.0,
        "failure_rate": (failed + timed_out) / count if count else 0.0,
        "strategy": strategy,
    }


def _beside(states: States, strategy: str) -> dict[str, Any]:
    return {
        "children": {id: state.for_templates() for id, state in states.items()},
        "outputs": {id: state.output for id, state in states.items()},
        "progress_info": progress(states, strategy),
    }
