"""`.tools.<id>.<method>(…)`: what a call in a prompt is called with (language.md §6.2)."""

from __future__ import annotations

import pytest

from compozy_prefect.compiler.plan import ToolPlan
from compozy_prefect.errors import ToolFailed
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
