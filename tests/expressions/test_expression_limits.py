"""Templates that are too large, too deep or too busy end in a TemplateError, and soon (F5, F8)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from compozy_prefect.expressions import TemplateError, evaluate, parse, parse_condition

# Of processor time. A second is the bar on a machine of its own; on shared cores it was three.
SECONDS = 8.0

LARGE = list(range(100_000))
CONTEXT: dict[str, Any] = {
    "large": LARGE,
    "wide": {f"k{i}": i for i in range(50_000)},
    "rows": [{"k": i, "v": [i] * 10} for i in range(5_000)],
    "text": "x" * 1_000_000,
    "x": 1,
}


def chain(count: int, body: str) -> str:
    return "".join(
        f'{{{{ define "t{i}" }}}}{body.format(i + 1)}{{{{ end }}}}' for i in range(count)
    )


TOO_MUCH = {
    "parentheses": "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}",
    "open parentheses": "{{ " + "(" * 100_000,
    "a hundred parentheses": "{{ " + "(" * 100 + "1" + ")" * 100 + " }}",
    "pipes": "{{ .x" + " | print" * 10_000 + " }}",
    "ors": "{{ .x" + " || .x" * 10_000 + " }}",
    "pluses": "{{ .x" + " + .x" * 10_000 + " }}",
    "nots": "{{ " + "!" * 10_000 + ".x }}",
    "lists": "{{ " + "[" * 10_000 + "]" * 10_000 + " }}",
    "subscripts": "{{ " + ".x[" * 10_000 + "]" * 10_000 + " }}",
    "calls": "{{ " + "print(" * 10_000 + ")" * 10_000 + " }}",
    "else if": "{{ if .x }}" + "{{ else if .x }}" * 10_000 + "{{ end }}",
    "a hundred else if": "{{ if .x }}" + "{{ else if .x }}" * 100 + "{{ end }}",
    "ifs": "{{ if .x }}" * 10_000 + "{{ end }}" * 10_000,
    "open ifs": "{{ if .x }}" * 10_000,
    "as many open ifs as may be": "{{ if .x }}" * 64,
    "one more": "{{ if .x }}" * 65,
    "ranges": "{{ range .large }}" * 1_000 + "{{ end }}" * 1_000,
    "defines": '{{ define "a" }}' * 1_000 + "{{ end }}" * 1_000,
    "blocks": '{{ block "a" . }}{{ end }}' * 50_000,
    "actions": "{{.x}}" * 200_000,
    "comments": "{{/**/}}" * 150_000,
    "tokens": "{{ print" + " 1" * 500_000 + " }}",
    "braces": "{{" * 500_000,
    "ends": "{{ end }}" * 100_000,
    "a long number": "{{ " + "9" * 100_000 + " }}",
    "a long index": "{{ .large." + "9" * 100_000 + " }}",
    "a long text that is open": '{{ "' + "a" * 1_000_000,
    "a long comment that is open": "{{/*" + "*" * 1_000_000,
    "escapes": '{{ "' + "\\" * 999_999,
    "hyphens": "{{ .a" + "-" * 1_000_000 + " }}",
    "a loop in a loop": "{{ range .large }}{{ range $.large }}x{{ end }}{{ end }}",
    "a loop left at once in a loop": "{{ range .large }}{{ range $.large }}"
    "{{ break }}{{ end }}{{ end }}",
    "a loop over a map in a loop": "{{ range .large }}{{ range $.wide }}"
    "{{ break }}{{ end }}{{ end }}",
    "until in until": "{{ range until 99999 }}{{ range until 99999 }}x{{ end }}{{ end }}",
    "counting": "{{ range 99999999 }}{{ end }}",
    "counting without end": "{{ range 9223372036854775807 }}{{ end }}",
    "invoking itself": '{{ define "t" }}{{ template "t" }}{{ end }}{{ template "t" }}',
    "invoking each other": chain(1, '{{{{ template "u" }}}}')
    + '{{ define "u" }}{{ template "t0" }}{{ end }}{{ template "t0" }}',
    "a tree of invocations": chain(30, '{{{{ template "t{0}" }}}}{{{{ template "t{0}" }}}}')
    + '{{ define "t30" }}x{{ end }}{{ template "t0" }}',
    "output": "{{ range 1000 }}{{ $.text }}{{ end }}",
    "output of templates": '{{ define "t" }}{{ . }}{{ end }}'
    '{{ range 9 }}{{ template "t" $.text }}{{ end }}',
    "a variable that doubles": '{{ $s := "ab" }}{{ range 100 }}{{ $s = $s + $s }}{{ end }}',
    "a list that doubles": "{{ $l := list 1 }}{{ range 100 }}{{ $l = concat $l $l }}{{ end }}",
    "a list in itself": "{{ $l := list 1 }}{{ range 100 }}"
    "{{ $l = list $l $l }}{{ end }}{{ $l | toJson }}",
    "copies of it": "{{ $l := list 1 }}{{ range 16 }}{{ $l = list $l $l }}{{ end }}"
    "{{ range 9999 }}{{ $x := deepCopy $l }}{{ end }}",
    "a map in itself": '{{ $d := dict "a" 1 }}{{ $_ := set $d "a" $d }}{{ $d | toJson }}',
    "numbers that double": "{{ $n := 1 }}{{ range 100 }}{{ $n = $n + $n }}{{ end }}",
    "sorting in a loop": "{{ range .large }}{{ $x := sort $.large }}{{ end }}",
    "JSON in a loop": "{{ range .large }}{{ $x := toJson $.rows }}{{ end }}",
    "text in a loop": "{{ range .large }}{{ $x := upper $.text }}{{ end }}",
    "lists of numbers in a loop": "{{ range 90000 }}{{ $x := until 99999 }}{{ end }}",
    "a long key of each element": "{{ .rows | map $.text }}",
    "a long pattern": "{{ regexFind .text .text }}",
    "repeating": '{{ repeat 1000000000 "x" }}',
    "padding": '{{ printf "%0999999999d" 1 }}',
}


# Slow for the steps they take, so that the clock may end them first.
SLOW = {
    "text of chance in a loop": "{{ range 90000 }}{{ $x := randAlphaNum 1000000 }}{{ end }}",
    "a map with large keys": "{{ range .large }}{{ $x := dict $.rows 1 }}{{ end }}",
    "changing text letter by letter": "{{ range 50 }}{{ $x := kebabcase $.text }}{{ end }}",
}


@pytest.mark.parametrize("name", SLOW)
def test_what_is_slow_ends_as_well(name: str) -> None:
    began = time.thread_time()
    with pytest.raises(TemplateError, match=r"more than 100,000 steps|longer than 5 s"):
        parse(SLOW[name]).text(CONTEXT)
    assert time.thread_time() - began < 5 + SECONDS


@pytest.mark.parametrize("name", TOO_MUCH)
def test_too_much_is_an_error(name: str) -> None:
    template = TOO_MUCH[name]
    began = time.thread_time()
    with pytest.raises(TemplateError) as raised:
        parse(template).text(CONTEXT)
    spent = time.thread_time() - began
    assert 0 <= raised.value.start <= raised.value.end <= len(template)
    assert len(raised.value.message) < 1_000
    assert spent < SECONDS


@pytest.mark.parametrize(
    "condition",
    [
        "a ? b : " * 10_000 + "c",
        "(" * 10_000,
        "!" * 10_000 + "a",
        "x" + " * x" * 10_000,
        "x" + " in x" * 10_000,
        "x" + ".all(x, x" * 1_000,
        "large.all(x, large.exists(y, y < 0))",
        "large.map(x, large)" + ".map(x, x)" * 3,
        "x" * 1_000_000,
    ],
    ids=lambda condition: condition[:30],
)
def test_a_condition_too(condition: str) -> None:
    began = time.thread_time()
    with pytest.raises(TemplateError):
        parse_condition(condition).native(CONTEXT)
    assert time.thread_time() - began < SECONDS


@pytest.mark.parametrize(
    "template",
    [
        "x" * 1_000_000,
        "{" * 1 + " " * 1_000_000,
        "}}" * 100_000,
        "{{ .x }}" + "y" * 1_000_000,
        "{{ `" + "y" * 1_000_000 + "` }}",
        '{{ "' + "y" * 1_000_000 + '" }}',
        "{{/*" + "y" * 1_000_000 + "*/}}",
        "{{ .x" + " " * 1_000_000 + "}}",
        "{{ .x -}}" + " " * 1_000_000,
        "{{ range .large }}.{{ end }}",
        "{{ .large | toJson | len }}",
        "{{ " + "(" * 60 + ".x" + ")" * 60 + " }}",
        "{{ if .x }}" * 60 + "{{ end }}" * 60,
        "{{ .x" + " | print" * 199 + " }}",
        "{{ .x" + " && .x" * 199 + " }}",
        "{{ range .rows }}{{ .k }}{{ index .v 0 }}{{ .v | len }}{{ end }}",
    ],
    ids=lambda template: template[:30],
)
def test_large_is_not_too_much(template: str) -> None:
    began = time.thread_time()
    parse(template).text(CONTEXT)
    assert time.thread_time() - began < SECONDS


def test_the_clock_says_that_it_was_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds of the thread; 256 steps lie between two looks, here a second each."""
    seconds = iter(range(1000))
    monkeypatch.setattr(evaluate, "thread_time", lambda: float(next(seconds)))
    for read, text in (
        (parse, "{{ range .large }}.{{ end }}"),
        (parse, "{{ range $i, $e := .large }}{{ $e }}{{ end }}"),
        (parse, "{{ range .rows }}{{ add .k 1 }}{{ end }}"),
        (
            parse,
            '{{ define "t" }}{{ range . }}.{{ end }}{{ end }}'
            '{{ range .rows }}{{ template "t" .v }}{{ end }}',
        ),
        (parse_condition, "large.all(x, x >= 0)"),
        (parse_condition, "large.exists(x, size(string(x)) > 9)"),
    ):
        with pytest.raises(TemplateError, match="the template takes longer than 5 s") as raised:
            read(text).text(CONTEXT)
        assert raised.value.code == "CZ407"


