"""Nouns that are planned by themselves → their plans: routers, servers, memories, schedules.

Aliases are resolved and defaults written out, as everywhere in the plan.
"""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import Any

from compozy_prefect.compiler.native import native_plan
from compozy_prefect.compiler.plan import (
    AttachmentLimits,
    AttachmentPlan,
    Json,
    McpPlan,
    MemoryPlan,
    RoutePlan,
    RouterPlan,
    RunnerPlan,
    RuntimePlan,
    SchedulePlan,
)
from compozy_prefect.compiler.scope import mcp_id
from compozy_prefect.compiler.sequence import condition_kind, target_id
from compozy_prefect.language.config import Config
from compozy_prefect.language.models.base import Noun
from compozy_prefect.language.models.knowledge import Attachment
from compozy_prefect.language.models.mcp import Mcp
from compozy_prefect.language.models.memory import Memory
from compozy_prefect.language.models.project import Runtime
from compozy_prefect.language.models.task import RouterTask
from compozy_prefect.language.models.trigger import Schedule


def router_plan(task: RouterTask) -> RouterPlan:
    fallback = task.default if task.default is not None else task.default_route
    routes = tuple(RoutePlan(key, target_id(target)) for key, target in task.routes.items())
    return RouterPlan(
        condition=task.condition,
        kind=condition_kind(task),
        routes=routes,
        default="" if fallback is None else target_id(fallback),
    )


def mcp_plan(mcp: Mcp, config: Config) -> McpPlan:
    """§8: where the transport is not given, the address tells it."""
    url, command, args = mcp.url or "", mcp.command or "", tuple(mcp.args)
    transport: str = mcp.transport or ("stdio" if command and not url else "sse")
    if url.startswith("stdio://"):
        transport, command, url = "stdio", url.removeprefix("stdio://"), ""
        command = command if "/" in command else f"./{command}"  # a path, not a name on the PATH
    elif command and not args:
        command, *rest = shlex.split(command)
        args = tuple(rest)
    shown = mcp.tool_filter
    return McpPlan(
        id=mcp_id(mcp),
        transport="streamable-http" if transport == "http" else transport,
        url=url,
        command=command,
        args=args,
        headers=dict(mcp.headers),
        env=dict(mcp.env),
        proto=mcp.proto or McpPlan.proto,
        effects=dict(mcp.effects),
        start_timeout=mcp.start_timeout or config["llm.mcp_readiness_timeout"],
        timeout=mcp.timeout or config["llm.mcp_client_timeout"],
        max_sessions=mcp.max_sessions,
        bearer_env="MCP_ADMIN_TOKEN" if mcp.security == "admin_token" else "",
        only=tuple(shown.names) if shown is not None and shown.mode == "allow" else None,
        without=tuple(shown.names) if shown is not None and shown.mode == "block" else (),
        is_required=config["llm.fail_on_mcp_registration_error"],
    )


def memory_plan(memory: Memory, config: Config) -> MemoryPlan:
    """§7.1, with its aliases and the limits of a memory that sets none."""
    flushing = memory.flushing or memory.flushing_strategy
    persistence, privacy = memory.persistence, memory.privacy_policy
    limits = (memory.max_tokens, memory.max_messages, memory.max_context_ratio)
    implied = not any(limits) and memory.type != "buffer"
    locks = values(memory.locking)
    for name in ("append_ttl", "clear_ttl", "flush_ttl"):
        if name in memory.given:
            locks.setdefault(name, getattr(memory, name))
    default = MemoryPlan(memory.id)
    threshold = (flushing.summarize_threshold or flushing.threshold) if flushing else None
    return MemoryPlan(
        id=memory.id,
        type=memory.type,
        max_tokens=memory.max_tokens or (2000 if implied and memory.type == "token_based" else 0),
        max_messages=memory.max_messages or (100 if implied else 0),
        max_context_ratio=memory.max_context_ratio or 0.0,
        key=memory.default_key_template or memory.key or "",
        store=persistence.type if persistence else default.store,
        ttl=persistence.ttl
        if persistence is not None and persistence.ttl is not None
        else config["memory.ttl"],
        flushing=flushing.type if flushing else default.flushing,
        flush_at=threshold or default.flush_at,
        flush=not memory.disable_flush,
        summary_tokens=(flushing.summary_tokens or 0) if flushing else 0,
        summarize_oldest=(flushing.summarize_oldest_percent or 0.0) if flushing else 0.0,
        eviction=memory.eviction_policy.type if memory.eviction_policy else default.eviction,
        keep=tuple(memory.eviction_policy.priority_keywords) if memory.eviction_policy else (),
        redact=tuple(privacy.redact_patterns) if privacy else (),
        redaction=privacy.default_redaction_string if privacy else default.redaction,
        not_stored=tuple(privacy.non_persistable_message_types) if privacy else (),
        locks=locks,
        circuit_breaker=written(persistence, "circuit_breaker") if persistence else None,
        token_provider=written(memory, "token_provider"),
    )


