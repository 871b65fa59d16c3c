"""What the templates of one workflow see, as shapes: `Shapes(checked).at(place)`.

Shapes come from the schemas that the workflow declares and from the `with` and `outputs` that the
YAML writes out, the templates in them followed in turn. Everything is computed when it is asked
for, and once for a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from compozy_prefect.compiler import outcomes, variables
from compozy_prefect.compiler.checks.project import Checked
from compozy_prefect.compiler.contexts import Contexts
from compozy_prefect.compiler.env import Env, Finding
from compozy_prefect.compiler.infer import infer, walk
from compozy_prefect.compiler.places import Place
from compozy_prefect.compiler.schemas import shape_of
from compozy_prefect.compiler.tree import Step
from compozy_prefect.compiler.values import (
    BOOLEAN,
    NULL,
    NUMBER,
    TEXT,
    UNKNOWN,
    Lazy,
    Shape,
    either,
    list_of,
    map_of,
)
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import Template, parse, parse_condition
from compozy_prefect.expressions.functions import FUNCTIONS
from compozy_prefect.expressions.nodes import Call, Text
from compozy_prefect.language.models.project import Workflow

# Templates that lead to templates; a longer way than this gives up.
_DEEPEST = 20


class Shapes:
    """The shapes of one workflow. `output`, `raw` and `given` are those of its steps."""

    def __init__(self, checked: Checked) -> None:
        self.scope, self.tree = checked.scope, checked.tree
        workflow = checked.scope.workflow
        self._named: dict[str, Shape] = {}
        self._declared: dict[int, tuple[Any, Shape]] = {}
        self._made: dict[tuple[str, Step], Shape] = {}
        self._depth = 0
        order = self.tree.sequence
        # The steps that a transition may bring values to, over their own `with`.
        self.brought_to = {*order.failure.values(), *self.scope.called_tasks}
        for step in self.tree.steps:
            if step.task.on_success is not None and step.task.on_success.with_:
                self.brought_to |= {*order.successors(step.id)}
                self.brought_to |= {*filter(None, [order.success.get(step.id)])}
        declared = workflow.config.input if workflow.config else None
        self.input = _sent(self, workflow) if declared is None else self.declared(declared)
        self._contexts = Contexts(self)

    # Places

    def of(self, place: Place) -> Shape:
        """What the template at a place gives; UNKNOWN if it cannot be parsed."""
        template = self._parsed(place)
        return UNKNOWN if template is None else self._whole(template, self._contexts.of(place))

    def found(self, place: Place) -> list[Finding]:
        """What the template at a place does that cannot work."""
        template = self._parsed(place)
        if template is None or template.static:
            return []
        env = Env(template.text_of, self._contexts.of(place), self.named)
        try:
            walk(template, env, guarded="{{" not in template.text_of)
        except RecursionError:  # long templates that lead to long templates
            self._depth = 0
        return env.found

    def _parsed(self, place: Place) -> Template | None:
        text = str(place.node.value)
        try:
            return parse_condition(text) if place.condition else parse(text)
        except TemplateError:
            return None  # said by the pass over templates

    # Schemas

    def declared(self, given: Any) -> Shape:
        """The shape of the schema that a field gives or names."""
        if not isinstance(given, dict):
            return self.named(given) if isinstance(given, str) else UNKNOWN
        if id(given) not in self._declared:
            self._declared[id(given)] = given, shape_of(self.scope.schema(given))
        return self._declared[id(given)][1]

    def named(self, name: str) -> Shape:
        """The shape of a schema by its id, or `schema::id`."""
        if name not in self._named:
            self._named[name] = shape_of(self.scope.schema(name))
        return self._named[name]

    def payload(self, name: str) -> Shape:
        """What a signal brings, by the schema of the trigger that listens to one of that name.

        Whoever sends it to a run that waits may send something else (§2.7): it is never closed.
        """
        for workflow in (self.scope.workflow, *(one.noun for one in self.scope.loaded.workflows)):
            for trigger in workflow.triggers:
                # A name of a schema means what the workflow that has the trigger calls so.
                known = workflow is self.scope.workflow or isinstance(trigger.schema, dict)
                if trigger.name == name and trigger.webhook is None and known:
                    return _open(self.declared(trigger.schema))
        return UNKNOWN

    # Steps

    def output(self, step: Step) -> Shape:
        """What `.tasks.<id>.output` is."""
        return self._once("output", step, outcomes.output)

    def raw(self, step: Step) -> Shape:
        """What `.output` is in the `outputs` of a step."""
        return self._once("raw", step, outcomes.raw)

    def given(self, step: Step) -> Shape:
        """The rendered `with` of a step: `.with`, and `.input` (§11.2)."""
        return self._once("with", step, outcomes.given)

    def result(self) -> Shape:
        """What the workflow gives when it succeeds; UNKNOWN without `outputs` (§2.1)."""
        outputs = self.scope.workflow.outputs
        return self.written(outputs, self._contexts.outside()) if outputs else UNKNOWN

    def context(self, step: Step, sees: variables.Scope) -> Shape:
        """What a field of a step sees."""
        return self._contexts.inside(step, sees)

    def _once(self, what: str, step: Step, make: Callable[[Step, Shapes], Shape]) -> Shape:
        key = what, step
        if key not in self._made:
            if self._depth >= _DEEPEST:
                return UNKNOWN
            self._made[key] = UNKNOWN  # for a task that reads itself
            self._depth += 1
            self._made[key] = make(step, self)
            self._depth -= 1
        return self._made[key]

    # Values

    def written(self, value: Any, context: Shape) -> Shape:
        """The shape of a value that the YAML writes out; templates in it are followed."""
        if isinstance(value, Mapping):
            makers = {str(k): self._later(item, context) for k, item in value.items()}
            return map_of(Lazy(makers), closed=True)
        if isinstance(value, list):
            return list_of(either(self.written(item, context) for item in value))
        if isinstance(value, bool):
            return BOOLEAN
        if isinstance(value, (int, float)):
            return NUMBER
        if isinstance(value, str):
            return self._rendered(value, context)
        return NULL if value is None else UNKNOWN

    def _later(self, value: Any, context: Shape) -> Callable[[], Shape]:
        return lambda: self.written(value, context)

    def _rendered(self, text: str, context: Shape) -> Shape:
        """What a text is as data (§11.4)."""
        try:
            template = parse(text)
        except TemplateError:
            return UNKNOWN
        if template.static:
            return TEXT
        whole = template.whole
        if whole is not None:
            made_json = isinstance(whole, Call) and (
                whole.name in FUNCTIONS and FUNCTIONS[whole.name].json_text
            )
            return UNKNOWN if made_json else self._whole(template, context)
        first = template.body[0]
        # Text that may come out as JSON is parsed, and is then no text any more.
        if isinstance(first, Text) and first.value.strip()[:1] not in ("", "{", "["):
            return TEXT
        return UNKNOWN

    def _whole(self, template: Template, context: Shape) -> Shape:
        """The value of a template that is one expression, else text."""
        if template.whole is None:
            return TEXT
        if self._depth >= _DEEPEST:
            return UNKNOWN
        self._depth += 1
        try:
            return infer(template.whole, Env(template.text_of, context, self.named))
        except RecursionError:
            return UNKNOWN
        finally:
            self._depth -= 1


def _sent(shapes: Shapes, workflow: Workflow) -> Shape:
    """The input of a workflow that declares none: what its triggers say that they bring (§2.7)."""
    brought: list[Shape] = []
    for trigger in workflow.triggers:
        if trigger.webhook is None:
            brought.append(shapes.declared(trigger.schema))
        else:
            events = trigger.webhook.events
            brought += [map_of(dict.fromkeys(event.input, UNKNOWN)) for event in events]
    return _open(either(brought))


def _open(shape: Shape) -> Shape:
    """The shape of what is not checked: a map may have other fields too."""
    return either(one._replace(closed=False) for one in shape.alternatives)
