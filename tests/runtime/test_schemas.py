"""schemas: defaults, and sentences about what is wrong."""

from __future__ import annotations

import socket
import time

import pytest

from compozy_prefect.runtime.schemas import MOST, fits, violations, with_defaults

PERSON = {
    "id": "person",
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "level": {"enum": ["low", "high"], "default": "low"},
        "tags": {"type": "array", "items": {"type": "string"}, "default": []},
        "inner": {"type": "object", "properties": {"x": {"default": 1}}},
    },
    "required": ["name"],
}


def test_defaults_are_shallow_and_the_value_stays_as_it_was():
    given = {"inner": {}}
    out = with_defaults(given, PERSON)
    assert out == {"inner": {}, "level": "low", "tags": []}
    assert given == {"inner": {}}
    out["tags"].append("x")
    assert with_defaults({}, PERSON)["tags"] == []


@pytest.mark.parametrize("value", [None, 3, "x", [1]])
def test_defaults_leave_what_is_no_object(value):
    assert with_defaults(value, PERSON) == value


def test_an_explicit_null_counts_as_present():
    assert with_defaults({"level": None}, PERSON)["level"] is None


def test_defaults_of_a_schema_for_a_list_are_nobodys():
    schema = {"type": "array", "properties": {"a": {"default": 1}}}
    assert with_defaults({}, schema) == {}
    assert with_defaults({}, None) == {}


def test_a_fitting_value_has_no_violations():
    assert violations({"name": "Ada", "level": "high"}, PERSON) == []
    assert violations(object(), None) == []
    assert fits(1.0, {"type": "integer"})


@pytest.mark.parametrize(
    ("value", "schema", "sentence"),
    [
        ({}, PERSON, "at `$`: `name` is missing"),
        ({"name": 3}, PERSON, "at `name`: expected string, got integer 3"),
        ({"name": None}, PERSON, "at `name`: expected string, got null"),
        (
            {"name": "a", "level": "hihg"},
            PERSON,
            'at `level`: expected one of "low", "high"; got "hihg"; did you mean "high"?',
        ),
        ({"name": "a", "tags": ["x", 2]}, PERSON, "at `tags[1]`: expected string, got integer 2"),
        (
            {"nam": 1},
            {"properties": {"name": {}}, "additionalProperties": False},
            "at `$`: `nam` is not allowed; did you mean `name`?",
        ),
        ({"a b": [1]}, {"properties": {"a b": {"items": {"minimum": 2}}}}, 'at `["a b"][0]`: 1 is'),
        ({"a": 1}, {"properties": {"a": False}}, "at `$`: nothing is allowed here, got 1"),
        ("x", {"minLength": 2}, 'at `$`: "x" is shorter than 2 characters'),
        (7, {"maximum": 5}, "at `$`: 7 is more than 5"),
        (True, {"type": "integer"}, "at `$`: expected integer, got boolean true"),
        (1, {"anyOf": [{"type": "string"}, {"type": "null"}]}, "at `$`: 1 fits none of the 2"),
        (1, {"oneOf": [{"type": "integer"}, {"minimum": 0}]}, "at `$`: 1 fits more than one of"),
    ],
)
def test_a_violation_names_the_place_and_what_would_be_right(value, schema, sentence):
    [found] = violations(value, schema)
    assert found.startswith(sentence)


def test_the_order_is_that_of_the_places_and_the_number_is_bounded():
    schema = {"items": {"type": "string"}}
    found = violations(list(range(200)), schema)
    assert len(found) == MOST
    assert [line.split("`")[1] for line in found[:-1]] == [f"[{n}]" for n in range(9)]
    assert found[-1] == "and 191 more"
    assert found == violations(list(range(200)), {"items": {"type": "string"}})


def test_huge_values_are_shortened():
    for value in ("x" * 10_000_000, ["y" * 100] * 100_000, {str(n): n for n in range(100_000)}):
        [found] = violations(value, {"type": "integer"})
        assert len(found) < 200


def test_the_id_of_a_schema_and_a_null_type_mean_nothing():
    schema = {
        "id": 7,
        "type": None,
        "properties": {"id": {"type": "string"}, "x": {"type": None, "enum": [{"type": None}]}},
    }
    assert violations({"id": "a", "x": {"type": None}}, schema) == []
    assert violations({"id": 1}, schema) == ["at `id`: expected string, got integer 1"]


def test_formats_only_annotate():
    assert violations("nobody", {"type": "string", "format": "email"}) == []


def test_local_references_are_followed():
    schema = {"$defs": {"n": {"type": "integer"}}, "items": {"$ref": "#/$defs/n"}}
    assert violations(["x"], schema) == ['at `[0]`: expected integer, got string "x"']