def runtime_plan(runtime: Runtime | None, config: Config) -> RuntimePlan:
    timeout = config["runtime.tool_execution_timeout"]
    if runtime is None:
        return RuntimePlan(timeout=timeout)
    return RuntimePlan(
        type=runtime.type,
        engine=runtime.engine,
        entrypoint=runtime.entrypoint or "",
        permissions=tuple(runtime.permissions),
        timeout=timeout,
        memory_limit=runtime.memory_limit or 0,
        native_tools=native_plan(runtime.native_tools),
        python=tuple(runtime.python.allowlist) if runtime.python else (),
    )


def runner_plan(config: Config) -> RunnerPlan:
    """What the file and flags say: a deployed run has an environment of its own."""
    return RunnerPlan(
        type=config.fixed("tasks.runner.type") or "",
        address=config.fixed("tasks.runner.address") or "",
        workers=config.fixed("tasks.runner.workers") or 0,
    )


def schedule_plan(schedule: Schedule | None) -> SchedulePlan | None:
    if schedule is None:
        return None
    return SchedulePlan(
        cron=schedule.cron,
        timezone=schedule.timezone or "UTC",
        enabled=schedule.enabled,
        jitter=schedule.jitter or 0.0,
        overlap_policy=schedule.overlap_policy,
        start_at=schedule.start_at or "",
        end_at=schedule.end_at or "",
        input=plain(schedule.input),
    )


def attachment_plans(given: list[Attachment]) -> tuple[AttachmentPlan, ...]:
    return tuple(
        AttachmentPlan(
            type=one.type,
            url=one.url or "",
            path=one.path or "",
            urls=tuple(one.urls or ()),
            paths=tuple(one.paths or ()),
            name=one.name or "",
            mime=one.mime or "",
            timeout=one.timeout or 0.0,
            folder=str(PurePosixPath(one.node.span.file).parent).removeprefix("."),
        )
        for one in given
    )


def attachment_limits(config: Config) -> AttachmentLimits:
    types = {
        kind: tuple(config[f"attachments.allowed_mime_types.{kind}"])
        for kind in ("image", "audio", "video", "pdf")
    }
    return AttachmentLimits(
        largest=config["attachments.max_download_size_bytes"],
        text=config["attachments.text_part_max_bytes"],
        timeout=config["attachments.download_timeout"],
        redirects=config["attachments.max_redirects"],
        types=types,
        user_agent=config["attachments.http_user_agent"],
        strict=config["attachments.ssrf_strict"],
    )


def written(noun: Noun, name: str) -> Json:
    """The data of a part that is planned as it is written."""
    node = noun.node.get(name) if name in noun.given else None
    return None if node is None else plain(node.data())


def values(noun: Noun | None) -> dict[str, Json]:
    """What a part sets, under the names of its fields."""
    if noun is None:
        return {}
    return {name: plain(getattr(noun, name)) for name in sorted(noun.given)}


def plain(value: Any) -> Any:
    """Data without the nodes that `LocatedDict` carries along."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
