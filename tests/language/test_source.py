"""Any text gives diagnostics, never an exception; data survives; hostile files cost nothing."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compozy_prefect.diagnostics import render
from compozy_prefect.language.nodes import LocatedDict, Mapping, Node, Scalar, Sequence
from compozy_prefect.language.scalars import plain_value
from compozy_prefect.language.source import MAX_BYTES, MAX_DEPTH, parse

# Pieces that YAML is made of find more than random letters do.
_PIECES = st.sampled_from(
    [
        "a",
        ": ",
        "- ",
        "\n",
        "  ",
        "[",
        "]",
        "{",
        "}",
        "{{",
        "}}",
        ",",
        "&a ",
        "*a",
        "!!str ",
        "!x ",
        '"',
        "'",
        "|",
        ">",
        "#",
        "? ",
        "<<",
        "---",
        "...",
        "%YAML 1.2\n",
        "\t",
        "\\",
        "\r\n",
        "1",
        "\ufeff",
        "\x00",
        "\x85",
        "\u2028",
        "\ud800",
        "é",
        "😀",
        "~",
        ".inf",
        "@",
        "`",
        "null",
    ]
)
_SOUP = st.lists(_PIECES, max_size=40).map("".join)


def _means_the_same(text: str) -> bool:
    """Whether YAML 1.1, which PyYAML writes, and 1.2 take a plain scalar for the same."""
    try:
        return isinstance(plain_value(text), str) or "." in text or text.isdigit() or not text
    except ValueError:
        return False


# Line breaks of YAML 1.1 are left out, too.
_LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029")
_STRINGS = st.text(_LETTERS).filter(_means_the_same)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _STRINGS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_STRINGS, inner, max_size=5),
    max_leaves=25,
)


@given(st.one_of(st.text(), _SOUP, st.binary(), _SOUP.map(lambda t: t.encode("utf-8", "replace"))))
@settings(max_examples=600, deadline=None)
@example("a: {{ x }}")
@example(b"\xff\xfe\x00")
def test_any_text_gives_diagnostics_that_can_be_shown(text: str | bytes) -> None:
    root, found, source = parse(text, "f.yaml")
    assert isinstance(root, Mapping) or found
    render(found, {"f.yaml": source})
    for each in found:
        assert each.span is not None
        assert 1 <= each.span.line <= len(source.lines)
        assert 1 <= each.span.column <= len(source.lines[each.span.line - 1]) + 1
    if root is not None:
        root.data()
        for node in _walk(root):
            assert 0 <= node.start <= node.end <= len(source.text)


@given(st.dictionaries(_STRINGS, _JSON, max_size=5))
@settings(max_examples=150, deadline=None)
def test_what_yaml_writes_is_read_back(data: dict[str, object]) -> None:
    for options in ({}, {"default_flow_style": True}, {"allow_unicode": True, "width": 20}):
        text = yaml.safe_dump(data, **options)
        root, found, _ = parse(text, "f.yaml")
        if not data:
            assert text.strip() == "{}"
        assert not found, text
        assert root is not None
        assert root.data() == data


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 300))


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("[" * 200_000, "CZ103", "nested"),
        ("a: " + "[" * 200_000, "CZ103", "nested"),
        ("- " * 200_000, "CZ103", "nested"),
        ("{a: " * 200_000, "CZ103", "nested"),
        ("? " * 200_000, "CZ103", "nested"),
        (CHAIN, "CZ103", "nested"),
        (BOMB, "CZ103", "aliases"),
        ('a: &a "' + "x" * 1_000_000 + '"\nb: [' + "*a," * 1000 + "]", "CZ103", "aliases"),
        ("x" * (11 * 2**20), "CZ103", "10 MiB"),
        (b"x" * (11 * 2**20), "CZ103", "10 MiB"),
        ("a: \x00", "CZ104", "NUL"),
        ("a: b\nc: \x1b[31m", "CZ104", "U+001B"),
        ("a: \ud800", "CZ104", "surrogate"),
        ("a: \ufeff", "CZ104", "U+FEFF"),
        (b"a: \xe9", "CZ104", "UTF-8"),
        (b"a: 1\nb: \xff\n", "CZ104", "UTF-8"),
        ("a: 1".encode("utf-16-le"), "CZ104", "NUL"),
        ("a: " + "9" * 5000, "CZ107", "digits"),
        ("a: 0x" + "f" * 5000, "CZ107", "digits"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_a_hostile_file_is_refused_at_once(text: str | bytes, code: str, message: str) -> None:
    started = time.perf_counter()
    _, found, _ = parse(text, "f.yaml")
    elapsed = time.perf_counter() - started
    assert [d.code for d in found] == [code]
    assert message in found[0].message
    assert elapsed < 0.5  # milliseconds; the rest is for a busy machine


def test_the_place_of_a_bad_byte() -> None:
    _, found, _ = parse(b"a: 1\nb: \xc3\xa9\xff\n", "f.yaml")
    assert found[0].span is not None
    assert (found[0].span.line, found[0].span.column) == (2, 5)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str) -> None:
    root, found, source = parse("é: 😀x\nb: 1\n".encode(encoding), "f.yaml")
    assert not found
    assert root is not None
    assert root.data() == {"é": "😀x", "b": 1}
    assert source.text.startswith("é")
    assert root.at("b").span.line == 2


def test_depth_up_to_the_limit_is_fine() -> None:
    text = "a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    root, found, _ = parse(text, "f.yaml")
    assert not found
    assert root is not None
    root.data()


def test_not_more_than_a_hundred_diagnostics() -> None:
    _, found, _ = parse("".join(f"a: {i}\n" for i in range(100_000)), "f.yaml")
    assert len(found) == 100


def test_size_limit_counts_bytes() -> None:
    root, found, _ = parse(b"a: " + b"x" * (MAX_BYTES - 3), "f.yaml")
    assert root is not None
    assert not found


def test_nodes() -> None:
    text = "a:\n  b: [1, {c: x}]\n  version: 1.10\n\n# comment\nd: &d\n  e: |\n    text\n\nf: *d\n"
    root, _, source = parse(text, "f.yaml")
    assert isinstance(root, Mapping)
    inner = root.at("a", "b", 1, "c")
    assert isinstance(inner, Scalar)
    assert inner.value == "x"
    assert root.at("a", "b", 7, "c") is root.at("a", "b")
    assert root.at("nothing") is root
    assert root.get("f") is root.get("d")
    version = root.at("a", "version")
    assert isinstance(version, Scalar)
    assert (version.value, version.text) == (1.1, "1.10")
    data = root.data()
    assert data is root.data()
    assert isinstance(data["a"], LocatedDict)
    assert data["a"].node is root.get("a")
    assert root.key_span("d").line == 6
    assert root.key_span("nothing") == root.span

    def slice_of(node: Node) -> str:
        return source.text[node.start : node.end]

    assert slice_of(root.at("a", "b")) == "[1, {c: x}]"
    assert slice_of(root.at("a")) == "b: [1, {c: x}]\n  version: 1.10"
    assert slice_of(root.at("d", "e")) == "|\n    text"
    assert slice_of(root.at("d")) == "e: |\n    text"


def _walk(node: Node) -> list[Node]:
    if isinstance(node, Mapping):
        below = [*node.entries.values(), *node.keys.values()]
    else:
        below = list(node.items) if isinstance(node, Sequence) else []
    return [node, *(n for child in below for n in _walk(child))]
