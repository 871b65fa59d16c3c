"""The way through a workflow: steps that nothing reaches, and loops (language.md §14, row 25)."""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.sequence import Sequence
from compozy_prefect.compiler.tree import Step
from compozy_prefect.diagnostics import Diagnostic, error, warning

# What can leave a loop: without one of them it turns for ever (§2.3).
_LEAVES = {"router", "wait"}


def flow(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        top = {step.id: step for step in reversed(checked.tree.steps)}
        called = checked.scope.called_tasks
        yield from _unreachable(checked.tree.sequence, top, called)
        yield from _final(top)
        yield from _loops(checked.tree.sequence, top)
        for step in checked.tree.all:
            if step.sequence is not None:
                yield from _unreachable(
                    step.sequence, {one.id: one for one in reversed(step.steps)}
                )


def _unreachable(
    sequence: Sequence, steps: dict[str, Step], called: frozenset[str] = frozenset()
) -> Iterator[Diagnostic]:
    for name in sequence.order:
        if not sequence.reaches(name) and name not in called:
            hint = (
                "once a task names its `on_success.next`, the order of the list does not count: "
                "name this one too"
                if sequence.explicit
                else "a task before it is `final`"
            )
            yield warning(
                "CZ311",
                f"nothing leads to the task `{name}`",
                steps[name].task.node.at("id").span,
                hint,
            )


def _final(steps: dict[str, Step]) -> Iterator[Diagnostic]:
    for step in steps.values():
        task = step.task
        if task.final and task.on_success and task.on_success.next:
            yield warning(
                "CZ314",
                f"the task `{task.id}` is `final` and names a next task; it is not the last one",
                task.node.key_span("final"),
                "remove `final`, or `on_success.next`",
            )


def _loops(sequence: Sequence, steps: dict[str, Step]) -> Iterator[Diagnostic]:
    told: set[str] = set()
    for name in sequence.order:
        if sequence.failure.get(name) == name:
            yield error(
                "CZ312",
                f"`{name}` leads back to itself as long as it fails",
                steps[name].task.node.at("on_error", "next").span,
                "`retries` says how often a task is tried again",
            )
        target = sequence.success.get(name)
        if target not in steps or name in told:
            continue
        loop = _loop(sequence, steps, name, str(target))
        told |= loop
        if not loop:
            continue
        where = "itself" if target == name else f"`{target}`"
        yield error(
            "CZ312",
            f"`{name}` leads back to {where}, and nothing on the way can leave the loop",
            steps[name].task.node.at("on_success", "next").span,
            "a loop needs a `router` or a `wait` task in it",
        )


def _loop(sequence: Sequence, steps: dict[str, Step], name: str, target: str) -> set[str]:
    """The loop that the edge from `name` to `target` closes, if nothing leaves it.

    Only success edges can turn for ever; an edge counts as closing when it leads back in the file.
    """
    order = sequence.positions
    if order[target] > order[name]:
        return set()
    at, walked = target, {target}
    while at != name:
        if steps[at].task.type in _LEAVES:
            return set()
        following = sequence.success.get(at)
        if following not in order or following in walked:
            return set()
        at = str(following)
        walked.add(at)
    return set() if steps[name].task.type in _LEAVES else walked
