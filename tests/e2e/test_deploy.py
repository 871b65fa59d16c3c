"""An emitted directory, moved elsewhere, deployed by Prefect's CLI, run by a process worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler import emit
from compozy_prefect.compiler.plan import (
    ActionPlan,
    AgentCall,
    AgentPlan,
    ModelPlan,
    Plan,
    ProjectPlan,
    StepPlan,
    Transition,
    WorkflowPlan,
)
from compozy_prefect.flows import server

pytestmark = pytest.mark.timeout(300)

WITHIN = 120.0  # seconds for a deployed run on two slow cores

GREETER = AgentPlan(
    id="greeter",
    model=ModelPlan(provider="mock", model="mock-test"),
    instructions="You greet people.",
    actions={"greet": ActionPlan("greet", prompt="Greet {{ .input.name }}.")},
)
HELLO = WorkflowPlan(
    id="hello-world",
    description="Greets a person.\n\nKindly.",
    input_schema={
        "type": "object",
        "required": ["topic"],
        "properties": {
            "name": {
                "type": "string",
                "default": "World",
                "minLength": 1,
                "description": "Who is greeted.",
            },
            "topic": {"enum": ["weather", "news"]},
            "times": {"type": "integer", "minimum": 1, "maximum": 5},
        },
    },
    agents={"greeter": GREETER},
    start="prepare",
    steps=(
        StepPlan(
            "prepare",
            "prepare",
            with_={"text": "{{ .workflow.input.name }} on {{ .workflow.input.topic }}"},
            on_success=Transition("greet"),
        ),
        StepPlan(
            "greet",
            "greet",
            agent=AgentCall("greeter", "greet"),
            with_={"name": "{{ .tasks.prepare.output.text }}"},
        ),
    ),
    outputs={"for": "{{ .tasks.prepare.output.text }}", "answer": "{{ .tasks.greet.output }}"},
)
ECHO = WorkflowPlan(
    id="echo",
    start="echo",
    steps=(StepPlan("echo", "echo", with_={"said": "{{ .workflow.input.text }}"}),),
    outputs={"said": "{{ .tasks.echo.output.said }}"},
)
PLAN = Plan(ProjectPlan("demo"), {"hello-world": HELLO, "echo": ECHO})


@dataclass(frozen=True)
class Site:
    """The deployed directory and the API that it was deployed to."""

    directory: Path
    url: str
    environment: dict[str, str]
    log: Path

    def api(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        deadline = time.monotonic() + WITHIN
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as refused:
                # A busy SQLite: Prefect's own client tries again too.
                if refused.code != 503 or time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def deployment(self, name: str) -> Any:
        return self.api("GET", f"/deployments/name/{name}/{name}")

    def finished(self, flow_run: str) -> Any:
        """The flow run, once it has ended."""

        def look() -> Any:
            run = self.api("GET", f"/flow_runs/{flow_run}")
            return run if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED"} else None

        return self.until(look)

    def until(self, look: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WITHIN
        while not (found := look()):
            assert time.monotonic() < deadline, f"not in time; the worker said:\n{self.said()}"
            time.sleep(0.2)
        return found

    def said(self) -> str:
        return self.log.read_text()[-4000:]


def prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "prefect", "--no-prompt", *arguments]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("deploy")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        patch.setenv("COMPOZY_HOME", str(root / "home"))
        patch.setenv("PREFECT_HOME", str(root / "prefect"))
        running = server.ensure()
        try:
            yield from _deployed(root, running.api_url)
        finally:
            server.stop()


def _deployed(root: Path, url: str) -> Iterator[Site]:
    emit.write(emit.emit(PLAN), root / "written")
    shutil.copytree(root / "written", root / "elsewhere")
    shutil.rmtree(root / "written")
    environment = {**os.environ, "PREFECT_API_URL": url, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    site = Site(root / "elsewhere", url, environment, root / "worker.log")
    for command in (
        prefect("work-pool", "create", emit.POOL, "--type", "process"),
        prefect("deploy", "--all"),
    ):
        done = subprocess.run(
            command, cwd=site.directory, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    with site.log.open("w") as log:
        worker = subprocess.Popen(
            prefect("worker", "start", "--pool", emit.POOL),
            cwd=root,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield site
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        try:
            worker.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def test_the_deployment_says_what_the_workflow_takes(site: Site) -> None:
    deployment = site.deployment("hello-world")
    assert deployment["description"] == "Greets a person.\n\nKindly."
    assert sorted(deployment["tags"]) == ["compozy", "demo"]
    assert deployment["version"] == PLAN.hash
    assert deployment["entrypoint"] == "flows.py:hello_world"
    assert deployment["enforce_parameter_schema"] is True
    schema = deployment["parameter_openapi_schema"]
    assert schema["required"] == ["topic"]
    assert schema["properties"] == {
        "topic": {"enum": ["weather", "news"], "position": 0, "title": "topic", "type": "string"},
        "name": {
            "default": "World",
            "description": "Who is greeted.",
            "minLength": 1,
            "position": 1,
            "title": "name",
            "type": "string",
        },
        "times": {
            "anyOf": [{"maximum": 5, "minimum": 1, "type": "integer"}, {"type": "null"}],
            "default": None,
            "position": 2,
            "title": "times",
        },
    }


def test_a_worker_runs_the_deployment(site: Site) -> None:
    deployment = site.deployment("hello-world")
    body = {"parameters": {"topic": "news", "name": "Ada"}}
    created = site.api("POST", f"/deployments/{deployment['id']}/create_flow_run", body)
    run = site.finished(created["id"])
    assert run["state_type"] == "COMPLETED", site.said()
    assert run["flow_version"] == PLAN.hash
    assert sorted(run["tags"]) == ["compozy", "demo"]

    def both() -> Any:
        wanted = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        found = site.api("POST", "/task_runs/filter", wanted)
        states = {task["name"]: task["state_type"] for task in found}
        return states if set(states.values()) == {"COMPLETED"} and len(states) == 2 else None

    assert set(site.until(both)) == {"prepare", "greet"}


def test_a_workflow_without_schema_takes_any_input(site: Site) -> None:
    deployment = site.deployment("echo")
    assert list(deployment["parameter_openapi_schema"]["properties"]) == ["input"]
    body = {"parameters": {"input": {"text": "any", "$ref": "x"}}}
    created = site.api("POST", f"/deployments/{deployment['id']}/create_flow_run", body)
    assert site.finished(created["id"])["state_type"] == "COMPLETED", site.said()


def test_prefect_refuses_parameters_that_break_the_schema(site: Site) -> None:
    deployment = site.deployment("hello-world")
    body = {"parameters": {"topic": "sports"}}
    with pytest.raises(urllib.error.HTTPError) as caught:
        site.api("POST", f"/deployments/{deployment['id']}/create_flow_run", body)
    assert caught.value.code == 409


def test_the_module_runs_on_its_own(site: Site) -> None:
    script = (
        "import asyncio, json, flows\n"
        "print(json.dumps(asyncio.run(flows.hello_world(topic='weather'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=site.directory,
        env={**site.environment, "PREFECT_LOGGING_LEVEL": "WARNING"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["for"] == "World on weather"
