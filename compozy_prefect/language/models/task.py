"""Tasks: the fields that all types share, and those of the types that run (language.md §3)."""

from typing import Any

from pydantic import Field

from compozy_prefect.language.models.agent import AgentReference
from compozy_prefect.language.models.base import Data, Noun, Seconds, Variables
from compozy_prefect.language.models.tool import ToolReference

TASK_TYPES = (
    "basic",
    "parallel",
    "collection",
    "composite",
    "router",
    "aggregate",
    "wait",
    "signal",
    "memory",
)


class RetryPolicy(Noun):
    """Attempts and the pauses between them (§2.5)."""

    initial_interval: Seconds | None = Field(None, description="First pause; 1s.")
    backoff_coefficient: float | None = Field(None, ge=1, description="Growth of the pause; 2.")
    maximum_attempts: int | None = Field(None, ge=0, description="Attempts in total; 3.")
    maximum_interval: Seconds | None = Field(None, description="Longest pause; 1m.")
    non_retryable_error_types: list[str] = Field(
        default_factory=list, description="Error codes that are not tried again."
    )


class Transition(Noun):
    """Where to go after a task (§2.3)."""

    next: str | None = Field(None, description="The id of a task.")
    with_: dict[str, Any] = Field(
        default_factory=dict, alias="with", description="Merged into the next task's `with`."
    )
    retry: int | None = Field(None, ge=0, description="The same as `retries` of the task.")


class ExecutionOptions(Noun):
    """Options of a project, a workflow or a task; the nearest wins, field by field (§2.5)."""

    schedule_to_start_timeout: Seconds | None = Field(None, description="Time in a queue.")
    start_to_close_timeout: Seconds | None = Field(None, description="One attempt; 5m.")
    schedule_to_close_timeout: Seconds | None = Field(None, description="All attempts.")
    heartbeat_timeout: Seconds | None = Field(None, description="Of long activities.")
    retry_policy: RetryPolicy | None = Field(None, description="Attempts and pauses.")
    on_error: Transition | None = Field(None, description="For tasks that have none.")


class Task(Noun):
    """One step of a workflow (§3.1)."""

    id: str = Field(min_length=1, description="Unique in its container.")
    resource: str | None = Field(None, description="`task`, in autoloaded files.")
    type: str = Field("basic", description="One of the nine types.")
    name: str | None = Field(None, description="Ignored.")
    description: str | None = Field(None, description="Ignored.")
    config: ExecutionOptions | None = Field(None, description="Timeouts and retries.")
    retry_policy: RetryPolicy | None = Field(None, description="The same as under `config`.")
    start_to_close_timeout: Seconds | None = Field(None, description="As under `config`.")
    with_: dict[str, Any] = Field(
        default_factory=dict, alias="with", description="The input; text in it is a template."
    )
    input: Data = Field(None, description="Schema of the rendered `with`.")
    output: Data = Field(None, description="Schema of the raw output.")
    outputs: dict[str, Any] | None = Field(None, description="Replaces the output; templates.")
    env: Variables = Field(default_factory=dict, description="Over the workflow's.")
    on_success: Transition | None = Field(None, description="What comes next.")
    on_error: Transition | None = Field(None, description="What comes after a failure.")
    final: bool = Field(False, description="The workflow ends after this task.")
    sleep: Seconds | None = Field(None, description="Waited before the task.")
    timeout: Seconds | None = Field(None, description="Of one attempt.")
    retries: int | None = Field(None, ge=0, description="Re-attempts after a failure.")
    condition: str | None = Field(None, description="The task is skipped when it is false.")
    agent: AgentReference | None = Field(None, description="The agent that answers.")
    tool: ToolReference | None = Field(None, description="The tool that acts.")
    action: str | None = Field(None, description="The action of the agent.")
    attachments: list[Any] = Field(default_factory=list, description="Images and files.")
    knowledge: Data = Field(None, description="Knowledge base binding.")

    @property
    def on_failure(self) -> Transition | None:
        """`on_error`, or the one under `config` if only that says where to go."""
        configured = self.config.on_error if self.config else None
        own = self.on_error
        return configured if configured and not (own and own.next) else own
