"""Every example is valid and runs, all of its workflows, with what stands beside it."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client

from compozy_prefect import compile_project
from compozy_prefect.flows.signals import deliver
from tests.support.compozy import Compozy
from tests.support.prefect_server import Api, until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TICKET, EXPENSE = EXAMPLES / "support-ticket", EXAMPLES / "expense-approval"
MARKET, HANDBOOK = EXAMPLES / "market-report", EXAMPLES / "handbook"
MOCKS = ["--mocks", TICKET / "mocks.yaml"]
BANK = ["--offline", "--mocks", EXPENSE / "mocks.yaml"]
CHAIR = ["-i", "employee=Ada", "-i", "purpose=Chair"]

CASES = {
    ("hello-world", "hello-world"): (["-i", "name=Ada", "--offline"], None),
    ("support-ticket", "triage"): (
        ["-i", "text=help", "-i", "customer=c-7", "-i", "priority=urgent", *MOCKS],
        {"team": "security", "sure": True, "page": "page-1"},
    ),
    ("handbook", "handbook"): (
        [
            *("-i", "question=How many days of leave do I have?"),
            *("--replay", HANDBOOK / "answer.cassette.jsonl"),
        ],
        {"answer": "You have 30 days of leave a year.", "page": "leave"},
    ),
    ("support-ticket", "digest"): (
        ["-i", 'tickets=[{"team": "b"}, {"team": "a"}, {"team": "b"}]'],
        {"teams": ["a", "b"], "text": "a: 1\nb: 2"},
    ),
    ("market-report", "market-report"): (
        ["--offline", "--mocks", MARKET / "mocks.yaml"],
        {
            "companies": [
                {
                    "name": "Acme Rockets",
                    "change": 3.2,
                    "outlook": "good",
                    "summary": "It has been to the moon.",
                },
                {
                    "name": "Globex",
                    "change": -4.1,
                    "outlook": "bad",
                    "summary": "Nobody knows why it fell.",
                },
            ],
            "average_change": -0.45,
            "missing": 1,
            "of_concern": ["Globex"],
        },
    ),
    ("expense-approval", "expense"): (
        [*CHAIR, "-i", "amount=20", *BANK],
        {"approved": True, "by": "the rule for small amounts", "comment": ""},
    ),
    ("expense-approval", "payout"): (
        ["-i", "employee=everybody", *BANK],
        {"done": "pay", "receipt": "payment-1"},
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


@pytest.mark.parametrize("example", sorted({example for example, _ in CASES}))
def test_the_tests_of_an_example_pass_and_cover_all_of_it(example: str, compozy: Compozy) -> None:
    said = compozy("test", EXAMPLES / example, "--cov-min", "100")
    assert said.code == 0, said.out + said.err
    assert "100 % covered" in said.out


def test_a_step_that_is_skipped(compozy: Compozy) -> None:
    given = ["-i", "text=help", "-i", "customer=c-7", *MOCKS]
    said = compozy("run", TICKET, "--workflow", "triage", *given, "--json")
    assert said.json["output"] == {"team": "product", "sure": False, "page": "none"}
    assert said.json["tasks"]["page"]["output"] == {"skipped": True}
    assert "by_mail" not in said.json["tasks"]


def test_a_company_without_a_price_is_left_out(compozy: Compozy) -> None:
    said = compozy("run", MARKET, "--offline", "--mocks", MARKET / "mocks.yaml", "--json")
    tasks = said.json["tasks"]
    assert tasks["companies"]["status"] == "SUCCESS"
    assert tasks["company-UMBR"]["status"] == "FAILED"
    assert "no such share" in tasks["company-UMBR"]["error"]["message"]
    assert "company-INTC" not in tasks


async def test_somebody_decides(compozy: Compozy, prefect_server: Api) -> None:
    process = compozy.start(
        "run", EXPENSE, "--workflow", "expense", *CHAIR, "-i", "amount=900", *BANK
    )
    try:
        execution = next(line.split()[1] for line in process.stderr if line.startswith("run "))
        until(
            lambda: prefect_server.flow_run(execution)["state_type"],
            lambda state: state == "PAUSED",
        )
        async with get_client() as client:
            await deliver(client, UUID(execution), "decision", {"approved": "perhaps"})
            answer = {"approved": True, "by": "Grace"}
            await deliver(client, UUID(execution), "decision", answer)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert json.loads(out) == {"approved": True, "by": "Grace", "comment": ""}
    found = prefect_server.post("/flow_runs/filter", {"flows": {"name": {"any_": ["payout"]}}})
    (paid,) = (run for run in found if run["parameters"].get("amount") == 900)
    assert paid["parameters"] == {"employee": "Ada", "amount": 900, "purpose": "Chair"}
    assert paid["state_type"] == "COMPLETED"


def test_nobody_decides(compozy: Compozy) -> None:
    given = [*CHAIR, "-i", "amount=900", "-i", "patience=300ms", *BANK]
    said = compozy("run", EXPENSE, "--workflow", "expense", *given)
    assert said.code == 0, said.err
    assert said.json == {"approved": False, "by": "nobody", "comment": "no decision within 300ms"}
