"""Template functions: what each gives, what it refuses, where piped values go, and their bounds."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from compozy_prefect.expressions.functions import (
    FUNCTIONS,
    REFUSED,
    Environment,
    FunctionError,
    Made,
    arrange,
    compare,
    equal,
    plain,
    to_text,
    truth,
)

DATA = Path(__file__).parent / "data"
ENVIRONMENT = Environment(
    now=datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=UTC),
    env={"MODE": "test", "EMPTY": ""},
    validate_schema=lambda value, schema: {"checked": value, "by": schema},
)


def call(name: str, *args: object, **keywords: object) -> Any:
    function = FUNCTIONS[name]
    given = [ENVIRONMENT, *args] if function.environment else list(args)
    return function.call(*given, **keywords)


def pipe(piped: object, name: str, *args: object, parenthesised: bool = False) -> Any:
    return call(name, *arrange(FUNCTIONS[name], piped, args, parenthesised))


def same_json(actual: object, expected: object) -> bool:
    """Equal as JSON, where 3 and 3.0 are one number but True is none."""
    return json.dumps(_floats(plain(actual)), sort_keys=True) == json.dumps(
        _floats(expected), sort_keys=True
    )


def _floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _floats(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_floats(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


GO_CASES = json.loads((DATA / "functions-go.json").read_text())
OWN_CASES = [
    case
    for group in yaml.safe_load((DATA / "functions.yaml").read_text()).values()
    for case in group
]


@pytest.mark.parametrize("case", GO_CASES, ids=lambda c: f"{c['call']} {c['args']!r:.60}")
def test_as_go_and_sprig(case: dict[str, Any]) -> None:
    """The results are those of Go 1.27's text/template with Sprig v3; the messages are ours."""
    args = copy.deepcopy(case["args"])
    if "error" in case:
        with pytest.raises(FunctionError, match=re.escape(case["error"])):
            call(case["call"], *args)
    else:
        assert same_json(call(case["call"], *args), case["expected"])
    assert args == case["args"], "arguments are never changed"


@pytest.mark.parametrize("case", OWN_CASES, ids=lambda c: f"{c[0]} {c[1]!r:.60}")
def test_of_the_language(case: list[Any]) -> None:
    name, args, expected = case
    if isinstance(expected, dict) and "error" in expected:
        with pytest.raises(FunctionError, match=re.escape(expected["error"])):
            call(name, *args)
    else:
        assert same_json(call(name, *args), expected)


def test_every_function_is_tested_somewhere() -> None:
    elsewhere = set(re.findall(r'"(\w+)"', Path(__file__).read_text()))
    elsewhere |= set(
        re.findall(r'"(\w+)"', Path(__file__).with_name("test_functions_dates.py").read_text())
    )
    named = {case["call"] for case in GO_CASES} | {case[0] for case in OWN_CASES} | elsewhere
    assert set(FUNCTIONS) <= named


@pytest.mark.parametrize(
    ("piped", "name", "args", "expected"),
    [
        (" x ", "trim", (), "x"),
        ("", "default", ("d",), "d"),
        (["a", "b"], "join", (", ",), "a, b"),
        ([1, 2, 3], "slice", (0, 2), [1, 2]),
        ("hello", "slice", (1, 3), "el"),
        (2, "slice", ([1, 2, 3],), [3]),
        (None, "slice", (0, 10), []),
        ({"k": 1}, "get", ("k",), 1),
        ("k", "get", ({"k": 1},), 1),
        ({"k": 1}, "hasKey", ("k",), True),
        ([1], "append", (4,), [1, 4]),
        (4, "append", ([1],), [1, 4]),
        ([9], "append", ([1],), [1, [9]]),
        ([1, 2], "without", (1,), [2]),
        ({"a": 1, "b": 2}, "pick", ("a",), {"a": 1}),
        ({"a": 1, "b": 2}, "omit", ("a",), {"b": 2}),
        ({"a": {"b": 1}}, "index", ("a", "b"), 1),
        (1, "index", ([7, 8],), 8),
        ({"a": {"b": 1}}, "dig", ("a", "b", "d"), 1),
        ({"a": 1}, "set", ("b", 2), {"a": 1, "b": 2}),
        ({"a": 1}, "merge", ({"a": 2},), {"a": 2}),
        (["a"], "has", ("a",), True),
        ("a", "has", (["a"],), FunctionError),
        (10, "sub", (3,), -7),
        ([{"a": 1}], "map", ("a",), [1]),
        ([{"a": 1}, {"a": 2}], "filter", ("a", "gt", 1), [{"a": 2}]),
        ([3, 1], "sort", (), [1, 3]),
        ([1, 2, 3], "take", (2,), [1, 2]),
        ("x", "in", (["x"],), True),
        ([3, 1], "max", (), 3),
        ([1, 2], "list", (), [1, 2]),
        (1, "list", (2,), [2, 1]),
        ({"m": 1}, "validateSchema", ("s",), {"checked": {"m": 1}, "by": "s"}),
    ],
)
def test_where_a_piped_value_goes(
    piped: object, name: str, args: tuple[object, ...], expected: Any
) -> None:
    if expected is FunctionError:
        with pytest.raises(FunctionError):
            pipe(piped, name, *args)
    else:
        assert same_json(pipe(piped, name, *args), expected)


