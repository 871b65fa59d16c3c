"""Tasks: the fields that all share, and those of the nine types (language.md §3)."""

from typing import Any, ClassVar, Literal

from compozy_prefect.language.models.agent import AgentReference
from compozy_prefect.language.models.base import Data, Noun, Seconds, Variables, field
from compozy_prefect.language.models.budget import Budget
from compozy_prefect.language.models.knowledge import Attachment, Knowledge
from compozy_prefect.language.models.mcp import McpReference
from compozy_prefect.language.models.memory import MemoryReferences
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.tool import ToolReference


class RetryPolicy(Noun):
    """Attempts and the pauses between them (§2.5)."""

    called = "`retry_policy`"

    initial_interval: Seconds | None = field(None, "First pause; 1s if not given.")
    backoff_coefficient: float | None = field(None, "Growth of the pause; 2 if not given.", ge=1)
    maximum_attempts: int | None = field(None, "Attempts in total; 3 if not given.", ge=0)
    maximum_interval: Seconds | None = field(None, "Longest pause; 1m if not given.")
    non_retryable_error_types: list[str] = field([], "Error codes that are not tried again.")


class Transition(Noun):
    """Where to go after a task (§2.3)."""

    next: str | None = field(None, "The id of a task.")
    with_: dict[str, Any] = field({}, "Merged into the next task's `with`.", key="with")
    retry: int | None = field(None, "The same as `retries` of the task.", ge=0)


class ExecutionOptions(Noun):
    """Options of a project, a workflow or a task; the nearest wins, field by field (§2.5)."""

    called = "`config`"

    schedule_to_start_timeout: Seconds | None = field(None, "Time in a queue.")
    start_to_close_timeout: Seconds | None = field(None, "One attempt; 5m if not given.")
    schedule_to_close_timeout: Seconds | None = field(None, "All attempts.")
    heartbeat_timeout: Seconds | None = field(None, "Of long activities.")
    retry_policy: RetryPolicy | None = field(None, "Attempts and pauses.")
    on_error: Transition | None = field(None, "For tasks that have none.")
    recover_on_error: bool | None = field(None, "A handled failure does not fail the workflow.")
    source_of_truth: str | None = field(None, "Ignored.")
    budget: Budget | None = field(None, "What models may take of the run, or the workflow.")


class Task(Noun):
    """One step of a workflow (§3.1)."""

    # What only a basic task does. Of a router examples of the language set an `action`, which does
    # nothing (§3.6 to §3.9).
    refused: ClassVar[tuple[str, ...]] = ("agent", "tool", "prompt")

    id: str = field(..., "Unique in its container.", min_length=1)
    resource: str | None = field(None, "`task`, in autoloaded files.")
    type: str = field("basic", "One of the nine types.")
    name: str | None = field(None, "Ignored.")
    description: str | None = field(None, "Ignored.")
    version: str | None = field(None, "Ignored.")
    config: ExecutionOptions | None = field(None, "Timeouts and retries.")
    retry_policy: RetryPolicy | None = field(None, "The same as under `config`.")
    schedule_to_start_timeout: Seconds | None = field(None, "As under `config`.")
    start_to_close_timeout: Seconds | None = field(None, "As under `config`.")
    schedule_to_close_timeout: Seconds | None = field(None, "As under `config`.")
    heartbeat_timeout: Seconds | None = field(None, "As under `config`.")
    with_: dict[str, Any] = field({}, "The input; text in it is a template.", key="with")
    input: Data = field(None, "Schema of the rendered `with`.")
    output: Data = field(None, "Schema of the raw output.")
    outputs: dict[str, Any] | None = field(None, "Replaces the output; templates.")
    env: Variables = field({}, "Over the workflow's.")
    on_success: Transition | None = field(None, "What comes next.")
    on_error: Transition | None = field(None, "What comes after a failure.")
    final: bool = field(False, "The workflow ends after this task.")
    sleep: Seconds | None = field(None, "Waited before the task.")
    timeout: Seconds | None = field(None, "Of one attempt.")
    retries: int | None = field(None, "Re-attempts after a failure.", ge=0)
    condition: str | None = field(None, "The task is skipped when it is false.")
    budget: Budget | None = field(None, "What models may take here, and in what it contains.")
    attachments: list[Attachment] = field([], "Images and files.")
    knowledge: Knowledge | None = field(None, "Knowledge base binding.")

    @property
    def on_failure(self) -> Transition | None:
        """`on_error`, or the one under `config` if only that says where to go."""
        configured = self.config.on_error if self.config else None
        own = self.on_error
        return configured if configured and not (own and own.next) else own


class BasicTask(Task):
    """A step that an agent, a tool or nobody carries out (§3.2)."""

    called = "a task"

    agent: AgentReference | None = field(None, "The agent that answers.")
    tool: ToolReference | None = field(None, "The tool that acts.")
    action: str | None = field(None, "The action of the agent.")
    prompt: str | None = field(None, "What the model is asked, with or without an agent.")
    model_config: Model | None = field(None, "The model of a task with only a `prompt`.")
    tools: list[ToolReference] = field([], "Offered to the model of a task with a `prompt`.")
    mcps: list[McpReference] = field([], "MCP servers offered to it.")
    memory: MemoryReferences | None = field(None, "Conversations it reads and writes.")
    max_iterations: int | None = field(None, "Turns of the tool loop.", ge=1)


