"""Settings of what runs around the workflows (language.md §1.4, service.md §5.3).

Prefect stands in for most of it. The sections are read and checked all the same, so that a project
that has them stays as it is, and a mistake in them is told.
"""

from typing import Any, Literal

from compozy_prefect.language.models.base import Noun, Seconds, Size, field

_MIB = 2**20


class Cors(Noun):
    """Which pages of other sites may call the API."""

    called = "`server.cors`"

    allowed_origins: list[str] = field(
        ["http://localhost:3000", "http://localhost:5001"], "Sites that may call."
    )
    allow_credentials: bool = field(True, "Whether cookies are sent along.")
    max_age: int = field(86400, "Seconds that an answer to a preflight holds.", ge=0)


class Auth(Noun):
    """Who may call the API."""

    called = "`server.auth`"

    enabled: bool = field(False, "Whether a key is asked for.")
    admin_key: str = field("", "The key of the administrator; 16 characters at least.")
    workflow_exceptions: list[str] = field([], "Workflows that need no key.")
    api_key_last_used_max_concurrency: int = field(10, "Updates of `last_used` at once.", ge=0)
    api_key_last_used_timeout: Seconds = field(2.0, "Of one update of `last_used`.")


class ServerTimeouts(Noun):
    """How long the parts of the server may take."""

    called = "`server.timeouts`"

    monitoring_init: Seconds = field(0.5, "Start of the metrics.")
    monitoring_shutdown: Seconds = field(5.0, "End of the metrics.")
    db_shutdown: Seconds = field(30.0, "End of the database.")
    worker_shutdown: Seconds = field(30.0, "End of the workers.")
    server_shutdown: Seconds = field(5.0, "End of the server.")
    http_read: Seconds = field(15.0, "Reading a request.")
    http_write: Seconds = field(15.0, "Writing an answer.")
    http_idle: Seconds = field(60.0, "A connection without a request.")
    http_read_header: Seconds = field(10.0, "Reading the head of a request.")
    schedule_retry_max_duration: Seconds = field(300.0, "Setting up schedules, in all.")
    schedule_retry_base_delay: Seconds = field(1.0, "First pause between two attempts.")
    schedule_retry_max_delay: Seconds = field(30.0, "Longest pause between two attempts.")
    schedule_retry_max_attempts: int = field(0, "Attempts at most; 0 for no bound.", ge=0)
    schedule_retry_backoff_seconds: int = field(0, "A fixed pause instead.", ge=0)
    knowledge_ingest: Seconds = field(300.0, "Filling a knowledge base.")
    temporal_reachability: Seconds = field(1.5, "Looking for Temporal.")
    start_probe_delay: Seconds = field(0.1, "Until the first look whether it started.")


class Server(Noun):
    """The HTTP API."""

    called = "`server`"

    host: str = field("localhost", "The address it listens on.")
    port: int = field(3000, "The port it listens on.", ge=1, le=65535)
    source_of_truth: Literal["repo", "builder"] = field("repo", "Where definitions come from.")
    seed_from_repo_on_empty: bool = field(False, "Whether an empty store is filled from files.")
    cors_enabled: bool = field(True, "Whether other sites may call.")
    timeout: Seconds = field(30.0, "Of one request.")
    cors: Cors | None = field(None, "Which other sites may call.")
    auth: Auth | None = field(None, "Who may call.")
    timeouts: ServerTimeouts | None = field(None, "How long its parts may take.")


class Database(Noun):
    """The database of the executions."""

    called = "`database`"

    driver: Literal["postgres", "sqlite"] | None = field(None, "Which database.")
    host: str = field("localhost", "Where it is.")
    port: int = field(5432, "Its port.", ge=1, le=65535)
    path: str = field(":memory:", "The file, of SQLite.")
    user: str = field("postgres", "Who logs in.")
    password: str = field("", "The password.")
    name: str = field("compozy", "The name of the database.")
    ssl_mode: str = field("disable", "How the connection is encrypted.")
    conn_string: str = field("", "All of it in one address.")
    auto_migrate: bool = field(True, "Whether tables are brought up to date.")
    migration_timeout: Seconds = field(120.0, "Of that.", ge=45)
    max_open_conns: int = field(25, "Connections at most.", ge=0)
    max_idle_conns: int = field(5, "Connections that stay open.", ge=0)
    conn_max_lifetime: Seconds = field(300.0, "Age of a connection.")
    conn_max_idle_time: Seconds = field(60.0, "Time a connection may idle.")
    ping_timeout: Seconds = field(3.0, "Of a ping.")
    health_check_timeout: Seconds = field(1.0, "Of a health check.")
    health_check_period: Seconds = field(30.0, "Between two health checks.")
    connect_timeout: Seconds = field(5.0, "Of connecting.")


