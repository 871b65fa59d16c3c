"""The shapes that `infer` gives, against values: random schemas, valid instances, expressions.

The oracle of the fields is the instance: what is there is never reported. That of the expressions
is their evaluation: the value has the shape, and a comparison that is reported does not hold.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from compozy_prefect.compiler.compile import check
from compozy_prefect.compiler.env import Env, Finding
from compozy_prefect.compiler.infer import infer, walk
from compozy_prefect.compiler.results import CONSTANT, SPECIAL
from compozy_prefect.compiler.schemas import shape_of
from compozy_prefect.compiler.values import UNKNOWN, Shape, kind_of, map_of
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse, parse_condition, render
from compozy_prefect.expressions.functions import FUNCTIONS
from compozy_prefect.expressions.functions.values import equal

# Names that nobody could mistake for one another.
NAMES = ["alpha", "bravo", "charlie", "delta", "foxtrot", "golf-club"]
STRANGERS = ["quebec", "whiskey", "zulu"]
WORDS = ["red", "green", "3", "2.5", ""]

Case = tuple[dict[str, Any], Any]


@st.composite
def cases(draw: st.DrawFn, depth: int = 3) -> Case:
    """A schema and a value that is valid under it."""
    kinds = ["text", "number", "boolean", "enum", "const", "nullable"]
    if depth:
        kinds += ["object", "object", "array", "array", "map", "all", "any", "ref"]
    kind = draw(st.sampled_from(kinds))
    if kind == "object":
        return draw(_objects(depth))
    if kind == "array":
        schema, one = draw(cases(depth=depth - 1))
        return {"type": "array", "items": schema}, [one] * draw(st.integers(0, 2))
    if kind == "map":
        schema, one = draw(cases(depth=depth - 1))
        return {"type": "object", "additionalProperties": schema}, {"any thing": one, "zulu": one}
    if kind == "all":
        (one, a), (other, b) = draw(_objects(depth)), draw(_objects(depth))
        names = {*a, *b}
        if one["properties"].keys() & other["properties"].keys() or len(names) < len(a) + len(b):
            return one, a
        for part in (one, other):
            part.pop("additionalProperties", None)
        return {"allOf": [one, other]}, {**a, **b}
    if kind == "any":
        (one, a), (other, b) = draw(cases(depth=depth - 1)), draw(cases(depth=depth - 1))
        return {"anyOf": [one, other]}, draw(st.sampled_from([a, b]))
    if kind == "ref":
        # Put in place of the reference by `rooted`.
        schema, one = draw(cases(depth=depth - 1))
        return {"$ref": schema}, one
    if kind == "nullable":
        return {"type": ["string", "null"]}, draw(st.sampled_from([None, "red"]))
    if kind == "enum":
        values = draw(st.lists(st.sampled_from(WORDS), min_size=1, unique=True))
        return {"type": "string", "enum": values}, draw(st.sampled_from(values))
    if kind == "const":
        value = draw(st.sampled_from([1, True, "red", 2.5]))
        return {"const": value}, value
    values = {"text": WORDS, "number": [0, 1, 2.5, -3], "boolean": [True, False]}
    names = {"text": "string", "number": draw(st.sampled_from(["number", "integer"]))}
    value = draw(st.sampled_from(values[kind]))
    if names.get(kind) == "integer" and isinstance(value, float):
        value = 2
    return {"type": names.get(kind, "boolean")}, value


@st.composite
def _objects(draw: st.DrawFn, depth: int) -> Case:
    listed = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
    fields = {name: draw(cases(depth=depth - 1)) for name in listed}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {n: s for n, (s, _) in fields.items()},
    }
    value = {name: one for name, (_, one) in fields.items() if draw(st.booleans())}
    rest = draw(st.sampled_from(["open", "closed", "patterns"]))
    if rest == "closed":
        schema["additionalProperties"] = False
        return schema, value
    if rest == "patterns":
        schema["patternProperties"] = {"^x-": {}}
    return schema, value | (
        {draw(st.sampled_from(STRANGERS)): {"x": 1}} if draw(st.booleans()) else {}
    )


def rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its `$ref`s as references into `$defs`."""
    kept: dict[str, Any] = {}

    def walked(given: Any) -> Any:
        if isinstance(given, list):
            return [walked(item) for item in given]
        if not isinstance(given, dict):
            return given
        if isinstance(given.get("$ref"), dict):
            name = f"d{len(kept)}"
            kept[name] = None
            kept[name] = walked(given["$ref"])
            return {"$ref": f"#/$defs/{name}"}
        return {key: walked(value) for key, value in given.items()}

    out = walked(schema)
    return {**out, "$defs": kept}


