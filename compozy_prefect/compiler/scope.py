"""A workflow and the project around it → what its names stand for (language.md §10.3).

The nearest definition wins: the workflow's, then the project's, then what autoload found. A name
whose definition is faulty is known but stands for nothing; it was reported where it is defined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, TypeVar

from compozy_prefect.compiler.builtins import (
    REACH_AGENTS,
    TASKS,
    builtin_of,
    family_of,
    name_of,
)
from compozy_prefect.compiler.tree import Tree
from compozy_prefect.language.load import Loaded, LoadedWorkflow
from compozy_prefect.language.models.agent import Action, Agent
from compozy_prefect.language.models.base import Noun, Selector
from compozy_prefect.language.models.mcp import Mcp
from compozy_prefect.language.models.memory import Memory, MemoryReference
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.task import BasicTask, Task
from compozy_prefect.language.models.tool import Tool

N = TypeVar("N", bound=Noun)


class Scope:
    """The definitions that one workflow sees. `owner` names the list of a broken definition."""

    def __init__(self, loaded: Loaded, workflow: LoadedWorkflow, tree: Tree) -> None:
        self.loaded = loaded
        self.file = workflow.file
        self.workflow = workflow.noun
        self.tree = tree
        self.broken = workflow.broken | loaded.broken

    def is_broken(self, kind: str, name: str) -> bool:
        """Whether a definition of that name exists, or may exist, and could not be read."""
        return (kind, name) in self.broken or (kind, "") in self.broken

    def _visible(self, kind: str) -> Iterable[Noun]:
        yield from getattr(self.workflow, kind, ())
        project: Noun | None = self.loaded.project
        if project is not None and project is not self.workflow:
            yield from getattr(project, kind, ())
        yield from self.loaded.components.get(kind, ())

    def _named(self, kind: str) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for noun in self._visible(kind):
            out.setdefault(noun.id, noun)  # type: ignore[attr-defined]
        return out

    @cached_property
    def agents(self) -> dict[str, Agent]:
        return self._named("agents")

    @cached_property
    def tools(self) -> dict[str, Tool]:
        return self._named("tools")

    @cached_property
    def mcps(self) -> dict[str, Mcp]:
        visible = [noun for noun in self._visible("mcps") if isinstance(noun, Mcp)]
        return {mcp_id(mcp): mcp for mcp in reversed(visible)}

    @cached_property
    def memories(self) -> dict[str, Memory]:
        return self._named("memories")

    @cached_property
    def knowledge_bases(self) -> dict[str, Noun]:
        return self._named("knowledge_bases")

    @cached_property
    def models(self) -> list[Model]:
        return [noun for noun in self._visible("models") if isinstance(noun, Model)]

    @cached_property
    def schemas(self) -> dict[str, dict[str, Any]]:
        """The named schemas without their `id`, which is no part of the schema (§9)."""
        return {
            name: {k: v for k, v in schema.node.data().items() if k not in ("id", "resource")}
            for name, schema in self.named_schemas.items()
        }

    @cached_property
    def named_schemas(self) -> dict[str, Noun]:
        return self._named("schemas")

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Every task of the workflow, also those in containers and routes."""
        return tuple(step.task for step in self.tree.all)

    def agent_of(self, task: Task) -> Agent | None:
        """The agent that a task names or defines; None when there is none to find."""
        if not isinstance(task, BasicTask):
            return None
        if isinstance(task.agent, Agent):
            return task.agent
        if isinstance(task.agent, Selector):
            return self.agents.get(task.agent.id)
        if task.agent is not None:
            return self.agents.get(task.agent)
        if task.action and task.tool is None:
            return self.owner_of(task.action)
        return None

    def owner_of(self, action: str) -> Agent | None:
        """The only agent in sight that has the action (§3.2), or None."""
        owners = [a for a in self.agents.values() if any(x.id == action for x in a.actions)]
        return owners[0] if len(owners) == 1 else None

    @cached_property
    def agents_used(self) -> tuple[Agent, ...]:
        """The agents that the workflow defines, and those that its tasks or tools use."""
        every = [*self.workflow.agents, *self._asked, *self.callable_agents.values()]
        return tuple({id(agent.node): agent for agent in every}.values())

    @cached_property
    def _asked(self) -> tuple[Agent, ...]:
        found = (self.agent_of(task) for task in self.tasks)
        return tuple(agent for agent in found if agent is not None)

    @cached_property
    def callable_agents(self) -> dict[str, Agent]:
        """All agents in sight, by id, if a built-in tool is used that reaches them by name (§6.5).

        Which of them it calls is only known when it runs, where a model says it.
        """
        own = (task.tool for task in self.tasks if isinstance(task, BasicTask))
        used = {name_of(one) for one in (*own, *self._offered(self._asked))}
        return self.agents if used & REACH_AGENTS else {}

    @cached_property
    def called_tasks(self) -> frozenset[str]:
        """The ids of the tasks that a built-in tool calls, or may call where a run says which."""
        offered = {name_of(one) for one in self._offered(self.agents_used)}
        ids: set[str] = set()
        if offered & {TASKS.one, TASKS.several}:
            ids |= self.tree.top.keys()
        for task in self.tasks:
            tool = builtin_of(task)
            if tool is None or family_of(tool.id) is not TASKS:
                continue
            named = TASKS.named(tool.id, task.node.get("with"))
            ids |= self.tree.top.keys() if named is None else named
        return frozenset(ids)

    def _offered(self, agents: Iterable[Agent]) -> Iterator[Any]:
        """What is offered to models: of these agents, and of tasks that only have a prompt."""
        for agent in agents:
            yield from agent.tools
        for task in self.tasks:
            if isinstance(task, BasicTask):
                yield from task.tools

    @cached_property
    def tools_used(self) -> tuple[Tool, ...]:
        """The tools in sight, and those that a task or an agent defines for itself."""
        own: list[Any] = []
        for task in self.tasks:
            own += [task.tool, *task.tools] if isinstance(task, BasicTask) else []
        for agent in self.agents_used:
            own += agent.tools
        every = (*self.tools.values(), *(tool for tool in own if isinstance(tool, Tool)))
        return tuple({id(tool.node): tool for tool in every}.values())

    @cached_property
    def mcps_offered(self) -> tuple[Mcp, ...]:
        """The MCP servers of the agents of this workflow, and of its tasks that only ask."""
        given: list[Any] = [one for agent in self.agents_used for one in agent.mcps]
        for task in self.tasks:
            if isinstance(task, BasicTask) and task.prompt and not (task.agent or task.action):
                given += task.mcps
        found = (self.mcp(one) for one in given)
        return tuple({id(mcp.node): mcp for mcp in found if mcp is not None}.values())

    def tool_of(self, task: Task) -> Tool | None:
        return self.tool(task.tool) if isinstance(task, BasicTask) else None

    def tool(self, given: str | Selector | Tool | None) -> Tool | None:
        """The tool that a reference means."""
        if given is None or isinstance(given, Tool):
            return given
        return self.tools.get(given.id if isinstance(given, Selector) else given)

    def mcp(self, given: str | Selector | Mcp) -> Mcp | None:
        """The MCP server that a reference means."""
        if isinstance(given, Mcp):
            return given
        return self.mcps.get(given.id if isinstance(given, Selector) else given)

    def model_of(self, agent: Agent) -> Model | None:
        """The model of an agent: its own, the one it names, or the project's default (§4.1)."""
        if agent.config is not None:
            return agent.config
        if isinstance(agent.model, Model):
            return agent.model
        if agent.model is not None:
            return self.model_named(agent.model)
        return self.default_model

    @cached_property
    def default_model(self) -> Model | None:
        """The model that is marked as default, or the only one."""
        defaults = [model for model in self.models if model.default]
        if defaults:
            return defaults[0]
        return self.models[0] if len(self.models) == 1 else None

    def model_named(self, name: str) -> Model | None:
        """The entry of `provider:model`; what follows the first colon is the model (§4.1)."""
        for model in self.models:
            if name in (f"{model.provider}:{model.model}", model.id):
                return model
        return None

    def schema(self, given: Any) -> dict[str, Any] | bool | None:
        """The JSON Schema that a field gives or names (§9); None when there is none to find."""
        if given is None or isinstance(given, bool):
            return given
        if isinstance(given, str):
            return self.schemas.get(schema_name(given))
        if isinstance(given, dict):
            named = given.get("schema")
            if set(given) == {"schema"} and isinstance(named, str):
                return self.schemas.get(schema_name(named))
            # A reference to a named schema brings its id along.
            named_here = isinstance(given.get("id"), str) and given["id"] in self.schemas
            return {k: v for k, v in given.items() if k != "id"} if named_here else given
        return None


def schema_name(text: str) -> str:
    """The id in `x` or `schema::x`."""
    return text.removeprefix("schema::")


def action_of(agent: Agent, name: str) -> Action | None:
    return next((action for action in agent.actions if action.id == name), None)


def mcp_id(mcp: Mcp) -> str:
    """The id of a server; without one, what names it in its address (§13 no. 60)."""
    if mcp.id:
        return mcp.id
    address = (mcp.url or mcp.command or "").removeprefix("stdio://")
    return address.partition("://")[2].partition("/")[0] or address.rstrip("/").rpartition("/")[2]


def memory_references(given: Any) -> list[MemoryReference]:
    """The memories that an agent or a task refers to, in any of the forms of §4.4."""
    if given is None:
        return []
    listed = given if isinstance(given, list) else [given]
    return [one if isinstance(one, MemoryReference) else MemoryReference(id=one) for one in listed]
