"""`compozy deploy`: what there is on the server afterwards, and what is no longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.compozy import Compozy
from tests.support.prefect_server import Api

ON_TIME = 'schedule: {cron: "0 9 * * *"}\n'
ON_SIGNAL = "triggers: [{type: signal, name: go}, {type: signal, name: stop}]\n"
TASKS = "tasks: [{id: t, with: {n: 1}}]\n"


def listed(project: Path, *files: str) -> None:
    sources = "".join(f"  - {{source: ./{file}}}\n" for file in files)
    (project / "compozy.yaml").write_text(f"name: deployed\nworkflows:\n{sources}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    listed(tmp_path, "a.flow.yaml", "b.flow.yaml")
    (tmp_path / "a.flow.yaml").write_text(f"id: alpha\n{ON_TIME}{TASKS}")
    (tmp_path / "b.flow.yaml").write_text(f"id: beta\n{ON_SIGNAL}{TASKS}")
    (tmp_path / ".env").write_text("TOKEN=no-secret-of-anybody\n")
    return tmp_path


def deployed(api: Api) -> list[str]:
    found = api.post("/deployments/filter", {"deployments": {"tags": {"all_": ["deployed"]}}})
    return sorted(one["name"] for one in found)


def automations(api: Api) -> list[str]:
    found: list[Any] = api.post("/automations/filter", {})
    return sorted(one["name"] for one in found if one["name"].startswith(("alpha", "beta")))


def test_what_the_project_no_longer_has_is_removed(
    compozy: Compozy, prefect_server: Api, project: Path
) -> None:
    other = prefect_server.post("/flows/", {"name": "other"})["id"]
    foreign = {"name": "of-somebody-else", "flow_id": other, "tags": ["compozy", "deployed"]}
    prefect_server.post("/deployments/", foreign | {"entrypoint": "mine.py:other"})

    first = compozy("deploy", project, "--pool", "own pool", "--json")
    assert first.code == 0, first.err
    assert first.json["work_pool_created"]
    assert first.json["removed"] == []
    assert [one["name"] for one in first.json["deployments"]] == [
        "alpha/alpha",
        "alpha/alpha-schedule",
        "beta/beta",
    ]
    assert [one["scheduled"] for one in first.json["deployments"]] == [False, True, False]
    assert [one["triggers"] for one in first.json["deployments"]] == [0, 0, 2]
    alpha = first.json["deployments"][0]
    assert prefect_server.get(f"/deployments/{alpha['id']}")["work_pool_name"] == "own pool"
    assert alpha["ui_url"].endswith(f"/deployments/deployment/{alpha['id']}")
    assert deployed(prefect_server) == ["alpha", "alpha-schedule", "beta", "of-somebody-else"]
    assert automations(prefect_server) == ["beta on go", "beta on stop"]
    assert (project / ".compozy/deploy/.env").resolve() == project / ".env"
    assert "PREFECT_API_URL=http://127.0.0.1" in first.err

    # Twice is as once: the same deployments, under the same ids.
    again = compozy("deploy", project, "--pool", "own pool", "--json")
    assert again.json["deployments"] == first.json["deployments"]
    assert not again.json["work_pool_created"]
    assert automations(prefect_server) == ["beta on go", "beta on stop"]

    (project / "a.flow.yaml").write_text(f"id: alpha\n{TASKS}")
    (project / "b.flow.yaml").write_text(f"id: beta\n{ON_SIGNAL.replace('stop', 'halt')}{TASKS}")
    said = compozy("deploy", project, "--pool", "own pool")
    assert said.code == 0, said.err
    assert "removed alpha/alpha-schedule" in said.out.splitlines()
    assert deployed(prefect_server) == ["alpha", "beta", "of-somebody-else"]
    assert automations(prefect_server) == ["beta on go", "beta on halt"]

    listed(project, "a.flow.yaml")
    last = compozy("deploy", project, "--pool", "own pool", "--json")
    assert last.json["removed"] == ["beta/beta"]
    assert deployed(prefect_server) == ["alpha", "of-somebody-else"]
    assert automations(prefect_server) == []


def test_an_invalid_project_is_not_deployed(compozy: Compozy, project: Path) -> None:
    (project / "a.flow.yaml").write_text("id: alpha\ntasks: [{id: t, on_success: {next: u}}]\n")
    said = compozy("deploy", project)
    assert said.code == 1
    assert said.out == ""
    assert "a.flow.yaml" in said.err
    assert not (project / ".compozy").exists()
