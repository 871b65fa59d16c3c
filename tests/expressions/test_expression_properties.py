"""Properties of the expression engine: it never breaks, and what is written is what is parsed."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from compozy_prefect.expressions import (
    Template,
    TemplateError,
    parse,
    parse_condition,
    render,
    render_text,
)
from compozy_prefect.expressions.functions import FUNCTIONS

CONTEXT: dict[str, Any] = {
    "a": {"b": {"c": 1, "d-e": "x"}, "n": None},
    "list": [3, "two", None, [1, 2], {"k": "v", "w": 2}],
    "rows": [{"k": "x", "v": 1}, {"k": "y", "v": 2.5}, {"k": None}],
    "text": "a b\nc<é>",
    "n": 7,
    "f": -2.5,
    "yes": True,
    "nothing": None,
    "tasks": {"done": {"output": {"x": [1]}}, "skipped": None},
    "env": {"MODE": "test"},
}
slow = settings(max_examples=300, deadline=2000, suppress_health_check=list(HealthCheck))

# Text made of what templates are made of reaches much further than random characters.
WORDS = [
    *(
        "{{",
        "}}",
        "{{-",
        "-}}",
        "{{ ",
        " }}",
        "{{/*",
        "*/}}",
        "(",
        ")",
        "[",
        "]",
        ",",
        "|",
        ".",
        "$",
    ),
    *("if", "else", "end", "range", "with", "define", "template", "block", "break", "continue"),
    *("$x", ":=", "=", "==", "!=", "<", ">=", "&&", "||", "!", "+", "-", "?", ":", "*", "%", "in"),
    *(".a", ".a.b", ".a.b.c", ".list", ".rows", ".text", ".n", ".tasks.skipped.x", ".nope", ".0"),
    *('"t"', "'t'", "`t`", '"', "'", "`", "\\", "1", "-1", "2.5", "0x", "1e9", "true", "nil"),
    *("and", "or", "not", "eq", "index", "default", "printf", "len", "map", "attr", "list", "dict"),
    *(" ", "\n", "\t", "\u00a0", "\x00", "é", "😀", "\u202e", "\ud800", "x", "_", "#", "}", "{"),
]
texts = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(WORDS), max_size=25).map("".join),
    st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join),
    st.lists(st.sampled_from(WORDS), max_size=12).map(
        lambda words: "{{ " + " ".join(words) + " }}"
    ),
)


def fails_well(error: TemplateError, text: str) -> None:
    assert 0 <= error.start <= error.end <= len(text)
    assert error.template == text
    assert error.code.startswith("CZ4")
    assert error.message
    str(error)


def runs(template: Template, text: str) -> None:
    """Every way of evaluating ends in a value or a TemplateError, and leaves the context alone."""
    context = copy.deepcopy(CONTEXT)
    for evaluate in (template.native, template.text, template.data):
        try:
            value = evaluate(context)
        except TemplateError as error:
            fails_well(error, text)
        else:
            json.dumps(value)
            assert evaluate is not template.text or isinstance(value, str)
    assert context == CONTEXT


@slow
@given(texts)
@example("{{ .list | join }}")
@example("{{.0}}")
@example("{{ .[.list] }}")
@example("{{$x:=.a}}{{$x.b}}")
@example("{{" + "{{" * 50)
@example('{{ required "" nil }}')
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    try:
        template = parse(text)
        template.compile()
    except TemplateError as error:
        fails_well(error, text)
    else:
        for read in template.reads:
            assert 0 <= read.start <= read.end <= len(text)
            assert len(read.starts) == len(read.segments)
        runs(template, text)


@slow
@given(texts)
@example("")
@example("a ? b : c")
@example("rows.map(r, r.v)")
def test_any_text_is_a_condition_or_an_error(text: str) -> None:
    try:
        template = parse_condition(text)
        template.compile()
    except TemplateError as error:
        fails_well(error, text)
    else:
        runs(template, text)


# Any function with any arguments, from the context and literal.
arguments = st.sampled_from(
    [
        *(".a", ".a.b.c", ".list", ".rows", ".text", ".n", ".f", ".yes", ".nothing", ".nothing.x"),
        *('"k"', '"b.c"', '"%d|%s"', '""', '"2006"', '"("', "0", "1", "-1", "1e300", "nil", "now"),
        *(
            '(dict "k" 1)',
            "(list 1 .a)",
            "$",
            "9223372036854775807",
            '"1.2.3"',
            "[]",
            "(now | date)",
        ),
    ]
)


@settings(max_examples=2000, deadline=2000, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(sorted(FUNCTIONS)),
    st.lists(arguments, max_size=4),
    st.sampled_from(
        ["{f} {s}", "{p} | {f} {s}", "{p} | {f}({c})", "{f}({c})", "{p} | {f} {s} | default 1"]
    ),
    arguments,
)
def test_any_call_ends_well(name: str, args: list[str], form: str, piped: str) -> None:
    call = form.format(f=name, s=" ".join(args), c=", ".join(args), p=piped)
    text = "{{ " + call + " }}"
    try:
        template = parse(text)
        template.compile()
    except TemplateError as error:
        fails_well(error, text)
    else:
        runs(template, text)


@given(st.text().filter(lambda text: "{{" not in text))
@example("}} -}} \\ {% x %}")
def test_text_without_braces_is_itself(text: str) -> None:
    assert render_text(text, {}) == text
    assert render(text, {}) == text
    assert parse(text).data({}) == text


@given(st.text().filter(lambda text: "`" not in text), st.text(), st.text())
def test_what_is_quoted_comes_out(raw: str, before: str, after: str) -> None:
    before, after = before.replace("{", "("), after.replace("}", ")").replace("{", "(")
    assert render_text(f"{before}{{{{ `{raw}` }}}}{after}", {}) == before + raw + after
    quoted = raw.translate({10: "\\n", 34: '\\"', 92: "\\\\"})
    assert render(f'{{{{ "{quoted}" }}}}', {}) == raw


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
def test_a_path_keeps_its_value(value: Any) -> None:
    context = {"x": value}
    assert render("{{ .x }}", context) is value
    assert parse("{{ .x }}").data(context) is value


@given(st.lists(json_values, max_size=4) | st.dictionaries(st.text(), json_values, max_size=4))
def test_json_comes_back(value: Any) -> None:
    context = {"x": value}
    assert parse("{{ .x | toJson }}").data(context) == value
    assert parse(" {{ .x | toRawJson }} ").data(context) == value
