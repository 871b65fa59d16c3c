"""Projects and workflows (language.md §1 and §2)."""

from typing import Any, Literal

from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import (
    Data,
    Noun,
    Seconds,
    Section,
    Size,
    Variables,
    field,
)
from compozy_prefect.language.models.knowledge import Embedder, Knowledge, KnowledgeBase, VectorDb
from compozy_prefect.language.models.mcp import Mcp
from compozy_prefect.language.models.memory import Memory
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.native import NativeTools, PythonTools
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
    type: Literal["bun", "node", "deno"] = field("bun", "What the tools are written for.")
    engine: Literal["deno", "native"] = field(
        "deno", "What runs them: Deno, or the `node` or `bun` of the system."
    )
    entrypoint: str | None = field(None, "The module whose exports are the tools.")
    permissions: list[str] = field(["--allow-read"], "What tools may do; Deno's flags.")
    timeout: Seconds | None = field(None, "The same as `tool_execution_timeout`.", gt=0)
    memory_limit: Size | None = field(None, "Of a worker.", example="512MB")
    tool_execution_timeout: Seconds = field(60.0, "Of one tool call.", gt=0)
    task_execution_timeout_default: Seconds = field(60.0, "Of direct executions.")
    task_execution_timeout_max: Seconds = field(300.0, "Of direct executions, at most.")
    native_tools: NativeTools | None = field(None, "The built-in `cp__*` tools, and programs.")
    python: PythonTools | None = field(None, "Functions of `type: python`.")
    environment: Literal["development", "staging", "production"] = field(
        "development", "Where the service runs."
    )
    log_level: Literal["debug", "info", "warn", "error", "disabled"] = field(
        "info", "What the service logs."
    )
    log_format: str = field("json", "How it is logged.")
    dispatcher_heartbeat_interval: Seconds = field(30.0, "Between two signs of life.")
    dispatcher_heartbeat_ttl: Seconds = field(90.0, "Until one without them is gone.")
    dispatcher_stale_threshold: Seconds = field(120.0, "Until one is stale.")
    async_token_counter_workers: int = field(10, "Who counts tokens.", ge=0)
    async_token_counter_buffer_size: int = field(1000, "Texts that wait for it.", ge=0)


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


class Settings(Noun):
    """Sections of settings, at the top of a project or under its `config` (§1.4)."""

    mode: str | None = field(None, "`standalone` or `distributed`.")
    attachments: Section = field(None, "Files that are sent with prompts.")
    cache: Section = field(None, "The cache.")
    cli: Section = field(None, "The command line of the original.")
    database: Section = field(None, "The database of the executions.")
    limits: Section = field(None, "How large and how deep things may be.")
    llm: Section = field(None, "How models are called.")
    mcp_proxy: Section = field(None, "The proxy before MCP servers.")
    memory: Section = field(None, "Memories, where one says nothing itself.")
    openai: Section = field(None, "OpenAI, in older projects.")
    ratelimit: Section = field(None, "How often the API may be called.")
    redis: Section = field(None, "The connection to Redis.")
    server: Section = field(None, "The HTTP API.")
    stream: Section = field(None, "Events of executions, as they happen.")
    tasks: Section = field(None, "How tasks are run.")
    temporal: Section = field(None, "What the original runs workflows with.")
    webhooks: Section = field(None, "Webhooks, where one says nothing itself.")
    worker: Section = field(None, "The workers.")


class ProjectConfig(WorkflowConfig, Settings):
    """`config` of a project: options of all its workflows, and settings (service.md §5.1)."""

    called = "`config`"

    source_of_truth: Literal["repo", "builder"] | None = field(None, "Of the original's server.")


class WorkflowSource(Noun):
    """A workflow file of the project."""

    called = "a workflow source"

    source: str = field(..., "Path of the file, from the project's directory.", min_length=1)


class Project(Shared, Settings):
    """A project file (§1.1)."""

    id: str | None = field(None, "For a workflow in the same file.")
    config: ProjectConfig | None = field(None, "Execution options, and settings.")
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


class SingleFile(Workflow, Project):  # `tasks` are the steps here
    """A file that is a project and its only workflow (§1.3)."""

    called = "a workflow"

    name: str | None = field(None, "The name of both.")  # type: ignore[assignment]
    config: ProjectConfig | None = field(None, "Execution options, and settings.")
