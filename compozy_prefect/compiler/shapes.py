"""What is known of a value before a run: a JSON Schema, followed along the path of a template.

Schemas come from the input of the workflow, the answers of agents, the results of tools, and from
the `with` and `outputs` that the YAML writes out. An empty schema means that nothing is known, and
nothing is said of what is not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from compozy_prefect.compiler.checks.project import Checked
from compozy_prefect.compiler.scope import action_of
from compozy_prefect.compiler.tree import Step
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import Template, parse
from compozy_prefect.expressions.nodes import Path, Text
from compozy_prefect.language.models.task import BasicTask

Schema = dict[str, Any]
Segment = str | int | None

UNKNOWN: Schema = {}
TEXT: Schema = {"type": "string"}

# Keywords under which a value may have fields that `properties` does not list.
_OPEN = {
    "$ref",
    "$dynamicRef",
    "allOf",
    "anyOf",
    "dependentSchemas",
    "else",
    "if",
    "oneOf",
    "patternProperties",
    "then",
    "unevaluatedProperties",
}
_SCALARS = {"string", "number", "integer", "boolean", "null"}


class Stop(NamedTuple):
    """Where a path leaves what its schema allows, at segment `at` of those followed.

    `known` lists the fields there are; `kind` names a type that has none. `closed`: the schema
    rules out any other field.
    """

    at: int
    known: tuple[str, ...] = ()
    kind: str = ""
    closed: bool = False


def follow(schema: Schema, segments: Iterable[Segment]) -> Schema | Stop:
    """The schema at the end of a path, UNKNOWN where it gets lost, or where it goes wrong."""
    for at, segment in enumerate(segments):
        if not isinstance(schema, dict) or not schema or _OPEN & schema.keys():
            return UNKNOWN
        kinds = _kinds(schema)
        if len(kinds) != 1:
            return UNKNOWN
        below = _below(schema, kinds[0], segment)
        if below is None:
            return Stop(at, kind=kinds[0])
        if isinstance(below, tuple):
            return Stop(at, below, closed=schema.get("additionalProperties") is False)
        schema = below
    return schema if isinstance(schema, dict) else UNKNOWN


def _kinds(schema: Schema) -> list[str]:
    """The types a value may have, null aside; an object if it only lists properties."""
    given = schema.get("type")
    if given is None:
        return ["object"] if "properties" in schema else []
    listed = given if isinstance(given, list) else [given]
    return [kind for kind in listed if kind != "null"]


def _below(schema: Schema, kind: str, segment: Segment) -> Schema | tuple[str, ...] | None:
    """The schema of a member; the known fields when it is none of them; None without members."""
    if kind in _SCALARS:
        return None
    if kind == "array":
        if isinstance(segment, str):
            return None
        items = schema.get("items")
        return items if isinstance(items, dict) else UNKNOWN
    properties = schema.get("properties")
    if segment is None or not isinstance(properties, dict):
        return UNKNOWN
    name = str(segment)
    if name in properties:
        found = properties[name]
        return found if isinstance(found, dict) else UNKNOWN
    if isinstance(schema.get("additionalProperties"), dict):
        return UNKNOWN
    return tuple(properties)


class Shapes:
    """The schemas of what the templates of one workflow read."""

    def __init__(self, checked: Checked) -> None:
        self._scope, self._tree = checked.scope, checked.tree
        workflow = checked.scope.workflow
        given = workflow.config.input if workflow.config else None
        schema = self._scope.schema(given)
        self._input: Schema = schema if isinstance(schema, dict) else UNKNOWN
        self._outputs: dict[Step, Schema] = {}
        # What a transition lays over the `with` of the next task may have any field.
        order = checked.tree.sequence
        self._open = {
            target
            for step in checked.tree.steps
            for transition, target in (
                (step.task.on_success, order.success.get(step.id)),
                (step.task.on_error, order.failure.get(step.id)),
            )
            if transition is not None and transition.with_
        }

    def at(
        self,
        segments: tuple[Segment, ...],
        step: Step | None,
        *,
        reader: Step | None = None,
        ended: bool = False,
    ) -> tuple[Schema, int]:
        """The schema that a path starts from, and how many of its segments lead there.

        `step` is the one whose `outputs` hold the path, if any do; `ended`: the path stands in
        its transition, where `.output` is what the `outputs` made of it. Names are looked up from
        `reader`.
        """
        if segments[:2] == ("workflow", "input"):
            return self._input, 2
        if len(segments) > 2 and segments[0] == "tasks":
            found = self._tree.find(str(segments[1]), reader or step)
            if found is not None and found.names() is None and segments[2] == "output":
                return self.output(found), 3
            if found is not None and found.names() is None and segments[2] == "input":
                return self._with(found), 3
        if step is not None and segments[0] == "output":
            return self.output(step) if ended else self._raw(step), 1
        if step is not None and segments[0] in ("with", "input"):
            return self._with(step), 1
        return UNKNOWN, len(segments)

    def output(self, step: Step) -> Schema:
        """What `.tasks.<id>.output` is."""
        if step not in self._outputs:
            self._outputs[step] = UNKNOWN  # for a task that reads itself
            if step.task.outputs is None:
                self._outputs[step] = self._raw(step)
            elif step.steps or step.task.type == "router":
                self._outputs[step] = UNKNOWN
            else:
                self._outputs[step] = self._of(step.task.outputs, step)
        return self._outputs[step]

    def _raw(self, step: Step) -> Schema:
        task = step.task
        if not isinstance(task, BasicTask) or task.condition:
            return UNKNOWN
        agent = self._scope.agent_of(task)
        if agent is not None:
            action = action_of(agent, task.action or "")
            if action is None or (action.output is None and (action.json_mode or agent.json_mode)):
                return UNKNOWN
            if action.output is None:
                return {"type": "object", "properties": {"response": TEXT}}
            schema = self._scope.schema(action.output)
            return schema if isinstance(schema, dict) else UNKNOWN
        tool = self._scope.tool_of(task)
        if tool is not None:
            schema = self._scope.schema(tool.output)
            return schema if isinstance(schema, dict) else UNKNOWN
        has_executor = task.tool is not None or task.agent is not None or task.prompt
        return UNKNOWN if has_executor else self._with(step)

    def _with(self, step: Step) -> Schema:
        # The schema of the input may add defaults, and has the better types.
        schema = self._scope.schema(step.task.input)
        if isinstance(schema, dict):
            return schema
        made = self._of(step.task.with_, None)
        is_open = step.parent is not None or step.id in self._open
        return {k: v for k, v in made.items() if k != "additionalProperties"} if is_open else made

    def _of(self, value: Any, step: Step | None) -> Schema:
        """The schema of a value that the YAML writes out; templates in it are followed."""
        if isinstance(value, dict):
            properties = {key: self._of(item, step) for key, item in value.items()}
            return {"type": "object", "properties": properties, "additionalProperties": False}
        if isinstance(value, list):
            return {"type": "array"}
        if isinstance(value, bool):
            return {"type": "boolean"}
        if isinstance(value, (int, float)):
            return {"type": "number"}
        return self._of_text(value, step) if isinstance(value, str) else UNKNOWN

    def _of_text(self, text: str, step: Step | None) -> Schema:
        try:
            template = parse(text)
        except TemplateError:
            return UNKNOWN
        if template.static:
            return TEXT
        path = path_of(template)
        if path is not None:
            schema, used = self.at(path, step)
            found = follow(schema, path[used:])
            return UNKNOWN if isinstance(found, Stop) else found
        first = template.body[0]
        # Text that may come out as JSON is parsed, and is then no text any more (§11.4).
        if isinstance(first, Text) and first.value.strip()[:1] not in ("", "{", "["):
            return TEXT
        return UNKNOWN


def path_of(template: Template) -> tuple[Segment, ...] | None:
    """The path that a template of one action consists of, if it is one from the root."""
    whole = template.whole
    if not isinstance(whole, Path) or len(template.reads) != 1:
        return None
    read = template.reads[0]
    return read.segments if (read.start, read.end) == (whole.start, whole.end) else None