@pytest.mark.parametrize(
    ("piped", "name", "args", "expected"),
    [
        ("aXb", "regexReplaceAll", ("X", "-"), "a-b"),
        ("aXb", "regexReplaceAllLiteral", ("X", "$0"), "a$0b"),
        ("a,b", "regexSplit", (",", -1), ["a", "b"]),
        ("a,b", "regexFindAll", ("[a-z]", -1), ["a", "b"]),
        (3.14159, "round", (2,), 3.14),
        ("x", "default", ("d",), "x"),
    ],
)
def test_where_a_piped_value_goes_before_parentheses(
    piped: object, name: str, args: tuple[object, ...], expected: Any
) -> None:
    assert same_json(pipe(piped, name, *args, parenthesised=True), expected)


def test_a_pipe_without_parentheses_keeps_the_order_of_sprig() -> None:
    assert pipe("The quick fox", "regexReplaceAll", "o", "wf-1") == "wf-1"


def test_map_takes_the_key_by_name() -> None:
    assert "attr" in FUNCTIONS["map"].keywords
    assert call("map", [{"a": {"b": 1}}], attr="a.b") == [1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (3.0, "3"),
        (1234567.0, "1234567"),
        (0.1, "0.1"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (-0.0, "-0"),
        ("x", "x"),
        ([1, "a", None, 2.0], '[1,"a",null,2]'),
        ({"b": 1, "a": "<&>"}, '{"a":"<&>","b":1}'),
        ({"response": "Hello"}, "Hello"),
        ({"response": 1}, '{"response":1}'),
        ({"response": "Hello", "x": 1}, '{"response":"Hello","x":1}'),
        (datetime(2024, 2, 29, 13, 14, 15, 999, tzinfo=UTC), "2024-02-29T13:14:15Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00Z"),
        ([datetime(2024, 2, 29, tzinfo=UTC)], '["2024-02-29T00:00:00Z"]'),
    ],
)
def test_text_of_values(value: object, expected: str) -> None:
    assert to_text(value) == expected


@pytest.mark.parametrize("value", [False, 0, 0.0, "", None, [], {}])
def test_falsehood(value: object) -> None:
    assert truth(value) is False


@pytest.mark.parametrize("value", [True, 1, -0.5, "0", "false", [0], {"a": None}])
def test_truth(value: object) -> None:
    assert truth(value) is True


def test_comparison_of_values() -> None:
    early, late = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    assert compare(early, late) == -1
    assert equal(early, "2024-01-01T00:00:00Z")
    assert compare(2, "10") == -1
    assert compare("2", "10") == 1
    assert compare(None, 1) is None
    assert not equal([1], [1])
    with pytest.raises(FunctionError, match="cannot order true and 1"):
        compare(True, 1)


def test_versions_are_values_that_print() -> None:
    version = call("semver", "v1.2.3-beta+5")
    assert to_text(version) == "1.2.3-beta+5"
    assert version["Minor"] == 2
    assert call("toString", version) == "1.2.3-beta+5"
    assert call("toJson", {"v": version}) == '{"v":"1.2.3-beta+5"}'
    assert plain([version]) == ["1.2.3-beta+5"]
    assert call("typeOf", version) == "*semver.Version"


