"""offline: the same answer each time, without a network, fitting its schema."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.runtime import schemas
from compozy_prefect.runtime.agents import AgentRequest, answer
from compozy_prefect.runtime.llm.client import Usage
from compozy_prefect.runtime.llm.offline import MockProvider, OfflineClient
from compozy_prefect.runtime.llm.samples import sample

ASK = AgentRequest(
    agent="greeter",
    action="greet",
    step="s",
    model=ModelPlan("mock", "m1"),
    api_key=None,
    instructions="Be kind.",
    prompt="Greet Alice\n please",
    input={"name": "Alice"},
)
GREETING = {
    "type": "object",
    "properties": {
        "greeting": {"type": "string"},
        "category": {"enum": ["billing", "technical"]},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": {"type": "string"}},
        "address": {"type": "string", "format": "email"},
        "next_step": {"type": "string"},
    },
    "required": ["greeting"],
}


async def test_without_a_schema_it_quotes_the_prompt():
    out = await answer(ASK, OfflineClient())
    assert out.output == {"response": "Offline answer of greeter.greet to: Greet Alice please"}
    assert out.usage == Usage(calls=1)
    long = await answer(replace(ASK, prompt="x" * 500), OfflineClient())
    assert long.output["response"].endswith("x" * 120 + "…")


async def test_with_a_schema_it_answers_something_a_reader_recognises():
    out = (await answer(replace(ASK, schema=GREETING), OfflineClient())).output
    assert list(out) == list(GREETING["properties"])
    assert out["greeting"] == "Hello, Alice! (offline)"
    assert out["next_step"] == "Next step: Alice (offline)"
    assert out["category"] in ("billing", "technical")
    assert 0 <= out["confidence"] <= 1
    assert out["address"].endswith("@example.com")
    assert out == (await answer(replace(ASK, schema=GREETING), OfflineClient())).output


async def test_the_mock_provider_echoes():
    out = await answer(ASK, MockProvider())
    assert out.output == {"response": "Mock response for: Be kind. Greet Alice\n please "}
    shaped = await answer(replace(ASK, schema=GREETING), MockProvider())
    assert shaped.output["greeting"] == "Hello, Alice! (offline)"


async def test_no_socket_is_opened(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for client in (OfflineClient(), MockProvider()):
        await answer(ASK, client)
        await answer(replace(ASK, schema=GREETING), client)


def test_the_answer_does_not_hang_on_the_process():
    code = (
        "import json; from compozy_prefect.runtime.llm.samples import sample;"
        f"print(json.dumps(sample({GREETING!r}, 'seed', ['Alice'])))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"const": {"a": [1]}},
        {"type": ["null", "string"], "minLength": 200},
        {"type": "string", "maxLength": 3},
        {"type": "string", "maxLength": 0},
        {"type": "string", "pattern": r"^[A-Z]{3}-\d{4}(-[a-f0-9]{2,})?$"},
        {"type": "string", "pattern": "^(low|high)$"},
        {"type": "string", "pattern": r"^\+?[0-9 ]+$", "minLength": 6},
        {"type": "string", "enum": ["a"], "default": "b"},
        {"type": "integer", "minimum": 5, "exclusiveMaximum": 7, "multipleOf": 3},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.01},
        {"type": "integer", "maximum": -10},
        {"type": "number", "multipleOf": 0.5, "minimum": 3.1},
        {"type": "array", "minItems": 5, "uniqueItems": True, "items": {"type": "integer"}},
        {"type": "array", "minItems": 3, "uniqueItems": True, "items": {"enum": [1, 2, 3]}},
        {"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}], "items": False},
        {"type": "array", "contains": {"const": 7}, "items": {"type": "integer"}},
        {"type": "array", "maxItems": 0},
        {"type": "object", "required": ["a"], "additionalProperties": {"type": "integer"}},
        {"type": "object", "minProperties": 3, "propertyNames": {"maxLength": 8}},
        {"type": "object", "minProperties": 2, "patternProperties": {"^x_": {"type": "null"}}},
        {"type": "object", "properties": {"a": {}, "b": {}}, "maxProperties": 1, "required": ["b"]},
        {"type": "object", "properties": {"a": {}, "b": False}},
        {"anyOf": [False, {"type": "integer"}, {"type": "string"}], "not": {"type": "integer"}},
        {"oneOf": [{"type": "number"}, {"type": "integer"}]},
        {"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object"},
        {
            "allOf": [
                {"properties": {"a": {"minimum": 3}}, "required": ["a"]},
                {"properties": {"a": {"type": "integer", "maximum": 4}}},
                {"anyOf": [{"required": ["b"]}, {"required": ["c"]}]},
            ],
            "type": "object",
        },
        {
            "type": "object",
            "properties": {"kind": {"enum": ["x", "y"]}, "n": {"type": "integer"}},
            "required": ["kind"],
            "if": {"properties": {"kind": {"const": "x"}}},
            "then": {"required": ["n"]},
            "else": {"properties": {"n": False}},
        },
        {
            "$ref": "#/$defs/tree",
            "$defs": {
                "tree": {
                    "type": "object",
                    "properties": {
                        "value": {"type": "integer"},
                        "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}},
                    },
                    "required": ["value"],
                }
            },
        },
        {"definitions": {"a/b": {"type": "null"}}, "$ref": "#/definitions/a~1b"},
        {"type": "object", "dependentRequired": {"a": ["b"]}, "required": ["a"]},
        {"type": "string", "format": "uuid", "examples": ["6f1c5a1e-0000-4000-8000-000000000000"]},
        {"id": "named", "type": None, "properties": {"a": {"type": None}}},
    ],
)
def test_a_sample_fits(schema):
    for seed in map(str, range(5)):
        value = sample(schema, seed, ["Alice"])
        assert schemas.violations(value, schema) == []
        json.dumps(value, allow_nan=False)


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"$ref": "#"},
        {"$ref": "http://example.com/x"},
        {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}},
        {"type": "string", "minLength": 3, "maxLength": 1},
        {"type": "string", "pattern": "("},
        {"type": "nothing"},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "array", "uniqueItems": True, "minItems": 3, "items": {"type": "boolean"}},
        {"type": "string", "minLength": 10**9, "maxLength": 10**10},
    ],
)
def test_what_cannot_be_satisfied_ends_all_the_same(schema):
    json.dumps(sample(schema, "seed"))


_NAMES = st.sampled_from(["name", "greeting", "score", "items", "date", "x-y", "a b"])
_SCALARS = st.one_of(
    st.builds(
        lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more},
        st.integers(-1000, 1000),
        st.integers(0, 500),
    ),
    st.builds(
        lambda low, more: {"type": "number", "exclusiveMinimum": low, "maximum": low + more},
        st.integers(-50, 50),
        st.floats(0.5, 100),
    ),
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 90),
        st.integers(0, 90),
    ),
    st.sampled_from(["email", "date-time", "date", "uri", "uuid", "time", "ipv4"]).map(
        lambda name: {"type": "string", "format": name}
    ),
    st.sampled_from([r"^\d{3}$", "^[a-z]+$", "^(a|b)c?$", r"^\w+@\w+\.com$"]).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
    st.lists(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
        min_size=1,
        max_size=5,
    ).map(lambda values: {"enum": values}),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": [1, "x"]}, {}, True]),
)


def _composed(inner: st.SearchStrategy) -> st.SearchStrategy:
    objects = st.builds(
        lambda properties, closed, required: {
            "type": "object",
            "properties": properties,
            "required": sorted(required & set(properties)),
            **({"additionalProperties": False} if closed else {}),
        },
        st.dictionaries(_NAMES, inner, max_size=4),
        st.booleans(),
        st.sets(_NAMES),
    )
    arrays = st.builds(
        lambda items, low, more: {
            "type": "array",
            "items": items,
            "minItems": low,
            "maxItems": low + more,
        },
        inner,
        st.integers(0, 4),
        st.integers(0, 4),
    )
    return st.one_of(
        objects,
        arrays,
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts}),
        inner.map(lambda part: {"allOf": [part, {"title": "x"}]}),
        inner.map(lambda part: {"$defs": {"part": part}, "anyOf": [part]}),
        st.tuples(inner, st.booleans()).map(
            lambda both: {"oneOf": [both[0], {"type": "string", "const": "never made up"}]}
        ),
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(_SCALARS, _composed, max_leaves=12), st.text(max_size=8), st.text(max_size=80))
def test_any_schema_of_the_grammar_gets_a_fitting_sample(schema, seed, words):
    value = sample(schema, seed, [words])
    assert schemas.violations(value, schema) == []
    assert value == sample(schema, seed, [words])
    json.dumps(value, allow_nan=False)
