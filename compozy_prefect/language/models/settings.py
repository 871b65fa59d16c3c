"""Settings of the project: sections beside its nouns (language.md §1.4, service.md §5.3).

A section is declared like a noun, and `config` finds the value of each of its fields: from a flag,
the project file, the environment, or the default that stands here.
"""

from typing import Any, Literal

from compozy_prefect.language.models.base import Noun, Seconds, Size, field
from compozy_prefect.language.models.model import RateLimit as CallLimit
from compozy_prefect.language.models.services import (
    Cache,
    Cli,
    Database,
    McpProxy,
    RateLimit,
    Redis,
    Server,
    Stream,
    Temporal,
    Worker,
)

_MIB = 2**20


class Limits(Noun):
    """How large and how deep things may be."""

    called = "`limits`"

    max_nesting_depth: int = field(20, "Containers inside each other.", ge=1, le=64)
    max_config_file_nesting_depth: int = field(100, "Levels of one file.", ge=1)
    max_task_context_depth: int = field(5, "Tasks above one that it sees.", ge=1)
    max_string_length: Size = field(10 * _MIB, "Longest text, in bytes.")
    max_config_file_size: Size = field(10 * _MIB, "Largest file, in bytes.")
    max_message_content: Size = field(10240, "Longest message to a memory, in bytes.")
    max_total_content_size: Size = field(102400, "All messages of one task, in bytes.")
    parent_update_batch_size: int = field(100, "Tasks that are counted at once.", ge=1)


class ToolCallCaps(Noun):
    """How often tools may be called."""

    called = "`llm.tool_call_caps`"

    default: int = field(0, "Calls of one tool; 0 for no bound.", ge=0)
    overrides: dict[str, Any] = field({}, "By the name of the tool.")


class RateLimiting(Noun):
    """How often providers are called."""

    called = "`llm.rate_limiting`"

    enabled: bool = field(True, "Whether calls are held back.")
    default_concurrency: int = field(10, "Calls at once.", ge=0)
    default_queue_size: int = field(100, "Calls that wait.", ge=0)
    default_requests_per_minute: int = field(0, "Calls in a minute; 0 for no bound.", ge=0)
    default_tokens_per_minute: int = field(0, "Tokens in a minute; 0 for no bound.", ge=0)
    default_request_burst: int = field(0, "Calls in one burst.", ge=0)
    default_token_burst: int = field(0, "Tokens in one burst.", ge=0)
    per_provider_limits: dict[str, CallLimit] = field({}, "By the name of the provider.")


class UsageMetrics(Noun):
    """How usage is measured."""

    called = "`llm.usage_metrics`"

    persist_buckets: list[float] = field(
        [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1], "Seconds that the histogram divides at."
    )


