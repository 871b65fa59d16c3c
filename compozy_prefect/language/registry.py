"""All settings: their keys, variables and secrets, and why some do nothing here (service.md §5.3).

`config` asks for one setting at a time; this is for those who list them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from urllib.parse import urlsplit, urlunsplit

from compozy_prefect.language.config import EFFECTS
from compozy_prefect.language.models.base import Noun, fields_of
from compozy_prefect.language.models.project import Monitoring, Runtime
from compozy_prefect.language.models.settings import SECTIONS

REDACTED = "[REDACTED]"

_SECRETS = frozenset(
    {
        "cache.password",
        "cli.api_key",
        "database.conn_string",
        "database.password",
        "llm.admin_token",
        "llm.register_mcps",
        "memory.encryption",
        "openai.api_key",
        "ratelimit.redis_password",
        "redis.password",
        "server.auth.admin_key",
    }
)

# The variables of a group begin with this, where it is not its own name.
_PREFIXES = {
    "cli": "COMPOZY",
    "database": "DB",
    "mode": "COMPOZY_MODE",
    "runtime.task_execution_timeout_default": "TASK_EXECUTION_TIMEOUT_DEFAULT",
    "runtime.task_execution_timeout_max": "TASK_EXECUTION_TIMEOUT_MAX",
    "cli.mode": "COMPOZY_CLI_MODE",
    "limits.max_message_content": "LIMITS_MAX_MESSAGE_CONTENT_LENGTH",
    "llm.mcp_client_timeout": "MCP_CLIENT_TIMEOUT",
    "llm.mcp_header_template_strict": "MCP_HEADER_TEMPLATE_STRICT",
    "llm.mcp_readiness_poll_interval": "MCP_READINESS_POLL_INTERVAL",
    "llm.mcp_readiness_timeout": "MCP_READINESS_TIMEOUT",
    "llm.proxy_url": "MCP_PROXY_URL",
    "ratelimit.api_key_rate": "RATELIMIT_API_KEY",
    "ratelimit.global_rate": "RATELIMIT_GLOBAL",
    "tasks.retry.child_state": "TASKS_RETRY_CHILD",
    "worker.max_concurrent_activity_execution_size": "WORKER_MAX_CONCURRENT_ACTIVITIES",
    "worker.max_concurrent_local_activity_execution_size": "WORKER_MAX_CONCURRENT_LOCAL_ACTIVITIES",
    "worker.max_concurrent_workflow_execution_size": "WORKER_MAX_CONCURRENT_WORKFLOWS",
}
# Other names of them, of the README and of older versions.
_MORE: dict[str, tuple[str, ...]] = {
    "database.max_open_conns": ("DB_MAX_CONNECTIONS",),
    "llm.admin_token": ("MCP_ADMIN_TOKEN", "MCP_PROXY_ADMIN_TOKEN"),
    "monitoring.enabled": ("PROMETHEUS_ENABLED",),
    "runtime.async_token_counter_buffer_size": ("ASYNC_TOKEN_COUNTER_BUFFER_SIZE",),
    "runtime.async_token_counter_workers": ("ASYNC_TOKEN_COUNTER_WORKERS",),
    "runtime.dispatcher_heartbeat_interval": ("DISPATCHER_HEARTBEAT_INTERVAL",),
    "runtime.dispatcher_heartbeat_ttl": ("DISPATCHER_HEARTBEAT_TTL",),
    "runtime.dispatcher_stale_threshold": ("DISPATCHER_STALE_THRESHOLD",),
    "runtime.environment": ("COMPOZY_ENV",),
    "server.host": ("COMPOZY_HOST",),
    "server.port": ("COMPOZY_PORT",),
}
_NO_VARIABLE = frozenset(
    {
        "cli.no_color",
        "cli.output_format_alias",
        "llm.register_mcps",
        "llm.tool_call_caps.overrides",
        "llm.usage_metrics.persist_buckets",
        "memory.encryption",
    }
)

# Read from the file alone, into the plan.
_PLANNED = (
    *(
        f"runtime.{name}"
        for name in (
            "engine",
            "entrypoint",
            "memory_limit",
            "permissions",
            "python",
            "timeout",
            "type",
        )
    ),
    *(f"runtime.native_tools.{name}" for name in ("enabled", "root_dir", "additional_roots")),
    *(
        f"runtime.native_tools.exec.{name}"
        for name in ("timeout", "max_stdout_bytes", "max_stderr_bytes", "allowlist")
    ),
    *(
        f"runtime.native_tools.fetch.{name}"
        for name in ("timeout", "max_body_bytes", "max_redirects", "allowed_methods")
    ),
    *(
        f"runtime.native_tools.call_{what}{name}"
        for what in ("agent", "task", "workflow")
        for name in (
            ".enabled",
            ".default_timeout",
            "s.enabled",
            "s.default_timeout",
            "s.max_concurrent",
        )
    ),
)

# Why a setting does nothing here, by the beginning of its key; the longest that fits holds.
_REASONS = {
    "attachments.mime_head_max_bytes": "each type is told by as many bytes as it needs",
    "attachments.pdf_extract_max_chars": "PDFs are sent whole, to models that take them",
    "attachments.temp_dir_quota_bytes": "downloads are kept in memory, and in no file",
    "cache": "Prefect keeps the results of steps, in its own storage",
    "cli": "the commands here call no service; `--debug`, `--quiet` and `--env-file` are flags",
    "database": "Prefect keeps the executions, in its own database",
    "knowledge": "knowledge bases are not filled yet",
    "limits": "the bound is fixed here, or nothing comes near it",
    "limits.max_config_file_nesting_depth": "it is 100 levels here, always",
    "limits.max_config_file_size": "it is 10 MiB here, always",
    "llm": "this version does not act on it yet",
    "mcp_proxy": "MCP servers are called directly, without a proxy",
    "memory": "memories are not kept yet",
    "mode": "there is one way to run here: Prefect's",
    "monitoring": "this version has no metrics; Prefect's pages show executions",
    "openai": "`models` says which providers there are",
    "ratelimit": "there is no HTTP API to be held back",
    "redis": "nothing is kept in Redis",
    "runtime": "it is for tools of the JavaScript runtime, and for the service",
    "runtime.native_tools": "it makes one call, and no others at the same time",
    "server": "there is no HTTP API; Prefect's server has settings of its own",
    "stream": "there is no HTTP API to stream from",
    "tasks": "a task waits for what it reads as long as that runs",
    "temporal": "Prefect runs the workflows",
    "webhooks": "webhooks are not received yet",
    "worker": "Prefect's workers run the flows, and have settings of their own",
}


@cache
def all_keys() -> tuple[str, ...]:
    """The keys of all settings, sorted by section."""
    nouns: dict[str, type[Noun]] = {"monitoring": Monitoring, "runtime": Runtime, **SECTIONS}
    found = ["mode"]
    for name in sorted(nouns):
        found += _leaves(nouns[name], name)
    return tuple(found)


def _leaves(noun: type[Noun], at: str) -> Iterator[str]:
    for declared in fields_of(noun).values():
        key = f"{at}.{declared.key}"
        if declared.kind.noun is None:
            yield key
        else:
            yield from _leaves(declared.kind.noun, key)


def is_known(key: str) -> bool:
    """Whether it is a setting or a section of some."""
    return any(one == key or one.startswith(f"{key}.") for one in all_keys())


def is_secret(key: str) -> bool:
    return key in _SECRETS


def variables(key: str) -> tuple[str, ...]:
    """The environment variables that give a setting, the first before the others."""
    effect = EFFECTS.get(key)
    if effect is not None:
        return effect.variables
    if key in _NO_VARIABLE:
        return ()
    group, rest = key, ""
    while group not in _PREFIXES and "." in group:
        group, _, name = group.rpartition(".")
        rest = f"_{name}{rest}"
    name = f"{_PREFIXES.get(group, group)}{rest}".upper()
    if key.startswith("server.timeouts."):
        name = _server_timeout(key.rpartition(".")[2])
    return (name, *_MORE.get(key, ()))


def _server_timeout(name: str) -> str:
    plain = name == "server_shutdown"
    counted = name.startswith("schedule_retry_") or name == "start_probe_delay"
    if plain:
        return "SERVER_SHUTDOWN_TIMEOUT"
    return f"SERVER_{name}".upper() + ("" if counted else "_TIMEOUT")


def has_effect(key: str) -> bool:
    """Whether a setting, or one of a section, does anything in this version."""
    if any(key.startswith(f"{one}.") for one in _PLANNED):
        return True
    return any(one == key or one.startswith(f"{key}.") for one in (*EFFECTS, *_PLANNED))


def why_inert(key: str) -> str:
    """Why a setting, or a section, does nothing in this version."""
    fitting = [start for start in _REASONS if key.startswith(start)]
    return _REASONS[max(fitting, key=len)]


def shown(key: str, value: object) -> object:
    """A value as it may be printed: secrets and passwords in addresses are left out."""
    if key in _SECRETS and value:
        return REDACTED
    if isinstance(value, str) and "://" in value:
        return _without_password(value)
    return value


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return REDACTED
    if password is None and not _TOKEN.search(parts.query):
        return url
    user, _, host = parts.netloc.rpartition("@")
    user = f"{user.partition(':')[0]}:{REDACTED}@" if password is not None else f"{user}@"
    query = _TOKEN.sub(rf"\1{REDACTED}", parts.query)
    return urlunsplit(parts._replace(netloc=(user if user != "@" else "") + host, query=query))


_TOKEN = re.compile(r"((?:^|&)[^=&]*(?:password|token|key|secret)[^=&]*=)[^&]+", re.IGNORECASE)