def found(text: str, shape: Shape) -> list[Finding]:
    template = parse(text) if "{{" in text else parse_condition(text)
    env = Env(text, map_of({"x": shape}, closed=True), lambda name: UNKNOWN)
    walk(template, env, guarded="{{" not in text)
    return env.found


def paths(value: Any, so_far: str = ".x") -> Iterator[str]:
    """Every path to something in a value."""
    yield so_far
    if isinstance(value, dict):
        for name, inner in value.items():
            plain = name.replace("-", "").isalnum()
            yield from paths(inner, f"{so_far}.{name}" if plain else f'{so_far}["{name}"]')
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, f"{so_far}.{index}")


@given(cases())
@settings(max_examples=300, deadline=None)
def test_what_is_there_is_never_reported(case: Case) -> None:
    schema, value = rooted(case[0]), case[1]
    assert Draft202012Validator(schema).is_valid(value)
    shape = shape_of(schema)
    assert admits(shape, value)
    for path in paths(value):
        assert found("{{ " + path + " }}", shape) == []
        assert found(path[1:], shape) == []


def holes(schema: Any, so_far: str = ".x") -> Iterator[str]:
    """Paths that no valid value has: walked over plain objects and lists only."""
    if schema.get("type") == "array":
        yield from holes(schema["items"], f"{so_far}.0")
    if schema.get("type") in ("string", "number", "integer", "boolean"):
        yield f"{so_far}.quebec"
    if "properties" in schema:
        if schema.get("additionalProperties") is False:
            yield f"{so_far}.quebec"
        for name, inner in schema["properties"].items():
            yield from holes(inner, f"{so_far}.{name}")


@given(cases())
@settings(max_examples=300, deadline=None)
def test_what_cannot_be_there_is_always_reported(case: Case) -> None:
    schema = rooted(case[0])
    for path in holes(schema):
        wrong = found("{{ " + path + " }}", shape_of(schema))
        assert [f.code in ("CZ503", "CZ504") for f in wrong] == [True]
        assert path[wrong[0].start - 3 : wrong[0].end - 3] == "quebec"


Steps = tuple[str | int, ...]


def builds(schema: dict[str, Any], steps: Steps, root: dict[str, Any]) -> Iterator[Any]:
    """Values that have something at the end of a path; any of them may be valid."""
    if "$ref" in schema:
        yield from builds(root["$defs"][schema["$ref"].rpartition("/")[2]], steps, root)
        return
    if "anyOf" in schema:
        for part in schema["anyOf"]:
            yield from builds(part, steps, root)
        return
    if "allOf" in schema:
        # The parts are objects: what one of them says of the path, or what all leave open.
        for part in schema["allOf"]:
            yield from builds(part, steps, root)
        return
    kind = schema.get("type")
    if not steps:
        for value in (schema.get("const"), *schema.get("enum", ()), {}, [], "red", 1, True):
            if value is not None:
                yield value
    elif kind == "array" and isinstance(steps[0], int):
        for item in builds(schema["items"], steps[1:], root):
            yield [item] * (steps[0] + 1)
    elif kind == "object":
        name = str(steps[0])
        inner = schema.get("properties", {}).get(name, schema.get("additionalProperties", {}))
        if isinstance(inner, dict):
            for item in builds(inner, steps[1:], root) if inner else [nested(steps[1:])]:
                yield {name: item}


