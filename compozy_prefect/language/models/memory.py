"""Memory: what agents and tasks remember between calls (language.md §7)."""

from typing import Any, Literal

from compozy_prefect.language.models.base import Noun, Seconds, field


class TokenAllocation(Noun):
    """How the token budget is divided; the parts add up to 1."""

    called = "`token_allocation`"

    short_term: float | None = field(None, "Part of recent messages.", ge=0, le=1)
    long_term: float | None = field(None, "Part of summaries.", ge=0, le=1)
    system: float | None = field(None, "Part of system messages.", ge=0, le=1)
    user_defined: dict[str, float] = field({}, "Other parts.")


class Flushing(Noun):
    """What happens when a memory fills up (§7.2)."""

    called = "`flushing`"

    type: Literal[
        "simple_fifo",
        "lru",
        "token_aware_lru",
        "hybrid_summary",
        "fifo",
        "token_count",
        "message_count",
        "time_based",
    ] = field("simple_fifo", "Which messages go first.")
    summarize_threshold: float | None = field(None, "Fill ratio that flushes; 0.8.", gt=0, le=1)
    threshold: float | None = field(None, "The same as `summarize_threshold`.", gt=0, le=1)
    summary_tokens: int | None = field(None, "Size of the summary.", gt=0)
    summarize_oldest_percent: float | None = field(None, "Part to summarise.", gt=0, le=1)


class CircuitBreaker(Noun):
    """When to stop asking a store that fails."""

    called = "`circuit_breaker`"

    enabled: bool = field(False, "Whether it acts.")
    timeout: Seconds | None = field(None, "Of one operation.", gt=0)
    max_failures: int | None = field(None, "Failures in a row that open it.", gt=0)
    reset_timeout: Seconds | None = field(None, "Until it is tried again.", gt=0)


class Persistence(Noun):
    """Where a memory is kept, and how long."""

    called = "`persistence`"

    type: Literal["redis", "in_memory"] = field("redis", "The store.")
    ttl: Seconds | None = field(None, "A conversation ends this long after its last message.")
    circuit_breaker: CircuitBreaker | None = field(None, "When to stop asking the store.")


class PrivacyPolicy(Noun):
    """What is not kept (§7.3)."""

    called = "`privacy_policy`"

    redact_patterns: list[str] = field([], "Regular expressions of what is replaced.")
    non_persistable_message_types: list[str] = field([], "Roles that are never stored.")
    default_redaction_string: str = field("[REDACTED]", "What replaces a match.")


class Locking(Noun):
    """How long an operation may hold a conversation."""

    called = "`locking`"

    append_ttl: Seconds | None = field(None, "30s if not given.", gt=0)
    clear_ttl: Seconds | None = field(None, "10s if not given.", gt=0)
    flush_ttl: Seconds | None = field(None, "5m if not given.", gt=0)


class TokenProvider(Noun):
    """Who counts tokens."""

    called = "`token_provider`"

    provider: str | None = field(None, "openai, anthropic, google, cohere or deepseek.")
    model: str | None = field(None, "The model whose tokens are counted.")
    api_key: str | None = field(None, "The key, as a template.")
    api_key_env: str | None = field(None, "The variable that holds the key.")
    endpoint: str | None = field(None, "Instead of the provider's own.")
    fallback: str | None = field(None, "What counts when it does not answer.")
    settings: dict[str, Any] = field({}, "Further settings.")


class EvictionPolicy(Noun):
    """Which messages go when a limit is reached."""

    called = "`eviction_policy`"

    type: Literal["fifo", "lru", "priority"] = field("fifo", "Which messages go first.")
    priority_keywords: list[str] = field([], "Messages with one of them are kept.")


class Memory(Noun):
    """A memory resource (§7.1)."""

    called = "a memory"

    resource: Literal["memory"] | None = field(None, "`memory`, in files of their own.")
    id: str = field(..., "Unique in the project.", min_length=1)
    name: str | None = field(None, "Ignored.")
    description: str | None = field(None, "What it is for.")
    version: str | None = field(None, "Free text.")
    type: Literal["token_based", "message_count_based", "buffer"] = field(..., "What is limited.")
    max_tokens: int | None = field(None, "Tokens it keeps; 2000 if nothing is set.", gt=0)
    max_messages: int | None = field(None, "Messages it keeps; 100 if nothing is set.", gt=0)
    max_context_ratio: float | None = field(None, "Part of the model's window.", gt=0, le=1)
    token_allocation: TokenAllocation | None = field(None, "How the budget is divided.")
    flushing: Flushing | None = field(None, "What happens when it fills up.")
    flushing_strategy: Flushing | None = field(None, "The same as `flushing`.")
    eviction_policy: EvictionPolicy | None = field(None, "Which messages go first.")
    persistence: Persistence | None = field(None, "Where it is kept.")
    privacy_policy: PrivacyPolicy | None = field(None, "What is not kept.")
    locking: Locking | None = field(None, "How long an operation may take.")
    token_provider: TokenProvider | None = field(None, "Who counts tokens.")
    default_key_template: str | None = field(None, "The key when a reference has none.")
    key: str | None = field(None, "The same as `default_key_template`.")
    append_ttl: Seconds | None = field(None, "As under `locking`.", gt=0)
    clear_ttl: Seconds | None = field(None, "As under `locking`.", gt=0)
    flush_ttl: Seconds | None = field(None, "As under `locking`.", gt=0)
    model: str | None = field(None, "The model whose tokens are counted.")
    model_context_size: int | None = field(None, "Tokens that the model reads.", gt=0)
    token_counter: str | None = field(None, "Ignored.")
    metadata: dict[str, Any] = field({}, "Ignored.")
    disable_flush: bool = field(False, "Never flush.")


class Privacy(Noun):
    """`privacy` of a reference: redaction by the default patterns, and a time to live (§4.4)."""

    called = "`privacy`"

    enabled: bool = field(False, "Redact what looks personal.")
    retention_policy: Seconds | None = field(None, "Time to live of the conversation.")


class MemoryReference(Noun):
    """A memory that an agent reads and writes (§4.4)."""

    called = "a memory reference"

    id: str = field(..., "The id of a memory.", min_length=1)
    key: str | None = field(None, "Which conversation; a template.", example="user:{{ .input.id }}")
    mode: Literal["read-write", "read-only"] = field("read-write", "What the agent may do.")
    privacy: Privacy | None = field(None, "What is not kept.")


MemoryReferences = list[str | MemoryReference] | str | MemoryReference
