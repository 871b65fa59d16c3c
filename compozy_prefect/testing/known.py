"""What a workflow has and gives, as far as that is known before it runs, for those who test it.

Expectations that no run can fulfil are diagnostics: of tasks, routes and signals that are not
there (CZ701), and of values that schemas and templates rule out (CZ703).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from compozy_prefect.compiler.checks.project import Checked
from compozy_prefect.compiler.plan import WorkflowPlan
from compozy_prefect.compiler.shapes import Shapes
from compozy_prefect.compiler.tree import Step
from compozy_prefect.compiler.values import NOUNS, Shape, Stop, element, kind_of, member
from compozy_prefect.diagnostics import Diagnostic, Span, error, warning
from compozy_prefect.language.models.task import RouterTask
from compozy_prefect.language.names import nearest, suggest
from compozy_prefect.runtime.routing import DEFAULT
from compozy_prefect.testing.expect import Expected, Fields, Items, Rules, Same

_LISTED = 20  # names in a hint


class Known:
    """One workflow: its steps, and the shapes of what they give."""

    def __init__(self, checked: Checked, plan: WorkflowPlan) -> None:
        self.plan = plan
        self._tree = checked.tree
        self._shapes = Shapes(checked)

    @cached_property
    def output(self) -> Shape:
        return self._shapes.result()

    def steps(self, key: str) -> list[Step]:
        """The steps that a key of `tasks` may mean: an id, perhaps behind those around it."""
        return [step for step in self._tree.all if _is_called(step, key.split("/"))]

    def no_task(self, key: str, span: Span) -> Diagnostic:
        known = [step.path for step in self._tree.all] if "/" in key else self._tree.ids
        hint = suggest(key, known, what="its tasks are", limit=_LISTED)
        message = f"workflow `{self.plan.id}` has no task `{key}`"
        return error("CZ701", message, span, hint)

    def output_of(self, steps: list[Step]) -> Shape | None:
        """What a task gives, if it is clear which one is meant."""
        return self._shapes.output(steps[0]) if len(steps) == 1 else None

    def no_signal(self, name: str, span: Span) -> Diagnostic | None:
        """Nothing waits for a signal of the name; None where that is known only when it runs."""
        waits = [step.wait.signal for step in self.plan.all_steps.values() if step.wait]
        if name in waits or any("{{" in signal for signal in waits):
            return None
        hint = suggest(name, waits, what="it waits for", limit=_LISTED)
        message = f"workflow `{self.plan.id}` does not wait for a signal `{name}`"
        return error("CZ701", message, span, hint)

    def routes(self, steps: list[Step], expected: Expected) -> Iterator[Diagnostic]:
        """What is wrong with the route that a task is expected to take."""
        routers = [step for step in steps if isinstance(step.task, RouterTask)]
        if not routers:
            message = f"`{steps[0].id}` is no router, and takes no route"
            yield error("CZ703", message, expected.span)
        elif isinstance(expected, Same):
            known = [key for step in routers for key in self._routes(step)]
            name = str(expected.value)
            if expected.value not in known:
                hint = suggest(name, known, what="its routes are", limit=_LISTED)
                message = f"router `{steps[0].id}` has no route `{name}`"
                yield error("CZ701", message, expected.span, hint)

    def _routes(self, step: Step) -> Iterable[str]:
        router = self.plan.all_steps[step.path].router
        assert router is not None
        fallback = [DEFAULT] if router.default else []
        return [*(route.key for route in router.routes), *fallback]


def _is_called(step: Step, parts: list[str]) -> bool:
    at: Step | None = step
    for part in reversed(parts):
        if at is None:
            return False
        names = at.names()
        if part != at.id and (names is None or not names.fullmatch(part)):
            return False
        at = at.parent
    return True


def impossible(expected: Expected, shape: Shape, what: str) -> Iterator[Diagnostic]:
    """Where a value of the shape can never be as expected."""
    if not shape.alternatives or isinstance(expected, Rules):
        return
    if isinstance(expected, Fields):
        for key, value in expected.fields.items():
            found = member(shape, key)
            if not isinstance(found, Stop):
                yield from impossible(value, found, f"{what}.{key}")
            elif not (isinstance(value, Rules) and "$absent" in value.rules):
                yield from _no_field(found, key, what, expected.keys[key])
            if isinstance(found, Stop) and found.kinds:
                return  # said of the first of them
    elif not _may_be(expected, shape):
        names = " or ".join(sorted(NOUNS[kind] for kind in shape.kinds))
        yield error("CZ703", f"`{what}` is {names}, and never like this", expected.span)
    elif isinstance(expected, Items):
        for index, item in enumerate(expected.items):
            yield from impossible(item, element(shape), f"{what}[{index}]")
    elif isinstance(expected, Same) and expected.value is not None:
        choices = shape.choices
        if choices is not None and expected.value not in choices:
            hint = suggest(str(expected.value), map(str, choices), what="it is one of", limit=10)
            message = f"`{what}` is never `{expected.value}`"
            yield error("CZ703", message, expected.span, hint)


def _may_be(expected: Expected, shape: Shape) -> bool:
    """Whether the shape has the kind of what is expected. Any value may turn out to be null."""
    if "null" in shape.kinds or (isinstance(expected, Same) and expected.value is None):
        return True
    wanted = kind_of(expected.value) if isinstance(expected, Same) else "array"
    return wanted in shape.kinds


def _no_field(stop: Stop, key: str, what: str, span: Span) -> Iterator[Diagnostic]:
    if stop.kinds:
        yield error("CZ703", f"`{what}` is {stop.nouns} and has no field `{key}`", span)
        return
    hint = suggest(key, stop.known, what="it has", limit=_LISTED)
    message = f"`{what}` has no field `{key}`, as far as its schema says"
    if stop.closed:
        yield error("CZ703", message, span, hint)
    elif nearest(key, stop.known):
        yield warning("CZ703", message, span, hint)
