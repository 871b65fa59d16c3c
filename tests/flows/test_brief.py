"""The files of the brief, word for word: each is valid, and each workflow runs with mocks.

They are read where they are, and the tests are skipped where they are not.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import check, compile_project
from compozy_prefect.flows.run import RunResult, run_sync
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.services import Services
from tests.support.prefect_server import Api

BRIEF = Path(__file__).parents[3] / "shared" / "conformance" / "brief"
pytestmark = pytest.mark.skipif(not BRIEF.is_dir(), reason="the brief's files are not here")

ENV = {"OPENAI_API_KEY": "k" * 20, "ANTHROPIC_API_KEY": "k" * 20, "GROQ_API_KEY": "k" * 20}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with a stub of the one workflow that the brief lists and never gives."""
    folder = tmp_path_factory.mktemp("brief") / "project"
    shutil.copytree(BRIEF / "project", folder)
    stub = "name: content-generation\ntasks: [{id: one, with: {text: hi}}]\n"
    (folder / "workflows" / "content-generation.yaml").write_text(stub)
    (folder / "tools").mkdir()
    (folder / "tools" / "index.ts").write_text("export {}\n")
    return folder


def ran(path: Path, workflow: str, input: dict[str, Any], mocks: dict[str, Any]) -> RunResult:
    services = Services.create(offline=True, mocks=Mocks.from_mapping(mocks), env=ENV)
    return run_sync(compile_project(path).plan, workflow, input, services=services)


def test_every_file_is_valid(project: Path) -> None:
    for path in (project, BRIEF / "hello-world", BRIEF / "customer-support-advanced.yaml"):
        found = check(path).diagnostics
        assert [str(d) for d in found if d.severity == "error"] == []
    # What the brief leaves to the resolutions of language.md §13: no. 10, and no. 41.
    told = {d.code for d in check(project).diagnostics}
    assert told <= {"CZ206", "CZ217", "CZ218", "CZ308", "CZ315", "CZ508"}


@pytest.mark.parametrize(
    ("category", "route", "resolution"),
    [
        ("technical", "technical", {"response": "Turn it off and on."}),
        ("billing", "billing", {"response": "Refunded."}),
        ("escalation", "escalation", "Escalated to human support"),
        ("general", "default", "Escalated to human support"),
    ],
)
def test_customer_support(
    project: Path, prefect_server: Api, category: str, route: str, resolution: Any
) -> None:
    classification = {"category": category, "urgency": "high", "confidence": 0.9}
    result = ran(
        project,
        "intelligent-customer-support",
        {"customer_id": "c-1", "message": "It does not work at all.", "priority": "high"},
        {
            "agents": {
                "ticket_classifier": {"classify_ticket": {"output": classification}},
                "technical_specialist": {"*": {"output": "Turn it off and on."}},
                "billing_specialist": {"*": {"output": "Refunded."}},
            },
            "tools": {
                "notification_system": {"output": {"notification_id": "n-1"}},
                "billing_system": {
                    "when": {"action": "get_account_status", "customer_id": "c-1"},
                    "output": {"status_code": 200, "data": {"balance": 5}, "headers": {}},
                },
            },
        },
    )
    assert result.status == "SUCCESS", result.error
    assert result.tasks["route_to_specialist"].output["route_taken"] == route
    assert result.output["resolution"] == resolution
    assert result.output["notification_sent"] == "n-1"
    assert result.output["metadata"]["confidence_score"] == 0.9
    said = result.tasks["send_confirmation"].input["message"]
    text = resolution["response"] if isinstance(resolution, dict) else "General inquiry received"
    assert said.endswith(f"Resolution: {text}")


def test_data_processing(project: Path, prefect_server: Api) -> None:
    rows = [{"id": number} for number in range(20)]
    extracted = {"data": rows, "rowCount": 20, "fields": ["id"]}
    issue = {"field": "id", "issue_type": "gap", "severity": "low"}
    analysis = {
        "insights": [{"category": "a", "finding": "b", "impact": "low", "confidence": 0.5}],
        "recommendations": [
            {"action": "x", "priority": "high"},
            {"action": "y", "priority": "low"},
        ],
    }
    transformed = {"transformed_data": rows, "original_count": 20, "final_count": 18}
    report = {"report_id": "r-1", "format": "pdf", "download_url": "https://example.com/r-1"}
    source = {"source_type": "database", "connection_string": "db://x", "query": "select 1"}
    result = ran(
        project,
        next(w for w in compile_project(project).workflows if "data" in w),
        {"data_sources": [source, source], "processing_config": {"transformations": []}},
        {
            "agents": {
                "data_validator": {
                    "*": {"output": {"quality_score": 0.8, "issues_found": [issue]}}
                },
                "data_analyst": {"*": {"output": analysis}},
            },
            "tools": {
                "database_connector": {"output": extracted},
                "data_transformer": {"output": transformed},
                "report_generator": {"output": report},
            },
        },
    )
    assert result.status == "SUCCESS", result.error
    summary = result.output["processing_summary"]
    assert summary == {
        "total_records_processed": 36,
        "data_quality_scores": [0.8, 0.8],
        "average_quality_score": 0.8,
        "issues_found": 2,
    }
    assert result.output["report_details"]["report_id"] == "r-1"
    assert result.output["execution_metrics"]["tasks_completed"] == 7
    assert result.output["execution_metrics"]["success_rate"] == 1.0
    assert len(result.tasks["validate-0"].input["sample_data"]) == 10
    assert result.tasks["validate-1"].input["source_type"] == "database"


@pytest.mark.parametrize(("confidence", "route"), [(0.9, "technical"), (0.5, "default")])
def test_the_advanced_example(prefect_server: Api, confidence: float, route: str) -> None:
    answer = {"category": "technical", "expertise_level": "senior", "confidence": confidence}
    result = ran(
        BRIEF / "customer-support-advanced.yaml",
        "customer-support",
        {"message": "Help.", "customer_id": "c-1"},
        {
            "agents": {
                "classifier": {"*": {"output": answer}},
                "technical_support": {"*": {"output": "Done."}},
            }
        },
    )
    assert result.status == "SUCCESS", result.error
    assert result.tasks["route_to_specialist"].output["route_taken"] == route
    said = result.output["resolution"]
    assert said.startswith("Thank you" if route == "default" else "General inquiry")
