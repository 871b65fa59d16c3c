"""What each type of task takes and gives, as shapes (language.md §3.2 to §3.10)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compozy_prefect.compiler import children
from compozy_prefect.compiler.builtins import builtin_of
from compozy_prefect.compiler.scope import action_of
from compozy_prefect.compiler.sequence import target_id, targets_of
from compozy_prefect.compiler.tree import Step
from compozy_prefect.compiler.values import (
    ANY_MAP,
    BOOLEAN,
    NUMBER,
    TEXT,
    UNKNOWN,
    Layers,
    Shape,
    besides,
    either,
    element,
    entry,
    list_of,
    map_of,
    one_of,
)
from compozy_prefect.language import nodes
from compozy_prefect.language.models.task import (
    AggregateTask,
    BasicTask,
    CollectionTask,
    CompositeTask,
    MemoryTask,
    ParallelTask,
    RouterTask,
    SignalTask,
    Task,
    WaitTask,
)

if TYPE_CHECKING:
    from compozy_prefect.compiler.shapes import Shapes

_RANGE = re.compile(r"\s*(-?\d+)\s*\.\.\s*(-?\d+)\s*")

_METADATA = map_of(dict.fromkeys(("signal_id", "received_at_utc", "workflow_id", "source"), TEXT))
_ANSWER = map_of({"response": TEXT}, closed=True)
_HTTP = map_of({"status_code": NUMBER, "data": UNKNOWN, "headers": map_of({}, rest=TEXT)})
_CLI = map_of({"exit_code": NUMBER, "data": UNKNOWN, "stderr": TEXT})
_SKIPPED = map_of({"skipped": BOOLEAN}, closed=True)

_MESSAGES = list_of(map_of({"role": TEXT, "content": TEXT}))
_LEVELS = {"key": TEXT, "token_count": NUMBER, "message_count": NUMBER, "actual_strategy": TEXT}
_DONE = {"success": BOOLEAN, "key": TEXT}
_MEMORY: Mapping[str, Shape] = {
    "read": map_of({"messages": _MESSAGES, "count": NUMBER, "key": TEXT}),
    "write": map_of(_DONE | {"count": NUMBER}),
    "append": map_of(_DONE | {"appended": NUMBER, "total_count": NUMBER}),
    "delete": map_of(_DONE),
    "flush": map_of(
        _DONE
        | dict.fromkeys(("summary_generated", "dry_run", "would_flush"), BOOLEAN)
        | {"message_count": NUMBER, "token_count": NUMBER, "error": UNKNOWN}
    ),
    "health": map_of(
        _LEVELS | {"healthy": BOOLEAN, "last_flush": UNKNOWN, "current_tokens": UNKNOWN}
    ),
    "clear": map_of(_DONE | {"messages_cleared": NUMBER, "backup_created": BOOLEAN}),
    "stats": map_of(_LEVELS | {"last_flush": UNKNOWN, "avg_tokens_per_message": UNKNOWN}),
}


def output(step: Step, shapes: Shapes) -> Shape:
    """What others see of a step's result: the raw one, or what its `outputs` make of it."""
    task = step.task
    if not _is_whole(task):
        return UNKNOWN
    made = raw(step, shapes) if task.outputs is None else _mapped(step, task.outputs, shapes)
    if task.condition and not isinstance(task, (RouterTask, WaitTask)):
        return either((made, _SKIPPED))
    return made


def _mapped(step: Step, outputs: Mapping[str, Any], shapes: Shapes) -> Shape:
    own = shapes.written(outputs, shapes.context(step, "outputs"))
    task = step.task
    if isinstance(task, (ParallelTask, CompositeTask)):
        around = shapes.raw(step)
        fields = Layers(own.fields, around.fields)
        return around._replace(fields=fields, also=Layers({"output": own}, around.also))
    if isinstance(task, CollectionTask):
        return besides(own, Layers({"output": own}, shapes.raw(step).also))
    if isinstance(task, RouterTask):
        return _mapped_route(own, shapes.raw(step))
    return own