class Llm(Noun):
    """How models are called, where a model says nothing itself."""

    called = "`llm`"

    proxy_url: str = field("", "Where the MCP proxy is.")
    admin_token: str = field("", "The token that the proxy takes.")
    mcp_readiness_timeout: Seconds = field(60.0, "Of waiting for MCP servers.")
    mcp_readiness_poll_interval: Seconds = field(0.2, "Between two looks at them.")
    mcp_header_template_strict: bool = field(False, "Whether unknown headers are refused.")
    allowed_mcp_names: list[str] = field([], "MCP servers that may be used; none for all.")
    fail_on_mcp_registration_error: bool = field(False, "Whether one that fails ends the start.")
    register_mcps: list[Any] = field([], "MCP servers that are always there.")
    mcp_client_timeout: Seconds = field(30.0, "Of one call of an MCP server.")
    provider_timeout: Seconds = field(300.0, "Of one call of a provider.", gt=0)
    retry_attempts: int = field(3, "Attempts of one call.", ge=0, le=100)
    retry_backoff_base: Seconds = field(0.1, "First pause between two attempts.")
    retry_backoff_max: Seconds = field(10.0, "Longest pause between two attempts.")
    retry_jitter: bool = field(True, "Whether pauses vary.")
    retry_jitter_percent: int = field(10, "By how much.", ge=0, le=100)
    max_concurrent_tools: int = field(10, "Tools that one answer calls at once.", ge=1)
    max_tool_iterations: int = field(100, "Turns of the tool loop.", ge=0)
    max_sequential_tool_errors: int = field(10, "Failures of tools in a row.", ge=0)
    max_consecutive_successes: int = field(3, "Calls in a row that change nothing.", ge=0)
    enable_progress_tracking: bool = field(False, "Whether loops without progress end.")
    no_progress_threshold: int = field(3, "Turns without progress.", ge=0)
    enable_dynamic_prompt_state: bool = field(False, "Whether a prompt tells of the loop.")
    tool_call_caps: ToolCallCaps | None = field(None, "How often tools may be called.")
    finalize_output_retries: int = field(0, "Questions again at the end.", ge=0)
    structured_output_retries: int = field(2, "Questions again after a bad answer.", ge=0)
    enable_loop_restarts: bool = field(False, "Whether a stalled loop starts anew.")
    restart_stall_threshold: int = field(2, "Turns until it is stalled.", ge=0)
    max_loop_restarts: int = field(0, "How often it starts anew.", ge=0)
    enable_context_compaction: bool = field(False, "Whether long talks are shortened.")
    context_compaction_threshold: float = field(0.85, "Part of the window.", ge=0, le=1)
    context_compaction_cooldown: int = field(2, "Turns between two times.", ge=0)
    context_warning_thresholds: list[float] = field([0.7, 0.85], "Parts that are logged.")
    usage_metrics: UsageMetrics | None = field(None, "How usage is measured.")
    rate_limiting: RateLimiting | None = field(None, "How often providers are called.")
    default_top_p: float = field(0.0, "`top_p` of all models; 0 for their own.", ge=0, le=1)
    default_frequency_penalty: float = field(0.0, "The same of `frequency_penalty`.")
    default_presence_penalty: float = field(0.0, "The same of `presence_penalty`.")
    default_seed: int = field(0, "The same of `seed`.")


class MemorySettings(Noun):
    """Memories, where one says nothing itself."""

    called = "`memory`"

    prefix: str = field("compozy:memory:", "What keys begin with.")
    ttl: Seconds = field(86400.0, "A conversation ends this long after its last message.")
    max_entries: int = field(10000, "Messages of one conversation.", ge=0)
    redis_url: str = field("", "Where its Redis is.")
    redis_prefix: str = field("compozy:", "What keys in Redis begin with.")
    encryption: dict[str, Any] = field({}, "Encryption at rest.")


class ChildState(Noun):
    """Reading the state of a child again."""

    called = "`tasks.retry.child_state`"

    max_attempts: int = field(5, "Attempts.", ge=0)
    base_backoff: Seconds = field(0.05, "First pause between two.")


class TaskRetry(Noun):
    """What tasks try again."""

    called = "`tasks.retry`"

    child_state: ChildState | None = field(None, "Reading the state of a child.")


class Siblings(Noun):
    """Waiting for tasks of the same container."""

    called = "`tasks.wait.siblings`"

    poll_interval: Seconds = field(0.2, "Between two looks.")
    timeout: Seconds = field(30.0, "At most.")


class TaskWait(Noun):
    """What tasks wait for."""

    called = "`tasks.wait`"

    siblings: Siblings | None = field(None, "Tasks of the same container.")


class TaskChunks(Noun):
    """What is streamed of tasks."""

    called = "`tasks.stream`"

    max_chunks: int = field(100, "Events at most.", ge=0)


class TaskRunner(Noun):
    """Where the steps of fan-outs run: in the process of the flow, or on a cluster.

    The original has no such thing.
    """

    called = "`tasks.runner`"

    type: Literal["threads", "dask", "ray"] = field("threads", "What runs the steps of fan-outs.")
    address: str = field(
        "",
        "Of a cluster that runs; without it one is started on this machine, for the run.",
        pattern=r"[a-z]+://[^\s/]+|auto|[\w.-]+:\d+",
        hint="such as `tcp://scheduler:8786` or `ray://head:10001`",
    )
    workers: int = field(
        0, "Processes of a cluster that is started here; 0 for one a core.", ge=0, le=1024
    )


