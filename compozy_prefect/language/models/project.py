"""Projects and workflows (language.md §1 and §2)."""

from typing import Any, Literal

from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import Data, Noun, Seconds, Size, Variables, field
from compozy_prefect.language.models.knowledge import Embedder, Knowledge, KnowledgeBase, VectorDb
from compozy_prefect.language.models.mcp import Mcp
from compozy_prefect.language.models.memory import Memory
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.task import ExecutionOptions, Task
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.models.trigger import Schedule, Trigger


class NamedSchema(Noun):
    """A JSON Schema with an `id`, by which it is referred to (§9). The rest is the schema."""

    called = "a schema"
    is_open = True

    id: str = field(..., "Unique in its list.", min_length=1)


class Author(Noun):
    """Who wrote it; never validated further (§1.1)."""

    called = "`author`"
    is_open = True

    name: str | None = field(None, "Name.")
    email: str | None = field(None, "E-mail address.")
    url: str | None = field(None, "Home page.")
    organization: str | None = field(None, "Organization.")
    contributors: list[Any] = field([], "Others, with the same fields.")


class WorkflowConfig(ExecutionOptions):
    """`config` of a workflow (§2.2)."""

    called = "`config`"

    input: Data = field(None, "Schema of the workflow's input.")
    env: Variables = field({}, "Environment of its tasks.")


class Shared(Noun):
    """What a project and a workflow both may hold."""

    resource: str | None = field(None, "`project` or `workflow`.")
    version: str = field("", "Free text.")
    description: str = field("", "What it is for.")
    author: Author | None = field(None, "Who wrote it.")
    schemas: list[NamedSchema] = field([], "Named JSON Schemas.")
    models: list[Model] = field([], "Provider entries.")
    agents: list[Agent] = field([], "Agents.")
    tools: list[Tool] = field([], "Tools.")
    mcps: list[Mcp] = field([], "MCP servers.")
    config: WorkflowConfig | None = field(None, "Execution options.")
    knowledge_bases: list[KnowledgeBase] = field([], "Knowledge bases.")
    knowledge: Knowledge | None = field(None, "Knowledge base binding.")


class Workflow(Shared):
    """A workflow file (§2.1)."""

    id: str | None = field(None, "Unique in the project; `name` if not given.")
    name: str | None = field(None, "The id, where there is none.")
    triggers: list[Trigger] = field([], "Events that start it.")
    schedule: Schedule | None = field(None, "When it starts by itself.")
    tasks: list[Task] = field(
        ..., "The steps.", min_length=1, hint="a list of steps, each with an `id`"
    )
    outputs: dict[str, Any] | None = field(None, "The result; templates.")

    @property
    def key(self) -> str:
        """The id of the workflow: `id`, else `name` (§1.3)."""
        return self.id or self.name or ""


class Runtime(Noun):
    """The engine that runs JavaScript and TypeScript tools (§1.2)."""

    called = "`runtime`"
    kept = frozenset({"environment", "log_level", "log_format"})

    type: Literal["bun", "node", "deno"] = field("bun", "The engine.")
    entrypoint: str | None = field(None, "The module whose exports are the tools.")
    permissions: list[str] = field(["--allow-read"], "What tools may do; Deno's flags.")
    timeout: Seconds | None = field(None, "Of one tool call; 60s if not given.", gt=0)
    memory_limit: Size | None = field(None, "Of a worker.", example="512MB")
    tool_execution_timeout: Seconds | None = field(None, "The same as `timeout`.", gt=0)
    task_execution_timeout_default: Seconds | None = field(None, "Of direct executions; 60s.")
    task_execution_timeout_max: Seconds | None = field(None, "Of direct executions; 300s.")
    native_tools: dict[str, Any] | None = field(None, "The built-in `cp__*` tools.")


class Autoload(Noun):
    """Files that are found by pattern (§10.6)."""

    called = "`autoload`"

    enabled: bool = field(False, "Whether files are looked for.")
    strict: bool = field(True, "A bad file is an error, and not skipped.")
    include: list[str] = field([], "Patterns of files; `**` crosses directories.")
    exclude: list[str] = field([], "Patterns of files to leave out.")
    watch_enabled: bool = field(False, "Reload what changes.")


class Monitoring(Noun):
    """Metrics of the service (§1.1)."""

    called = "`monitoring`"

    enabled: bool = field(False, "Whether there are metrics.")
    path: str | None = field(None, "Where they are; `/metrics` if not given.")
    metrics: dict[str, Any] | None = field(None, "Provider, endpoint, interval.")
    logging: dict[str, Any] | None = field(None, "Level and format.")
    tracing: dict[str, Any] | None = field(None, "Provider and endpoint.")


class WorkflowSource(Noun):
    """A workflow file of the project."""

    called = "a workflow source"

    source: str = field(..., "Path of the file, from the project's directory.", min_length=1)


class Project(Shared):
    """A project file (§1.1)."""

    # Sections that configure the service (§1.4).
    kept = frozenset(
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
            "ratelimit",
            "redis",
            "server",
            "stream",
            "temporal",
            "webhooks",
            "worker",
        }
    )

    id: str | None = field(None, "For a workflow in the same file.")
    name: str = field(..., "Names the project.", min_length=1)
    workflows: list[str | WorkflowSource] = field([], "Workflow files.")
    memories: list[Memory] = field([], "Memory resources.")
    runtime: Runtime | None = field(None, "The JavaScript runtime.")
    autoload: Autoload | None = field(None, "Files found by pattern.")
    monitoring: Monitoring | None = field(None, "Metrics.")
    embedders: list[Embedder] = field([], "Embedders.")
    vector_dbs: list[VectorDb] = field([], "Vector databases.")
    reveal: list[str] = field(
        [], "Variables of the environment that may show in outputs and prompts."
    )


class SingleFile(Workflow, Project):
    """A file that is a project and its only workflow (§1.3)."""

    called = "a workflow"

    name: str | None = field(None, "The name of both.")  # type: ignore[assignment]
