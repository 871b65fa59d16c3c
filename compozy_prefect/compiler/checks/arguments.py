"""What a task hands over, against the schemas that it is checked by when it runs: its own `input`,
that of the agent's action and that of the tool (language.md §3.1, §4.2, §6.1).

Warnings: only the task fails, and only if it is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compozy_prefect.compiler.checks.contents import fits
from compozy_prefect.compiler.checks.nouns import is_template, place
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.scope import action_of
from compozy_prefect.compiler.tree import Step
from compozy_prefect.diagnostics import Diagnostic, warning
from compozy_prefect.language.models.task import BasicTask, CollectionTask
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping, Node, Scalar

# With one of these, what is required and what is known is not said in one place.
_COMPOSED = frozenset(("allOf", "anyOf", "oneOf", "if", "$ref", "patternProperties", "not"))


def arguments(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        brought = _brought(checked)
        for step in checked.tree.all:
            for what, schema, defaults in _schemas(step, checked):
                if isinstance(schema, dict) and not _COMPOSED & schema.keys():
                    yield from _judged(step, what, schema, defaults | brought)


def _brought(checked: Checked) -> frozenset[str]:
    """What any transition hands to the task it leads to, whichever that is."""
    given = (one for step in checked.tree.all for one in (step.task.on_success, step.task.on_error))
    return frozenset(name for one in given if one is not None for name in one.with_)


def _schemas(step: Step, checked: Checked) -> Iterator[tuple[str, Any, set[str]]]:
    """Each schema that the input of a step has to fit, and what is filled in for it."""
    task, scope = step.task, checked.scope
    if task.input is not None:
        yield "its `input`", scope.schema(task.input), set()
    if not isinstance(task, BasicTask):
        return
    tool, agent = scope.tool_of(task), scope.agent_of(task)
    if tool is not None and tool.input is not None:
        yield f"the tool `{tool.id}`", scope.schema(tool.input), {*tool.with_}
    action = action_of(agent, task.action or "") if agent is not None else None
    if agent is not None and action is not None and action.input is not None:
        defaults = {*agent.with_, *action.with_}
        yield f"the action `{action.id}`", scope.schema(action.input), defaults


def _judged(
    step: Step, what: str, schema: dict[str, Any], filled: set[str]
) -> Iterator[Diagnostic]:
    node, properties = step.task.node.get("with"), schema.get("properties")
    if not isinstance(node, Mapping) and node is not None:
        return
    known: dict[str, Any] = properties if isinstance(properties, dict) else {}
    own: dict[str, Node] = node.entries if node is not None else {}
    given = {*own, *filled, *_around(step)}
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
            f"{what} requires {names}, and the task does not give it",
            place(step.task, "id") if node is None else step.task.node.key_span("with"),
            f"add {names} under `with`",
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
    if not isinstance(schema, dict) or _COMPOSED & schema.keys():
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
