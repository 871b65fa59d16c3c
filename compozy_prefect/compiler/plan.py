"""The plan: all that a run needs, as frozen values with one canonical JSON form.

`lower` makes a `Plan` from a checked project; the graph, the emitted modules and the flows read
the plan and nothing before it. Its JSON has sorted keys and no fields at their default, and holds
no clock, no path of a machine and no secret: the same project gives the same bytes anywhere.

The identity of a plan is the SHA-256 of that JSON without `spans`, so that a comment added to a
file does not separate a run from its plan.
"""

from __future__ import annotations

import hashlib
import json
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

# `Json` is what plans hold: whoever reads plans finds it here.
from compozy_prefect.compiler.canonical import Json as Json
from compozy_prefect.compiler.canonical import canonical, from_json, to_json

FORMAT = 1

Position = tuple[str, int, int, int, int]  # file, line, column, end line, end column; from 1


@dataclass(frozen=True)
class RetryPlan:
    """Attempts of one step and the pauses between them, in seconds (language.md §2.5)."""

    attempts: int = 3
    initial: float = 1.0
    coefficient: float = 2.0
    maximum: float = 60.0
    non_retryable: tuple[str, ...] = ()
    given: bool = False  # whether the project says so, or it is the default

    def delays(self) -> list[float]:
        """The pause before each re-attempt: `min(initial * coefficient**k, maximum)`."""
        out: list[float] = []
        delay = self.initial
        for _ in range(self.attempts - 1):
            out.append(min(delay, self.maximum))
            delay = min(delay * self.coefficient, self.maximum)
        return out


@dataclass(frozen=True)
class PausePlan:
    """The pauses between the attempts of one call, in seconds: they double, and vary by a share."""

    first: float = 0.1
    longest: float = 10.0
    jitter: float = 0.1


@dataclass(frozen=True)
class ModelPlan:
    """One provider entry as an agent uses it (language.md §5). `api_key` is a template or empty.

    `price` is in US dollars for a million tokens: `input`, `output`, `cached_input`. `fallbacks`
    are asked when this model fails, and have none themselves; `routing` says who is asked first.
    A model that is not limited is held back by nothing, whatever its `rate_limit` says.
    """

    provider: str
    model: str
    api_key: str = ""
    api_url: str = ""
    organization: str = ""
    params: dict[str, Json] = field(default_factory=dict)
    timeout: float = 300.0
    retry_attempts: int = 3
    pauses: PausePlan = PausePlan()
    context_window: int = 0
    is_limited: bool = True
    rate_limit: dict[str, Json] = field(default_factory=dict)
    price: dict[str, float] = field(default_factory=dict)
    fallbacks: tuple[ModelPlan, ...] = ()
    routing: str = "priority"


@dataclass(frozen=True)
class BudgetPlan:
    """What models may take; 0 is no limit. `seconds` run from the first call."""

    usd: float = 0.0
    tokens: int = 0
    calls: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class AttachmentPlan:
    """Files that are sent with a prompt (language.md §12.2). All text is templates.

    `folder` is that of the file which names them, from the project's directory. `timeout` is that
    of a download in seconds, 0 for the one of the settings.
    """

    type: str
    url: str = ""
    path: str = ""
    urls: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    name: str = ""
    mime: str = ""
    timeout: float = 0.0
    folder: str = ""


@dataclass(frozen=True)
class AttachmentLimits:
    """What attachments may be: bytes of a file and of a text, seconds, redirects, types by kind.

    `strict`: nothing is fetched from a private network, even where the file spells it out.
    """

    largest: int = 10_000_000
    text: int = 5 * 2**20
    timeout: float = 30.0
    redirects: int = 3
    types: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "image": ("image/*",),
            "audio": ("audio/*",),
            "video": ("video/*",),
            "pdf": ("application/pdf",),
        }
    )
    user_agent: str = "Compozy/1.0"
    strict: bool = False


@dataclass(frozen=True)
class ActionPlan:
    """One action of an agent (language.md §4.2). `prompt` is a template."""

    id: str
    prompt: str = ""
    with_: dict[str, Json] = field(default_factory=dict)
    input_schema: Json = None
    output_schema: Json = None
    json_mode: bool = False
    attachments: tuple[AttachmentPlan, ...] = ()


