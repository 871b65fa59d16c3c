"""Whatever stands in a file, the compiler answers with diagnostics: no exception, no hang.

SLOW=1 takes many more; `make fuzz` looks for new ways through the code.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fuzzing import SOURCES, compile_once, structured, templated
from hypothesis import HealthCheck, given, settings

CASES = settings(
    max_examples=20_000 if os.environ.get("SLOW") else 200,
    deadline=None,  # each case has one of its own
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@CASES
@given(SOURCES)
def test_any_bytes(text: bytes) -> None:
    _compile(text)


@CASES
@given(structured())
def test_any_structure(text: bytes) -> None:
    _compile(text)


@CASES
@given(templated())
def test_any_template(text: bytes) -> None:
    _compile(text)


def _compile(text: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        compile_once(Path(directory), text)
