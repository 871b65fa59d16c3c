"""Input schemas as Python parameters: types, names, texts, and back to an input."""

from __future__ import annotations

import inspect
import warnings
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prefect import Flow
from prefect.utilities.callables import parameter_docstrings
from pydantic import Field, TypeAdapter

from compozy_prefect.compiler import types
from compozy_prefect.compiler.plan import WorkflowPlan

NAMESPACE = {"Annotated": Annotated, "Any": Any, "Field": Field, "Literal": Literal}


def one(schema: Any, *, required: bool = True) -> types.Parameter:
    whole = {"type": "object", "properties": {"x": schema}, "required": ["x"] if required else []}
    (parameter,) = types.parameters(whole)
    return parameter


@pytest.mark.parametrize(
    ("schema", "source"),
    [
        ({"type": "string"}, "str"),
        ({"type": "integer"}, "int"),
        ({"type": "number"}, "float"),
        ({"type": "boolean"}, "bool"),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, "dict[str, Any]"),
        ({"type": "array"}, "list[Any]"),
        ({"type": "array", "items": {"type": "string"}}, "list[str]"),
        ({"type": "array", "items": {"type": "array", "items": False}}, "list[list[Any]]"),
        ({"enum": ["low", "high"]}, 'Literal["low", "high"]'),
        ({"type": "integer", "enum": [1, 2]}, "Literal[1, 2]"),
        ({"const": "v1"}, 'Literal["v1"]'),
        ({"type": ["string", "null"]}, "str | None"),
        ({"type": ["null", "integer", "string"]}, "int | str | None"),
        ({"type": "string", "nullable": True}, "str | None"),
        ({"type": "integer", "minimum": 1, "maximum": 5}, "Annotated[int, Field(ge=1, le=5)]"),
        ({"type": "integer", "minimum": 0.5}, "Annotated[int, Field(ge=1)]"),
        ({"type": "integer", "exclusiveMaximum": 0.5}, "Annotated[int, Field(lt=1)]"),
        ({"type": "number", "exclusiveMinimum": 0}, "Annotated[float, Field(gt=0)]"),
        ({"type": "number", "multipleOf": 0.25}, "Annotated[float, Field(multiple_of=0.25)]"),
        ({"type": "string", "minLength": 2}, "Annotated[str, Field(min_length=2)]"),
        ({"type": "string", "pattern": "^a"}, 'Annotated[str, Field(pattern="^a")]'),
        ({"type": "array", "maxItems": 2}, "Annotated[list[Any], Field(max_length=2)]"),
        # What only one engine can compile, or no Field can hold, is left to the schema.
        ({"type": "string", "pattern": "(?=look)ahead"}, "str"),
        ({"type": "string", "pattern": r"\p{L}"}, "str"),
        ({"type": "string", "minLength": -1, "maxLength": 1e300}, "str"),
        ({"type": "integer", "multipleOf": 0.5, "minimum": True}, "int"),
        ({"type": "number", "enum": [0.5, 1.5]}, "float"),
        # Unusual means Any rather than wrong.
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "Any"),
        ({"$ref": "#/$defs/x"}, "Any"),
        ({"type": "date"}, "Any"),
        ({"type": []}, "Any"),
        ({}, "Any"),
        (True, "Any"),
        (None, "Any"),
    ],
)
def test_a_type_for_each_kind_of_property(schema: Any, source: str) -> None:
    assert one(schema).source == source


def test_an_optional_property_without_default_is_none_when_absent() -> None:
    parameter = one({"type": "integer", "minimum": 1}, required=False)
    assert parameter.source == "Annotated[int, Field(ge=1)] | None"
    assert (parameter.default, parameter.required) == (None, False)
    assert one({"type": ["string", "null"]}, required=False).source == "str | None"


def test_a_default_makes_a_property_optional_and_leaves_its_type() -> None:
    parameter = one({"type": "string", "default": "World", "description": "Who\n  to greet."})
    assert parameter.source == "str"
    assert (parameter.default, parameter.required) == ("World", False)
    assert parameter.description == "Who to greet."


def test_required_parameters_come_first_and_the_order_of_the_file_is_kept() -> None:
    schema = {
        "properties": {"c": {"default": 1}, "b": {}, "a": {}},
        "required": ["a", "b"],
    }
    assert [parameter.name for parameter in types.parameters(schema)] == ["b", "a", "c"]


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        True,
        {"type": "object"},
        {"type": "object", "properties": {}},
        {"type": "array", "properties": {"a": {}}},
        {"properties": {"a": {}}, "required": ["b"]},
        *[
            {"properties": {name: {}}}
            for name in [
                "user-name",
                "class",
                "None",
                "",
                "2nd",
                "a b",
                "_private",
                "__class__",
                "self",
                "cls",
                "return_state",
                "wait_for",
                "execute",
                "PLAN",
                "model_config",
                "model_dump",
                "model_fields_set",
                "v__args",
                "ﬁle",  # a ligature: Python would read another name
            ]
        ],
    ],
)
def test_a_single_input_where_names_do_not_serve(schema: Any) -> None:
    assert types.single(schema)
    (parameter,) = types.parameters(schema)
    assert (parameter.name, parameter.source) == ("input", "dict[str, Any]")
    assert (parameter.default, parameter.required) == ({}, False)
    assert types.to_input(schema, {"input": {"user-name": "Ada"}}) == {"user-name": "Ada"}
    assert types.to_input(schema, {}) == {}


@pytest.mark.filterwarnings("ignore:Field name:UserWarning")  # `json` of pydantic
@pytest.mark.parametrize(
    "name", ["json", "copy", "schema", "dict", "input", "model_name", "type", "größe"]
)
def test_names_that_look_dangerous_but_are_not(name: str) -> None:
    schema = {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]}
    flow = flow_of(schema)
    assert list(flow.parameters.properties) == [name]
    assert flow.validate_parameters({name: 3}) == {name: 3}