@dataclass(frozen=True)
class MemoryUse:
    """A memory that an agent reads and, unless `read_only`, writes (language.md §4.4).

    `memory` is a key of `WorkflowPlan.memories`, `key` a template. `redact`: by the default
    patterns. `ttl` is the time to live of the conversation in seconds, 0 for the memory's own.
    """

    memory: str
    key: str = ""
    read_only: bool = False
    redact: bool = False
    ttl: float = 0.0


@dataclass(frozen=True)
class LoopPlan:
    """The bounds of one talk with a model (service.md §8.1); 0 is none.

    `turns` are answers that call tools, `parallel` the calls of one answer that run at a time.
    `errors` of one tool in a row, or the same call with the same result `repeats` times in a row,
    end the talk; so do `stalls` turns that are the same. `calls` of one tool, by its id or `""` for
    all. `corrections` are questions again after an answer that breaks its schema.
    """

    turns: int = 100
    parallel: int = 10
    errors: int = 10
    repeats: int = 3
    stalls: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    corrections: int = 2


@dataclass(frozen=True)
class AgentPlan:
    """An agent (language.md §4.1). `instructions` is a template.

    `tools` and `mcps` are keys of `WorkflowPlan.tools` and `.mcps`.
    """

    id: str
    model: ModelPlan
    instructions: str
    actions: dict[str, ActionPlan] = field(default_factory=dict)
    with_: dict[str, Json] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    json_mode: bool = False
    tools: tuple[str, ...] = ()
    mcps: tuple[str, ...] = ()
    memory: tuple[MemoryUse, ...] = ()
    loop: LoopPlan = LoopPlan()
    budget: BudgetPlan | None = None
    attachments: tuple[AttachmentPlan, ...] = ()
    knowledge: Json = None


@dataclass(frozen=True)
class McpToolPlan:
    """A tool of an MCP server, as `compozy.lock` has it, under the name that the server gives."""

    name: str
    description: str = ""
    input_schema: Json = None


@dataclass(frozen=True)
class McpPromptPlan:
    """A prompt of an MCP server, as `compozy.lock` has it. `arguments` say if each is needed."""

    name: str
    description: str = ""
    arguments: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class McpResourcePlan:
    """A resource of an MCP server, as `compozy.lock` has it.

    `name` is its URI; of many alike (`is_pattern`) it is the template of their URIs, RFC 6570.
    """

    name: str
    mime_type: str = ""
    is_pattern: bool = False


@dataclass(frozen=True)
class McpPlan:
    """An MCP server (language.md §8). Text in `url`, `args`, `headers` and `env` is a template.

    `start_timeout` and `timeout`, that of a call, are seconds, `max_sessions` 0 for any number.
    `only` are the names of the tools that there are, None for all, `without` those that there are
    not. `tools` are what `compozy.lock` holds if the server `is_locked`; `prompts` and `resources`
    are None where it does not say. `effects` are those of tools by their name, `*` for the others.
    `is_required`: without it an agent that uses it fails.
    """

    id: str
    transport: str = "sse"
    url: str = ""
    command: str = ""
    args: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    proto: str = "2025-03-26"
    start_timeout: float = 60.0
    timeout: float = 30.0
    max_sessions: int = 0
    bearer_env: str = ""
    only: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    effects: dict[str, str] = field(default_factory=dict)
    is_required: bool = False
    is_locked: bool = False
    tools: tuple[McpToolPlan, ...] = ()
    prompts: tuple[McpPromptPlan, ...] | None = None
    resources: tuple[McpResourcePlan, ...] | None = None

    def has(self, tool: str) -> bool:
        """Whether the filter lets a tool through."""
        return tool not in self.without and (self.only is None or tool in self.only)

    def effect(self, tool: str) -> str:
        return self.effects.get(tool) or self.effects.get("*", "")


