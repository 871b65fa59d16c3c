"""The pages of the codes of this layer: `bad` gives the code, `good` gives nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compozy_prefect import codes
from compozy_prefect.diagnostics import Diagnostic
from compozy_prefect.language.discovery import discover
from compozy_prefect.language.references import Scopes, resolve

OURS = [f"CZ{n}" for n in (*range(101, 114), *range(201, 207))]


def _found(directory: Path, text: str) -> list[Diagnostic]:
    directory.mkdir()
    (directory / "compozy.yaml").write_text(text)
    found = discover(directory)
    diagnostics = list(found.diagnostics)
    if found.project is not None:
        root = found.project.root
        diagnostics += resolve(root, scopes=Scopes(root, None, found.registry))[1]
    return diagnostics


@pytest.mark.parametrize("code", OURS)
def test_page(code: str, tmp_path: Path) -> None:
    page = codes.page(code)
    assert page is not None
    assert page.startswith(f"# {code} · ")
    blocks = dict(re.findall(r"^```yaml (bad|good)\n(.*?)^```$", page, re.S | re.M))
    if not blocks:
        assert "example" in page or "cannot be shown" in page
        return
    assert {d.code for d in _found(tmp_path / "bad", blocks["bad"])} == {code}
    assert not _found(tmp_path / "good", blocks["good"])
