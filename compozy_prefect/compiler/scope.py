"""A workflow and the project around it → what its names stand for (language.md §10.3).

The nearest definition wins: the workflow's, then the project's. A name whose definition is faulty
is known but stands for nothing; it was reported where it is defined.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, TypeVar

from compozy_prefect.language.load import Loaded, LoadedWorkflow
from compozy_prefect.language.models.agent import Action, Agent
from compozy_prefect.language.models.base import Noun, Selector
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.task import Task
from compozy_prefect.language.models.tool import Tool

N = TypeVar("N", bound=Noun)


class Scope:
    """The definitions that one workflow sees. `owner` names the list of a broken definition."""

    def __init__(self, loaded: Loaded, workflow: LoadedWorkflow) -> None:
        self.loaded = loaded
        self.file = workflow.file
        self.workflow = workflow.noun
        self.broken = workflow.broken | loaded.broken

    def is_broken(self, kind: str, name: str) -> bool:
        """Whether a definition of that name exists, or may exist, and could not be read."""
        return (kind, name) in self.broken or (kind, "") in self.broken

    def _visible(self, kind: str) -> Iterable[Noun]:
        yield from getattr(self.workflow, kind)
        project: Noun | None = self.loaded.project
        if project is not None and project is not self.workflow:
            yield from getattr(project, kind)

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
    def models(self) -> list[Model]:
        return [noun for noun in self._visible("models") if isinstance(noun, Model)]

    @cached_property
    def schemas(self) -> dict[str, dict[str, Any]]:
        """The named schemas without their `id`, which is no part of the schema (§9)."""
        return {
            name: {k: v for k, v in schema.node.data().items() if k != "id"}
            for name, schema in self._named("schemas").items()
        }

    @cached_property
    def tasks(self) -> dict[str, Task]:
        out: dict[str, Task] = {}
        for task in self.workflow.tasks:
            out.setdefault(task.id, task)
        return out

    def agent_of(self, task: Task) -> Agent | None:
        """The agent that a task names or defines; None when there is none to find."""
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

    def tools_used(self) -> list[Tool]:
        """The tools in sight, and those that a task defines for itself."""
        own = [task.tool for task in self.workflow.tasks if isinstance(task.tool, Tool)]
        return list({id(tool.node): tool for tool in (*self.tools.values(), *own)}.values())

    def tool_of(self, task: Task) -> Tool | None:
        if isinstance(task.tool, Tool):
            return task.tool
        if isinstance(task.tool, Selector):
            return self.tools.get(task.tool.id)
        return self.tools.get(task.tool) if task.tool is not None else None

    def model_of(self, agent: Agent) -> Model | None:
        """The model of an agent: its own, the one it names, or the project's default (§4.1)."""
        if agent.config is not None:
            return agent.config
        if isinstance(agent.model, Model):
            return agent.model
        if agent.model is not None:
            return self.model_named(agent.model)
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
