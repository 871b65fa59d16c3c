"""agents: messages, what an answer stands for, re-prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compozy_prefect.compiler.plan import LoopPlan, ModelPlan
from compozy_prefect.errors import ModelFailed, OutputInvalid
from compozy_prefect.runtime.agents import AgentRequest, answer
from compozy_prefect.runtime.answers import read
from compozy_prefect.runtime.llm.client import ModelAnswer, ModelRequest, Usage

SCHEMA = {
    "type": "object",
    "properties": {"category": {"enum": ["billing", "technical"]}, "n": {"type": "integer"}},
    "required": ["category"],
}
ASK = AgentRequest(
    agent="classifier",
    action="classify",
    step="triage",
    model=ModelPlan("openai", "gpt-4o"),
    api_key="sk-nothing",
    instructions="Be brief.",
    prompt="Which one?",
    input={"text": "help"},
    schema=SCHEMA,
)


class Scripted:
    """A model that says one thing after the other."""

    def __init__(self, *texts: str | Exception, usage: Usage | None = None) -> None:
        self.texts = list(texts)
        self.usage = usage or Usage(10, 5, 0.25, 1)
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest, *, on_chunk: Any = None) -> ModelAnswer:
        self.requests.append(request)
        text = self.texts.pop(0)
        if isinstance(text, Exception):
            raise text
        return ModelAnswer(text, self.usage, "scripted")


@pytest.mark.parametrize(
    ("text", "schema", "json_mode", "output"),
    [
        ("Hello.", None, False, {"response": "Hello."}),
        ('{"a": 1}', None, False, {"response": '{"a": 1}'}),
        ('{"a": 1}', None, True, {"a": 1}),
        ('```json\n{"a": 1}\n```', None, True, {"a": 1}),
        ("[1, 2]", None, True, {"__value__": [1, 2]}),
        ("sorry, no JSON", None, True, {"response": "sorry, no JSON"}),
        ('{"category": "billing"}', SCHEMA, False, {"category": "billing"}),
        ('Sure!\n```json\n{"category": "billing"}\n```\n', SCHEMA, False, {"category": "billing"}),
        ('It is {"category": "billing"}, I think.', SCHEMA, False, {"category": "billing"}),
        ('As [1] says: {"category": "billing"}', SCHEMA, False, {"category": "billing"}),
        ('{"category": "billing", "n": 1.0}', SCHEMA, False, {"category": "billing", "n": 1.0}),
        ("[1, 2]", {"type": "array"}, False, [1, 2]),
        ("the list: [1, 2].", {"type": "array"}, False, [1, 2]),
        ("7", {"type": "integer"}, False, 7),
        ("plain words", {"type": "string"}, False, "plain words"),
        ("42", {"type": "string"}, False, "42"),
        ('"quoted"', {"type": "string"}, False, "quoted"),
        ("null", {"type": ["object", "null"]}, False, None),
        ('{"a": "\\ud800"}', {"type": "object"}, False, {"a": "?"}),
    ],
)
def test_an_answer_stands_for_an_output(text, schema, json_mode, output):
    found, wrong = read(text, schema, json_mode)
    assert wrong == []
    assert found == output
    assert type(found) is type(output)


@pytest.mark.parametrize(
    "text",
    ["", "no", "[" * 100_000, '{"a":' * 5000, "{" * 1000 + "}" * 1000, "NaN", '{"n": 1e999}'],
)
def test_an_answer_that_is_no_json_is_told_so(text):
    assert read(text, SCHEMA, False)[1]


def test_the_violations_are_those_of_the_first_json_in_the_answer():
    _, wrong = read('{"category": "sales"} and [1]', SCHEMA, False)
    assert wrong == ['at `category`: expected one of "billing", "technical"; got "sales"']


async def test_a_good_answer_takes_one_call():
    model = Scripted('{"category": "billing"}')
    out = await answer(ASK, model)
    assert (out.output, out.usage) == ({"category": "billing"}, Usage(10, 5, 0.25, 1))
    [asked] = model.requests
    assert asked.messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Which one?"},
    )
    assert (asked.schema, asked.input, asked.api_key) == (SCHEMA, {"text": "help"}, "sk-nothing")


async def test_without_instructions_there_is_no_system_message():
    model = Scripted("Hi")
    await answer(replace(ASK, instructions="", schema=None), model)
    assert [message["role"] for message in model.requests[0].messages] == ["user"]


async def test_an_answer_that_breaks_the_schema_is_shown_to_the_model():
    model = Scripted("what?", '{"category": "sales"}', '{"category": "technical"}')
    out = await answer(replace(ASK, loop=LoopPlan(corrections=2)), model)
    assert out.output == {"category": "technical"}
    assert out.usage == Usage(30, 15, 0.75, 3)
    said = [message["content"] for message in model.requests[2].messages]
    assert said[2] == "what?"
    assert "attempt 1 of 2" in said[3]
    assert "holds no JSON" in said[3]
    assert said[4] == '{"category": "sales"}'
    assert "attempt 2 of 2" in said[5]
    assert 'got "sales"' in said[5]
    assert len(model.requests[0].messages) == 2, "an earlier request must not change"


@pytest.mark.parametrize("retries", [0, 1, 2, 4])
async def test_after_the_last_re_prompt_the_output_is_invalid(retries):
    model = Scripted(*['{"category": 1}'] * 9)
    with pytest.raises(OutputInvalid) as raised:
        await answer(replace(ASK, loop=LoopPlan(corrections=retries)), model)
    assert len(model.requests) == retries + 1
    error = raised.value
    assert error.code == "OUTPUT_VALIDATION_ERROR"
    assert not error.retryable
    assert error.details["violations"] == [
        'at `category`: expected one of "billing", "technical"; got 1'
    ]
    assert "classifier" in error.message
    assert "category" in error.message


async def test_a_failing_model_is_not_re_prompted():
    model = Scripted("bad", ModelFailed("boom"))
    with pytest.raises(ModelFailed, match="boom"):
        await answer(ASK, model)
    assert len(model.requests) == 2


def test_usage_adds_up_and_an_unknown_price_stays_unknown():
    known = Usage(1, 2, 0.5, 1)
    assert Usage() + known + known == Usage(2, 4, 1.0, 2)
    assert (known + Usage(1, 1, None, 1)).cost_usd is None
    assert (Usage(1, 1, None, 1) + known).to_json() == {
        "prompt_tokens": 2,
        "completion_tokens": 3,
        "cost_usd": None,
    }
    assert Usage.from_json(known.to_json()) == replace(known, calls=0)