@dataclass(frozen=True)
class MemoryPlan:
    """A memory resource (language.md §7). Durations are seconds, ratios between 0 and 1.

    A limit of 0 is none. `key` is the template for references that have none.
    """

    id: str
    type: str = "token_based"
    max_tokens: int = 0
    max_messages: int = 0
    max_context_ratio: float = 0.0
    key: str = ""
    store: str = "redis"
    ttl: float = 86_400.0
    flushing: str = "simple_fifo"
    flush_at: float = 0.8
    flush: bool = True
    summary_tokens: int = 0
    summarize_oldest: float = 0.0
    eviction: str = "fifo"
    keep: tuple[str, ...] = ()
    redact: tuple[str, ...] = ()
    redaction: str = "[REDACTED]"
    not_stored: tuple[str, ...] = ()
    locks: dict[str, float] = field(default_factory=dict)
    circuit_breaker: Json = None
    token_provider: Json = None


@dataclass(frozen=True)
class ToolPlan:
    """A tool (language.md §6.1).

    `type` is `http`, `javascript`, `cli`, `python`, `runtime` (an export of the entrypoint),
    `native` (built in, for files and programs) or `builtin`. `effect` is `read`, `write`,
    `idempotent`, or empty where the file does not say.
    """

    id: str
    type: str = "runtime"
    description: str = ""
    execute: str = ""
    config: dict[str, Json] = field(default_factory=dict)
    with_: dict[str, Json] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    input_schema: Json = None
    output_schema: Json = None
    timeout: float = 60.0
    effect: str = ""


@dataclass(frozen=True)
class AgentCall:
    """A step answered by an agent. `agent` is a key of `WorkflowPlan.agents`.

    `action` may be a template; it is then resolved when the step runs. `prompt` is asked instead
    of an action, or below it as additional context (language.md §3.2).
    """

    agent: str
    action: str = ""
    prompt: str = ""


@dataclass(frozen=True)
class ToolCall:
    """A step answered by a tool. `tool` is a key of `WorkflowPlan.tools`."""

    tool: str


@dataclass(frozen=True)
class Transition:
    """Where a workflow goes after a step; an empty `next` ends it (language.md §2.3).

    `with_` is rendered and merged into the `with` of the next step.
    """

    next: str = ""
    with_: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class FanPlan:
    """How the steps of a container run: `strategy` of language.md §3.3, `max_workers` 0 for all."""

    strategy: str = "wait_all"
    max_workers: int = 0


@dataclass(frozen=True)
class CollectionPlan:
    """What a collection runs over (language.md §3.4).

    `items` gives the list, `filter` is a template or an expression. `single`: one task for each
    item, whose output then is the item's.
    """

    items: Json
    filter: str = ""
    item_var: str = "item"
    index_var: str = "index"
    sequential: bool = False
    single: bool = True


@dataclass(frozen=True)
class RoutePlan:
    """`target` is the id of a step in the list of the router, or a template of one."""

    key: str
    target: str


@dataclass(frozen=True)
class RouterPlan:
    """Where a router leads (language.md §3.6). `kind` says what `condition` is.

    `template`, `literal` (the key itself) or `expression`. `routes` keeps the order of the file.
    """

    condition: str
    kind: str
    routes: tuple[RoutePlan, ...] = ()
    default: str = ""


@dataclass(frozen=True)
class WaitPlan:
    """What a step waits for (language.md §3.8). Its processor, if any, is its only step.

    `timeout` is seconds or a template, 0 for none.
    """

    signal: str
    condition: str = ""
    timeout: Json = 0.0
    on_timeout: str = ""