@pytest.mark.parametrize("ref", ["http://127.0.0.1:9/x.json", "other.json", "#/$defs/none"])
def test_nothing_is_fetched(ref, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    [found] = violations({}, {"$ref": ref})
    assert "the schema cannot be used" in found
    assert ref.lstrip("#") in found


EVIL = r"^(?:(?=a)(a|aa)+)+$"  # beyond RE2, and without end for an engine that backtracks
LONG = "a" * 60 + "b"


@pytest.mark.parametrize("draft", ["2020-12/schema", "2019-09/schema"])
@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": EVIL}, LONG),
        ({"not": {"pattern": EVIL}}, LONG),
        ({"anyOf": [{"pattern": EVIL}, True]}, LONG),
        ({"propertyNames": {"pattern": EVIL}}, {LONG: 1}),
        ({"patternProperties": {EVIL: True}}, {LONG: 1}),
        ({"patternProperties": {EVIL: True}, "additionalProperties": False}, {LONG: 1}),
        ({"allOf": [{"patternProperties": {EVIL: 0}}], "unevaluatedProperties": False}, {LONG: 1}),
    ],
)
def test_a_pattern_without_end_is_a_violation(schema, value, draft):
    draft = f"https://json-schema.org/draft/{draft}"
    schema = {"$ref": "#/x/s", "x": {"s": {"$schema": draft, **schema}}}
    begin = time.thread_time()
    [found] = violations(value, schema)
    assert time.thread_time() - begin < 1
    assert found == (
        f"at `$`: the value cannot be checked: the pattern `{EVIL}` takes too long on a text of "
        "61 characters"
    )


@pytest.mark.parametrize(
    ("schema", "good", "bad", "sentence"),
    [
        ({"pattern": "^(a+)+$"}, "aa", LONG, f'at `$`: "{LONG}" does not match the pattern'),
        ({"pattern": "^a$"}, "a", "a\n", 'at `$`: "a\\n" does not match the pattern "^a$"'),
        ({"pattern": r"^\p{L}+$"}, "é", "1", 'at `$`: "1" does not match the pattern'),
        ({"pattern": r"^(?=.*\d).{4}$"}, "abc1", "abcd", 'at `$`: "abcd" does not match'),
        ({"propertyNames": {"pattern": "^a"}}, {"a": 1}, {"b": 1}, 'at `$`: "b" does not match'),
        (
            {"patternProperties": {"^a": {"type": "string"}}},
            {"a": "x", "b": 1},
            {"ab": 1},
            "at `ab`: expected string, got integer 1",
        ),
        (
            {"patternProperties": {"^(?!b)": {}}, "additionalProperties": False},
            {"a": 1},
            {"a": 1, "b": 1},
            "at `$`: `b` is not allowed",
        ),
        (
            {"patternProperties": {"^a": {}}, "additionalProperties": {"type": "string"}},
            {"a": 1, "b": "x"},
            {"b": 1},
            "at `b`: expected string, got integer 1",
        ),
        ({"additionalProperties": False}, {}, {"a": 1}, "at `$`: `a` is not allowed"),
    ],
)
def test_patterns_find_what_they_are_for(schema, good, bad, sentence):
    assert violations(good, schema) == []
    [found] = violations(bad, schema)
    assert found.startswith(sentence)


UNEVALUATED = {
    "properties": {"own": {}},
    "patternProperties": {"^x_": {}},
    "$ref": "#/$defs/there",
    "allOf": [{"properties": {"all": {}}}],
    "anyOf": [{"properties": {"kind": {"const": "k"}}, "required": ["kind"]}, True],
    "dependentSchemas": {"own": {"properties": {"depends": {}}}},
    "if": {"properties": {"flag": {"const": True}}, "required": ["flag"]},
    "then": {"patternProperties": {"^(?=then)": {}}},
    "else": {"properties": {"else": {}}},
    "unevaluatedProperties": False,
    "$defs": {"there": {"properties": {"there": {}}}},
}


@pytest.mark.parametrize(
    ("value", "extra"),
    [
        ({"own": 1, "x_1": 1, "there": 1, "all": 1, "kind": "k", "depends": 1, "else": 1}, []),
        ({"flag": True, "then_1": 1}, []),
        ({"flag": False}, ["flag"]),
        ({"then_1": 1}, ["then_1"]),
        ({"flag": True, "else": 1}, ["else"]),
        ({"kind": "other"}, ["kind"]),
        ({"depends": 1, "y_1": 1}, ["depends", "y_1"]),
    ],
)
def test_unevaluated_properties_are_those_that_nothing_fitting_speaks_of(value, extra):
    found = violations(value, UNEVALUATED)
    assert found == [f"at `$`: `{name}` is not allowed" for name in extra]


def test_what_a_part_lets_through_is_evaluated():
    schema = {"allOf": [{"additionalProperties": {"type": "integer"}}]}
    assert fits({"a": 1}, {**schema, "unevaluatedProperties": False})
    assert violations({"a": "x"}, {"unevaluatedProperties": {"type": "integer"}}) == [
        'at `a`: expected integer, got string "x"'
    ]


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"properties": {"a": {"pattern": "a(b"}}}, "at `properties.a.pattern`: no regular"),
        ({"patternProperties": {"[": {}}}, "at `patternProperties`: no regular expression: unter"),
    ],
)
def test_a_broken_pattern_says_where_and_why(schema, sentence):
    [found] = violations(1, schema)
    assert found.startswith(f"at `$`: the schema cannot be used: {sentence}")


@pytest.mark.parametrize(
    "schema", [{"type": "strin"}, {"required": True}, {"pattern": "("}, {"properties": []}, 3]
)
def test_a_schema_that_is_none_is_a_violation_and_no_crash(schema):
    [found] = violations({"a": 1}, schema)
    assert "the schema cannot be used" in found


def test_endless_schemas_and_values_end():
    assert "circular" in violations(1, {"$ref": "#"})[0]
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    assert violations(deep, {"items": {"$ref": "#"}, "type": "array"})
