"""What a task hands over, against the schemas that it is checked by when it runs: its own `input`,
that of the agent's action, that of the tool, and those of the workflow that a signal starts
(language.md §2.7, §3.1, §4.2, §6.1).

Warnings: only the task fails, and only if it is run; a signal that is refused starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compozy_prefect.compiler.builtins import builtin_of
from compozy_prefect.compiler.checks.contents import fits
from compozy_prefect.compiler.checks.nouns import is_template, place
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.checks.unread import unread
from compozy_prefect.compiler.scope import action_of
from compozy_prefect.compiler.tree import Step
from compozy_prefect.diagnostics import Diagnostic, Span, warning
from compozy_prefect.language.models.task import BasicTask, CollectionTask, SignalTask
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping, Node, Scalar

# With one of these, what is required and what is known is not said in one place.
COMPOSED = frozenset(("allOf", "anyOf", "oneOf", "if", "$ref", "patternProperties", "not"))


def arguments(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        brought = _brought(checked)
        for step in checked.tree.all:
            # What only tools call is given the rest by them, which is judged with the calls.
            is_called = step.parent is None and step.id in checked.scope.called_tasks
            if is_called and not checked.tree.sequence.reaches(step.id):
                continue
            for what, schema, defaults in schemas_of(step, checked):
                if isinstance(schema, dict) and not COMPOSED & schema.keys():
                    yield from _judged(step, what, schema, defaults | brought)
            yield from unread(step, checked.scope)
            if isinstance(step.task, SignalTask):
                yield from _sent(step, step.task, project)


def _brought(checked: Checked) -> frozenset[str]:
    """What any transition hands to the task it leads to, whichever that is."""
    given = (one for step in checked.tree.all for one in (step.task.on_success, step.task.on_error))
    return frozenset(name for one in given if one is not None for name in one.with_)


def schemas_of(step: Step, checked: Checked) -> Iterator[tuple[str, Any, set[str]]]:
    """Each schema that the input of a step has to fit, and what is filled in for it."""
    task, scope = step.task, checked.scope
    if task.input is not None:
        yield "its `input`", scope.schema(task.input), set()
    if not isinstance(task, BasicTask):
        return
    tool, agent = scope.tool_of(task), scope.agent_of(task)
    if tool is not None and tool.input is not None:
        yield f"the tool `{tool.id}`", scope.schema(tool.input), {*tool.with_}
    if (builtin := builtin_of(task)) is not None:
        yield f"the tool `{builtin.id}`", builtin.input_schema, set()
    action = action_of(agent, task.action or "") if agent is not None else None
    if agent is not None and action is not None and action.input is not None:
        defaults = {*agent.with_, *action.with_}
        yield f"the action `{action.id}`", scope.schema(action.input), defaults


def _judged(
    step: Step, what: str, schema: dict[str, Any], filled: set[str]
) -> Iterator[Diagnostic]:
    node = step.task.node.get("with")
    if isinstance(node, Mapping) or node is None:
        at = place(step.task, "id") if node is None else step.task.node.key_span("with")
        yield from fitted(node, what, schema, {*filled, *_around(step)}, "the task", at)


def _sent(step: Step, task: SignalTask, project: Project) -> Iterator[Diagnostic]:
    """The payload of a signal, against what starts with it."""
    node = task.signal.node.get("payload")
    if not isinstance(node, Mapping) and node is not None:
        return
    at = place(task.signal, "id") if node is None else task.signal.node.key_span("payload")
    for checked in project.workflows:
        workflow = checked.scope.workflow
        for trigger in workflow.triggers:
            if trigger.webhook is not None or trigger.name != task.signal.id:
                continue
            own = workflow.config.input if workflow.config is not None else None
            for what, given in (
                (f"the trigger `{trigger.name}`", trigger.schema),
                (f"the workflow `{workflow.id}`", own),
            ):
                schema = checked.scope.schema(given)
                if isinstance(schema, dict) and not COMPOSED & schema.keys():
                    yield from fitted(node, what, schema, set(), "the signal", at, "payload")
                    break


def fitted(
    node: Mapping | None,
    what: str,
    schema: dict[str, Any],
    filled: set[str],
    giver: str,
    at: Span,
    under: str = "with",
) -> Iterator[Diagnostic]:
    """What a map gives, against a schema; `filled` are the keys that come from elsewhere.

    `under` is the key of the giver that the map stands under.
    """
    properties = schema.get("properties")
    known: dict[str, Any] = properties if isinstance(properties, dict) else {}
    own: dict[str, Node] = node.entries if node is not None else {}
    given = {*own, *filled}
    given |= {name for name, one in known.items() if isinstance(one, dict) and "default" in one}
    required = schema.get("required")
    listed = required if isinstance(required, list) else []
    missing = [name for name in listed if isinstance(name, str) and name not in given]
    for name in own:
        near = nearest(name, [*missing, *(k for k in known if k not in given)])
        if node is not None and name not in known and near is not None:
            yield warning(
                "CZ509",
                f"{what} has no `{name}`",
                node.key_span(name),
                f"did you mean `{near}`?",
            )
            missing = [one for one in missing if one != near]
    if missing:
        names = " and ".join(f"`{name}`" for name in missing)
        yield warning(
            "CZ509",
            f"{what} requires {names}, and {giver} does not give it",
            at,
            f"add {names} under `{under}`",
        )
    for name, value in own.items():
        if name in known:
            yield from _value(value, known[name], f"`{name}` of {what}")


def _around(step: Step) -> Iterator[str]:
    """What the containers around a step hand down to it."""
    for above in step.ancestors:
        yield from above.task.with_
        if isinstance(above.task, CollectionTask):
            yield from ("item", "index", above.task.item_var, above.task.index_var)
        yield "signal"


def _value(node: Node, schema: Any, what: str) -> Iterator[Diagnostic]:
    """A value that the file writes out, against the type and the choices of its schema."""
    value = node.data()
    if not isinstance(schema, dict) or COMPOSED & schema.keys():
        return
    if isinstance(node, Scalar) and isinstance(value, str) and is_template(value):
        return
    kinds, choices = schema.get("type"), schema.get("enum")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(kinds, list) and not any(fits(value, kind) for kind in kinds):
        wanted = " or ".join(map(str, kinds))
        yield warning("CZ509", f"{what} is of type {wanted}, not {_kind(node)}", node.span)
    elif isinstance(choices, list) and isinstance(node, Scalar) and value not in choices:
        near = nearest(str(value), map(str, choices))
        listed = ", ".join(map(str, choices))
        hint = f"did you mean `{near}`?" if near else f"it is one of {listed}"
        yield warning("CZ509", f"{what} cannot be `{value}`", node.span, hint)


def _kind(node: Node) -> str:
    return node.kind if node.kind in ("text", "null", "true/false") else f"a {node.kind}"