def raw(step: Step, shapes: Shapes) -> Shape:
    """What a step gives before its `outputs`."""
    task = step.task
    if not _is_whole(task):
        return UNKNOWN
    match task:
        case BasicTask():
            return _basic(step, task, shapes)
        case ParallelTask() | CompositeTask():
            return children.gathered(step, shapes)
        case CollectionTask():
            return children.collected(step, task, shapes)
        case RouterTask():
            return _routed(step, task, shapes)
        case WaitTask():
            answer = {"output": processed(step, shapes), "error": UNKNOWN}
            return map_of(
                {
                    "wait_status": TEXT,
                    "signal": signal(task, shapes),
                    "processor_output": map_of(answer),
                    "signal_name": TEXT,
                    "has_processor": BOOLEAN,
                    "timeout_seconds": NUMBER,
                }
            )
        case SignalTask():
            return map_of({"signal_dispatched": BOOLEAN, "signal_id": TEXT}, closed=True)
        case MemoryTask():
            return _MEMORY.get(task.operation, UNKNOWN)
        case AggregateTask():
            return map_of({})
    return UNKNOWN


def _is_whole(task: Task) -> bool:
    """Whether all that the YAML says of a task could be read; what could not is reported."""
    entries = task.node.entries
    if any(name.startswith("$") for name in entries if isinstance(name, str)):
        return False  # a directive that leads nowhere
    if isinstance(tasks := entries.get("tasks"), nodes.Sequence):
        read = getattr(task, "tasks", None) or ()
        if len(read) < len(tasks.items):
            return False
    maps = (entries.get("with"), entries.get("outputs"))
    return all(one is None or isinstance(one, nodes.Mapping) for one in maps) and all(
        getattr(task, name, None) is not None for name in ("agent", "tool") if name in entries
    )


def _basic(step: Step, task: BasicTask, shapes: Shapes) -> Shape:
    scope, declared = shapes.scope, shapes.declared(task.output)
    agent, tool = scope.agent_of(task), scope.tool_of(task)
    if tool is not None:
        if tool.output is not None:
            return _wrapped(shapes.declared(tool.output))
        known = {"http": _HTTP, "cli": _CLI}.get(tool.type or "", UNKNOWN)
        return declared if declared.alternatives else known
    if (builtin := builtin_of(task)) is not None:
        return shapes.declared(builtin.output_schema)
    if agent is None and not task.prompt:
        has_executor = task.tool is not None or task.agent is not None or task.action
        return declared if has_executor else shapes.given(step)
    action = action_of(agent, task.action or "") if agent is not None else None
    if action is not None and action.output is not None:
        return _valued(shapes.declared(action.output))
    if declared.alternatives:
        return _valued(declared)
    json_mode = (agent is not None and agent.json_mode) or (action is not None and action.json_mode)
    unknown = action is None and (task.action or (agent is None and task.agent is not None))
    return UNKNOWN if unknown or json_mode else _ANSWER


def _valued(shape: Shape) -> Shape:
    """An answer of an agent; one that is no map is also read as `.__value__` (§4.5)."""
    plain = (
        one if one.kind == "object" else besides(one, {"__value__": one})
        for one in shape.alternatives
    )
    return either(plain)


def _wrapped(shape: Shape) -> Shape:
    """The result of a tool: one that is no map is wrapped (§6.1)."""
    return either(
        one if one.kind in ("object", "null") else map_of({"value": one})
        for one in shape.alternatives
    )


