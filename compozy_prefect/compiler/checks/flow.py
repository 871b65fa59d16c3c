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
        yield from _loops(checked)


def _unreachable(checked: Checked) -> Iterator[Diagnostic]:
    sequence = checked.sequence
    if any(task.type in _LEAVES for task in checked.scope.workflow.tasks):
        return  # their edges are not followed yet
    for task in checked.scope.tasks.values():
        if not sequence.reaches(task.id):
            hint = (
                "name it in the `on_success.next` of another task"
                if sequence.explicit
                else "a task before it is `final`"
            )
            yield warning(
                "CZ311", f"nothing leads to the task `{task.id}`", task.node.at("id").span, hint
            )


def _loops(checked: Checked) -> Iterator[Diagnostic]:
    sequence = checked.sequence
    tasks = checked.scope.tasks
    for name in sequence.order:
        target = sequence.success.get(name)
        if target not in tasks or not _closes(checked, name, str(target)):
            continue
        yield error(
            "CZ312",
            f"`{name}` leads back to `{target}`, and nothing on the way can leave the loop",
            tasks[name].node.at("on_success", "next").span,
            "a loop needs a `router` or a `wait` task in it",
        )


def _closes(checked: Checked, name: str, target: str) -> bool:
    """Whether the edge from `name` to `target` closes a loop that nothing leaves.

    Only success edges can turn for ever; an edge counts as closing when it leads back in the file.
    """
    order = checked.sequence.positions
    if order[target] > order[name]:
        return False
    at, walked = target, {target}
    while at != name:
        if checked.scope.tasks[at].type in _LEAVES:
            return False
        following = checked.sequence.success.get(at)
        if following not in order or following in walked:
            return False
        at = str(following)
        walked.add(at)
    return checked.scope.tasks[name].type not in _LEAVES
