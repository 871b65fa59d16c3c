"""A deployed run that a worker of Prefect starts, and whose fan-out runs on workers of Dask."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.cluster import DaskCluster, batches_of
from tests.support.compozy import Compozy
from tests.support.effects import Effects
from tests.support.prefect_server import Api, until
from tests.support.started import nothing_is_open
from tests.support.worker import Worker

PROJECT = """
name: fans
tools: [{tool}]
config: {{tasks: {{runner: {{type: dask, address: '{address}'}}}}}}
tasks:
  - id: each
    type: collection
    items: "{{{{ until 10 }}}}"
    task: {{id: "i-{{{{ .index }}}}", tool: effect, with: {{step: "i-{{{{ .index }}}}"}}}}
outputs: {{n: "{{{{ len .tasks.each.output }}}}"}}
"""


@pytest.mark.timeout(400)
def test_a_deployed_run(
    prefect_server: Api,
    dask_cluster: DaskCluster,
    compozy: Compozy,
    effects: Effects,
    tmp_path: Path,
) -> None:
    text = PROJECT.format(tool=effects.tool, address=dask_cluster.address)
    (tmp_path / "compozy.yaml").write_text(text, "utf-8")
    said = compozy("deploy", tmp_path, timeout=300)
    assert said.code == 0, said.err
    deployment = prefect_server.get("/deployments/name/fans/fans")["id"]
    worker = Worker(
        "compozy", compozy.env | {"PREFECT_API_URL": prefect_server.url}, tmp_path / "log"
    )
    try:
        made = prefect_server.post(f"/deployments/{deployment}/create_flow_run", {})["id"]
        over = {"Completed", "Failed", "Crashed"}
        run = until(
            lambda: prefect_server.flow_run(made), lambda run: run["state_name"] in over, 180.0
        )
        assert run["state_name"] == "Completed", prefect_server.logs(made)
    finally:
        worker.stop()
    assert Counter(effects.log) == Counter(f"i-{n}" for n in range(10))
    assert len(batches_of(prefect_server, made)) == 2
    nothing_is_open(prefect_server, made)