def _listing(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"}}}


def nested(steps: Steps) -> Any:
    """A value that has something at the end of a path."""
    if not steps:
        return "red"
    inner = nested(steps[1:])
    return [inner] * (steps[0] + 1) if isinstance(steps[0], int) else {steps[0]: inner}


@given(cases(), st.lists(st.sampled_from([*NAMES, "quebec", 0]), min_size=1, max_size=4))
@example(({"anyOf": [_listing("alpha"), _listing("bravo")]}, {}), ["alpha", "alpha"])
@settings(max_examples=600, deadline=None)
def test_a_path_is_reported_when_no_valid_value_has_it(case: Case, steps: list[str | int]) -> None:
    """Both ways: what is reported is in no value that can be built, what has a known shape is."""
    schema = rooted(case[0])
    text = "{{ .x" + "".join(f".{one}" for one in steps) + " }}"
    valid = Draft202012Validator(schema)
    there = any(valid.is_valid(value) for value in builds(schema, tuple(steps), schema))
    shape = shape_of(schema)
    if found(text, shape):
        assert not there
        return
    whole = parse(text).whole
    assert whole is not None
    reached = infer(whole, Env(text, map_of({"x": shape}, closed=True), lambda name: UNKNOWN))
    assert there or not reached.alternatives, reached


def admits(shape: Shape, value: Any) -> bool:
    """Whether a value has the shape; null has any, and so has the list that `slice` makes of it."""
    if value in (None, []) or not shape.alternatives:
        return True
    return any(_admits(one, value) for one in shape.alternatives)


def _admits(shape: Shape, value: Any) -> bool:
    if shape.kind == "null" or shape.kind != kind_of(value):
        return False
    if shape.values is not None:
        return any(equal(value, one) for one in shape.values)
    if shape.kind == "array":
        return all(admits(shape.items or UNKNOWN, one) for one in value)
    if shape.kind != "object":
        return True
    for name, inner in value.items():
        if name in shape.fields:
            if not admits(shape.fields[name], inner):
                return False
        elif shape.closed or (shape.rest is not None and not admits(shape.rest, inner)):
            return False
    return True


KEYS = st.sampled_from([*NAMES, "quebec", "alpha.bravo", "0"])
LITERALS = st.sampled_from(['"red"', '"green"', "1", "2.5", "true", '"3"', "nil", '["red", 1]'])
ONE = ["first", "last", "rest", "initial", "reverse", "uniq", "compact", "flatten", "list", "sum"]
ONE += ["length", "avg", "upper", "toString", "toJson", "keys", "values", "fromJson", "not", "sort"]
ONE += ["unique", "max", "toStrings", "tuple", "empty", "len", "sortAlpha", "deepCopy", "quote"]
ONE += ["mustFirst", "mustLast", "mustUniq", "mustCompact", "mustReverse", "join ','", "kindOf"]
ONE += ["splitList ','", "toPrettyJson", "min", "bool", "toNumber", "trim", "int", "any", "all"]
OPERATORS = ["==", "!=", "<", ">=", "&&", "||", "+"]


def _longer(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    parts = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(inner, KEYS).map(lambda p: f"({p[0]}).{p[1].partition('.')[0]}"),
        inner.map(lambda e: f"({e})[0]"),
        st.tuples(inner, st.sampled_from(ONE)).map(lambda p: f"({p[0]} | {p[1]})"),
        st.tuples(inner, st.sampled_from(ONE)).map(lambda p: f"({p[1]} ({p[0]}))"),
        st.tuples(inner, KEYS).map(lambda p: f"({p[0]} | map('{p[1]}'))"),
        st.tuples(inner, KEYS).map(lambda p: f"(map '{p[1]}' ({p[0]}))"),
        st.tuples(inner, KEYS, LITERALS).map(lambda p: f"({p[0]} | filter('{p[1]}', {p[2]}))"),
        st.tuples(inner, KEYS).map(lambda p: f"(sort ({p[0]}) '{p[1]}')"),
        st.tuples(inner, KEYS).map(lambda p: f"({p[0]} | group('{p[1]}'))"),
        inner.map(lambda e: f"({e} | slice(0, 1))"),
        inner.map(lambda e: f"(take 1 ({e}))"),
        inner.map(lambda e: f"(chunk 2 ({e}))"),
        st.tuples(inner, KEYS).map(lambda p: f"(index ({p[0]}) '{p[1]}')"),
        inner.map(lambda e: f"(index ({e}) 0)"),
        st.tuples(inner, KEYS).map(lambda p: f"(get ({p[0]}) '{p[1]}')"),
        st.tuples(inner, KEYS, LITERALS).map(lambda p: f"(dig '{p[1]}' {p[2]} ({p[0]}))"),
        st.tuples(inner, KEYS).map(lambda p: f"(pluck '{p[1]}' ({p[0]}))"),
        st.tuples(inner, KEYS).map(lambda p: f"(pick ({p[0]}) '{p[1]}' 'alpha')"),
        st.tuples(inner, KEYS).map(lambda p: f"(omit ({p[0]}) '{p[1]}')"),
        st.tuples(inner, KEYS).map(lambda p: f"(hasKey ({p[0]}) '{p[1]}')"),
        st.tuples(inner, KEYS, LITERALS).map(lambda p: f"(set ({p[0]}) '{p[1]}' {p[2]})"),
        st.tuples(inner, KEYS, LITERALS).map(
            lambda p: f"({p[0]} | selectattr('{p[1]}', 'eq', {p[2]}))"
        ),
        inner.map(lambda e: f"(required 'x' ({e}))"),
        inner.map(lambda e: f"(fromJson (toJson ({e})))"),
        inner.map(lambda e: f"({e} | ternary 'red' 1)"),
        parts.map(lambda p: f"(merge ({p[0]}) ({p[1]}))"),
        parts.map(lambda p: f"(dict 'alpha' ({p[0]})).alpha"),
        parts.map(lambda p: f"({p[0]} | prepend ({p[1]}))"),
        parts.map(lambda p: f"({p[0]} | get ({p[1]}))"),
        parts.map(lambda p: f"({p[0]} | index ({p[1]}))"),
        parts.map(lambda p: f"(has ({p[0]}) ({p[1]}))"),
        parts.map(lambda p: f"(or ({p[0]}) ({p[1]}))"),
        parts.map(lambda p: f"({p[0]} | default ({p[1]}))"),
        parts.map(lambda p: f"(coalesce ({p[0]}) ({p[1]}))"),
        parts.map(lambda p: f"(ternary ({p[0]}) ({p[1]}) true)"),
        parts.map(lambda p: f"(concat ({p[0]}) ({p[1]}))"),
        parts.map(lambda p: f"(append ({p[0]}) ({p[1]}))"),
        parts.map(lambda p: f"({p[0]} | append ({p[1]}))"),
        parts.map(lambda p: f"(prepend ({p[0]}) ({p[1]}))"),
        parts.map(lambda p: f"(without ({p[0]}) ({p[1]}))"),
        parts.map(lambda p: f"(list ({p[0]}) ({p[1]}))"),
        parts.map(lambda p: f"(dict 'alpha' ({p[0]}) 'bravo' ({p[1]}))"),
        parts.map(lambda p: f"(and ({p[0]}) ({p[1]}))"),
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map(
            lambda p: f"({p[0]} {p[1]} {p[2]})"
        ),
    )


PATHS = st.lists(st.sampled_from([*NAMES, "0", "quebec"]), max_size=3).map(
    lambda names: ".".join([".x", *names])
)
EXPRESSIONS = st.recursive(PATHS | LITERALS, _longer, max_leaves=4)


@given(cases(), EXPRESSIONS)
@settings(max_examples=600, deadline=None)
def test_a_value_has_the_shape_of_its_expression(case: Case, expression: str) -> None:
    text = "{{ " + expression + " }}"
    shape = shape_of(rooted(case[0]))
    env = Env(text, map_of({"x": shape}, closed=True), lambda name: UNKNOWN)
    whole = parse(text).whole
    assert whole is not None
    inferred = infer(whole, env)
    try:
        value = render(text, {"x": case[1]})
    except TemplateError:
        return
    assert admits(inferred, value), (inferred, value)


@given(cases(), PATHS, st.sampled_from(["==", "eq", "<", ">=", "in", "has"]), LITERALS)
@settings(max_examples=500, deadline=None)
def test_a_comparison_that_is_reported_does_not_hold(
    case: Case, path: str, operator: str, literal: str
) -> None:
    if operator in ("in", "has"):
        text = f"{{{{ {operator} {literal} {path} }}}}"
        text = text if operator == "has" else f"{{{{ {path} | in [{literal}, 7] }}}}"
    else:
        text = f"{{{{ {path} {operator} {literal} }}}}"
        text = text if operator != "eq" else f"{{{{ eq {literal} {path} }}}}"
    if not any(f.code == "CZ505" for f in found(text, shape_of(rooted(case[0])))):
        return
    try:
        assert render(text, {"x": case[1]}) is False
    except TemplateError:
        assert operator in ("<", ">=", "in", "has") or "." in path[2:]


@pytest.mark.parametrize(
    ("text", "kinds", "choices"),
    [
        (".x.level", {"string"}, ("low", "high")),
        ('.x.level | default "none"', {"string"}, None),
        ("x.flag ? 1 : 'a'", {"number", "string"}, None),
        (".x.rows | map('name') | first", {"string"}, None),
        (".x.rows | length", {"number"}, None),
        ("not .x.rows", {"boolean"}, None),
        (".x.unknown", set(), None),
        ("x.rows.map(r, r.name + '!')", {"array"}, None),
    ],
)
def test_shapes(text: str, kinds: set[str], choices: tuple[str, ...] | None) -> None:
    schema = {
        "type": "object",
        "properties": {
            "level": {"enum": ["low", "high", None]},
            "flag": {"type": "boolean"},
            "rows": {
                "type": "array",
                "items": {"type": "object", "properties": {"name": {"type": "string"}}},
            },
        },
    }
    text = "{{ " + text + " }}" if text[0] == "." or text[:3] == "not" else text
    template = parse_condition(text)
    assert template.whole is not None
    env = Env(text, map_of({"x": shape_of(schema)}), lambda name: UNKNOWN)
    shape = infer(template.whole, env)
    assert shape.kinds == kinds
    if choices is not None:
        assert shape.choices == choices


def test_every_function_in_the_tables_exists() -> None:
    assert sorted({*CONSTANT, *SPECIAL} - {*FUNCTIONS}) == []
    assert sorted({*CONSTANT} & {*SPECIAL}) == []


SAMPLES: list[Any] = [
    "red",
    "3",
    "2024-01-02",
    "",
    1,
    5,
    2.5,
    True,
    ["b", "a"],
    [1, 2],
    {"alpha": 1},
]


@pytest.mark.parametrize("name", sorted(CONSTANT))
def test_a_function_gives_what_the_table_says(name: str) -> None:
    """Called with every pair and triple of samples; what refuses them says nothing."""
    function = FUNCTIONS[name]
    values = 0
    context = {f"v{n}": sample for n, sample in enumerate(SAMPLES)}
    most = 3 if function.max_args is None else function.max_args
    for count in range(function.min_args, min(most, 3) + 1):
        for n in range(len(SAMPLES) ** count):
            args = " ".join(f".v{n // len(SAMPLES) ** i % len(SAMPLES)}" for i in range(count))
            try:
                value = render("{{ " + f"{name} {args}" + " }}", context)
            except TemplateError:
                continue
            values += 1
            assert admits(CONSTANT[name], value), (args, value)
    assert values


def test_references_that_never_end() -> None:
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/$defs/node"}},
                "additionalProperties": False,
            },
            "self": {"$ref": "#/$defs/self"},
        },
    }
    shape = shape_of(tree)
    assert found("{{ .x.left.right.left }}", shape) == []
    assert [f.code for f in found("{{ .x.left.wrong }}", shape)] == ["CZ503"]
    assert shape_of({**tree, "$ref": "#/$defs/self"}) == UNKNOWN
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(5000):
        deep = {"allOf": [deep, deep]}
    assert shape_of(deep) == UNKNOWN