Strategy = Literal["wait_all", "fail_fast", "best_effort", "race", "wait_any", "wait_first"]


class ParallelTask(Task):
    """Tasks that run at the same time (§3.3)."""

    tasks: list[Task] = field(..., "What runs.", min_length=1)
    strategy: Strategy = field("wait_all", "When it is done, and whether that is a success.")
    max_workers: int = field(0, "Tasks at a time; 0 for any number.", ge=0)


class CollectionTask(Task):
    """A task, or several, for each item of a list (§3.4)."""

    items: Data = field(..., "A template that gives the list, or the list.", example="{{ .input }}")
    task: Task | None = field(None, "What runs for each item.")
    tasks: list[Task] | None = field(None, "Several tasks for each item.", min_length=1)
    filter: str | None = field(None, "An item is left out when it is false.")
    item_var: str = field("item", "A second name of the item.", min_length=1)
    index_var: str = field("index", "A second name of its number.", min_length=1)
    mode: Literal["parallel", "sequential"] = field("parallel", "All at once, or one by one.")
    batch: int = field(0, "Items at a time; 0 for any number.", ge=0)
    strategy: Strategy = field("wait_all", "When it is done, and whether that is a success.")
    max_workers: int = field(0, "Tasks at a time; 0 for any number.", ge=0)


class CompositeTask(Task):
    """Tasks that run one after another as one step (§3.5)."""

    tasks: list[Task] = field(..., "What runs.")
    strategy: Strategy = field("fail_fast", "`fail_fast`, or `best_effort` to go on.")


class RouterTask(Task):
    """Chooses what runs next (§3.6)."""

    condition: str = field(..., "Gives the key of a route.", min_length=1)
    routes: dict[str, str | Task] = field(..., "Tasks by key.", min_length=1)
    default: str | Task | None = field(None, "When no key fits.")
    default_route: str | Task | None = field(None, "The same as `default`.")


class AggregateTask(Task):
    """Puts values together (§3.7)."""

    refused = (*Task.refused, "action", "sleep", "with", "tasks")

    outputs: dict[str, Any] = field(..., "The result; templates.", min_length=1)


class WaitTask(Task):
    """Waits for a signal (§3.8)."""

    wait_for: str = field(..., "The name of the signal.", min_length=1)
    condition: str | None = field(None, "The signal counts when it is true.")
    timeout: Seconds | str | None = field(  # type: ignore[assignment]
        None, "How long to wait, or a template of it; for ever if not given.", gt=0
    )
    processor: Task | None = field(None, "Runs for each signal.")
    on_timeout: str | None = field(None, "The task that comes after a timeout.")


class Signal(Noun):
    """What a `signal` task sends."""

    id: str = field(..., "The name of the signal; a template.", min_length=1)
    payload: dict[str, Any] = field({}, "What it brings; templates.")


class SignalTask(Task):
    """Starts the workflows that listen to a signal (§3.9)."""

    refused = (*Task.refused, "action")

    signal: Signal = field(..., "What is sent.")


class FlushConfig(Noun):
    """Options of `operation: flush`."""

    called = "`flush_config`"

    strategy: str | None = field(None, "Which messages go first.")
    max_keys: int | None = field(None, "Conversations at most.", ge=0)
    dry_run: bool = field(False, "Only say what would happen.")
    force: bool = field(False, "Also below the threshold.")
    threshold: float | None = field(None, "Fill ratio that flushes.", ge=0, le=1)


class HealthConfig(Noun):
    """Options of `operation: health`."""

    called = "`health_config`"

    include_stats: bool = field(False, "With numbers.")
    check_connectivity: bool = field(False, "Ask the store.")


class StatsConfig(Noun):
    """Options of `operation: stats`."""

    called = "`stats_config`"

    include_content: bool = field(False, "With messages.")
    group_by: str | None = field(None, "How numbers are grouped.")


class ClearConfig(Noun):
    """Options of `operation: clear`."""

    called = "`clear_config`"

    confirm: bool = field(False, "Must be true.")
    backup: bool = field(False, "Not implemented.")


class MemoryTask(Task):
    """Reads or changes a memory (§3.10)."""

    operation: Literal["read", "write", "append", "delete", "flush", "health", "clear", "stats"] = (
        field(..., "What is done.")
    )
    memory_ref: str = field(
        ...,
        "The id of a memory.",
        pattern=r"[A-Za-z0-9_-]{1,100}",
        hint="at most 100 letters, digits, `_` and `-`",
    )
    key_template: str = field(..., "Which conversation; a template.", min_length=1)
    payload: Data = field(None, "A text, a message or a list of messages; templates.")
    max_keys: int | None = field(None, "Conversations at most.", ge=0, le=50_000)
    batch_size: int | None = field(None, "Conversations at a time.", ge=0, le=10_000)
    flush_config: FlushConfig | None = field(None, "Options of `flush`.")
    health_config: HealthConfig | None = field(None, "Options of `health`.")
    stats_config: StatsConfig | None = field(None, "Options of `stats`.")
    clear_config: ClearConfig | None = field(None, "Options of `clear`.")


TASK_TYPES: dict[str, type[Task]] = {
    "basic": BasicTask,
    "parallel": ParallelTask,
    "collection": CollectionTask,
    "composite": CompositeTask,
    "router": RouterTask,
    "aggregate": AggregateTask,
    "wait": WaitTask,
    "signal": SignalTask,
    "memory": MemoryTask,
}
