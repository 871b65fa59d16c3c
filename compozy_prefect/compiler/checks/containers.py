"""What a container holds, and how its tasks stand to each other (§14 rows 16 to 19 and 24).

Its tasks run as the container says: where one of them leads is ignored. Those that start together
wait for what they read of each other (§3.3), and for ever when they do so in a circle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from compozy_prefect.compiler import variables
from compozy_prefect.compiler.checks.nouns import called, is_blank, is_given, is_resolved, place
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.needs import Waits, waits_of
from compozy_prefect.compiler.places import ANYWHERE
from compozy_prefect.compiler.tree import Step
from compozy_prefect.diagnostics import Diagnostic, Span, error, warning
from compozy_prefect.language.config import Config
from compozy_prefect.language.models.task import (
    CollectionTask,
    CompositeTask,
    ParallelTask,
    Task,
    Transition,
)

_CONTAINERS = (ParallelTask, CollectionTask, CompositeTask)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
# What the steps of a collection see anyway.
_TAKEN = frozenset.union(
    *(variables.VARIABLES[scope] for scope in ("with", "own", "outputs", "prompt")),
    variables.CONTAINER,
    ANYWHERE,
    {"processor"},
)
_INSTEAD = {
    "parallel": "tasks of a parallel task start together, and the parallel task says what follows",
    "collection": "the task runs for each item, and the collection says what follows",
    "composite": "tasks of a composite run in the order of the list",
    "wait": "the processor runs for each signal, and the `wait` task says what follows",
}


def containers(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        for step in checked.tree.all:
            if isinstance(step.task, _CONTAINERS):
                yield from _depth(step, project.loaded.config)
            if is_resolved(step.task):
                yield from _step(step)
        yield from _circles(checked)


def _step(step: Step) -> Iterator[Diagnostic]:
    if isinstance(step.task, CollectionTask):
        yield from _what(step.task)
        yield from _names(step.task)
    if isinstance(step.task, CompositeTask):
        yield from _strategy(step.task)
    if step.parent is not None:
        yield from _ignored(step.task, step.parent.task.type)


def _depth(step: Step, config: Config) -> Iterator[Diagnostic]:
    around = sum(isinstance(above.task, _CONTAINERS) for above in step.ancestors)
    if around and around == config["limits.max_nesting_depth"]:
        count = f"{around} container{'' if around == 1 else 's'}"
        yield error(
            "CZ317",
            f"{called(step.task, 'task')} stands inside {count}: no more can be",
            step.task.node.at("id").span,
            "give the inner ones to a workflow of their own, and start it with a `signal` task",
        )


def _what(task: CollectionTask) -> Iterator[Diagnostic]:
    """What runs, and for which items (§3.4)."""
    if is_given(task, "task") and is_given(task, "tasks"):
        yield error(
            "CZ317",
            f"{called(task, 'collection')} has `task` and `tasks`",
            task.node.key_span("tasks"),
            "keep one of them; several tasks for each item all stand under `tasks`",
        )
    elif not is_given(task, "task") and not is_given(task, "tasks"):
        yield error(
            "CZ317",
            f"{called(task, 'collection')} does not say what runs for each item",
            place(task, "type", "id"),
            "add `task:`, or `tasks:` with a list",
        )
    items = task.node.get("items")
    if items is not None and items.data() is not None and is_blank(items):
        hint = 'write a list, or a template such as `"{{ .workflow.input.items }}"`'
        yield error("CZ317", "`items` is blank", items.span, hint)


def _names(task: CollectionTask) -> Iterator[Diagnostic]:
    for name, own in (("item_var", "item"), ("index_var", "index")):
        value = getattr(task, name)
        if name not in task.given or value == own:
            continue
        span = task.node.at(name).span
        if not _NAME.fullmatch(value):
            hint = "letters, digits and `_`, such as `city`; templates then read `.city`"
            yield error("CZ317", f"`{name}` is no name for a variable: `{value}`", span, hint)
        elif value in _TAKEN:
            hint = f"choose another name; `.{own}` is there without one"
            yield error("CZ317", f"`{name}` would hide the variable `.{value}`", span, hint)
    if task.item_var == task.index_var and {"item_var", "index_var"} <= task.given:
        yield error(
            "CZ317",
            f"`item_var` and `index_var` are both `{task.item_var}`",
            task.node.at("index_var").span,
            "the item and its number need names of their own",
        )


def _strategy(task: CompositeTask) -> Iterator[Diagnostic]:
    if task.strategy not in ("fail_fast", "best_effort"):
        yield warning(
            "CZ317",
            f"a composite has no strategy `{task.strategy}`: its tasks run one after another",
            task.node.at("strategy").span,
            "write `fail_fast`, which is what it does without one, or `best_effort` to go on",
        )


def _ignored(task: Task, container: str) -> Iterator[Diagnostic]:
    """Keys that only count in the list of a workflow."""
    hint = _INSTEAD[container]
    if _leads(task.on_success):
        yield _nothing("on_success", task.node.key_span("on_success"), hint)
    if task.on_failure is not None and task.on_failure.next:
        on_error = task.node.get("on_error")
        own = task.on_failure is task.on_error and on_error is not None
        span = on_error if own else task.node.at("config", "on_error")
        assert span is not None
        yield _nothing("on_error.next", span.at("next").span, hint)
    if task.final:
        yield _nothing("final", task.node.key_span("final"), hint)


def _leads(transition: Transition | None) -> bool:
    return transition is not None and bool(transition.next or transition.with_)


def _nothing(key: str, span: Span, hint: str) -> Diagnostic:
    return warning("CZ317", f"`{key}` does nothing inside of a container", span, hint)


# --- tasks that wait for each other ---------------------------------------------------------------


def _circles(checked: Checked) -> Iterator[Diagnostic]:
    told: set[Step] = set()
    waits = _knots(waits_of(checked.scope))
    for step in waits:
        circle = [] if step in told else _circle(step, waits)
        told.update(circle)
        if circle:
            first = min(range(len(circle)), key=lambda i: circle[i].pointer[-1])
            yield _circle_found([*circle[first:], *circle[:first]], waits)


def _knots(waits: Waits) -> Waits:
    """What is left without the steps that come to an end; of most workflows nothing."""
    waited: dict[Step, list[Step]] = {}
    for step, reads in waits.items():
        for found in reads:
            waited.setdefault(found, []).append(step)
    left = {step: len(reads) for step, reads in waits.items()}
    over = [step for step in waited if step not in left]
    for step in over:
        for waiting in waited.get(step, ()):
            left[waiting] -= 1
            if left[waiting] == 0:
                over.append(waiting)
    return {step: reads for step, reads in waits.items() if left[step]}


def _circle(step: Step, waits: Waits) -> list[Step]:
    """The shortest way from a step back to itself, if there is one."""
    came: dict[Step, Step] = {}
    waiting = [step]
    for at in waiting:
        for following in waits.get(at, {}):
            if following is step:
                circle = [at]
                while circle[-1] is not step:
                    circle.append(came[circle[-1]])
                return circle[::-1]
            if following not in came:
                came[following] = at
                waiting.append(following)
    return []


def _circle_found(circle: list[Step], waits: Waits) -> Diagnostic:
    *others, last = (f"`{step.id}`" for step in circle)
    span = waits[circle[0]][circle[1 % len(circle)]]
    reads = [
        f"`{a.id}` reads `{b.id}` in line {waits[a][b].line}"
        for a, b in zip(circle, [*circle[1:], circle[0]], strict=True)
    ]
    return error(
        "CZ317",
        f"{', '.join(others)} and {last} wait for each other: they start together, and "
        f"{'each reads the other' if len(circle) == 2 else 'each reads the next'}",
        span,
        f"{', '.join(reads)}; leave one of them out, or make it a composite",
    )