@dataclass(frozen=True)
class SignalPlan:
    """What a step sends (language.md §3.9)."""

    id: str
    payload: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class MemoryCall:
    """What a step does with a memory (language.md §3.10); a key of `WorkflowPlan.memories`."""

    operation: str
    memory: str
    key: str
    payload: Json = None
    options: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class StepPlan:
    """One task of the YAML. String leaves of `with_`, `outputs` and `env` are templates.

    `path` names the step within its workflow: ids from the outermost container inwards, joined by
    `/`. With neither `agent` nor `tool` a basic step's rendered `with` is its output. `timeout`
    and `sleep` are seconds, `timeout` 0 means none.

    `steps` are those of a container, with the inline targets of routers among them: a step whose
    `role` is not empty runs only when it is chosen, and nothing follows one that is `final`.
    `start` is the first of a composite; in the other containers a step `needs` those whose
    results it reads to have ended.
    """

    id: str
    path: str
    type: str = "basic"
    agent: AgentCall | None = None
    tool: ToolCall | None = None
    with_: dict[str, Json] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    outputs: Json = None
    input_schema: Json = None
    output_schema: Json = None
    condition: str = ""
    retry: RetryPlan = RetryPlan()
    timeout: float = 0.0
    sleep: float = 0.0
    on_success: Transition = Transition()
    on_error: Transition = Transition()
    role: str = ""
    final: bool = False
    needs: tuple[str, ...] = ()
    steps: tuple[StepPlan, ...] = ()
    start: str = ""
    fan: FanPlan | None = None
    collection: CollectionPlan | None = None
    router: RouterPlan | None = None
    wait: WaitPlan | None = None
    signal: SignalPlan | None = None
    memory: MemoryCall | None = None
    budget: BudgetPlan | None = None
    attachments: tuple[AttachmentPlan, ...] = ()
    knowledge: Json = None

    @cached_property
    def by_id(self) -> dict[str, StepPlan]:
        return {step.id: step for step in self.steps}


@dataclass(frozen=True)
class TriggerPlan:
    """An event that starts the workflow (language.md §2.7). `name` is that of the signal."""

    name: str
    schema: Json = None
    webhook: Json = None


@dataclass(frozen=True)
class SchedulePlan:
    """When the workflow starts by itself (language.md §2.8), as it is written."""

    cron: str
    timezone: str = "UTC"
    enabled: bool = True
    jitter: float = 0.0
    overlap_policy: str = "skip"
    start_at: str = ""
    end_at: str = ""
    input: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkflowPlan:
    """A workflow: its contract, its steps and the edges between them.

    `steps` keeps the order of the file; `start` is the id of the first one. `outputs` is None when
    the YAML gives none, and the result is then the map of all task outputs (language.md §2.1).
    `callable_agents` are the keys of the agents that built-in tools may call, by their ids.
    """

    id: str
    name: str = ""
    version: str = ""
    description: str = ""
    input_schema: Json = None
    schemas: dict[str, Json] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    agents: dict[str, AgentPlan] = field(default_factory=dict)
    callable_agents: dict[str, str] = field(default_factory=dict)
    tools: dict[str, ToolPlan] = field(default_factory=dict)
    mcps: dict[str, McpPlan] = field(default_factory=dict)
    memories: dict[str, MemoryPlan] = field(default_factory=dict)
    triggers: tuple[TriggerPlan, ...] = ()
    schedule: SchedulePlan | None = None
    knowledge: Json = None
    recover_on_error: bool = False
    budget: BudgetPlan | None = None
    attachments: AttachmentLimits = AttachmentLimits()
    start: str = ""
    steps: tuple[StepPlan, ...] = ()
    outputs: Json = None

    @cached_property
    def by_id(self) -> dict[str, StepPlan]:
        return {step.id: step for step in self.steps}

    @cached_property
    def all_steps(self) -> dict[str, StepPlan]:
        """Every step by its path, each before those in it."""
        return {step.path: step for step in walk(self.steps)}

    @cached_property
    def pointers(self) -> dict[str, tuple[str | int, ...]]:
        """Where each step stands in the plan of the workflow, by its path."""
        out: dict[str, tuple[str | int, ...]] = {}

        def note(steps: tuple[StepPlan, ...], at: tuple[str | int, ...]) -> None:
            for index, step in enumerate(steps):
                out[step.path] = (*at, "steps", index)
                note(step.steps, out[step.path])

        note(self.steps, ())
        return out


def walk(steps: tuple[StepPlan, ...]) -> Iterator[StepPlan]:
    """The steps of a list, each before those in it."""
    for step in steps:
        yield step
        yield from walk(step.steps)