def test_maps_of_the_context_never_change() -> None:
    context = {"a": 1, "inner": {"x": 1}}
    before = copy.deepcopy(context)
    changed = call("set", context, "b", 2)
    assert changed == {"a": 1, "inner": {"x": 1}, "b": 2}
    call("unset", context, "a")
    call("mergeOverwrite", context, {"inner": {"x": 2}})
    call("merge", call("dict"), context)["inner"]["x"] = 3
    assert context["a"] == before["a"]
    assert "b" not in context


def test_merging_leaves_the_maps_inside_the_context_alone() -> None:
    context = {"inner": {"x": 1}}
    merged = call("merge", call("dict"), context)
    call("mergeOverwrite", merged, {"inner": {"x": 2, "y": 3}})
    assert merged == {"inner": {"x": 2, "y": 3}}
    assert context == {"inner": {"x": 1}}


def test_maps_that_a_template_made_change_in_place() -> None:
    made = call("dict", "a", 1)
    assert isinstance(made, Made)
    assert call("unset", made, "a") is made
    assert made == {}
    copied = call("deepCopy", {"a": {"b": 1}})
    call("set", copied["a"], "b", 2)
    assert copied == {"a": {"b": 2}}


def test_the_environment_is_the_projects() -> None:
    assert call("env", "MODE") == "test"
    assert call("env", "PATH") == ""
    assert call("expandenv", "$MODE/${MODE}/$NOPE/${PATH}") == "test/test//"
    with pytest.raises(FunctionError, match="env: wants the name of a variable, got 3"):
        call("env", 3)


def test_schemas_are_validated_by_the_run() -> None:
    assert call("validateSchema", {"a": 1}, "s") == {"checked": {"a": 1}, "by": "s"}
    with pytest.raises(FunctionError, match="no schemas are known here"):
        FUNCTIONS["validateSchema"].call(Environment(), {}, "s")
    with pytest.raises(FunctionError, match="wants the id of a schema"):
        call("validateSchema", {}, 3)


def test_chance() -> None:
    assert re.fullmatch(r"[0-9A-Za-z]{20}", call("randAlphaNum", 20))
    assert re.fullmatch(r"[A-Za-z]{20}", call("randAlpha", 20))
    assert re.fullmatch(r"[0-9]{20}", call("randNumeric", 20))
    assert re.fullmatch(r"[ -~]{20}", call("randAscii", 20))
    assert call("randInt", 3, 5) in (3, 4)
    assert sorted(call("shuffle", "hello")) == sorted("hello")
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]\w{3}-\w{12}", call("uuidv4"))


def test_what_walks_a_value_stops_at_cycles_and_explosions() -> None:
    cycle = call("dict", "a", 1)
    call("set", cycle, "self", cycle)
    wide: list[Any] = ["x"]
    for _ in range(60):
        wide = [wide, wide]
    for value in (cycle, wide):
        for name in ("toJson", "toString", "deepCopy", "uniq"):
            with pytest.raises(FunctionError):
                call(name, [value] if name == "uniq" else value)
    for name in ("toPrettyJson", "html", "quote"):
        with pytest.raises(FunctionError, match="nests deeper than"):
            call(name, cycle)
    with pytest.raises(FunctionError, match="nests deeper than"):
        to_text(cycle)


def test_a_pattern_cannot_run_for_ever() -> None:
    assert call("regexMatch", "^(a+)+$", "a" * 50_000 + "b") is False


def test_refused_names_say_why() -> None:
    assert not set(REFUSED) & set(FUNCTIONS)
    for name in ("genPrivateKey", "genCA", "bcrypt", "htpasswd", "getHostByName", "randBytes"):
        assert len(REFUSED[name]) > 20
    assert {"derivePassword", "encryptAES", "decryptAES", "buildCustomCert"} <= set(REFUSED)


def test_aliases_and_attributes() -> None:
    for name in ("default", "coalesce", "empty", "ternary", "hasKey", "dig"):
        assert FUNCTIONS[name].guard
    for name in ("toJson", "toRawJson", "toPrettyJson", "mustToJson"):
        assert FUNCTIONS[name].json_text
    assert not FUNCTIONS["upper"].guard
    for name in ("and", "or", "not"):
        assert name not in FUNCTIONS  # the evaluator's own, because they do not read all arguments


def test_import_is_light() -> None:
    """re2, zoneinfo, hashlib, secrets and uuid are loaded by the functions that need them."""
    code = (
        "import sys; import compozy_prefect.expressions.functions;"
        "print([m for m in ('re2','zoneinfo','hashlib','secrets','uuid','random','urllib.parse')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
