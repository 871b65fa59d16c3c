"""Which steps of a fan-out wait for which others: those that they read (language.md §3.3)."""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.places import Place, places
from compozy_prefect.compiler.scope import Scope
from compozy_prefect.compiler.tree import Step, fork
from compozy_prefect.diagnostics import Span
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse, parse_condition
from compozy_prefect.language.models.task import (
    BasicTask,
    CollectionTask,
    ParallelTask,
    RouterTask,
)

# For each step that starts together with others, those that it reads, and where.
Waits = dict[Step, dict[Step, Span]]


def waits_of(scope: Scope) -> Waits:
    """What waits for what, in the whole workflow."""
    out: Waits = {}
    if any(_starts_together(step) for step in scope.tree.all):
        for place in places(scope):
            for reader, found, span in _reads(place, scope):
                out.setdefault(reader, {}).setdefault(found, span)
    return out


def _starts_together(step: Step) -> bool:
    return isinstance(step.task, (ParallelTask, CollectionTask)) and len(step.steps) > 1


def _reads(place: Place, scope: Scope) -> Iterator[tuple[Step, Step, Span]]:
    """Of steps that start together, which one reads which at a place."""
    text = str(place.node.value)
    if "tasks" not in text or place.ended or ("{{" not in text and not place.condition):
        return
    asking = (reader for reader in place.readers if _asks(reader, place))
    readers = [reader for reader in asking if any(map(_starts_together, reader.ancestors))]
    if not readers:
        return
    try:
        template = parse_condition(text) if place.condition else parse(text)
    except TemplateError:
        return  # said by the pass over templates
    for read in template.reads:
        if read.segments[0] != "tasks" or len(read.segments) < 2 or read.segments[1] is None:
            continue
        for reader in readers:
            found = scope.tree.find(str(read.segments[1]), reader)
            ways = fork(found, reader) if found is not None else None
            if ways is None or ways[0].parent is None or not _starts_together(ways[0].parent):
                continue
            if not any(_is_route(a, b) for a, b in (ways, ways[::-1])):
                yield ways[1], ways[0], place.span(read, 1)


def _asks(reader: Step, place: Place) -> bool:
    """Whether the step has the text rendered: of an agent's actions only the one that it names."""
    task = reader.task
    in_action = place.step is None and place.pointer[2:3] == ("actions",)
    if not in_action or not isinstance(task, BasicTask) or "{{" in (task.action or ""):
        return True
    return task.action == place.pointer[3]


def _is_route(target: Step, router: Step) -> bool:
    """A router is over when its target is, and what the two read of each other is no waiting."""
    return target.role == "route" and isinstance(router.task, RouterTask)
