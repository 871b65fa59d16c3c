"""Steps whose agents use MCP servers, in a fan-out on the workers of a real Dask cluster."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.flows import local
from tests.support.cluster import WORKERS, DaskCluster, batches_of
from tests.support.formats.base import Call, Reply
from tests.support.mcp_servers.started import GOOD, OVER_STDIO, none_is_left
from tests.support.model_server import ModelServer
from tests.support.prefect_server import Api
from tests.support.started import nothing_is_open

ITEMS = 12
PROJECT = """\
name: p
models: [{provider: openai, model: gpt-4o-mini, api_url: "URL", api_key: "sk-test-0123456789"}]
mcps: [{id: good, command: PYTHON, args: [GOOD, stdio], env: {EFFECTS: "FOLDER/effects"}}]
agents:
  - id: finder
    model: openai:gpt-4o-mini
    instructions: '{{ .mcps.good.resource("file:///handbook.md") }}'
    mcps: [good]
    actions: [{id: find, prompt: "Add {{ .input.n }}."}]
tasks:
  - id: each
    type: collection
    items: "{{ until COUNT }}"
    task: {id: "i-{{ .index }}", agent: finder, action: find, with: {n: "{{ .item }}"}}
outputs: {n: "{{ len .tasks.each.output }}"}
"""


@pytest.fixture(autouse=True)
def on_dask(dask_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in dask_cluster.env.items():
        monkeypatch.setenv(name, value)


def turn(seen: Any) -> Reply:
    """A call of a tool with the number of the item, and then what it gave."""
    messages = seen.body["messages"]
    if messages[-1]["role"] == "tool":
        return Reply(messages[-1]["content"])
    number = int(messages[1]["content"].removeprefix("Add ").rstrip("."))
    return Reply("", calls=(Call("add", {"a": number, "b": 100}, f"c{number}"),))


def test_each_worker_has_a_session_of_its_own(tmp_path: Path, prefect_server: Api) -> None:
    with ModelServer() as models:
        models.answers_by(turn)
        text = PROJECT.replace("URL", models.base("openai")).replace("PYTHON", sys.executable)
        text = text.replace("GOOD", str(GOOD)).replace("FOLDER", str(tmp_path))
        (tmp_path / "compozy.yaml").write_text(text.replace("COUNT", str(ITEMS)), "utf-8")
        result = local.run(tmp_path)
    assert result.status == "SUCCESS", result.error
    assert batches_of(prefect_server, result.execution_id), "it ran on the workers"
    log = [json.loads(line) for line in (tmp_path / "effects").read_text("utf-8").splitlines()]
    added = sorted(line["a"] for line in log if line.get("call") == "add")
    assert added == list(range(ITEMS)), "each call was made once"
    assert 1 <= len({line["began"] for line in log}) <= WORKERS
    answers = {result.tasks[f"i-{n}"].output["response"] for n in range(ITEMS)}
    assert answers == {json.dumps({"value": n + 100}) for n in range(ITEMS)}
    shown = nothing_is_open(prefect_server, result.execution_id)
    assert sum(row["name"] == "add" for row in shown) == ITEMS
    none_is_left(OVER_STDIO)
