"""Every case of tests/cases/expressions."""

from __future__ import annotations

from functools import partial
from json import dumps as json_dumps
from typing import Any

import pytest
from expression_cases import UPDATE, cases, files, rewrite, seen

dumps = partial(json_dumps, sort_keys=True)


@pytest.mark.parametrize(
    ("file", "section", "number", "case"), [case for file in files() for case in cases(file)]
)
def test_case(file: str, section: str, number: int, case: dict[str, Any]) -> None:
    found = seen(case)
    if UPDATE:
        rewrite(file, section, number, found)
        return
    wanted = {k: v for k, v in case.items() if k not in ("template", "condition", "context", "why")}
    assert found == wanted
    assert dumps(found) == dumps(wanted)  # true is not 1, and 1 is not 1.0
