"""`Scalar.span_of`: an offset in a value is a place in the file, whatever the style."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compozy_prefect.diagnostics import SourceText, Span
from compozy_prefect.language.nodes import Scalar
from compozy_prefect.language.source import parse

_CHARS = st.one_of(
    st.sampled_from(list("abc {}.|'\"\\\n\n :#-")),
    st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\té😀"),
)
_TEXT = st.text(_CHARS, max_size=40)
_ESCAPED = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "L": "\u2028", "P": "\u2029", "N": "\x85"}
_ESCAPED |= {"_": "\xa0", " ": " ", "e": "\x1b", "0": "\0", "a": "\a", "b": "\b", "r": "\r"}


def _at(source: SourceText, span: Span) -> str:
    """The characters of a file between two places."""
    lines = [line + "\n" for line in source.lines]
    if span.line == span.end_line:
        return lines[span.line - 1][span.column - 1 : span.end_column - 1]
    first = lines[span.line - 1][span.column - 1 :]
    between = "".join(lines[span.line : span.end_line - 1])
    return first + between + lines[span.end_line - 1][: span.end_column - 1]


def _decoded(written: str, style: str) -> str:
    if style == "single":
        return written.replace("''", "'")
    if style == "double" and written.startswith("\\"):
        if written[1] in "xuU":
            return chr(int(written[2:], 16))
        return _ESCAPED[written[1]]
    return written


def _check(text: str, value: str, path: str | int = "k") -> None:
    root, found, source = parse(text, "f.yaml", any_root=True)
    assert not found, text
    assert root is not None
    scalar = root.at(path)
    assert isinstance(scalar, Scalar)
    assert scalar.value == value, text
    for i, char in enumerate(value):
        written = _at(source, scalar.span_of(i, i + 1))
        if char in " \n\t":  # white space may be a fold, anywhere between its neighbours
            continue
        assert _decoded(written, scalar.style) == char, (text, i, written)
    starts = [scalar.span_of(i, i) for i in range(len(value) + 1)]
    assert starts == sorted(starts)
    assert scalar.span_of(0, 10**9) == scalar.span_of(0, len(value))


@given(
    _TEXT, st.sampled_from([None, "'", '"', "|", ">"]), st.integers(2, 7), st.sampled_from([20, 80])
)
@settings(max_examples=800, deadline=None)
@example(" x\n  y\n\nz", "|", 4, 80)
@example("a\n b\nc d e f g h i j k l m n o p q r s t u v\n\n\nw", ">", 2, 20)
@example("it's 'quoted' \\ \"both\" " * 3, "'", 2, 20)
@example("é\u2028😀 \x85", '"', 2, 20)
@example("\n\nx", ">", 2, 80)
def test_every_character_is_found(value: str, style: str | None, indent: int, width: int) -> None:
    node = yaml.ScalarNode("tag:yaml.org,2002:str", value, style=style)
    tree = yaml.MappingNode(
        "tag:yaml.org,2002:map", [(yaml.ScalarNode("tag:yaml.org,2002:str", "k"), node)]
    )
    for unicode in (True, False):
        text = yaml.serialize(
            tree, Dumper=yaml.SafeDumper, indent=indent, width=width, allow_unicode=unicode
        )
        parsed = yaml.load(text, Loader=yaml.CSafeLoader)
        # PyYAML does not always read what it writes (a `#` or a tab at the start of a block),
        # and writes 1e3 without quotes, which is a number in YAML 1.2.
        read = isinstance(parsed, dict) and parsed.get("k") == value
        if read and not _BREAKS.search(text) and not _NUMBER.search(text):
            _check(text, value)


_NUMBER = re.compile(r"^k: [-+.0-9]\S*$", re.M)
_BREAKS = re.compile("[\x85\u2028\u2029]")  # line breaks for PyYAML, text for YAML 1.2


@pytest.mark.parametrize(
    ("text", "value", "part", "where"),
    [
        ("k: plain {{ .x }}\n", "plain {{ .x }}", "{{ .x }}", (1, 10, 1, 18)),
        ("k: 'it''s {{ .x }}'\n", "it's {{ .x }}", "{{ .x }}", (1, 11, 1, 19)),
        ('k: "a\\n\\u00e9 {{ .x }}"\n', "a\né {{ .x }}", "{{ .x }}", (1, 15, 1, 23)),
        (
            "k: |\n    one\n      two\n\n    {{ .x }}\n",
            "one\n  two\n\n{{ .x }}\n",
            "{{ .x }}",
            (5, 5, 5, 13),
        ),
        ("k: |2-\n    one\n  {{ .x }}\n", "  one\n{{ .x }}", "{{ .x }}", (3, 3, 3, 11)),
        ("k: |\r\n  one\r\n  {{ .x }}\r\n", "one\n{{ .x }}\n", "{{ .x }}", (3, 3, 3, 11)),
        ("k: >\n  one\n  two\n\n  {{ .x }}\n", "one two\n{{ .x }}\n", "{{ .x }}", (5, 3, 5, 11)),
        (
            "k: >\n  one\n    more\n  {{ .x }}\n",
            "one\n  more\n{{ .x }}\n",
            "{{ .x }}",
            (4, 3, 4, 11),
        ),
        ("k: one\n  two {{ .x }}\n", "one two {{ .x }}", "{{ .x }}", (2, 7, 2, 15)),
        ('k: "one\n\n  two\\\n  {{ .x }}"\n', "one\ntwo{{ .x }}", "{{ .x }}", (4, 3, 4, 11)),
        ("k: &a !!str plain {{ .x }}\n", "plain {{ .x }}", "{{ .x }}", (1, 19, 1, 27)),
        ("k: |\n  {{ if .x }}\n  y\n", "{{ if .x }}\ny\n", "}}\ny", (2, 12, 3, 4)),
    ],
)
def test_a_part(text: str, value: str, part: str, where: tuple[int, int, int, int]) -> None:
    _check(text, value)
    root, _, _ = parse(text, "f.yaml")
    assert root is not None
    scalar = root.at("k")
    assert isinstance(scalar, Scalar)
    start = value.index(part)
    assert scalar.span_of(start, start + len(part)) == Span("f.yaml", *where)


def test_of_a_number_the_whole() -> None:
    root, _, _ = parse("k: 12\n", "f.yaml")
    assert root is not None
    scalar = root.at("k")
    assert isinstance(scalar, Scalar)
    assert scalar.span_of(0, 1) == scalar.span