@pytest.mark.parametrize(
    "schema",
    [
        True,
        [],
        "x",
        {"type": [["a"], {}]},
        {"type": "object", "properties": [], "required": "x"},
        {"type": "strnig"},
        {"enum": []},
        {"enum": {}},
        {"$ref": 5},
        {"$ref": "#/nowhere"},
        {"$ref": "#/a/b/~1"},
        {"anyOf": {}, "allOf": 3, "oneOf": [5]},
        {"type": "object", "properties": {1: {}}, "required": [[]]},
        {"type": "array", "items": [{}]},
    ],
)
def test_schemas_that_are_none(schema: Any) -> None:
    assert isinstance(shape_of(schema), Shape)


def _chain(count: int) -> str:
    tasks = ["  - {id: t0, with: {v: x}}"]
    for n in range(1, count):
        read = f"{{{{ .tasks.t{n - 1}.output.v }}}}{{{{ .tasks.t{n - 1}.output.w }}}}"
        tasks.append(
            f"  - {{id: t{n}, with: {{v: '{{{{ .tasks.t{n - 1}.output.v }}}}', w: '{read}'}}}}"
        )
    return "name: chain\ntasks:\n" + "\n".join(tasks) + "\n"


def test_long_chains_and_routers_end_soon(tmp_path: Path) -> None:
    """Tasks that read one another, the last first, and routers that double at each step."""
    (tmp_path / "compozy.yaml").write_text(_chain(400), "utf-8")
    start = time.monotonic()
    assert [d.code for d in check(tmp_path).diagnostics] == ["CZ503"]
    routers = "\n".join(
        f"  - {{id: r{n}, type: router, condition: x, routes: {{a: r{n + 1}, b: s{n + 1}}}}}\n"
        f"  - {{id: s{n}, type: router, condition: x, routes: {{a: r{n + 1}, b: s{n + 1}}}}}"
        for n in range(60)
    )
    ends = "  - {id: r60, with: {a: 1}}\n  - {id: s60, with: {b: 1}}\n"
    last = '  - {id: end, with: {x: "{{ .tasks.r0.output.a.b.c }}"}}\n'
    (tmp_path / "compozy.yaml").write_text(f"name: x\ntasks:\n{routers}\n{ends}{last}", "utf-8")
    check(tmp_path)
    assert time.monotonic() - start < 30
