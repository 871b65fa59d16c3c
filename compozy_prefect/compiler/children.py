"""What a container gives: the outputs of the steps in it, by their ids (language.md §3.3 to §3.5).

`runtime/views.py` makes the values that have these shapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from compozy_prefect.compiler.tree import Step
from compozy_prefect.compiler.values import (
    BOOLEAN,
    NUMBER,
    TEXT,
    UNKNOWN,
    Layers,
    Lazy,
    Shape,
    besides,
    either,
    list_of,
    map_of,
    one_of,
)
from compozy_prefect.language.models.task import CollectionTask

if TYPE_CHECKING:
    from compozy_prefect.compiler.shapes import Shapes

Make = Callable[[Step], Shape]

STATUS = one_of(
    "PENDING", "RUNNING", "SUCCESS", "FAILED", "TIMED_OUT", "CANCELED", "WAITING", "PAUSED"
)
ERROR = map_of({"message": TEXT, "code": TEXT, "details": UNKNOWN})
_COUNTS = (
    "total_children success_count failed_count canceled_count timed_out_count terminal_count "
    "running_count pending_count completion_rate failure_rate completed_count"
)
PROGRESS = map_of(
    dict.fromkeys(_COUNTS.split(), NUMBER) | {"strategy": TEXT, "last_updated": UNKNOWN}
)
_METADATA = map_of(dict.fromkeys(("item_count", "skipped_count", "child_count"), NUMBER))
_TEMPLATE = re.compile(r"\{\{.*?\}\}", re.S)


class _OfItems(Mapping[str, Shape]):
    """The steps of a collection by the ids that they have for each item (§3.4).

    An id without a template has the number of the item behind it; one that came twice, too. The
    names that it lists are those for the first item.
    """

    def __init__(self, steps: Iterable[Step], make: Make) -> None:
        self._make = make
        self._names: dict[str, Step] = {}
        self._patterns: list[tuple[re.Pattern[str], Step]] = []
        for step in steps:
            parts = _TEMPLATE.split(step.id)
            number = r"(-\d+)?" if len(parts) > 1 else r"-\d+"
            pattern = re.compile(".*".join(map(re.escape, parts)) + number, re.S)
            self._patterns.append((pattern, step))
            self._names["0".join(parts) if len(parts) > 1 else f"{step.id}-0"] = step

    def __getitem__(self, name: str) -> Shape:
        for pattern, step in self._patterns:
            if pattern.fullmatch(name):
                return self._make(step)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def inside(step: Step, *roles: str) -> list[Step]:
    """The steps in a container that have states of their own."""
    return [one for one in step.steps if one.role in (roles or ("line", "route"))]


def entry(step: Step, shapes: Shapes) -> Shape:
    """What `.tasks.<id>` is (§11.3), and nothing else."""
    makers: dict[str, Callable[[], Shape]] = {
        "id": lambda: TEXT,
        "status": lambda: STATUS,
        "input": lambda: shapes.given(step),
        "output": lambda: shapes.output(step),
        "error": lambda: ERROR,
        "children": lambda: states(step, shapes),
        "handled": lambda: BOOLEAN,
    }
    return map_of(Lazy(makers), closed=True)


def states(step: Step, shapes: Shapes) -> Shape:
    """`.children` of a container."""
    return _each(step, lambda child: entry(child, shapes))


def gathered(step: Step, shapes: Shapes) -> Shape:
    """What a parallel or a composite gives: child id → its output (§3.3)."""
    made = _each(step, lambda child: view(child, shapes))
    return made._replace(also=_beside(step, shapes))


def collected(step: Step, task: CollectionTask, shapes: Shapes) -> Shape:
    """What a collection gives: a list, which also answers the ids of its steps (§3.4)."""
    lines = inside(step, "line")
    if task.task is not None:
        items = view(lines[0], shapes) if lines else UNKNOWN
    else:
        known = len(lines) == len(step.steps) and not any("{{" in one.id for one in lines)
        makers = {one.id: _later(one, lambda child: view(child, shapes)) for one in lines}
        items = map_of(Lazy(makers), closed=known, rest=None if known else UNKNOWN)
    by_id = _by_id(step, lambda child: view(child, shapes))
    also = Layers(by_id, _beside(step, shapes), {"collection_metadata": _METADATA})
    return list_of(items)._replace(also=also)


def view(step: Step, shapes: Shapes) -> Shape:
    """The result of a child in that of its container: both spellings of §3.3."""
    made = shapes.output(step)
    also = {"output": made, "status": STATUS, "error": ERROR}
    holds = ("object", "array")
    return either(besides(one, also) if one.kind in holds else one for one in made.alternatives)


def _beside(step: Step, shapes: Shapes) -> Mapping[str, Shape]:
    """What a container answers besides the ids of its steps."""
    makers = {
        "children": lambda: states(step, shapes),
        "outputs": lambda: _each(step, shapes.output),
        "progress_info": lambda: PROGRESS,
    }
    return Lazy(makers)


def _each(step: Step, make: Make) -> Shape:
    """What `make` gives for each step in a container, by its id."""
    fields = _by_id(step, make)
    return map_of(fields, rest=UNKNOWN) if _is_loose(step) else map_of(fields, closed=True)


def _by_id(step: Step, make: Make) -> Mapping[str, Shape]:
    if isinstance(step.task, CollectionTask):
        return _OfItems(inside(step, "line"), make)
    makers: dict[str, Callable[[], Shape]] = {}
    for child in inside(step):
        makers.setdefault(child.id, _later(child, make))
    return Lazy(makers)


def _is_loose(step: Step) -> bool:
    """Whether there may be other ids: of templates, and those that stand in for a missing one."""
    if isinstance(step.task, CollectionTask):
        return not step.steps
    return any("{{" in child.id or "id" not in child.task.node.entries for child in inside(step))


def _later(step: Step, make: Make) -> Callable[[], Shape]:
    return lambda: make(step)
