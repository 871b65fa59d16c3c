"""tools: defaults, validation on both sides, result rules."""

from __future__ import annotations

import pytest

from compozy_prefect.compiler.plan import ToolPlan
from compozy_prefect.errors import InputInvalid, OutputInvalid, ToolFailed
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.tools.dispatch import call


def mocks(**answer) -> Mocks:
    return Mocks.from_mapping({"tools": {"t": answer}})


@pytest.mark.parametrize(
    ("raw", "result"),
    [
        ({"a": 1}, {"a": 1}),
        ([1], {"value": [1]}),
        ("x", {"value": "x"}),
        (0, {"value": 0}),
        (False, {"value": False}),
        (None, {}),
    ],
)
async def test_result_rules(raw, result):
    assert await call(ToolPlan("t"), {}, mocks=mocks(output=raw)) == result


async def test_the_input_is_laid_over_the_tools_own_and_gets_its_defaults():
    tool = ToolPlan(
        "t",
        with_={"a": {"x": 1, "y": 1}, "b": 1},
        input_schema={"properties": {"c": {"default": 3}}},
    )
    seen = Mocks.from_mapping(
        {"tools": {"t": {"when": {"a": {"x": 1, "y": 2}, "b": 5, "c": 3}, "output": {"ok": 1}}}}
    )
    assert await call(tool, {"a": {"y": 2}, "b": 5}, mocks=seen) == {"ok": 1}
    assert tool.with_ == {"a": {"x": 1, "y": 1}, "b": 1}


async def test_the_input_is_validated_before_the_tool_is_asked():
    tool = ToolPlan("t", input_schema={"type": "object", "required": ["id"]})
    with pytest.raises(InputInvalid, match="`id` is missing") as raised:
        await call(tool, {}, mocks=mocks(error="must not be reached"))
    assert raised.value.details == {"tool": "t", "violations": ["at `$`: `id` is missing"]}
    assert not raised.value.retryable


@pytest.mark.parametrize(
    ("schema", "raw", "good"),
    [
        ({"type": "object", "required": ["a"]}, {"a": 1}, True),
        ({"type": "object", "required": ["a"]}, {}, False),
        ({"type": "array", "items": {"type": "integer"}}, [1], True),
        ({"type": "array", "items": {"type": "integer"}}, ["x"], False),
        ({"type": "object", "properties": {"value": {"type": "array"}}}, [1], True),
        ({"type": "object"}, None, True),
    ],
)
async def test_the_result_is_validated(schema, raw, good):
    tool = ToolPlan("t", output_schema=schema)
    if good:
        await call(tool, {}, mocks=mocks(output=raw))
    else:
        with pytest.raises(OutputInvalid, match="tool `t`") as raised:
            await call(tool, {}, mocks=mocks(output=raw))
        assert raised.value.details["violations"]


async def test_a_mocked_error_keeps_its_words():
    with pytest.raises(ToolFailed) as raised:
        await call(ToolPlan("t"), {}, mocks=mocks(error="boom"))
    assert raised.value.message == "boom"
    assert raised.value.code == "TOOL_EXECUTION_ERROR"
    assert raised.value.retryable


async def test_a_delay_beyond_the_timeout_fails():
    with pytest.raises(ToolFailed, match=r"within 0\.05 s") as raised:
        await call(ToolPlan("t", timeout=0.05), {}, mocks=mocks(output=1, delay="5s"))
    assert raised.value.code == "TOOL_TIMEOUT"
    assert raised.value.retryable


@pytest.mark.parametrize("given", [None, Mocks.from_mapping({})])
@pytest.mark.parametrize(
    ("type", "offline", "word"), [("builtin", False, "mocks only"), ("http", True, "--offline")]
)
async def test_a_tool_that_cannot_run_says_what_to_do(given, type, offline, word):
    with pytest.raises(ToolFailed) as raised:
        await call(ToolPlan("t", type=type), {}, mocks=given, offline=offline)
    assert raised.value.code == "TOOL_NOT_FOUND"
    assert not raised.value.retryable
    for part in ("`t`", word, "--mocks FILE"):
        assert part in raised.value.message
