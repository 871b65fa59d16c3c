"""Conversations: what is kept of them, and that nothing is added twice (language.md §7)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from compozy_prefect.compiler.plan import Json, MemoryCall, MemoryPlan, MemoryUse
from compozy_prefect.errors import RunError
from compozy_prefect.expressions import render
from compozy_prefect.runtime.memory import policy
from compozy_prefect.runtime.memory.operations import Operation, messages_of
from compozy_prefect.runtime.memory.store import Conversation, InProcess, Instance, Store
from compozy_prefect.runtime.memory.transcripts import transcripts

NOW = datetime(2026, 1, 2, tzinfo=UTC)
AT = Instance("p", "m", "k")


def operation(store: Store, name: str, once: str = "x", **fields: Any) -> Operation:
    options = fields.pop("options", {})
    plan = MemoryPlan("m", store="in_memory", **fields)
    return Operation(MemoryCall(name, "m", "k", options=options), plan, store, "p", NOW, once)


def said(*contents: str, role: str = "user") -> tuple[dict[str, str], ...]:
    return tuple({"role": role, "content": content} for content in contents)


async def filled(*contents: str) -> InProcess:
    store = InProcess()
    await store.change(AT, lambda _: Conversation(said(*contents)), ttl=0, once="fill")
    return store


async def test_a_step_that_is_tried_again_adds_nothing_twice() -> None:
    store = InProcess()
    for once in ("run/a", "run/a", "run/b"):
        await operation(store, "append", once).perform("k", "hi")
    assert len((await store.read(AT)).messages) == 2


async def test_a_conversation_lives_as_long_as_it_may() -> None:
    clock = [0.0]
    store = InProcess(lambda: clock[0])
    await operation(store, "append", "1", ttl=10).perform("k", "hi")
    clock[0] = 9.0
    await operation(store, "append", "2", ttl=10).perform("k", "there")
    clock[0] = 18.0
    assert len((await store.read(AT)).messages) == 2
    clock[0] = 19.0
    assert (await operation(store, "read").perform("k", None))["messages"] == []


async def test_what_must_not_be_kept_is_not() -> None:
    store = InProcess()
    add = operation(
        store, "append", redact=(r"\d{3}-\d{4}",), redaction=r"\1 no", not_stored=("System",)
    )
    told = await add.perform("k", [{"role": "system", "content": "s"}, "call 555-1234 now"])
    assert told == {"success": True, "appended": 1, "total_count": 1, "key": "k"}
    assert (await store.read(AT)).messages == said(r"call \1 no now")


async def test_a_flush_that_is_only_tried_changes_nothing() -> None:
    store = await filled(*"abcd")
    options = {"dry_run": True}
    told = await operation(store, "flush", max_messages=4, options=options).perform("k", None)
    assert (told["would_flush"], told["message_count"]) == (True, 4)
    assert (await store.read(AT)).flushed is None
    told = await operation(store, "flush", max_messages=4).perform("k", None)
    assert told == {
        "success": True,
        "summary_generated": False,
        "message_count": 2,
        "token_count": 10,
        "key": "k",
    }
    health = await operation(store, "health", options={"include_stats": True}).perform("k", None)
    assert health["last_flush"] == "2026-01-02T00:00:00Z"
    assert (health["healthy"], health["current_tokens"]) == (True, 10)


@pytest.mark.parametrize(
    ("strategy", "fields", "kept"),
    [
        ("simple_fifo", {}, "cdefgh"),
        ("simple_fifo", {"max_messages": 8}, "efgh"),
        ("lru", {"max_messages": 6}, "fgh"),
        ("lru", {}, "efgh"),
        ("token_aware_lru", {"max_tokens": 20}, "gh"),
    ],
)
def test_strategies(strategy: str, fields: dict[str, Any], kept: str) -> None:
    plan = MemoryPlan("m", **fields)
    given = Conversation(said(*"abcdefgh"))
    made = policy.flushed(plan, given, strategy, "now")
    assert "".join(one["content"] for one in made.messages) == kept


def test_large_messages_go_before_small_ones_of_the_same_age() -> None:
    plan = MemoryPlan("m", max_tokens=60)
    made = policy.flushed(plan, Conversation(said("a", "b" * 90, "c")), "token_aware_lru", "now")
    assert [one["content"] for one in made.messages] == ["a", "c"]


def test_a_summary_takes_the_place_of_the_oldest() -> None:
    plan = MemoryPlan("m", summary_tokens=20, summarize_oldest=0.75)
    made = policy.flushed(plan, Conversation(said("a", "b" * 500, "c", "d")), "hybrid_summary", "n")
    first, last = made.messages
    assert first["role"] == "system"
    assert "user: a" in first["content"]
    assert len(first["content"]) <= 80
    assert last["content"] == "d"


def test_what_is_protected_goes_last() -> None:
    plan = MemoryPlan("m", max_messages=2, eviction="priority", keep=("urgent",))
    messages = said("rules", role="system") + said("an URGENT thing", "x", "y")
    kept = policy.within_limits(plan, messages)
    assert [one["content"] for one in kept] == ["rules", "an URGENT thing"]


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (3, "`payload` is neither a text nor a message `{role, content}`"),
        ([], "`payload` has no message"),
        ({"role": "boss", "content": "x"}, "`payload` has the role `boss`; there are user,"),
        ({"content": None}, "`payload` has no `content`"),
        (["x", ""], "`payload[1]` has no `content`"),
        (["x"] * 101, "`payload` has 101 messages, more than 100"),
        ("x" * 10241, "`payload` has more than 10,240 bytes"),
        (["x" * 10000] * 11, "`payload` has 110,000 bytes, more than 102,400"),
    ],
)
def test_payloads_that_are_none(payload: Json, why: str) -> None:
    with pytest.raises(RunError) as caught:
        messages_of(payload)
    assert caught.value.message.startswith(why)
    assert caught.value.code == "MEMORY_INVALID"


async def test_a_prompt_reads_what_was_said() -> None:
    store = InProcess()
    kept = MemoryPlan("talk", store="in_memory", key="u/{{ .with.who }}")
    instance = Instance("demo", "talk", "u_ada")
    talk = Conversation((*said("Hi"), *said("1", role="tool")))
    await store.change(instance, lambda _: talk, ttl=0, once="1")
    uses = (MemoryUse("talk", "u/ada"), MemoryUse("other", "x"))
    memories = {"talk": kept, "other": MemoryPlan("other", key="x")}
    found = await transcripts(uses, memories, store, "demo", lambda _, use: use.key)
    context = {"memory": found}
    assert render("Before: {{ .memory.talk }}{{ .memory.other }}.", context) == (
        "Before: user: Hi\ntool: 1."
    )
    assert render("{{ .memory.talk | length }}", context) == 2
    assert render("{{ (index .memory.talk 1).role }}", context) == "tool"
    assert render("{{ if .memory.other }}yes{{ else }}no{{ end }}", context) == "no"
