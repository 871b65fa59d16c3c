"""Text rendering agrees with Go's `text/template` and Sprig.

go-templates.json is conformance data; go-more.json was written by hand from their documentation
and sources. Both are rendered with the context of the former.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.expressions import TemplateError, render_text

DATA = Path(__file__).parent / "data"
CONFORMANCE = json.loads((DATA / "go-templates.json").read_text())
CASES = CONFORMANCE["cases"] + json.loads((DATA / "go-more.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=[case["template"][:60] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    context = json.loads(json.dumps(CONFORMANCE["context"]))
    if case.get("error"):
        with pytest.raises(TemplateError):
            render_text(case["template"], context)
    else:
        assert render_text(case["template"], context) == case["expected"]
    assert context == CONFORMANCE["context"]
