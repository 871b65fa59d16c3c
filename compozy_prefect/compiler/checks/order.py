"""Whether the tasks that a template reads can have run, and whether they must (language.md §11.3).

A task that no path can have run by then is an error (§14 row 24). One that has run on some paths
only reads as null on the others; without a guard such as `default` that is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.places import Place, places
from compozy_prefect.compiler.tree import Step, Tree, fork
from compozy_prefect.diagnostics import Diagnostic, Span, error, warning
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse, parse_condition
from compozy_prefect.expressions.reads import Read
from compozy_prefect.language.models.task import (
    CollectionTask,
    CompositeTask,
    ParallelTask,
    RouterTask,
)

# Of a parallel task that ends with one of these, not every child has an output.
_SOME = {"race", "wait_any", "wait_first", "best_effort"}


def order(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        for place in places(checked.scope):
            yield from _place(place, checked)


def _place(place: Place, checked: Checked) -> Iterator[Diagnostic]:
    text = str(place.node.value)
    if "tasks" not in text or ("{{" not in text and not place.condition):
        return
    try:
        template = parse_condition(text) if place.condition else parse(text)
    except TemplateError:
        return  # said by the pass over templates
    told: set[str] = set()
    for read in template.reads:
        if read.segments[0] == "tasks" and len(read.segments) > 1 and read.segments[1] is not None:
            name = str(read.segments[1])
            for diagnostic in _read(read, name, place, checked):
                if name not in told:
                    told.add(name)
                    yield diagnostic


def _read(read: Read, name: str, place: Place, checked: Checked) -> Iterator[Diagnostic]:
    tree, span = checked.tree, place.span(read, 1)
    if place.sees == "workflow outputs":
        found = tree.find(name)
        if found is None:
            return
        if not _runs(found, tree):
            yield error("CZ313", f"no path runs the task `{name}`, which is read here", span)
        elif _matters(read) and not _surely_at_the_end(found, tree):
            yield _unguarded(name, span)
        return
    readers = [r for r in place.readers if _runs(r, tree)]
    pairs = [(found, r) for r in readers if (found := tree.find(name, r)) is not None]
    if not pairs:
        return
    if not any(_may_have_run(found, reader, place, tree) for found, reader in pairs):
        yield _too_early(name, *pairs[0], place, tree, span)
    elif _matters(read) and not all(_surely(found, r, tree) for found, r in pairs):
        yield _unguarded(name, span)


def _matters(read: Read) -> bool:
    """Whether the value is needed: a whole task or its status may well be null."""
    return not read.guarded and len(read.segments) > 3 and read.segments[2] == "output"


def _unguarded(name: str, span: Span) -> Diagnostic:
    return warning(
        "CZ316",
        f"`{name}` has no output on some of the paths that lead here",
        span,
        "write `| default …`, or ask with `{{ if .tasks." + name + " }}`",
    )


def _too_early(
    name: str, found: Step, reader: Step, place: Place, tree: Tree, span: Span
) -> Diagnostic:
    if found is reader:
        hint = "in `outputs` the task's own result is `.output`"
        return error("CZ313", f"the task `{name}` reads its own state", span, hint)
    around = tree.around(found)
    hint = f"`{name}` comes after `{reader.id}`, or on another path; move it before"
    if any(above is reader for above in found.ancestors):
        hint = f"`{name}` is a part of `{reader.id}`; in `outputs` it has run"
    elif around is not None and not around.explicit and name in around.failure.values():
        hint = f"`{name}` runs only when the task fails whose `on_error` names it"
    return error(
        "CZ313", f"the task `{name}` cannot have run when `{reader.id}` reads it", span, hint
    )


def _runs(step: Step, tree: Tree) -> bool:
    """Whether some path comes to the step and to all that it is in."""
    for one in (step, *step.ancestors):
        around = tree.around(one)
        if around is not None and not around.reaches(one.id):
            return False
    return True


def _holds(step: Step, other: Step) -> bool:
    return step is other or any(above is step for above in other.ancestors)


def _turns(step: Step, tree: Tree) -> bool:
    """Whether the step stands in a loop."""
    around = tree.around(step)
    return around is not None and around.may_precede(step.id, step.id)


def _may_have_run(found: Step, reader: Step, place: Place, tree: Tree) -> bool:
    if any(_turns(one, tree) for one in (found, *found.ancestors) if _holds(one, reader)):
        return True  # it may have run when the loop came here before
    if found is reader:
        return place.ended
    if any(above is found for above in reader.ancestors):
        return True  # it is running, and has an input
    if any(above is reader for above in found.ancestors):
        return place.ended or place.field == "outputs"
    ways = fork(found, reader)
    if ways is None:
        return True
    around = tree.around(ways[0])
    # Steps that start together wait for what they read of each other (§3.3).
    return around is None or around.may_precede(ways[0].id, ways[1].id)


def _surely(found: Step, reader: Step, tree: Tree) -> bool:
    """Whether the step has an output whenever the reader runs."""
    if found is reader or any(above is found for above in reader.ancestors):
        return True
    if any(above is reader for above in found.ancestors):
        return _inside(found, reader, tree)
    ways = fork(found, reader)
    if ways is None:
        return True
    around = tree.around(ways[0])
    if around is not None and not around.surely_precedes(ways[0].id, ways[1].id):
        return False
    return _inside(found, ways[0], tree)


def _surely_at_the_end(found: Step, tree: Tree) -> bool:
    outermost = [found, *found.ancestors][-1]
    return tree.sequence.surely_ran(outermost.id) and _inside(found, outermost, tree)


def _inside(found: Step, outer: Step, tree: Tree) -> bool:
    """Whether a step inside another has an output whenever the outer one has."""
    for one in (found, *found.ancestors):
        if one is outer:
            return True
        parent = one.parent
        assert parent is not None
        task = parent.task
        if isinstance(task, CollectionTask):
            return True  # which of its items is meant is not known here
        if isinstance(task, (ParallelTask, CompositeTask)) and task.strategy in _SOME:
            return False
        if one.role == "route" or (parent.sequence and not parent.sequence.surely_ran(one.id)):
            return False
        if isinstance(task, RouterTask):
            return False
    return True
