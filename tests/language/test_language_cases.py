"""Every case of tests/cases/language."""

from __future__ import annotations

from typing import Any

import pytest
from language_cases import compare, load

from compozy_prefect.diagnostics import SourceText
from compozy_prefect.language.dotenv import read_env
from compozy_prefect.language.nodes import Mapping
from compozy_prefect.language.references import Scopes, resolve
from compozy_prefect.language.source import parse


@pytest.mark.parametrize(
    ("file", "case"),
    [c for f in ("syntax", "scalars", "structure", "templates") for c in load(f"{f}.yaml")],
)
def test_source(file: str, case: dict[str, Any]) -> None:
    root, found, _ = parse(case["source"], "f.yaml", any_root=case.get("any_root", False))
    compare(file, case, found, None if root is None else root.data())


@pytest.mark.parametrize(("file", "case"), load("references.yaml") + load("merging.yaml"))
def test_references(file: str, case: dict[str, Any]) -> None:
    project = _mapping(case["project"], "compozy.yaml") if "project" in case else None
    registry = None
    if "registry" in case:
        registry = {
            tuple(name.split("/")): _mapping(text, f"{name}.yaml")
            for name, text in case["registry"].items()
        }
    document = _mapping(case["source"], "f.yaml")
    root, found = resolve(document, scopes=Scopes(document, project, registry))
    data = root.data()
    for key in case.get("show", "").split():
        data = data[key]
    compare(file, case, found, data)


@pytest.mark.parametrize(("file", "case"), load("dotenv.yaml"))
def test_dotenv(file: str, case: dict[str, Any]) -> None:
    values, found = read_env(SourceText(".env", case["source"]))
    compare(file, case, found, values)


def _mapping(text: str, name: str) -> Mapping:
    root, found, _ = parse(text, name)
    assert not found
    assert isinstance(root, Mapping)
    return root