def test_the_clock_begins_with_each_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(1000))
    monkeypatch.setattr(evaluate, "thread_time", lambda: float(next(seconds)))
    template = parse("{{ range .some }}.{{ end }}")
    for _ in range(20):
        template.text({"some": LARGE[:1000]})


def test_a_short_template_asks_for_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "thread_time", lambda: pytest.fail("the clock is read"))
    assert parse("{{ range .l }}{{ . | default 1 }}{{ end }}").text({"l": [1, 2]}) == "12"
    assert parse_condition("l.all(x, x > 0)").native({"l": [1, 2]}) is True


def test_what_is_slow_for_its_steps() -> None:
    """Matches of hundreds of groups take a millisecond each, the worst there is: the call looks at
    the clock by itself. Within the other limits it would take a minute.
    """
    began = time.thread_time()
    with pytest.raises(TemplateError, match="takes longer than 5 s"):
        parse('{{ regexReplaceAll (repeat 250 "(x*)*") .text "y" }}').text({"text": "ab " * 30_000})
    assert 5 <= time.thread_time() - began < 9


def test_a_deep_stack_below_is_no_excuse() -> None:
    """A caller that is deep in the stack itself gets the same kind of error."""
    template = "{{ " + "(" * 60 + ".x" + ")" * 60 + " }}"

    def descend(levels: int) -> str:
        if levels:
            return descend(levels - 1)
        parse.cache_clear()
        return parse(template).text(CONTEXT)

    for levels in range(0, 900, 100):
        try:
            assert descend(levels) == "1"
        except TemplateError as error:
            assert error.code == "CZ407"  # noqa: PT017
