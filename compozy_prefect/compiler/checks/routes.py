"""Routers: whether the routes fit what the condition can be (language.md §3.6), and whether the
tasks that stand in routes keep their ids to themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from compozy_prefect.compiler.checks.nouns import is_given
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.places import Place, places
from compozy_prefect.compiler.sequence import targets_of
from compozy_prefect.compiler.shapes import Shapes
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse_condition
from compozy_prefect.expressions.nodes import If, Literal, Node, Text
from compozy_prefect.language.models.task import RouterTask, Task
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping

_FALLBACKS = ("default", "default_route")


def routes(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        if not any(isinstance(task, RouterTask) for task in checked.scope.tasks):
            continue
        shapes = Shapes(checked)
        for place in places(checked.scope):
            if place.condition and place.step is not None and place.field == "router":
                assert isinstance(place.step.task, RouterTask)
                yield from _router(place.step.task, _values(place, shapes))
        yield from _collisions(checked)


def _values(place: Place, shapes: Shapes) -> tuple[Any, ...]:
    """All that the condition can be, null aside; nothing when that is not known."""
    try:
        template = parse_condition(str(place.node.value))
    except TemplateError:
        return ()  # said by the pass over templates
    if template.whole is None:
        return tuple(_texts(template.body))
    if isinstance(template.whole, Literal):
        return ()  # it is meant, as one without quotes is
    shape = shapes.of(place)
    values = (True, False) if shape.kinds == {"boolean"} else shape.choices or ()
    return values if all(isinstance(value, (bool, int, float, str)) for value in values) else ()


def _texts(body: Iterable[Node]) -> list[str]:
    """What `{{ if … }}a{{ else }}b{{ end }}` renders to."""
    parts = [node for node in body if not (isinstance(node, Text) and not node.value.strip())]
    if len(parts) == 1 and isinstance(parts[0], Text):
        return [parts[0].value.strip()]
    if len(parts) == 1 and isinstance(parts[0], If):
        yes, no = _texts(parts[0].body), _texts(parts[0].otherwise)
        return yes + no if yes and no else []
    return []


def _router(task: RouterTask, values: tuple[Any, ...]) -> Iterator[Diagnostic]:
    given = task.node.get("routes")
    if not values or not isinstance(given, Mapping):
        return
    fallback = "default" in given.entries or any(is_given(task, name) for name in _FALLBACKS)
    keys = [key for key in given.entries if key != "default"]
    if all(isinstance(value, bool) for value in values):
        yield from _boolean(task, keys, fallback)
        return
    known = list(dict.fromkeys(_key(value) for value in values))
    missing = [f"`{value}`" for value in known if value not in given.entries]
    if missing and not fallback:
        yield warning(
            "CZ318",
            f"the condition can be {_listed(missing)}, and no route is for that",
            task.node.key_span("routes"),
            "add a route, or `default:` for all that has none; without one the task fails",
        )
    for key in keys:
        if key not in known:
            near = nearest(key, known)
            listed = f"it is one of {', '.join(known)}"
            yield warning(
                "CZ318",
                f"the condition is never `{key}`",
                given.key_span(key),
                f"did you mean `{near}`? {listed}" if near else listed,
            )


def _boolean(task: RouterTask, keys: list[str], fallback: bool) -> Iterator[Diagnostic]:
    """§3.6 rule (b): without a key `true`, what is true takes the first route."""
    given = task.node.at("routes")
    assert isinstance(given, Mapping)
    others = [key for key in keys if key not in ("true", "false")]
    taken = [] if "true" in keys else others[:1]
    missing = [] if fallback or "true" in keys or taken else ["true"]
    missing += [] if fallback or "false" in keys else ["false"]
    for value in missing:
        yield warning(
            "CZ318",
            f"the condition can be {value}, and no route is for that",
            task.node.key_span("routes"),
            f"add `{value}:` to the routes, or `default:`; without one the task fails",
        )
    for key in others[len(taken) :]:
        yield warning(
            "CZ318",
            f"the condition is true or false, and never leads to `{key}`",
            given.key_span(key),
            f"what is true takes `{'true' if 'true' in keys else taken[0]}`, what is false "
            f"`{'false' if 'false' in keys else 'default'}`",
        )


def _key(value: bool | float | str) -> str:
    """The key that a value looks for."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _listed(names: list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# --- ids of the tasks in routes -------------------------------------------------------------------


def _collisions(checked: Checked) -> Iterator[Diagnostic]:
    """Routes bring their tasks into the list of the router, one for each id."""
    for steps in (checked.tree.steps, *(step.steps for step in checked.tree.all)):
        there = {step.id: step.task for step in reversed(steps)}
        for step in steps:
            if isinstance(step.task, RouterTask):
                yield from _brought(step.task, there)


def _brought(router: RouterTask, there: dict[str, Task]) -> Iterator[Diagnostic]:
    for target in targets_of(router):
        if not isinstance(target, Task) or "{{" in target.id:
            continue
        other = there.get(target.id, target).node
        # The same task may be reached by several routes, by reference or written out again.
        if other is not target.node and other.data() != target.node.data():
            span = other.at("id").span
            yield error(
                "CZ318",
                f"the task `{target.id}` of this route would never run: another one has its id",
                target.node.at("id").span,
                f"the other one is at {span.file}:{span.line}; rename one, or write the route as "
                f"`{target.id}` if that one is meant",
            )
