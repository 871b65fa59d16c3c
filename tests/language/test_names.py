from __future__ import annotations

import time

import pytest

from compozy_prefect.language.names import nearest, suggest


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("greter", ["writer", "greeter"], "greeter"),
        ("gerater", ["greater"], "greater"),  # two letters swapped are one mistake
        ("Agents", ["agents"], "agents"),
        ("on-success", ["on_success"], "on_success"),
        ("promt", ["prompt", "prompts"], "prompt"),
        ("id", ["ids", "is"], "ids"),
        ("ab", ["cd"], None),
        ("weather", ["calendar", "search"], None),
        ("a", ["b"], None),
        ("", ["a"], None),
        ("x" * 100, ["x" * 100], None),
        ("ba", ["ab"], "ab"),
        ("straße", ["STRASSE"], "STRASSE"),
    ],
)
def test_nearest(name: str, known: list[str], found: str | None) -> None:
    assert nearest(name, known) == found


def test_suggest() -> None:
    assert suggest("greter", ["greeter"]) == 'did you mean "greeter"?'
    assert suggest("xyz", ["alpha", "beta"], what="agents") == "agents: alpha, beta"
    assert suggest("xyz", list("abcdefg"), limit=3) == "known: a, b, c and 4 more"
    assert suggest("xyz", []) is None


def test_the_cost_is_bounded() -> None:
    known = [f"some_rather_long_name_of_a_tool_{i:09}" for i in range(200_000)]
    started = time.perf_counter()
    nearest("some_rather_long_name_of_a_tool_00000001x", known)
    assert time.perf_counter() - started < 3
