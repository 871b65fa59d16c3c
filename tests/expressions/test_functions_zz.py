"""Any function with any arguments returns or refuses; it never escapes, hangs or explodes."""

from __future__ import annotations

import copy
import inspect
import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compozy_prefect.expressions.functions import (
    FUNCTIONS,
    Environment,
    FunctionError,
    arrange,
    compare,
    equal,
    plain,
    to_text,
    truth,
)
from compozy_prefect.expressions.functions.contract import MAX_ITEMS, MAX_TEXT

TELLING = st.sampled_from(
    [
        *("", " ", "a", "a.b", "desc", "eq", "24h", "-1h", "2006-01-02", "15:04:05.000 MST Z07:00"),
        *("2024-02-29", "UTC", "%d %s %v", "%*d", "%[2]*[1]d", "%999999d", "(a+)+", "[", "1.2.3"),
        *("^1.2 || 2.x", "{", "[1]", "$HOME", "${1}", "https://u:p@h/p?q#f", "aGk=", "naïve ☕"),
        *("\ud800", "0x1f", "1e999", "9" * 30, "\x00", "\U0001f600", "../..", "-", "inf", "nan"),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-3, 12)
    | st.sampled_from([10**400, -(10**400), 1 << 63, -(1 << 63), 2**53, 10**6])
    | st.floats()
    | st.text(max_size=20)
    | TELLING
    | st.just(datetime(2024, 2, 29, tzinfo=UTC))
    | st.just(datetime(1, 1, 1, tzinfo=UTC))
    | st.just(datetime(9999, 12, 31, 23, tzinfo=UTC))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=5) | TELLING, inner, max_size=4)
    ),
    max_leaves=10,
)
ENVIRONMENT = Environment(
    now=datetime(2026, 1, 1, tzinfo=UTC), env={"HOME": "x" * 50}, validate_schema=lambda v, _: v
)


def bounded(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_TEXT
    return not isinstance(value, (list, dict)) or len(value) <= MAX_ITEMS


@settings(max_examples=15_000, deadline=2_000, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_call_returns_or_refuses(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FUNCTIONS)))
    function = FUNCTIONS[name]
    most = function.max_args if function.max_args is not None else function.min_args + 3
    args = data.draw(st.lists(VALUES, min_size=function.min_args, max_size=most))
    before = copy.deepcopy(args)
    try:
        result = function.call(*([ENVIRONMENT, *args] if function.environment else args))
    except FunctionError:
        pass
    else:
        assert bounded(result)
        try:
            json.dumps(plain(result))
            to_text(result)
        except FunctionError:
            pass
    assert repr(args) == repr(before), "arguments are never changed"


@settings(max_examples=200, deadline=2_000)
@given(VALUES, VALUES)
def test_values_compare_without_surprise(a: Any, b: Any) -> None:
    assert equal(a, b) == equal(b, a)
    assert truth(a) == bool(a)
    try:
        order, other = compare(a, b), compare(b, a)
    except FunctionError:
        return
    assert order is None or other == -order


@settings(max_examples=200, deadline=2_000)
@given(st.data())
def test_a_piped_value_is_always_an_argument(data: st.DataObject) -> None:
    function = FUNCTIONS[data.draw(st.sampled_from(sorted(set(FUNCTIONS) - {"list"})))]
    piped, args = object(), data.draw(st.lists(VALUES, max_size=3))
    for parenthesised in (False, True):
        made = arrange(function, piped, args, parenthesised)
        assert len(made) == len(args) + 1
        assert piped in [a for a in made if a is piped]


def test_the_declared_counts_fit_the_functions() -> None:
    for function in FUNCTIONS.values():
        signature = inspect.signature(function.call)
        extra = 1 if function.environment else 0
        most = function.min_args + 5 if function.max_args is None else function.max_args
        for count in {function.min_args, most}:
            signature.bind(*range(count + extra))
