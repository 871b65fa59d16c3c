"""Tasks that call other workflows, `cp__call_workflow` and `cp__call_workflows` (language.md §6.5):
the workflow, the task it begins with, its input, and workflows that call each other for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from compozy_prefect.compiler.builtins import CALL_WORKFLOW, CALL_WORKFLOWS, builtin_of
from compozy_prefect.compiler.checks.arguments import COMPOSED, fitted
from compozy_prefect.compiler.checks.nouns import is_template
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.tree import Step
from compozy_prefect.diagnostics import Diagnostic, error
from compozy_prefect.language.names import suggest
from compozy_prefect.language.nodes import Mapping, Scalar, Sequence


class _Call(NamedTuple):
    """A call whose workflow the file names. `always`: the caller cannot end without it."""

    node: Mapping
    id: Scalar
    always: bool


def calls(project: Project) -> Iterator[Diagnostic]:
    workflows = {checked.scope.workflow.key: checked for checked in project.workflows}
    always: dict[str, list[_Call]] = {}
    for key, checked in workflows.items():
        for call in _calls(checked):
            called = workflows.get(str(call.id.value))
            if called is None:
                hint = suggest(str(call.id.value), workflows, what="there are")
                text = f"unknown workflow: `{call.id.value}`"
                yield error("CZ219", text, call.id.span, hint)
                continue
            yield from _begun(call, called)
            yield from _given(call, called)
            if call.always:
                always.setdefault(key, []).append(call)
    yield from _endless(always)


def _calls(checked: Checked) -> Iterator[_Call]:
    for step in checked.tree.all:
        tool, given = builtin_of(step.task), step.task.node.get("with")
        if tool is None or not isinstance(given, Mapping):
            continue
        nodes: list[object] = []
        if tool.id == CALL_WORKFLOW:
            nodes = [given]
        elif tool.id == CALL_WORKFLOWS:
            listed = given.get("workflows")
            nodes = list(listed.items) if isinstance(listed, Sequence) else []
        for node in nodes:
            id = node.get("workflow_id") if isinstance(node, Mapping) else None
            if not isinstance(node, Mapping) or not isinstance(id, Scalar):
                continue
            if isinstance(id.value, str) and not is_template(id.value):
                yield _Call(node, id, _is_certain(step, checked))


def _is_certain(step: Step, checked: Checked) -> bool:
    """Whether every run of the workflow that succeeds has run the step."""
    if step.parent is not None or step.role != "line" or step.task.condition:
        return False
    return checked.tree.sequence.surely_ran(step.id)


def _begun(call: _Call, called: Checked) -> Iterator[Diagnostic]:
    first = call.node.get("initial_task_id")
    if not isinstance(first, Scalar) or not isinstance(first.value, str):
        return
    if not is_template(first.value) and first.value not in called.tree.top:
        text = f"the workflow `{call.id.value}` has no task `{first.value}` to begin with"
        hint = suggest(first.value, called.tree.top, what="it has")
        yield error("CZ219", text, first.span, hint)


def _given(call: _Call, called: Checked) -> Iterator[Diagnostic]:
    node, config = call.node.get("input"), called.scope.workflow.config
    schema = called.scope.schema(config.input) if config is not None else None
    if not isinstance(schema, dict) or COMPOSED & schema.keys():
        return
    if node is None or isinstance(node, Mapping):
        at = call.id.span if node is None else call.node.key_span("input")
        what = f"the workflow `{call.id.value}`"
        yield from fitted(node, what, schema, set(), "the call", at)


def _endless(always: dict[str, list[_Call]]) -> Iterator[Diagnostic]:
    """Workflows that come back to themselves whatever happens."""
    told: set[str] = set()
    for key in always:
        path = _way_back(key, always)
        if path and not told & {key, *path}:
            told |= {key, *path}
            way = " → ".join(f"`{one}`" for one in (key, *path))
            call = next(call for call in always[key] if call.id.value == path[0])
            yield error(
                "CZ312",
                f"the workflow `{key}` calls itself and can never end: {way}",
                call.id.span,
                "put the call behind a `condition`, or into a route of a `router`",
            )


def _way_back(key: str, always: dict[str, list[_Call]]) -> list[str]:
    """The workflows from one back to itself; empty without such a way."""
    waiting: list[list[str]] = [[str(call.id.value)] for call in always[key]]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop(0)
        if path[-1] == key:
            return path
        if path[-1] not in seen:
            seen.add(path[-1])
            waiting += [[*path, str(call.id.value)] for call in always.get(path[-1], [])]
    return []