class TemporalStandalone(Noun):
    """A Temporal server in the same process."""

    called = "`temporal.standalone`"

    database_file: str = field(":memory:", "Its database.")
    frontend_port: int = field(7233, "Its port.", ge=1, le=65535)
    bind_ip: str = field("127.0.0.1", "The address it listens on.")
    namespace: str = field("default", "Its namespace.")
    cluster_name: str = field("compozy-standalone", "Its name.")
    enable_ui: bool = field(True, "Whether its pages are served.")
    require_ui: bool = field(False, "Whether it must not start without them.")
    ui_port: int = field(8233, "Port of its pages.", ge=1, le=65535)
    log_level: str = field("warn", "What it logs.")
    start_timeout: Seconds = field(30.0, "Of its start.")


class Temporal(Noun):
    """What the original runs workflows with."""

    called = "`temporal`"

    mode: str = field("", "`standalone` or `remote`.")
    host_port: str = field("localhost:7233", "Where it is.")
    namespace: str = field("default", "Its namespace.")
    task_queue: str = field("compozy-tasks", "The queue of the tasks.")
    standalone: TemporalStandalone | None = field(None, "One in the same process.")


class Redis(Noun):
    """The connection to Redis."""

    called = "`redis`"

    url: str = field("", "All of it in one address.")
    host: str = field("localhost", "Where it is.")
    port: int = field(6379, "Its port.", ge=1, le=65535)
    password: str = field("", "The password.")
    db: int = field(0, "Number of the database.", ge=0)
    mode: str = field("", "`standalone` or `distributed`.")
    pool_size: int = field(10, "Connections at most.", ge=0)
    min_idle_conns: int = field(0, "Idle connections at least.", ge=0)
    max_idle_conns: int = field(0, "Idle connections at most; 0 for no bound.", ge=0)
    notification_buffer_size: int = field(100, "Notifications that wait.", ge=0)
    dial_timeout: Seconds = field(5.0, "Of connecting.")
    read_timeout: Seconds = field(3.0, "Of reading.")
    write_timeout: Seconds = field(3.0, "Of writing.")
    pool_timeout: Seconds = field(4.0, "Of waiting for a connection.")
    ping_timeout: Seconds = field(1.0, "Of a ping.")
    max_retries: int = field(3, "Attempts again.", ge=-1)
    min_retry_backoff: Seconds = field(0.008, "Shortest pause between two attempts.")
    max_retry_backoff: Seconds = field(0.512, "Longest pause between two attempts.")
    tls_enabled: bool = field(False, "Whether the connection is encrypted.")


class Cache(Redis):
    """The cache, and in older projects the connection to it."""

    called = "`cache`"

    enabled: bool = field(True, "Whether it is used.")
    ttl: Seconds = field(86400.0, "How long an entry lives.")
    timeout: Seconds | None = field(None, "Of one operation.")
    prefix: str = field("compozy:cache:", "What its keys begin with.")
    eviction_policy: Literal["lru", "lfu", "ttl"] = field("lru", "Which entries go first.")
    max_item_size: Size = field(_MIB, "Largest entry, in bytes.")
    stats_interval: Seconds = field(300.0, "Between two statistics.")
    key_scan_count: int = field(100, "Keys looked at in one scan.", ge=0)
    compression_enabled: bool = field(True, "Whether entries are compressed …")
    compression_threshold: Size = field(1024, "… from this size on.")


class Dispatcher(Noun):
    """Who hands tasks to workers."""

    called = "`worker.dispatcher`"

    heartbeat_ttl: Seconds = field(300.0, "Until one without a heartbeat is gone.")
    stale_threshold: Seconds = field(120.0, "Until one is stale.")


class Worker(Noun):
    """The workers of the original."""

    called = "`worker`"

    config_store_ttl: Seconds = field(86400.0, "How long configurations are kept.")
    heartbeat_cleanup_timeout: Seconds = field(5.0, "Of cleaning up heartbeats.")
    mcp_shutdown_timeout: Seconds = field(30.0, "Of stopping MCP servers.")
    mcp_proxy_health_check_timeout: Seconds = field(10.0, "Of asking the proxy.")
    dispatcher: Dispatcher | None = field(None, "Who hands out tasks.")
    dispatcher_retry_delay: Seconds = field(0.05, "Pause before another attempt.")
    dispatcher_max_retries: int = field(2, "Attempts again.", ge=0)
    start_workflow_timeout: Seconds = field(5.0, "Of starting a workflow.")
    max_concurrent_activity_execution_size: int = field(0, "Activities at once.", ge=0)
    max_concurrent_workflow_execution_size: int = field(0, "Workflows at once.", ge=0)
    max_concurrent_local_activity_execution_size: int = field(0, "Local ones at once.", ge=0)
    activity_start_to_close_timeout: Seconds = field(300.0, "Of one activity.")
    activity_heartbeat_timeout: Seconds = field(30.0, "Of one without a heartbeat.")
    activity_max_retries: int = field(3, "Attempts again.", ge=0)
    error_handler_timeout: Seconds = field(30.0, "Of the handler of errors.")
    error_handler_max_retries: int = field(3, "Its attempts again.", ge=0)


class Rate(Noun):
    """Requests within a period."""

    called = "a rate"

    limit: int = field(100, "Requests.", ge=0)
    period: Seconds = field(60.0, "Within this time.")