def _routed(step: Step, task: RouterTask, shapes: Shapes) -> Shape:
    """What the chosen step gives, and what was decided (§3.6)."""
    ids = [target_id(target) for target in targets_of(task)]
    found = [shapes.tree.find(name, step) for name in ids if "{{" not in name]
    targets = [target for target in found if target is not None and target is not step]
    routes = tuple(map(str, task.routes)) if isinstance(task.routes, Mapping) else ()
    routed = {
        "condition": UNKNOWN,
        "route_taken": one_of(*dict.fromkeys((*routes, "default"))),
        "router_type": one_of("conditional"),
    }
    if not ids or len(targets) < len(ids):
        return UNKNOWN
    made = either(children.view(target, shapes) for target in targets)
    chosen = []
    for one in made.alternatives:
        if one.kind == "object":
            chosen.append(besides(one, routed))
        else:  # of which there is no more than this
            chosen.append(map_of({**routed, "output": one}, closed=True))
    return either(chosen) if chosen else UNKNOWN


def _mapped_route(own: Shape, around: Shape) -> Shape:
    """The `outputs` of a router, over what the chosen step gives (§3.6)."""
    if not around.alternatives:
        return own._replace(closed=False, rest=UNKNOWN)
    return either(
        besides(own, Layers({"output": own}, one.fields, one.also))._replace(
            closed=one.closed, rest=one.rest
        )
        for one in around.alternatives
    )


def processed(step: Step, shapes: Shapes) -> Shape:
    """What the processor of a wait gives for each signal (§3.8)."""
    processors = children.inside(step, "processor")
    return shapes.output(processors[0]) if processors else UNKNOWN


def signal(task: WaitTask, shapes: Shapes) -> Shape:
    """`.signal`: fields of the payload are also its own (§3.8)."""
    payload = shapes.payload(task.wait_for)
    own = {"payload": payload, "metadata": _METADATA}
    return map_of(Layers(own, payload.fields if payload.kind == "object" else {}))


def given(step: Step, shapes: Shapes) -> Shape:
    """The rendered `with` of a step, under the schema of its input, which may add defaults.

    In a container, and behind a transition that brings values along, there may be more.
    """
    task = step.task
    written = shapes.written(task.with_, shapes.context(step, "with"))
    schema = shapes.declared(task.input)
    if not _is_whole(task):
        return ANY_MAP
    if step.parent is None:
        fields = Layers(schema.fields, written.fields)
        closed = schema.closed or not (schema.any or step.id in shapes.brought_to)
        return map_of(fields, closed=closed, rest=None if schema.rest is None else UNKNOWN)
    above = shapes.given(step.parent)
    fields = Layers(schema.fields, written.fields, _brought(step.parent, shapes), above.fields)
    loose = schema.rest is not None or above.rest is not None
    return map_of(fields, rest=UNKNOWN if loose else None)


def _brought(container: Step, shapes: Shapes) -> Mapping[str, Shape]:
    """What a container adds to the `with` of the steps in it."""
    task = container.task
    if isinstance(task, CollectionTask):
        return dict.fromkeys(("item", "index", task.item_var, task.index_var), UNKNOWN)
    return {"signal": signal(task, shapes)} if isinstance(task, WaitTask) else {}


def item(step: Step, shapes: Shapes) -> Shape:
    """One item of a collection, as its `items` are made a list (§3.4)."""
    task = step.task
    assert isinstance(task, CollectionTask)
    value = task.items
    if isinstance(value, str) and "{{" not in value:
        return _of_text(value, shapes)
    items = shapes.written(value, shapes.context(step, "own"))
    made = []
    for one in items.alternatives:
        if one.kind == "string":
            return UNKNOWN  # of JSON, or a range, or one item
        if one.kind == "array":
            made.append(one.items or UNKNOWN)
        elif one.kind == "object":
            made.append(map_of({"key": TEXT, "value": entry(one)}, closed=True))
        elif one.kind != "null":
            made.append(one)
    return either(made)


def _of_text(text: str, shapes: Shapes) -> Shape:
    if _RANGE.fullmatch(text):
        return NUMBER
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return TEXT
    return element(shapes.written(value, ANY_MAP)) if isinstance(value, list) else UNKNOWN
