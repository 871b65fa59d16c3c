"""`.tools.<id>.<method>(…)`: what a call in a prompt is called with (language.md §6.2)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compozy_prefect.compiler.plan import ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.runtime.calls import Called, Nowhere, Unwatched, once
from compozy_prefect.runtime.tools.dispatch import method_call

SCHEMA = {
    "type": "object",
    "properties": {
        "action": {"type": "string", "enum": ["get_account"]},
        "customer_id": {"type": "string"},
        "data": {"type": "object"},
    },
}


def test_the_method_is_the_action_and_arguments_are_properties_in_order() -> None:
    tool, input = method_call(ToolPlan("t", input_schema=SCHEMA), "get_status", ["c-1", {"n": 1}])
    assert input == {"action": "get_status", "customer_id": "c-1", "data": {"n": 1}}
    assert tool.input_schema["properties"]["action"] == {"type": "string"}  # its enum is skipped


def test_a_tool_without_action_takes_a_map() -> None:
    assert method_call(ToolPlan("t"), "call", [{"a": 1}])[1] == {"a": 1}
    with pytest.raises(ToolFailed, match="takes one map"):
        method_call(ToolPlan("t"), "call", [1])


def test_too_many_arguments() -> None:
    with pytest.raises(ToolFailed, match="takes 2 arguments: customer_id, data"):
        method_call(ToolPlan("t", input_schema=SCHEMA), "x", [1, 2, 3])


class Kept(Nowhere):
    """Keeps in memory, without what is secret."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.kept.get(key)

    async def keep(self, key: str, value: Any) -> Any:
        self.kept[key] = json.loads(json.dumps(value).replace("secret", "[REDACTED]"))
        return self.kept[key]


class Watching(Unwatched):
    def __init__(self) -> None:
        self.over: list[Called] = []

    def ended(self, called: Called) -> None:
        self.over.append(called)


async def test_who_goes_on_is_given_what_was_kept() -> None:
    calls, watch, made = Kept(), Watching(), []

    async def make() -> Any:
        made.append(1)
        return {"is": "secret"}

    for _ in range(2):
        found = await once(calls, watch, "prompt/1", "tool", "vault", [1], make)
        assert found == {"is": "[REDACTED]"}
    assert len(made) == 1
    assert [(one.name, one.again) for one in watch.over] == [("vault", False), ("vault", True)]


async def test_a_call_that_failed_is_made_again() -> None:
    calls, watch = Kept(), Watching()

    async def fail() -> Any:
        raise ToolFailed("no")

    for _ in range(2):
        with pytest.raises(ToolFailed):
            await once(calls, watch, "prompt/1", "tool", "vault", [1], fail)
    assert [one.error for one in watch.over] == ["no", "no"]
    assert not calls.kept