class RateLimit(Noun):
    """How often the API may be called."""

    called = "`ratelimit`"

    global_rate: Rate | None = field(None, "By everybody.")
    api_key_rate: Rate | None = field(None, "With one key.")
    route_rates: dict[str, Any] = field({}, "By route.")
    prefix: str = field("compozy:ratelimit:", "What its keys begin with.")
    max_retry: int = field(3, "Attempts again.", ge=0)
    redis_addr: str = field("", "Where its Redis is.")
    redis_password: str = field("", "Its password.")
    redis_db: int = field(0, "Its database.", ge=0)


class McpProxy(Noun):
    """The proxy between agents and MCP servers."""

    called = "`mcp_proxy`"

    mode: str = field("standalone", "`standalone` or `embedded`.")
    host: str = field("127.0.0.1", "The address it listens on.")
    port: int = field(0, "The port it listens on; 0 for any.", ge=0, le=65535)
    base_url: str = field("", "How others reach it.")
    shutdown_timeout: Seconds = field(10.0, "Of its end.")
    idle_conn_timeout: Seconds = field(90.0, "Of a connection without a request.")
    max_idle_conns: int = field(128, "Idle connections at most.", ge=0)
    max_idle_conns_per_host: int = field(128, "Idle connections to one host.", ge=0)
    max_conns_per_host: int = field(128, "Connections to one host.", ge=0)


class AgentStream(Noun):
    """How often the events of an execution are looked for."""

    called = "`stream.agent`"

    default_poll: Seconds = field(0.5, "Between two looks.")
    min_poll: Seconds = field(0.25, "The shortest that may be asked for.")
    max_poll: Seconds = field(2.0, "The longest that may be asked for.")
    heartbeat_frequency: Seconds = field(15.0, "Between two signs of life.")
    replay_limit: int = field(500, "Events sent again.", ge=0)


class StreamText(Noun):
    """Text that is streamed."""

    called = "`stream.task.text`"

    max_segment_runes: int = field(200, "Characters of one event.", ge=0)
    publish_timeout: Seconds = field(2.0, "Of sending one.")


class TaskStream(AgentStream):
    """The same for tasks, by way of Redis."""

    called = "`stream.task`"

    redis_channel_prefix: str = field("stream:tokens:", "What channels begin with.")
    redis_log_prefix: str = field("stream:events:log:", "What logs begin with.")
    redis_seq_prefix: str = field("stream:events:seq:", "What counters begin with.")
    redis_max_entries: int = field(500, "Events that are kept.", ge=0)
    redis_ttl: Seconds = field(86400.0, "How long.")
    text: StreamText | None = field(None, "Text that is streamed.")


class WorkflowStream(AgentStream):
    """The same for workflows."""

    called = "`stream.workflow`"

    query_timeout: Seconds = field(5.0, "Of one look.")


class LlmStream(Noun):
    """Answers of models that are streamed."""

    called = "`stream.llm`"

    fallback_segment_limit: int = field(200, "Characters of one event.", ge=0)


class Stream(Noun):
    """Events of executions, as they happen."""

    called = "`stream`"

    agent: AgentStream | None = field(None, "Of agents.")
    task: TaskStream | None = field(None, "Of tasks.")
    workflow: WorkflowStream | None = field(None, "Of workflows.")
    llm: LlmStream | None = field(None, "Of models.")


class Watcher(Noun):
    """Watching files while a project is worked on."""

    called = "`cli.dev`"

    watcher_debounce: Seconds = field(0.2, "Quiet time before a restart.")
    watcher_retry_initial: Seconds = field(0.5, "First pause after a crash.")
    watcher_retry_max: Seconds = field(30.0, "Longest pause after a crash.")


class Users(Noun):
    """Lists of users."""

    called = "`cli.users`"

    active_window_days: int = field(30, "Days within which a key was used.", ge=0)


class Cli(Noun):
    """The command line of the original, which calls the API."""

    called = "`cli`"

    api_key: str = field("", "The key it calls with.")
    base_url: str = field("http://localhost:3000", "Where the API is.")
    timeout: Seconds = field(30.0, "Of one request.")
    max_retries: int = field(3, "Attempts again.", ge=0)
    mode: Literal["auto", "json", "tui"] = field("auto", "How results are shown.")
    default_format: str = field("tui", "The same.")
    color_mode: Literal["auto", "on", "off"] = field("auto", "Whether there is colour.")
    page_size: int = field(50, "Rows of a page.", ge=1)
    output_format_alias: str = field("", "The same as `default_format`.")
    no_color: bool = field(False, "Never colour.")
    debug: bool = field(False, "Show tracebacks.")
    quiet: bool = field(False, "Only results and errors.")
    interactive: bool = field(False, "Ask for what is missing.")
    config_file: str = field("", "The project file.")
    cwd: str = field("", "The directory to start in.")
    env_file: str = field("", "The environment file.")
    port_release_timeout: Seconds = field(5.0, "Of waiting for a port.")
    port_release_poll_interval: Seconds = field(0.1, "Between two looks at it.")
    file_watch_interval: Seconds = field(1.0, "Between two looks at the files.")
    dev: Watcher | None = field(None, "Watching files.")
    users: Users | None = field(None, "Lists of users.")