@dataclass(frozen=True)
class ArgumentPlan:
    """What the argument at `index`, from 0, of an allowed program may be: one of `enum` if it has
    any, and what the whole of `pattern` fits if it is not empty."""

    index: int
    name: str = ""
    pattern: str = ""
    enum: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class CommandPlan:
    """A program that may be started. `timeout` is seconds, 0 for no bound of its own.

    Of `max_args` arguments, -1 for any number, those that `arguments` do not describe are refused
    unless there are none of these, or `additional`.
    """

    path: str
    timeout: float = 0.0
    max_args: int = -1
    arguments: tuple[ArgumentPlan, ...] = ()
    additional: bool = False


@dataclass(frozen=True)
class ExecPlan:
    """How programs are started (language.md §6.5). Sizes are bytes."""

    timeout: float = 30.0
    max_stdout: int = 2 * 2**20
    max_stderr: int = 1024
    allowlist: tuple[CommandPlan, ...] = ()


@dataclass(frozen=True)
class FetchPlan:
    """How `cp__fetch` asks (language.md §6.5). `timeout` is seconds, `max_body` bytes."""

    timeout: float = 5.0
    max_body: int = 2 * 2**20
    redirects: int = 5
    methods: tuple[str, ...] = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")


@dataclass(frozen=True)
class CallPlan:
    """How a built-in tool calls agents, tasks or workflows: `timeout` of one call in seconds."""

    timeout: float
    at_once: int = 10
    enabled: bool = True


@dataclass(frozen=True)
class NativePlan:
    """The built-in tools. `roots` are folders, from the project's.

    `calls` are by the id of the tool; one that is not there is as `compiler.builtins` has it.
    """

    enabled: bool = True
    roots: tuple[str, ...] = (".",)
    exec: ExecPlan = ExecPlan()
    fetch: FetchPlan = FetchPlan()
    calls: dict[str, CallPlan] = field(default_factory=dict)


@dataclass(frozen=True)
class RuntimePlan:
    """What tools run in (language.md §1.2). `memory_limit` is bytes, 0 for none.

    `engine` is `deno`, or `native` for the program that `type` names. `python` are the functions
    that may be called, `module:function` or `module:*`.
    """

    type: str = "bun"
    engine: str = "deno"
    entrypoint: str = ""
    permissions: tuple[str, ...] = ("--allow-read",)
    timeout: float = 60.0
    memory_limit: int = 0
    native_tools: NativePlan = NativePlan()
    python: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunnerPlan:
    """Where the steps of fan-outs run, as far as the files and flags say it.

    Empty, or 0, is what the environment of a run decides.
    """

    type: str = ""
    address: str = ""
    workers: int = 0


@dataclass(frozen=True)
class ProjectPlan:
    name: str
    version: str = ""
    description: str = ""
    runtime: RuntimePlan = RuntimePlan()
    budget: BudgetPlan | None = None  # of each run
    knowledge: Json = None
    runner: RunnerPlan = RunnerPlan()


@dataclass(frozen=True)
class Plan:
    """A compiled project. `spans` gives the place in the files of what a JSON pointer names."""

    project: ProjectPlan
    workflows: dict[str, WorkflowPlan]
    format: int = FORMAT
    spans: dict[str, Position] = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """SHA-256, in hex, of the canonical JSON without `spans`."""
        return _hash(to_json(self))

    def dumps(self) -> str:
        """The canonical JSON of the plan with its hash, ending in a newline."""
        content = to_json(self)
        return canonical({**content, "hash": _hash(content)}).decode() + "\n"


def _hash(content: dict[str, Json]) -> str:
    return hashlib.sha256(canonical({k: v for k, v in content.items() if k != "spans"})).hexdigest()


def loads(text: str) -> Plan:
    """The plan whose `dumps` gave `text`.

    Raises ValueError when the text is no plan, is of another format, or was changed since.
    """
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("format", FORMAT) != FORMAT or "project" not in data:
        raise ValueError(f"not a plan of format {FORMAT}")
    stated = data.pop("hash", None)
    try:
        plan = typing.cast(Plan, from_json(Plan, data))
    except (TypeError, AttributeError) as fault:
        raise ValueError(f"not a plan of format {FORMAT}: {fault}") from fault
    if stated != plan.hash:
        raise ValueError("the plan was changed after it was written: its hash does not fit")
    return plan


def pointer(*keys: str | int) -> str:
    """An RFC 6901 JSON pointer into the plan, for `Plan.spans`."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)