def test_to_input_leaves_out_what_was_not_given() -> None:
    schema = {
        "properties": {
            "a": {"type": "string"},
            "b": {"type": "string", "default": None},
            "c": {"type": ["string", "null"]},
            "d": {"default": 3},
        },
        "required": ["c"],
    }
    given_none = dict.fromkeys("abcd")
    assert types.to_input(schema, given_none) == {"b": None, "c": None, "d": None}
    assert types.to_input(schema, {"a": "x", "c": "y", "d": 0}) == {"a": "x", "c": "y", "d": 0}


def test_the_docstring_carries_the_descriptions_to_prefect() -> None:
    schema = {
        "properties": {
            "name": {"description": "Who to greet: a name.\n\nReturns:\n    nothing"},
            "tone": {},
        }
    }
    text = types.docstring(WorkflowPlan("w", description="Greets.\n\nKindly.", input_schema=schema))
    assert text == ("Greets.\n\nKindly.\n\nArgs:\n    name: Who to greet: a name. Returns: nothing")
    assert parameter_docstrings(text) == {"name": "Who to greet: a name. Returns: nothing"}
    assert types.docstring(WorkflowPlan("w")) == "w\n\nArgs:\n    input: The input of the workflow."


def flow_of(schema: Any, description: str = "") -> Flow[..., Any]:
    async def function(**arguments: Any) -> Any:
        return arguments

    function.__signature__ = types.signature(schema)  # type: ignore[attr-defined]
    function.__doc__ = types.docstring(
        WorkflowPlan("w", description=description, input_schema=schema)
    )
    with warnings.catch_warnings(action="ignore"):  # `json` shadows a method of pydantic's models
        return Flow(function)


# ---- properties over a grammar of schemas with hostile names and texts ----

QUOTES = ("", "'", '"', '"""', "'''", "\\", "\\'\"", "#", "{x}", "{{ y }}", "{% z %}", "é", "🎉")
BREAKS = ("\n", "\r\n", "\x00", "\u2028", "\ud800", "```", "Args:\n    name: no", "Returns:\n    x")
HOSTILE = st.one_of(
    st.sampled_from(QUOTES + BREAKS),
    st.text(max_size=12),
    st.text(alphabet="'\"\\{}\n ", max_size=8),
)
NAMES = st.one_of(
    st.sampled_from(["name", "tone", "json", "copy", "größe"]),
    st.from_regex(r"[a-z][a-z0-9]{0,6}_[a-z]", fullmatch=True),
)
ANY_NAMES = NAMES | st.sampled_from(["model_config", "class", "execute", "_x", "ﬁ"]) | HOSTILE
NUMBERS = st.one_of(
    st.integers(-5, 5), st.integers(), st.floats(), st.booleans(), st.just(10**400), st.none()
)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        HOSTILE,
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=5,
)
BOUNDS = (
    *("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)
KIND = st.sampled_from(["string", "integer", "number", "boolean", "object", "array", "null", "x"])


def _properties(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "type": KIND | st.lists(KIND, max_size=3),
            "items": items,
            "enum": st.lists(JSON, max_size=3),
            "const": JSON,
            "nullable": st.booleans(),
            "default": JSON,
            "description": HOSTILE | st.none(),
            "pattern": st.sampled_from(["^a+$", "(?=a)", "[", r"\d{2}", r"\p{L}", "a{99999999}"])
            | HOSTILE,
            **dict.fromkeys(BOUNDS, NUMBERS),
        },
    )


PROPERTY = st.recursive(_properties(st.booleans()), _properties, max_leaves=3)


@st.composite
def _schemas(draw: st.DrawFn) -> Any:
    names = draw(st.sampled_from([NAMES, NAMES, NAMES, ANY_NAMES]))
    properties = draw(st.dictionaries(names, PROPERTY, max_size=4))
    required = st.lists(st.sampled_from(sorted(properties) or ["x"]), max_size=2)
    return {
        "type": "object",
        "properties": properties,
        "required": draw(required),
        "description": draw(HOSTILE),
    }


SCHEMAS = _schemas()
thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(SCHEMAS)
def test_the_source_of_a_type_is_the_type(schema: Any) -> None:
    for parameter in types.parameters(schema):
        written = eval(parameter.source, dict(NAMESPACE))
        assert TypeAdapter(written).json_schema() == TypeAdapter(parameter.annotation).json_schema()
        assert "\n" not in parameter.source + parameter.description


@thorough
@given(SCHEMAS, HOSTILE)
def test_prefect_takes_every_schema(schema: Any, description: str) -> None:
    flow = flow_of(schema, description)
    items = types.parameters(schema)
    assert list(flow.parameters.properties) == [item.name for item in items]
    assert set(flow.parameters.required) == {item.name for item in items if item.required}
    for item in items:
        shown = flow.parameters.properties[item.name]
        assert shown.get("description", "") == item.description
    inspect.signature(flow.fn).bind(**dict.fromkeys(flow.parameters.properties))


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_a_literal_evaluates_to_its_value(value: Any) -> None:
    text = types.literal(value)
    assert "\n" not in text
    assert eval(text, {}) == value


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("^[a-z]+$", True),
        ("^[A-Z]{2}-x$", True),
        ("^(a+)+$", False),
        ("(a|aa)+$", False),
        ("^a*a*b$", False),
    ],
)
def test_a_pattern_that_may_run_away_is_not_given_to_prefect(pattern: str, kept: bool) -> None:
    """Its server checks parameters with Python's engine, which nothing can interrupt."""
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": pattern}}}
    (item,) = types.parameters(schema)
    assert ("pattern" in item.source) is kept
