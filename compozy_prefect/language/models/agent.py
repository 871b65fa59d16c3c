"""Agents and their actions (language.md §4)."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from compozy_prefect.language.models.base import Data, Noun, Selector, Variables, form
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.tool import ToolReference


class Action(Noun):
    """One thing an agent can be asked to do (§4.2)."""

    id: str = Field(min_length=1, description="Named by the task's `action`.")
    prompt: str = Field(min_length=1, description="What the user says; a template.")
    input: Data = Field(None, description="Schema of the action's input.")
    output: Data = Field(None, description="Schema of the answer; makes it structured.")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with", description="Defaults.")
    json_mode: bool = Field(False, description="Ask for JSON.")
    attachments: list[Any] = Field(default_factory=list, description="Images and files.")
    name: str | None = Field(None, description="Ignored.")
    description: str | None = Field(None, description="Ignored.")


def model_form(value: Any) -> str:
    return "name" if isinstance(value, str) else "inline"


ModelReference = Annotated[
    Annotated[str, Tag("name")] | Annotated[Model, Tag("inline")], Discriminator(model_form)
]


class Agent(Noun):
    """A model with instructions and actions (§4.1)."""

    resource: str | None = Field(None, description="`agent`, in autoloaded files.")
    id: str = Field(min_length=1, description="Unique in its scope.")
    name: str | None = Field(None, description="Ignored.")
    description: str | None = Field(None, description="Ignored.")
    version: str | None = Field(None, description="Ignored.")
    config: Model | None = Field(None, description="The model: inline, or by `$ref`.")
    model: ModelReference | None = Field(None, description='`"provider:model"`, or inline.')
    instructions: str = Field(min_length=1, description="The system prompt; a template.")
    actions: list[Action] = Field(default_factory=list, description="What it can be asked to do.")
    with_: dict[str, Any] = Field(
        default_factory=dict, alias="with", description="Defaults under the action's `with`."
    )
    env: Variables = Field(default_factory=dict, description="Over the task's environment.")
    tools: list[ToolReference] = Field(default_factory=list, description="Offered to the model.")
    mcps: list[Any] = Field(default_factory=list, description="MCP servers offered to the model.")
    memory: Data = Field(None, description="Conversations it reads and writes.")
    max_iterations: int | None = Field(None, ge=1, description="Turns of the tool loop.")
    json_mode: bool = Field(False, description="Ask for JSON in every action.")
    attachments: list[Any] = Field(default_factory=list, description="Images and files.")
    knowledge: Data = Field(None, description="Knowledge base binding.")


AgentReference = Annotated[
    Annotated[str, Tag("name")]
    | Annotated[Selector, Tag("selector")]
    | Annotated[Agent, Tag("inline")],
    Discriminator(form),
]