class TaskSettings(Noun):
    """How tasks are run. A list under `tasks` is the tasks of a workflow instead."""

    called = "`tasks`"

    retry: TaskRetry | None = field(None, "What they try again.")
    wait: TaskWait | None = field(None, "What they wait for.")
    stream: TaskChunks | None = field(None, "What is streamed.")
    runner: TaskRunner | None = field(None, "Where the steps of fan-outs run.")


class KnowledgeSettings(Noun):
    """Knowledge bases, where one says nothing itself. With an `id` it is a binding instead."""

    called = "`knowledge`"

    embedder_batch_size: int = field(512, "Pieces that are embedded at once.", ge=1)
    chunk_size: int = field(800, "Tokens of a piece.", ge=64, le=8192)
    chunk_overlap: int = field(120, "Tokens that pieces share.", ge=0)
    retrieval_top_k: int = field(5, "Hits at most.", ge=1, le=50)
    retrieval_min_score: float = field(0.0, "Hits below it are left out.", ge=0, le=1)
    max_markdown_file_size_bytes: Size = field(4 * _MIB, "Largest file, in bytes.")
    vector_http_timeout: Seconds = field(10.0, "Of asking a vector database.")


class MimeTypes(Noun):
    """Which files may be attached."""

    called = "`attachments.allowed_mime_types`"

    image: list[str] = field(["image/*"], "Images.")
    audio: list[str] = field(["audio/*"], "Sounds.")
    video: list[str] = field(["video/*"], "Films.")
    pdf: list[str] = field(["application/pdf"], "Documents.")


class AttachmentSettings(Noun):
    """Files that are sent with prompts."""

    called = "`attachments`"

    max_download_size_bytes: Size = field(10_000_000, "Largest download, in bytes.")
    download_timeout: Seconds = field(30.0, "Of one download.")
    max_redirects: int = field(3, "Redirections of one download.", ge=0)
    allowed_mime_types: MimeTypes | None = field(None, "Which may be attached.")
    temp_dir_quota_bytes: Size = field(0, "Of all downloads; 0 for no bound.")
    text_part_max_bytes: Size = field(5 * _MIB, "Text of one, in bytes.")
    pdf_extract_max_chars: int = field(1_000_000, "Text of a document, in characters.", ge=0)
    http_user_agent: str = field("Compozy/1.0", "What downloads say they are.")
    mime_head_max_bytes: Size = field(512, "Bytes that tell the type.")
    ssrf_strict: bool = field(False, "Whether private addresses are refused.")


class WebhookSettings(Noun):
    """Webhooks, where one says nothing itself."""

    called = "`webhooks`"

    default_method: str = field("POST", "The method.")
    default_max_body: Size = field(_MIB, "Largest body, in bytes.")
    default_dedupe_ttl: Seconds = field(600.0, "How long one counts as seen.")
    stripe_skew: Seconds = field(300.0, "Age of a signature of Stripe.")


class OpenAi(Noun):
    """OpenAI, in older projects; `models` says it now."""

    called = "`openai`"

    api_key: str = field("", "The key.")
    base_url: str = field("", "Where it is.")
    org_id: str = field("", "The organization.")
    default_model: str = field("", "The model.")


SECTIONS: dict[str, type[Noun]] = {
    "attachments": AttachmentSettings,
    "cache": Cache,
    "cli": Cli,
    "database": Database,
    "knowledge": KnowledgeSettings,
    "limits": Limits,
    "llm": Llm,
    "mcp_proxy": McpProxy,
    "memory": MemorySettings,
    "openai": OpenAi,
    "ratelimit": RateLimit,
    "redis": Redis,
    "server": Server,
    "stream": Stream,
    "tasks": TaskSettings,
    "temporal": Temporal,
    "webhooks": WebhookSettings,
    "worker": Worker,
}
"""By their key in the project file."""
