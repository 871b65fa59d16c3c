"""Whatever stands in a file, the compiler answers with diagnostics: no exception, no hang.

SLOW=1 takes many more; `make fuzz` looks for new ways through the code.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from fuzzing import KINDS, case, compile_once, render_once
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CASES = 20_000 if os.environ.get("SLOW") else 200
any_bytes = settings(
    max_examples=CASES,
    deadline=None,  # each case has one of its own
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("kind", KINDS)
def test_any_case(kind: str, tmp_path: Path) -> None:
    valid = 0
    for number in range(CASES):
        try:
            valid += case(kind, random.Random(number), tmp_path)
        except BaseException as fault:
            fault.add_note(f"case {number} of {kind}")
            raise
    # What changes a little of something valid reaches the plan, too.
    assert valid or kind not in ("sources", "scripts", "expressions")


@any_bytes
@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
    compile_once(tmp_path_factory.getbasetemp(), {"compozy.yaml": text})


@any_bytes
@given(st.text(max_size=80))
def test_any_text_in_braces(text: str) -> None:
    render_once(f"{{{{ {text} }}}}")
    render_once(text)
