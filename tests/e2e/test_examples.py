"""Every example is valid and runs, all of its workflows, with what stands beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from compozy_prefect import compile_project
from tests.support.compozy import Compozy

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TICKET = EXAMPLES / "support-ticket"
MOCKS = ["--mocks", TICKET / "mocks.yaml"]

CASES = {
    ("hello-world", "hello-world"): (["-i", "name=Ada", "--offline"], None),
    ("support-ticket", "triage"): (
        ["-i", "text=help", "-i", "customer=c-7", "-i", "priority=urgent", *MOCKS],
        {"team": "security", "sure": True, "page": "page-1"},
    ),
    ("support-ticket", "digest"): (
        ["-i", 'tickets=[{"team": "b"}, {"team": "a"}, {"team": "b"}]'],
        {"teams": ["a", "b"], "text": "a: 1\nb: 2"},
    ),
}


def test_every_workflow_of_every_example_is_here() -> None:
    folders = [path.parent for path in EXAMPLES.glob("*/compozy.yaml")]
    found = {(f.name, id) for f in folders for id in compile_project(f, strict=True).workflows}
    assert found == CASES.keys()


@pytest.mark.parametrize(("example", "workflow"), CASES)
def test_example(example: str, workflow: str, compozy: Compozy) -> None:
    arguments, output = CASES[example, workflow]
    said = compozy("run", EXAMPLES / example, "--workflow", workflow, *arguments)
    assert said.code == 0, said.err
    assert output is None or said.json == output


def test_a_step_that_is_skipped(compozy: Compozy) -> None:
    given = ["-i", "text=help", "-i", "customer=c-7", *MOCKS]
    said = compozy("run", TICKET, "--workflow", "triage", *given, "--json")
    assert said.json["output"] == {"team": "product", "sure": False, "page": "none"}
    assert said.json["tasks"]["page"]["output"] == {"skipped": True}
    assert "by_mail" not in said.json["tasks"]
