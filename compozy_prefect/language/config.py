"""The settings of a project: the value of each, and where it comes from (language.md §1.4).

A setting is named by its key, such as `llm.provider_timeout`. Its value comes from a flag, from the
project file, from the environment, or is the default of its declaration; `ORDER` says which goes
before which. The variables of the process go before those of the `.env` file here (service.md
§5.1), where a template that reads `.env` sees it the other way round (§11).

This is the only place that settings are read from. What this version acts on is `EFFECTS`; the rest
is checked and kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from compozy_prefect.diagnostics import Diagnostic, Span, warning
from compozy_prefect.language.models.base import Declared, Noun, fields_of
from compozy_prefect.language.models.project import Project
from compozy_prefect.language.nodes import Mapping as MappingNode
from compozy_prefect.language.typed import Typed, read_text, typed

Source = Literal["flag", "file", "environment"]

ORDERS: dict[str, tuple[Source, ...]] = {
    "seed": ("flag", "file", "environment"),
    "env-first": ("environment", "flag", "file"),
}
"""Who goes first, by the value of COMPOZY_CONFIG_PRECEDENCE; the defaults come last."""

PRECEDENCE = "COMPOZY_CONFIG_PRECEDENCE"


class Effect(NamedTuple):
    """What a setting does in this version, the variables that give it, and its flag."""

    does: str
    variables: tuple[str, ...]
    flag: str = ""


EFFECTS: dict[str, Effect] = {
    "attachments.max_download_size_bytes": Effect(
        "how large a file may be that is sent with a prompt",
        ("ATTACHMENTS_MAX_DOWNLOAD_SIZE_BYTES",),
        "--attachments-max-download-size",
    ),
    "attachments.download_timeout": Effect(
        "`timeout` of attachments that have none",
        ("ATTACHMENTS_DOWNLOAD_TIMEOUT",),
        "--attachments-download-timeout",
    ),
    "attachments.max_redirects": Effect(
        "how often the download of an attachment is sent elsewhere",
        ("ATTACHMENTS_MAX_REDIRECTS",),
        "--attachments-max-redirects",
    ),
    "attachments.allowed_mime_types.image": Effect(
        "which images may be attached", ("ATTACHMENTS_ALLOWED_MIME_TYPES_IMAGE",)
    ),
    "attachments.allowed_mime_types.audio": Effect(
        "which sounds may be attached", ("ATTACHMENTS_ALLOWED_MIME_TYPES_AUDIO",)
    ),
    "attachments.allowed_mime_types.video": Effect(
        "which films may be attached", ("ATTACHMENTS_ALLOWED_MIME_TYPES_VIDEO",)
    ),
    "attachments.allowed_mime_types.pdf": Effect(
        "which documents may be attached", ("ATTACHMENTS_ALLOWED_MIME_TYPES_PDF",)
    ),
    "attachments.text_part_max_bytes": Effect(
        "how long an attached text may be", ("ATTACHMENTS_TEXT_PART_MAX_BYTES",)
    ),
    "attachments.http_user_agent": Effect(
        "what downloads of attachments say they are",
        ("ATTACHMENTS_HTTP_USER_AGENT",),
        "--attachments-http-user-agent",
    ),
    "attachments.ssrf_strict": Effect(
        "whether attachments in a private network are refused that the file spells out",
        ("ATTACHMENTS_SSRF_STRICT",),
        "--attachments-ssrf-strict",
    ),
    "limits.max_nesting_depth": Effect(
        "how deep containers may stand inside each other",
        ("LIMITS_MAX_NESTING_DEPTH", "MAX_NESTING_DEPTH"),
        "--max-nesting-depth",
    ),
    "limits.max_message_content": Effect(
        "how long a message may be that a `memory` task writes",
        ("LIMITS_MAX_MESSAGE_CONTENT_LENGTH", "MAX_MESSAGE_CONTENT_LENGTH"),
        "--max-message-content-length",
    ),
    "limits.max_total_content_size": Effect(
        "how long all messages may be that a `memory` task writes",
        ("LIMITS_MAX_TOTAL_CONTENT_SIZE", "MAX_TOTAL_CONTENT_SIZE"),
        "--max-total-content-size",
    ),
    "llm.provider_timeout": Effect(
        "`timeout` of models that have none", ("LLM_PROVIDER_TIMEOUT",), "--llm-provider-timeout"
    ),
    "llm.retry_attempts": Effect(
        "`retry_attempts` of models that have none",
        ("LLM_RETRY_ATTEMPTS",),
        "--llm-retry-attempts",
    ),
    "llm.retry_backoff_base": Effect(
        "the first pause between two attempts of a call",
        ("LLM_RETRY_BACKOFF_BASE",),
        "--llm-retry-backoff-base",
    ),
    "llm.retry_backoff_max": Effect(
        "the longest pause between two attempts of a call",
        ("LLM_RETRY_BACKOFF_MAX",),
        "--llm-retry-backoff-max",
    ),
    "llm.retry_jitter": Effect(
        "whether these pauses vary", ("LLM_RETRY_JITTER",), "--llm-retry-jitter"
    ),
    "llm.retry_jitter_percent": Effect(
        "by how much", ("LLM_RETRY_JITTER_PERCENT",), "--llm-retry-jitter-percent"
    ),
    "llm.allowed_mcp_names": Effect(
        "which MCP servers agents may use", ("LLM_ALLOWED_MCP_NAMES",), "--llm-allowed-mcp-names"
    ),
    "llm.fail_on_mcp_registration_error": Effect(
        "whether an agent fails when one of its MCP servers cannot be reached",
        ("LLM_FAIL_ON_MCP_REGISTRATION_ERROR",),
        "--llm-fail-on-mcp-registration-error",
    ),
    "llm.mcp_client_timeout": Effect(
        "`timeout` of MCP servers that have none",
        ("MCP_CLIENT_TIMEOUT",),
        "--llm-mcp-client-timeout",
    ),
    "llm.mcp_readiness_timeout": Effect(
        "`start_timeout` of MCP servers that have none",
        ("MCP_READINESS_TIMEOUT",),
        "--llm-mcp-readiness-timeout",
    ),
    "llm.rate_limiting.enabled": Effect(
        "whether calls are held back by any limit",
        ("LLM_RATE_LIMITING_ENABLED",),
        "--llm-rate-limiting-enabled",
    ),
    "llm.rate_limiting.default_concurrency": Effect(
        "calls at a time of models whose `rate_limit` says none",
        ("LLM_RATE_LIMITING_DEFAULT_CONCURRENCY",),
        "--llm-rate-limiting-default-concurrency",
    ),
    "llm.rate_limiting.default_queue_size": Effect(
        "calls that may wait, of models that say none; any number if nothing does",
        ("LLM_RATE_LIMITING_DEFAULT_QUEUE_SIZE",),
        "--llm-rate-limiting-default-queue-size",
    ),
    "llm.rate_limiting.default_requests_per_minute": Effect(
        "calls a minute of models that say none",
        ("LLM_RATE_LIMITING_DEFAULT_REQUESTS_PER_MINUTE",),
        "--llm-rate-limiting-default-rpm",
    ),
    "llm.rate_limiting.default_tokens_per_minute": Effect(
        "tokens a minute of models that say none",
        ("LLM_RATE_LIMITING_DEFAULT_TOKENS_PER_MINUTE",),
        "--llm-rate-limiting-default-tpm",
    ),
    "llm.rate_limiting.default_request_burst": Effect(
        "calls that may exceed it at once",
        ("LLM_RATE_LIMITING_DEFAULT_REQUEST_BURST",),
        "--llm-rate-limiting-default-request-burst",
    ),
    "llm.rate_limiting.default_token_burst": Effect(
        "tokens that may exceed it at once",
        ("LLM_RATE_LIMITING_DEFAULT_TOKEN_BURST",),
        "--llm-rate-limiting-default-token-burst",
    ),
    "llm.rate_limiting.per_provider_limits": Effect(
        "`rate_limit` by provider", ("LLM_RATE_LIMITING_PER_PROVIDER_LIMITS",)
    ),
    "llm.max_tool_iterations": Effect(
        "`max_tool_iterations` of models that have none",
        ("LLM_MAX_TOOL_ITERATIONS",),
        "--llm-max-tool-iterations",
    ),
    "llm.max_concurrent_tools": Effect(
        "how many tools of one answer run at a time",
        ("LLM_MAX_CONCURRENT_TOOLS",),
        "--llm-max-concurrent-tools",
    ),
    "llm.max_sequential_tool_errors": Effect(
        "how often one tool may fail in a row before an agent gives up",
        ("LLM_MAX_SEQUENTIAL_TOOL_ERRORS",),
        "--llm-max-sequential-tool-errors",
    ),
    "llm.max_consecutive_successes": Effect(
        "how often an agent may make the same call with the same result in a row",
        ("LLM_MAX_CONSECUTIVE_SUCCESSES",),
    ),
    "llm.enable_progress_tracking": Effect(
        "whether an agent ends whose turns repeat", ("LLM_ENABLE_PROGRESS_TRACKING",)
    ),
    "llm.no_progress_threshold": Effect(
        "how many turns may repeat then", ("LLM_NO_PROGRESS_THRESHOLD",)
    ),
    "llm.tool_call_caps.default": Effect(
        "how often an agent may call a tool", ("LLM_TOOL_CALL_CAPS_DEFAULT",)
    ),
    "llm.tool_call_caps.overrides": Effect("the same of some tools", ()),
    "llm.structured_output_retries": Effect(
        "how often an agent is asked again when its answer breaks its schema",
        ("LLM_STRUCTURED_OUTPUT_RETRIES",),
        "--llm-structured-output-retries",
    ),
    "memory.ttl": Effect("`ttl` of memories that have none", ("MEMORY_TTL",)),
    "runtime.tool_execution_timeout": Effect(
        "`timeout` of tools that have none",
        ("TOOL_EXECUTION_TIMEOUT",),
        "--tool-execution-timeout",
    ),
    "tasks.runner.type": Effect(
        "where the steps of fan-outs run", ("COMPOZY_TASK_RUNNER",), "--task-runner"
    ),
    "tasks.runner.address": Effect(
        "the cluster that they run on", ("COMPOZY_TASK_RUNNER_ADDRESS",), "--task-runner-address"
    ),
    "tasks.runner.workers": Effect(
        "the processes of one that is started for the run",
        ("COMPOZY_TASK_RUNNER_WORKERS",),
        "--task-runner-workers",
    ),
}
FLAGS: dict[str, str] = {effect.flag: key for key, effect in EFFECTS.items() if effect.flag}
_VARIABLES = frozenset(name for effect in EFFECTS.values() for name in effect.variables)

# Another key of the same setting, in older files.
_ALIASES = {"runtime.tool_execution_timeout": ("runtime", "timeout")}


class Origin(NamedTuple):
    """Where a value comes from. `name` is the variable or the flag, `span` its place in a file.

    `where` is `default`, `flag`, `file` (the project file), `environment` (of the process) or
    `env file`.
    """

    where: str
    name: str = ""
    span: Span | None = None

    def __str__(self) -> str:
        if self.span is not None:
            return f"{self.span.file}:{self.span.line}"
        return f"{self.name} ({self.where})" if self.where == "env file" else self.name or "default"


class Setting(NamedTuple):
    """A setting with its value. `hidden` are the other places that give it one, and lose."""

    key: str
    value: Any
    origin: Origin
    hidden: tuple[Origin, ...] = ()


class Outside(NamedTuple):
    """What is given beside the files: the process environment, and flags by setting, as text."""

    environ: Mapping[str, str]
    flags: Mapping[str, str] = {}

    @classmethod
    def here(cls, flags: Mapping[str, str] | None = None) -> Outside:
        return cls(os.environ, flags or {})


class Config:
    """The settings of a project, each worked out when it is asked for."""

    def __init__(
        self, project: Project | None, env_file: Mapping[str, str], outside: Outside
    ) -> None:
        self._project = project
        self._env_file = env_file
        self._outside = outside
        self.order = ORDERS.get(outside.environ.get(PRECEDENCE, ""), ORDERS["seed"])
        self._known: dict[str, Setting] = {}
        self._found: dict[str, list[Diagnostic]] = {}

    def __getitem__(self, key: str) -> Any:
        """The value of a setting. KeyError when nothing declares it."""
        return self.setting(key).value

    def setting(self, key: str) -> Setting:
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._resolved(key)
        return known

    def fixed(self, key: str) -> Any:
        """What a flag or else the project file says, whatever the environment does; None without.

        That is what a plan may hold of a setting that each run works out anew.
        """
        for value, _ in (*self._from_flag(key, declaration(key)), *self._from_file(key)):
            return value
        return None

    def faults(self, keys: Iterable[str] | None = None) -> Iterator[Diagnostic]:
        """What is wrong with values from outside of the files; those in them are checked there.

        Without `keys`, of what this version acts on.
        """
        chosen = self._outside.environ.get(PRECEDENCE)
        if chosen and chosen not in ORDERS:
            known = " or ".join(f"`{name}`" for name in ORDERS)
            yield warning("CZ301", f"{PRECEDENCE} is `{chosen}`", None, f"it can be {known}")
        if keys is None:
            given = _VARIABLES & (self._outside.environ.keys() | self._env_file.keys())
            if not given and not self._outside.flags:
                return
            keys = EFFECTS
        for key in keys:
            self.setting(key)
            yield from self._found.get(key, ())

    # --- one setting ------------------------------------------------------------------------------

    def _resolved(self, key: str) -> Setting:
        declared = declaration(key)
        given: list[tuple[Any, Origin]] = []
        for source in self.order:
            match source:
                case "flag":
                    given += self._from_flag(key, declared)
                case "file":
                    given += self._from_file(key)
                case "environment":
                    given += self._from_environment(key, declared)
        given.append((declared.spec.default, Origin("default")))
        (value, origin), *others = given
        return Setting(key, value, origin, tuple(other for _, other in others[:-1]))

    def _from_flag(self, key: str, declared: Declared) -> Iterator[tuple[Any, Origin]]:
        text = self._outside.flags.get(key)
        if text is not None:
            yield from self._read(key, declared, text, Origin("flag", EFFECTS[key].flag))

    def _from_environment(self, key: str, declared: Declared) -> Iterator[tuple[Any, Origin]]:
        effect = EFFECTS.get(key)
        if effect is not None:
            names = effect.variables
        else:
            from compozy_prefect.language.registry import variables

            names = variables(key)
        for where, given in (
            ("environment", self._outside.environ),
            ("env file", self._env_file),
        ):
            for name in names:
                if given.get(name):  # an empty one is as good as none
                    yield from self._read(key, declared, given[name], Origin(where, name))

    def _from_file(self, key: str) -> Iterator[tuple[Any, Origin]]:
        project = self._project
        tops: list[Noun] = [noun for noun in (project, project and project.config) if noun]
        if key.startswith("knowledge."):
            own = knowledge_settings(project)
            found = own.noun and _in_file(own.noun, (key.partition(".")[2],)) if own else None
            yield from [found] if found else []
            return
        paths = [tuple(key.split(".")), *([_ALIASES[key]] if key in _ALIASES else [])]
        for top in tops:
            for path in paths:
                found = _in_file(top, path)
                if found is not None:
                    yield found

    def _read(
        self, key: str, declared: Declared, text: str, origin: Origin
    ) -> Iterator[tuple[Any, Origin]]:
        value, found = read_text(declared, text, key)
        self._found.setdefault(key, []).extend(
            one._replace(message=f"{origin}: {one.message}") for one in found
        )
        if not any(one.severity == "error" for one in found):
            yield value, origin


def declaration(key: str) -> Declared:
    """The field that declares a setting. KeyError when nothing does."""
    top, *names = key.split(".")
    if not names:
        return fields_of(Project)[top]
    noun: type[Noun] | None = _section(top)
    for name in names[:-1]:
        assert noun is not None
        noun = fields_of(noun)[name].kind.noun
    assert noun is not None
    return fields_of(noun)[names[-1]]


def _section(name: str) -> type[Noun]:
    own = fields_of(Project).get(name)
    if own is not None and own.kind.noun is not None:
        return own.kind.noun
    from compozy_prefect.language.models.settings import SECTIONS

    return SECTIONS[name]


def knowledge_settings(project: Project | None) -> Typed[Noun] | None:
    """The settings under `knowledge`, which is a binding when it has an `id` (§13 no. 74)."""
    node = project.node.get("knowledge") if project is not None else None
    if not isinstance(node, MappingNode) or "id" in node.entries:
        return None
    from compozy_prefect.language.models.settings import SECTIONS

    return typed(node, SECTIONS["knowledge"])


def _in_file(top: Noun, path: tuple[str, ...]) -> tuple[Any, Origin] | None:
    """The value that the project file gives, faulty ones left out, and where it stands."""
    noun: Any = top
    for name in path[:-1]:
        if isinstance(noun, dict):
            noun = noun.get(name)
        else:
            noun = noun.__dict__.get(name) if isinstance(noun, Noun) else None
    if not isinstance(noun, Noun) or path[-1] not in noun.given:
        return None
    node = noun.node.get(path[-1])
    return noun.__dict__[path[-1]], Origin("file", span=None if node is None else node.span)
