"""The way through a workflow: tasks that nothing reaches, and loops (language.md §14, row 25)."""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.diagnostics import Diagnostic, error, warning

# What can leave a loop: without one of them it turns for ever (§2.3).
_LEAVES = {"router", "wait"}


def flow(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        yield from _unreachable(checked)
        yield from _final(checked)
        yield from _loops(checked)


def _unreachable(checked: Checked) -> Iterator[Diagnostic]:
    sequence = checked.sequence
    if any(task.type in _LEAVES for task in checked.scope.workflow.tasks):
        return  # their edges are not followed yet
    for task in checked.scope.tasks.values():
        if not sequence.reaches(task.id):
            hint = (
                "once a task names its `on_success.next`, the order of the list does not count: "
                "name this one too"
                if sequence.explicit
                else "a task before it is `final`"
            )
            yield warning(
                "CZ311", f"nothing leads to the task `{task.id}`", task.node.at("id").span, hint
            )


def _final(checked: Checked) -> Iterator[Diagnostic]:
    for task in checked.scope.tasks.values():
        if task.final and task.on_success and task.on_success.next:
            yield warning(
                "CZ314",
                f"the task `{task.id}` is `final` and names a next task; it is not the last one",
                task.node.key_span("final"),
                "remove `final`, or `on_success.next`",
            )


def _loops(checked: Checked) -> Iterator[Diagnostic]:
    sequence = checked.sequence
    tasks = checked.scope.tasks
    told: set[str] = set()
    for name in sequence.order:
        if sequence.failure.get(name) == name:
            yield error(
                "CZ312",
                f"`{name}` leads back to itself as long as it fails",
                tasks[name].node.at("on_error", "next").span,
                "`retries` says how often a task is tried again",
            )
        target = sequence.success.get(name)
        if target not in tasks or name in told:
            continue
        loop = _loop(checked, name, str(target))
        told |= loop
        if not loop:
            continue
        where = "itself" if target == name else f"`{target}`"
        yield error(
            "CZ312",
            f"`{name}` leads back to {where}, and nothing on the way can leave the loop",
            tasks[name].node.at("on_success", "next").span,
            "a loop needs a `router` or a `wait` task in it",
        )


def _loop(checked: Checked, name: str, target: str) -> set[str]:
    """The loop that the edge from `name` to `target` closes, if nothing leaves it.

    Only success edges can turn for ever; an edge counts as closing when it leads back in the file.
    """
    order = checked.sequence.positions
    if order[target] > order[name]:
        return set()
    at, walked = target, {target}
    while at != name:
        if checked.scope.tasks[at].type in _LEAVES:
            return set()
        following = checked.sequence.success.get(at)
        if following not in order or following in walked:
            return set()
        at = str(following)
        walked.add(at)
    return set() if checked.scope.tasks[name].type in _LEAVES else walked
