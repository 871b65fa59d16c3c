"""Agents and their actions (language.md §4)."""

from typing import Any

from compozy_prefect.language.models.base import Data, Noun, Selector, Variables, field
from compozy_prefect.language.models.budget import Budget
from compozy_prefect.language.models.knowledge import Attachment, Knowledge
from compozy_prefect.language.models.mcp import McpReference
from compozy_prefect.language.models.memory import MemoryReferences
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.tool import ToolReference


class Action(Noun):
    """One thing an agent can be asked to do (§4.2)."""

    id: str = field(..., "Named by the task's `action`.", min_length=1)
    prompt: str = field(..., "What the user says; a template.", min_length=1)
    input: Data = field(None, "Schema of the action's input.")
    output: Data = field(None, "Schema of the answer; makes it structured.")
    with_: dict[str, Any] = field({}, "Defaults.", key="with")
    json_mode: bool = field(False, "Ask for JSON.")
    attachments: list[Attachment] = field([], "Images and files.")
    name: str | None = field(None, "Ignored.")
    description: str | None = field(None, "Ignored.")


class Agent(Noun):
    """A model with instructions and actions (§4.1)."""

    resource: str | None = field(None, "`agent`, in autoloaded files.")
    id: str = field(..., "Unique in its scope.", min_length=1)
    name: str | None = field(None, "Ignored.")
    description: str | None = field(None, "Ignored.")
    version: str | None = field(None, "Ignored.")
    config: Model | None = field(None, "The model: inline, or by `$ref`.")
    model: str | Model | None = field(None, '`"provider:model"`, or inline.')
    instructions: str = field(..., "The system prompt; a template.", min_length=1)
    actions: list[Action] = field([], "What it can be asked to do.")
    with_: dict[str, Any] = field({}, "Defaults under the action's `with`.", key="with")
    env: Variables = field({}, "Over the task's environment.")
    tools: list[ToolReference] = field([], "Offered to the model.")
    mcps: list[McpReference] = field([], "MCP servers offered to the model.")
    memory: MemoryReferences | None = field(None, "Conversations it reads and writes.")
    max_iterations: int | None = field(None, "Turns of the tool loop.", ge=1)
    json_mode: bool = field(False, "Ask for JSON in every action.")
    attachments: list[Attachment] = field([], "Images and files.")
    knowledge: Knowledge | None = field(None, "Knowledge base binding.")
    budget: Budget | None = field(None, "What its models may take of a run.")


AgentReference = str | Selector | Agent
