"""What is expected of values, and how it differs from what is seen."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compozy_prefect.diagnostics import Diagnostic
from compozy_prefect.language.source import parse
from compozy_prefect.testing.expect import Expected, data_of, read
from compozy_prefect.testing.match import differences, matches
from tests.testing.testing_cases import compare, load

TEXT = st.text("ab\n$ é", max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab.", max_size=3), inner),
    max_leaves=12,
)


def expected(text: str) -> Expected:
    node, found, _ = parse(text, "f.test.yaml", any_root=True)
    assert node is not None
    wrong: list[Diagnostic] = list(found)
    made = read(node, wrong)
    assert wrong == []
    return made


@pytest.mark.parametrize("case", load("matching.yaml"))
def test_case(case: dict[str, Any]) -> None:
    said = []
    for found in differences(expected(case["expect"]), case["seen"], "output"):
        span = found.expected.span
        said.append(f"{span.line}:{span.column} {found.path}: {found.said()}")
        said += found.detail()
    compare("matching.yaml", case, "differ", said)


@given(JSON)
@settings(deadline=None)
def test_a_value_is_as_itself(value: Any) -> None:
    made = expected(json.dumps(value))
    assert list(differences(made, value, "")) == []
    assert matches(expected(json.dumps({"$exact": value})), value)
    assert not matches(expected(json.dumps({"$not": value})), value)
    assert json.dumps(data_of(made)) == json.dumps(value)


@given(JSON, JSON)
@settings(deadline=None, max_examples=200)
def test_a_difference_can_always_be_told(one: Any, other: Any) -> None:
    found = list(differences(expected(json.dumps(one)), other, "x"))
    assert [difference.path[:1] for difference in found] == ["x"] * len(found)
    for difference in found:
        assert "\n" not in difference.said()
        assert all("\n" not in line for line in difference.detail())
    if found:
        assert json.dumps(one) != json.dumps(other)


def test_large_values_are_compared_in_no_time() -> None:
    many = expected(json.dumps(list(range(20_000))))
    started = time.process_time()
    (found,) = differences(many, list(range(20_001)), "")
    assert found.detail() == ["  20000 items expected, 20001 seen"]
    text = "\n".join(map(str, range(3_000)))
    (found,) = differences(expected(json.dumps(text)), text + "\nend", "")
    assert found.detail()[-1] == "+ end"
    assert len(found.said()) < 250
    assert time.process_time() - started < 20
