"""A `memory` task → what it reads or changes in a store, and its output (language.md §3.10)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from compozy_prefect.compiler.plan import Json, MemoryCall, MemoryPlan
from compozy_prefect.errors import RunError
from compozy_prefect.expressions.functions.values import to_text
from compozy_prefect.runtime.memory import policy
from compozy_prefect.runtime.memory.store import Conversation, Instance, Message, Store
from compozy_prefect.runtime.outcome import rfc3339

ROLES = ("user", "assistant", "system", "tool")
MOST_MESSAGES, LARGEST_MESSAGE, LARGEST_PAYLOAD = 100, 10 * 1024, 100 * 1024
_KEY = re.compile(r"[\w:\-@.*]{1,256}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on one conversation. `once` names it: repeated, it changes nothing more."""

    call: MemoryCall
    plan: MemoryPlan
    store: Store
    project: str
    now: datetime
    once: str

    async def perform(self, key: str, payload: Json) -> dict[str, Json]:
        """Its raw output. Raises RunError for a key or a payload that is not allowed."""
        if not _KEY.fullmatch(key) or key.startswith("__") or key.endswith("__"):
            raise _invalid(
                f"`{key}` is no key of a memory: letters, digits and `_ : - @ . *`, at most 256, "
                "and no `__` at either end"
            )
        instance = Instance(self.project, self.plan.id, key)
        match self.call.operation:
            case "read":
                found = await self.store.read(instance)
                out = {"messages": list(found.messages), "count": len(found.messages)}
            case "write" | "append":
                out = await self._write(instance, messages_of(payload))
            case "delete":
                await self._change(instance, lambda _: None)
                out = {"success": True}
            case "clear":
                out = await self._clear(instance)
            case "flush":
                out = await self._flush(instance)
            case "health" | "stats":
                out = await self._told(instance)
            case other:
                raise RunError(f"there is no operation `{other}` on memories", retryable=False)
        return {**out, "key": key}

    async def _change(self, instance: Instance, change: Any) -> None:
        await self.store.change(instance, change, ttl=self.plan.ttl, once=self.once)

    async def _write(self, instance: Instance, given: list[Message]) -> dict[str, Json]:
        appends, plan = self.call.operation == "append", self.plan
        added = policy.storable(plan, given)

        def change(before: Conversation) -> Conversation:
            messages = (*before.messages, *added) if appends else added
            made = Conversation(policy.within_limits(plan, messages), before.flushed)
            if plan.flush and policy.due(plan, made.messages, plan.flush_at):
                made = policy.flushed(plan, made, plan.flushing, rfc3339(self.now))
            return made

        await self._change(instance, change)
        count = len((await self.store.read(instance)).messages)
        if appends:
            return {"success": True, "appended": len(added), "total_count": count}
        return {"success": True, "count": count}

    async def _clear(self, instance: Instance) -> dict[str, Json]:
        if self.call.options.get("confirm") is not True:
            raise _invalid("`clear` needs `clear_config.confirm: true`")
        count = len((await self.store.read(instance)).messages)
        await self._change(instance, lambda _: None)
        return {"success": True, "messages_cleared": count, "backup_created": False}

    async def _flush(self, instance: Instance) -> dict[str, Json]:
        options, plan = self.call.options, self.plan
        strategy = str(options.get("strategy") or plan.flushing)
        threshold = float(options.get("threshold") or plan.flush_at)
        found = await self.store.read(instance)
        wanted = bool(options.get("force")) or policy.due(plan, found.messages, threshold)
        if options.get("dry_run"):
            return {
                "success": True,
                "dry_run": True,
                "would_flush": wanted,
                "summary_generated": False,
                **_sizes(found),
            }
        made = found
        if wanted:
            now = rfc3339(self.now)
            await self._change(instance, lambda one: policy.flushed(plan, one, strategy, now))
            made = await self.store.read(instance)
        summarised = wanted and strategy == "hybrid_summary" and made.messages != found.messages
        return {"success": True, "summary_generated": summarised, **_sizes(made)}

    async def _told(self, instance: Instance) -> dict[str, Json]:
        found = await self.store.read(instance)
        sizes, options = _sizes(found), self.call.options
        out: dict[str, Json] = {**sizes, "actual_strategy": self.plan.flushing}
        if found.flushed is not None:
            out["last_flush"] = found.flushed
        if self.call.operation == "health":
            out["healthy"] = True
            if options.get("include_stats"):
                out["current_tokens"] = sizes["token_count"]
            return out
        if found.messages:
            out["avg_tokens_per_message"] = sizes["token_count"] / len(found.messages)
        if options.get("include_content"):
            out["messages"] = list(found.messages)
        return out


def _sizes(conversation: Conversation) -> dict[str, Any]:
    messages = conversation.messages
    return {"message_count": len(messages), "token_count": policy.tokens(messages)}


def messages_of(payload: Json) -> list[Message]:
    """The messages of a payload: a text, a message, or a list of either. Raises RunError."""
    given = payload if isinstance(payload, list) else [payload]
    if len(given) > MOST_MESSAGES:
        raise _invalid(f"`payload` has {len(given)} messages, more than {MOST_MESSAGES}")
    if not given:
        raise _invalid("`payload` has no message")
    out = [
        _message(one, f"`payload[{n}]`" if len(given) > 1 else "`payload`")
        for n, one in enumerate(given)
    ]
    size = sum(len(one["content"].encode()) for one in out)
    if size > LARGEST_PAYLOAD:
        raise _invalid(f"`payload` has {size:,} bytes, more than {LARGEST_PAYLOAD:,}")
    return out


def _message(given: Json, what: str) -> Message:
    if isinstance(given, str):
        given = {"content": given}
    if not isinstance(given, Mapping):
        raise _invalid(f"{what} is neither a text nor a message `{{role, content}}`")
    role, content = given.get("role") or "user", given.get("content")
    if role not in ROLES:
        raise _invalid(f"{what} has the role `{role}`; there are {', '.join(ROLES)}")
    if content is not None and not isinstance(content, str):
        content = to_text(content)  # of a template that gave a number, or an agent's answer
    if content is None or not content.strip():
        raise _invalid(f"{what} has no `content`")
    if len(content.encode()) > LARGEST_MESSAGE:
        raise _invalid(f"{what} has more than {LARGEST_MESSAGE:,} bytes")
    return {"role": str(role), "content": content}


def _invalid(message: str) -> RunError:
    return RunError(message, code="MEMORY_INVALID", retryable=False)
