"""Patterns mean what they mean in ECMA-262, and end soon whatever they are.

The expectations are those of `new RegExp(pattern, "u").test(text)` in Node.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compozy_prefect.language import patterns
from compozy_prefect.language.patterns import PatternError, PatternTimeout, bounded, check, search


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        ("b", ["abc"], ["ac"]),  # anywhere
        (r"^\d+$", ["12"], ["٣", "1\n"]),
        (r"^a$", ["a"], ["a\n", "ba"]),
        (r"(?=a)^a$", ["a"], ["a\n"]),
        (r"^\w\W$", ["aé"], ["éa"]),
        (r"^(?=.)\w\W$", ["aé"], ["éa"]),
        (r"^\s+$", [" \t\u00a0\u2003\ufeff\u2028"], ["\u200b", ""]),
        (r"^[\S]$", ["é", "\u200b"], ["\u2003"]),
        (r"^[^\s@]+@[^\s@]+$", ["a@b"], ["a\u00a0@b"]),
        (r"^.$", ["é", "😀", "\x0b"], ["\n", "\r", "\u2028", "\u2029"]),
        (r"\bfoo\b", ["éfoo", "a foo"], ["afoo"]),
        (r"(?!x)\bfoo\b", ["éfoo", "a foo"], ["afoo"]),
        (r"(?=é)é\Bf", [], ["éf"]),
        (r"^\u0041\x42\u{1F600}\uD83D\uDE00$", ["AB😀😀"], ["AB😀"]),
        (r"^[\u{1F600}-\uD83D\uDE02]$", ["😁"], ["a"]),
        (r"^\cJ\0\/\-\$\t$", ["\n\0/-$\t"], []),
        (r"^[\b\-\]\cJ]+$", ["\b-]\n"], ["b"]),
        (r"^[\w-.]+$", ["a-."], [","]),
        (r"^[+-\d]+$", ["+-1"], [","]),
        (r"^[^]$", ["\n"], [""]),
        (r"[]", [], ["", "a"]),
        (r"[]a]", [], ["a", "]"]),
        (r"^[{(?:^]+$", ["{(?:^"], ["=", ")"]),
        (r"^(?<year>\d{4})-\k<year>$", ["2024-2024"], ["2024-2025"]),
        (r"^(['\"]).*\1$", ["'a'", '"a"'], ["'a\""]),
        (r"^(a)?\1b$", ["b", "aab"], ["ab"]),  # a group that took no part matches nothing
        (r"^\p{L}\p{Lu}\P{L}$", ["éÉ1"], ["éé1"]),
        (r"^\p{Letter}\p{Script=Greek}$", ["éα"], ["éa"]),
        (r"^(?=.*\d)(?=.*[a-z])(?!.*\s).{4,8}$", ["abc1"], ["abcd", "a b1", "a1"]),
        (r"(?<=\$)\d+(?<!0)$", ["$12"], ["12", "$10"]),
        (r"^a{1,2000}$", ["a" * 1999], ["a" * 2001]),  # RE2 repeats a thousand times at most
        (r"a{e}(?!x)", ["a{e}"], ["a"]),
        # Not in the standard, but in the engine of Compozy.
        (r"(?i)^\Aab\z", ["AB"], ["AB\n"]),
        (r"(?s)^.$", ["\n"], []),
        (r"^[[:alpha:]]$", ["a"], [":"]),
        # Halves of pairs, which JSON may bring, are one unknown character.
        ("^\ud800$", ["\udfff", "\ufffd"], ["a"]),
    ],
)
def test_a_pattern_means_what_it_means_in_a_browser(
    pattern: str, found: list[str], not_found: list[str]
) -> None:
    check(pattern)
    assert [text for text in found if not search(pattern, text)] == []
    assert [text for text in not_found if search(pattern, text)] == []


@pytest.mark.parametrize(
    ("pattern", "reason", "position"),
    [
        ("ab(", "missing )", 2),
        ("ab)", "unbalanced parenthesis", 2),
        ("ab[c", "unterminated character set", 2),
        ("a**", "multiple repeat", 2),
        ("*a", "nothing to repeat", 0),
        ("a[z-a]", "bad character range", 1),
        (r"a\q", "bad escape \\q", 1),
        ("a(?>b)", "unknown kind of group", 1),
        ("(?R)", "unknown kind of group", 0),
        ("a(?#b)", "unknown kind of group", 1),
        ("(?<n", "unknown kind of group", 0),
        (r"\.\p{Nope}", "unknown property", 2),
        (r"(a)\2", "invalid group reference", 3),
        ("a{2,1}", "min repeat greater than max repeat", 1),
        ("(?=a)" + "(" * 4000 + ")" * 4000, "nested too deeply", 0),
        ("a" * 10_001, "longer than 10,000 characters", 10_000),
        ("a{1000000}", "repeats too much in front of what RE2 cannot match", 0),
        ("(?=a)((a{100}){100}){100}", "repeats too much in front of what RE2 cannot match", 0),
    ],
)
def test_what_is_no_pattern_says_where(pattern: str, reason: str, position: int) -> None:
    with pytest.raises(PatternError) as caught:
        check(pattern)
    assert (caught.value.reason, caught.value.position) == (reason, position)
    with pytest.raises(PatternError, match="no regular expression: "):
        search(pattern, "a")


CATASTROPHES = [
    (r"^(a+)+$", "a" * 50 + "b"),
    (r"^(a|aa)+$", "a" * 50 + "b"),
    (r"^(?:(?=a)(a|aa)+)+$", "a" * 50 + "b"),
    (r"^(?:(a|aa)+)\1{3}$", "a" * 5000 + "b"),
    (r"(?=x)(x+x+)+y", "x" * 5000),
    (r"(?<=(a|aa)+)b(?!.)", "a" * 5000),
    # Linear in the text, but with a thousand steps for each of a million characters.
    (r"[ab]*a[ab]{900}c", "abba" * 250_000),
]


@pytest.mark.parametrize(("pattern", "text"), CATASTROPHES, ids=lambda value: value[:25])
def test_catastrophic_patterns_end(pattern: str, text: str) -> None:
    check(pattern)
    begin = time.thread_time()
    try:
        assert not search(pattern, text)
    except PatternTimeout as fault:
        assert pattern in str(fault)  # noqa: PT017 - either end is one
        assert f"{len(text):,} characters" in str(fault)  # noqa: PT017
    assert time.thread_time() - begin < 1


def test_a_linear_pattern_gives_an_answer_where_backtracking_would_not() -> None:
    assert not search(r"^(a+)+$", "a" * 100_000 + "b")


def test_the_clock_of_a_search_is_that_of_its_thread() -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=_spin, args=[stop]) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        text = "a" * 200_000 + "1"
        assert search(r"^(?=.*\d)(?=.*[a-z])a+", text)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _spin(stop: threading.Event) -> None:
    while not stop.is_set():
        pass


def test_many_searches_have_one_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(patterns, "thread_time", lambda: float(next(ticks)))
    with bounded():
        assert search("a", "a")
        assert search("a", "a")
        with pytest.raises(PatternTimeout):
            search("a", "a")
    for _ in range(5):
        assert search("a", "a")


def test_no_engine_is_imported_before_the_first_pattern() -> None:
    code = (
        "import sys, compozy_prefect.language.patterns as p\n"
        "engines = lambda: [name for name in ('re2', 'regex') if name in sys.modules]\n"
        "print(engines()); p.search('a', 'a'); print(engines())\n"
        "p.search('(?=a)', 'a'); print(engines())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:3] == ["[]", "['re2']", "['re2', 'regex']"]


def _pieces() -> Iterator[str]:
    yield from "ab1()[]{}^$|*+?.-\\é\n😀\ud800"
    yield from (r"\d", r"\S", r"\b", r"\1", "(?=", "(?<!", "(?:", "(?<n>", r"\k<n>", r"\p{L}", "[^")
    yield from ("{2}", "{1,", r"\u0041", r"\u{110000}", r"\cA", r"\x4", "(?i)", "(?R)", "(*", "{e}")
    yield from (r"\L<a>", r"\N{x}", "[:alpha:]", "{99999}", "(?P<n>", "(?#")


@given(st.lists(st.sampled_from(sorted(_pieces())), max_size=14), st.text(max_size=20))
def test_whatever_is_written_is_a_pattern_or_a_fault(pieces: list[str], text: str) -> None:
    pattern = "".join(pieces)
    try:
        check(pattern)
    except PatternError as fault:
        assert 0 <= fault.position <= max(0, len(pattern) - 1)  # noqa: PT017 - both ends are right
        return
    search(pattern, text)
