"""Every case of tests/cases/expressions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from expression_cases import GIVEN, UPDATE, cases, files, rewrite, seen

if UPDATE:
    for name in files():
        rewrite(name)


@pytest.mark.parametrize(("file", "case"), [case for file in files() for case in cases(file)])
def test_case(file: str, case: dict[str, Any]) -> None:
    found = seen(file, case)
    wanted = {aspect: value for aspect, value in case.items() if aspect not in GIVEN}
    assert found == wanted
    assert _dumped(found) == _dumped(wanted)  # true is not 1, and 1 is not 1.0


def _dumped(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
