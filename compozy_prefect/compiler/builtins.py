"""The built-in tools that run, by their ids: what they take and give (language.md §6.5).

Those that call something of the project are families: one tool calls one of a kind, another one
several at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from compozy_prefect.compiler.natives import NATIVES
from compozy_prefect.compiler.plan import CallPlan, Json, StepPlan, ToolPlan, walk
from compozy_prefect.language.models.base import Selector
from compozy_prefect.language.models.task import BasicTask, Task
from compozy_prefect.language.nodes import Mapping as MappingNode
from compozy_prefect.language.nodes import Node, Scalar, Sequence

LIST_AGENTS, DESCRIBE_AGENT = "cp__list_agents", "cp__describe_agent"

_TEXT: Json = {"type": "string", "minLength": 1}
_MILLISECONDS: Json = {"type": "integer", "minimum": 0}
_WHOLE: Json = {"type": "integer"}
_OBJECT: Json = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Family:
    """The two tools that call what is named by `id`: `one` of it, or `several`, given as `listed`.

    `takes` are the arguments of one call beside `id` and `timeout_ms`, and `gives` is what its
    result has beside `success`, of which `always` is never missing. `timeout` is seconds.
    """

    noun: str
    one: str
    several: str
    id: str
    listed: str
    timeout: float
    takes: Mapping[str, Json] = field(hash=False)
    gives: Mapping[str, Json] = field(hash=False)
    always: tuple[str, ...]

    def calls(self, tool: str, given: Node | None) -> Iterator[MappingNode]:
        """The calls that a task with this `with` makes, as far as the file writes them out."""
        nodes: tuple[Node | None, ...] = (given,)
        if tool == self.several:
            listed = given.get(self.listed) if isinstance(given, MappingNode) else None
            nodes = listed.items if isinstance(listed, Sequence) else ()
        for node in nodes:
            if isinstance(node, MappingNode):
                yield node

    def named(self, tool: str, given: Node | None) -> set[str] | None:
        """The ids that a task with this `with` calls; None where the file does not say all."""
        found: set[str] = set()
        listed = given.get(self.listed) if isinstance(given, MappingNode) else None
        if tool == self.several and not isinstance(listed, Sequence):
            return None
        for node in self.calls(tool, given):
            id = node.get(self.id)
            if not isinstance(id, Scalar) or "{{" in str(id.value):
                return None
            found.add(str(id.value))
        return found

    @property
    def bounds(self) -> CallPlan:
        """Those of calls of which the project says nothing."""
        return CallPlan(self.timeout)

    def plans(self) -> Iterator[ToolPlan]:
        call: Json = {
            "type": "object",
            "properties": {
                self.id: {**_TEXT, "description": f"The id of the {self.noun}."},
                **self.takes,
                "timeout_ms": {
                    **_MILLISECONDS,
                    "description": f"Of the call; {self.timeout:g} seconds if 0.",
                },
            },
            "required": [self.id],
            "additionalProperties": False,
        }
        called: dict[str, Json] = {"success": {"type": "boolean"}, self.id: _TEXT, **self.gives}
        yield ToolPlan(
            self.one,
            type="builtin",
            description=f"Calls {_article(self.noun)} of the project, and gives its result.",
            input_schema=call,
            output_schema={
                "type": "object",
                "properties": called,
                "required": ["success", self.id, *self.always],
            },
            timeout=0.0,
        )
        error = {"type": "object", "properties": {"message": _TEXT, "code": _TEXT}}
        counts = ("total_count", "success_count", "failure_count", "total_duration_ms")
        yield ToolPlan(
            self.several,
            type="builtin",
            description=f"Calls several {self.noun}s of the project at once; one that fails is "
            "told.",
            input_schema={
                "type": "object",
                "properties": {self.listed: {"type": "array", "items": call, "minItems": 1}},
                "required": [self.listed],
                "additionalProperties": False,
            },
            output_schema={
                "type": "object",
                "properties": {
                    "results": {
                        "type": "array",
                        "items": {"type": "object", "properties": {**called, "error": error}},
                    },
                    **dict.fromkeys(counts, _WHOLE),
                },
                "required": ["results", *counts],
            },
            timeout=0.0,
        )


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


WORKFLOWS = Family(
    "workflow",
    one="cp__call_workflow",
    several="cp__call_workflows",
    id="workflow_id",
    listed="workflows",
    timeout=300.0,
    takes={
        "input": {**_OBJECT, "description": "Its input."},
        "initial_task_id": {**_TEXT, "description": "The task to begin with, if not the first."},
    },
    gives={
        "workflow_exec_id": {"type": "string"},
        "status": {"type": "string"},
        "output": True,
        "duration_ms": _WHOLE,
    },
    always=("workflow_exec_id", "status", "duration_ms"),
)
AGENTS = Family(
    "agent",
    one="cp__call_agent",
    several="cp__call_agents",
    id="agent_id",
    listed="agents",
    timeout=60.0,
    takes={
        "action_id": {**_TEXT, "description": "What it is asked to do; its only action if none."},
        "prompt": {**_TEXT, "description": "What it is asked, instead of an action or with it."},
        "with": {**_OBJECT, "description": "The input of the action."},
    },
    gives={"action_id": _TEXT, "exec_id": _TEXT, "response": True},
    always=(),
)
TASKS = Family(
    "task",
    one="cp__call_task",
    several="cp__call_tasks",
    id="task_id",
    listed="tasks",
    timeout=60.0,
    takes={"with": {**_OBJECT, "description": "Laid over the input that the task has."}},
    gives={"exec_id": {"type": "string"}, "output": True, "duration_ms": _WHOLE},
    always=("exec_id", "duration_ms"),
)
FAMILIES = (WORKFLOWS, AGENTS, TASKS)

_ACTIONS: Json = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"id": _TEXT, "prompt": {"type": "string"}, "input": True, "output": True},
        "required": ["id"],
    },
}
_LISTS = (
    ToolPlan(
        LIST_AGENTS,
        type="builtin",
        description="Lists the agents that can be called, with the ids of their actions.",
        input_schema={"type": "object", "properties": {}, "additionalProperties": False},
        output_schema={
            "type": "object",
            "properties": {
                "agents": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "agent_id": _TEXT,
                            "actions": {"type": "array", "items": _TEXT},
                        },
                        "required": ["agent_id", "actions"],
                    },
                }
            },
            "required": ["agents"],
        },
        timeout=0.0,
    ),
    ToolPlan(
        DESCRIBE_AGENT,
        type="builtin",
        description="Tells what an agent is for, and what its actions take and give.",
        input_schema={
            "type": "object",
            "properties": {"agent_id": {**_TEXT, "description": "The id of the agent."}},
            "required": ["agent_id"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "agent_id": _TEXT,
                "instructions": {"type": "string"},
                "model": _TEXT,
                "actions": _ACTIONS,
                "tools": {"type": "array", "items": _TEXT},
            },
            "required": ["agent_id", "instructions", "model", "actions", "tools"],
        },
        timeout=0.0,
    ),
)

# Those that tell of agents and ask nobody.
CATALOGUE: Mapping[str, ToolPlan] = {tool.id: tool for tool in _LISTS}
# What is done by the run itself, which has the agents, the tasks and the other workflows.
INNER: Mapping[str, ToolPlan] = {
    **CATALOGUE,
    **{tool.id: tool for kind in FAMILIES for tool in kind.plans()},
}
BUILTINS: Mapping[str, ToolPlan] = {**NATIVES, **INNER}
# Those that reach agents by names which may only be known when they run.
REACH_AGENTS = frozenset({LIST_AGENTS, DESCRIBE_AGENT, AGENTS.one, AGENTS.several})


def family_of(tool: str) -> Family | None:
    """The family that a built-in tool belongs to, if it calls something."""
    return next((kind for kind in FAMILIES if tool in (kind.one, kind.several)), None)


def name_of(given: object) -> str:
    """The id that a reference to a tool names; empty for a tool that is written out."""
    name = given.id if isinstance(given, Selector) else given
    return name if isinstance(name, str) else ""


def builtin_of(task: Task) -> ToolPlan | None:
    """The built-in tool that a task uses."""
    return BUILTINS.get(name_of(task.tool)) if isinstance(task, BasicTask) else None


def why_not_called(type: str, inside: Iterator[str]) -> str:
    """Why `cp__call_task` does not call a task of this type, `inside` which are others.

    Empty when it does. What waits for a signal, or sends one, or leads on, belongs to the way of
    the run and is no piece of work that somebody can ask for.
    """
    if type in ("wait", "signal", "router"):
        return f"is a {type}"
    held = next((one for one in inside if one in ("wait", "signal")), "")
    return f"has a {held} in it" if held else ""


def why_step_not_called(step: StepPlan) -> str:
    return why_not_called(step.type, (one.type for one in walk(step.steps)))
