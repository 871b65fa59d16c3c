"""Projects and workflows (language.md §1 and §2)."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compozy_prefect.language.models.base import Data, Noun, Variables
from compozy_prefect.language.models.task import ExecutionOptions

if TYPE_CHECKING:
    from compozy_prefect.language.models.agent import Agent
    from compozy_prefect.language.models.model import Model
    from compozy_prefect.language.models.task import Task
    from compozy_prefect.language.models.tool import Tool

    Schemas = list["NamedSchema"]
    Models = list[Model]
    Agents = list[Agent]
    Tools = list[Tool]
    Tasks = list[Task]
else:
    # `typed` builds the nouns in these lists one by one, so that one fault hides no other. Pydantic
    # would compile them once more as parts of the whole, which is half of its time at start-up.
    Schemas = Models = Agents = Tools = Tasks = list[Any]


class NamedSchema(Noun):
    """A JSON Schema with an `id`, by which it is referred to (§9). The rest is the schema."""

    id: str = Field(min_length=1, description="Unique in its list.")


class WorkflowConfig(ExecutionOptions):
    """`config` of a workflow (§2.2)."""

    input: Data = Field(None, description="Schema of the workflow's input.")
    env: Variables = Field(default_factory=dict, description="Environment of its tasks.")


class Shared(Noun):
    """What a project and a workflow both may hold."""

    resource: str | None = Field(None, description="`project` or `workflow`.")
    version: str = Field("", description="Free text.")
    description: str = Field("", description="What it is for.")
    author: dict[str, Any] | None = Field(None, description="Name, e-mail, URL.")
    schemas: Schemas = Field(default_factory=list, description="Named JSON Schemas.")
    models: Models = Field(default_factory=list, description="Provider entries.")
    agents: Agents = Field(default_factory=list, description="Agents.")
    tools: Tools = Field(default_factory=list, description="Tools.")
    mcps: list[Any] = Field(default_factory=list, description="MCP servers.")
    config: WorkflowConfig | None = Field(None, description="Execution options.")
    knowledge_bases: list[Any] = Field(default_factory=list, description="Knowledge bases.")
    knowledge: Data = Field(None, description="Knowledge base binding.")


class Workflow(Shared):
    """A workflow file (§2.1)."""

    id: str | None = Field(None, description="Unique in the project; `name` if not given.")
    name: str | None = Field(None, description="The id, where there is none.")
    triggers: list[Any] = Field(default_factory=list, description="Events that start it.")
    schedule: Data = Field(None, description="When it starts by itself.")
    tasks: Tasks = Field(min_length=1, description="The steps.")
    outputs: dict[str, Any] | None = Field(None, description="The result; templates.")

    @property
    def key(self) -> str:
        """The id of the workflow: `id`, else `name` (§1.3)."""
        return self.id or self.name or ""


class Project(Shared):
    """A project file (§1.1)."""

    # Sections that configure the service; kept as they are, and not looked into.
    sections: ClassVar[frozenset[str]] = frozenset(
        {
            "attachments",
            "cache",
            "cli",
            "database",
            "limits",
            "llm",
            "mcp_proxy",
            "memory",
            "mode",
            "monitoring",
            "ratelimit",
            "redis",
            "server",
            "stream",
            "temporal",
            "webhooks",
            "worker",
        }
    )

    id: str | None = Field(None, description="For a workflow in the same file.")
    name: str = Field(min_length=1, description="Names the project.")
    workflows: list[Any] = Field(default_factory=list, description="Workflow files.")
    memories: list[Any] = Field(default_factory=list, description="Memory resources.")
    runtime: dict[str, Any] | None = Field(None, description="The JavaScript runtime.")
    autoload: dict[str, Any] | None = Field(None, description="Files found by pattern.")
    embedders: list[Any] = Field(default_factory=list, description="Embedders.")
    vector_dbs: list[Any] = Field(default_factory=list, description="Vector databases.")


class SingleFile(Workflow, Project):
    """A file that is a project and its only workflow (§1.3)."""

    name: str | None = Field(None, description="The name of both.")  # type: ignore[assignment]
