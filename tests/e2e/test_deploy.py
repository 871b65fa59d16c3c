"""An emitted directory, moved elsewhere, deployed by Prefect's CLI, run by a process worker.

What starts a deployment by itself, a schedule and a signal, does so here.
"""

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler import emit
from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.plan import (
    ActionPlan,
    AgentCall,
    AgentPlan,
    ModelPlan,
    Plan,
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
FILES = {
    "compozy.yaml": """
name: demo
workflows: [every-type.yaml, teller.yaml, listener.yaml]
""",
    "every-type.yaml": """
id: every-type
schedule: {cron: "@daily", input: {kind: small}}
config: {input: {type: object, properties: {kind: {type: string, default: big}}}}
tasks:
  - id: numbers
    type: collection
    items: "1..3"
    task: {id: "n-{{ .index }}", with: {v: "{{ mul .item 2 }}"}}
  - id: both
    type: parallel
    tasks:
      - {id: left, with: {v: 1}}
      - id: right
        type: composite
        tasks:
          - {id: one, with: {v: 2}}
          - {id: two, with: {v: "{{ add .tasks.one.output.v 1 }}"}}
  - id: pick
    type: router
    condition: "{{ .workflow.input.kind }}"
    routes: {big: {id: large, with: {v: L}}, default: {id: little, with: {v: S}}}
  - {id: ask, type: wait, wait_for: go, timeout: 100s}
  - id: all
    type: aggregate
    outputs:
      sum: "{{ .tasks.numbers.output | map('v') | sum }}"
      two: "{{ .tasks.both.output.right.two.v }}"
      size: "{{ .tasks.pick.output.v }}"
      by: "{{ .tasks.ask.output.signal.payload.by }}"
  - {id: tell, type: signal, signal: {id: told, payload: {n: 1, all: "{{ .tasks.all.output }}"}}}
outputs: {all: "{{ .tasks.all.output }}"}
""",
    "teller.yaml": """
id: teller
tasks:
  - {id: tell, type: signal, signal: {id: told, payload: {n: "{{ .workflow.input.n }}", more: 0}}}
""",
    "listener.yaml": """
id: listener
triggers: [{type: signal, name: told, schema: {properties: {n: {type: integer}}, required: [n]}}]
config: {input: {type: object, properties: {n: {type: integer}, all: {type: object}}}}
tasks: [{id: heard, with: {n: "{{ .workflow.input.n }}"}}]
""",
}


@dataclass(frozen=True)
class Site:
    """The deployed directory, the project it came from, and the API that it was deployed to."""

    plan: Plan
    project: Path
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

    def deployment(self, name: str, flow: str = "") -> Any:
        return self.api("GET", f"/deployments/name/{flow or name}/{name}")

    def start(self, name: str, /, **parameters: Any) -> str:
        """The id of a new run of a deployment."""
        path = f"/deployments/{self.deployment(name)['id']}/create_flow_run"
        return str(self.api("POST", path, {"parameters": parameters})["id"])

    def runs_of(self, name: str) -> list[Any]:
        """The flow runs of a flow, whoever started them."""
        found: list[Any] = self.api(
            "POST", "/flow_runs/filter", {"flows": {"name": {"any_": [name]}}}
        )
        return found

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
    project = root / "project"
    project.mkdir()
    for name, text in FILES.items():
        (project / name).write_text(text, "utf-8")
    compiled = compile_project(project).plan
    plan = replace(compiled, workflows=compiled.workflows | {"hello-world": HELLO, "echo": ECHO})
    emit.write(emit.emit(plan), root / "written")
    shutil.copytree(root / "written", root / "elsewhere")
    shutil.rmtree(root / "written")
    environment = {**os.environ, "PREFECT_API_URL": url, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    site = Site(plan, project, root / "elsewhere", url, environment, root / "worker.log")
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
    assert deployment["version"] == site.plan.hash
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
    run = site.finished(site.start("hello-world", topic="news", name="Ada"))
    assert run["state_type"] == "COMPLETED", site.said()
    assert run["flow_version"] == site.plan.hash
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
    run = site.finished(site.start("echo", input={"text": "any", "$ref": "x"}))
    assert run["state_type"] == "COMPLETED", site.said()


def test_prefect_refuses_parameters_that_break_the_schema(site: Site) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        site.start("hello-world", topic="sports")
    assert caught.value.code == 409


def test_a_schedule_starts_runs(site: Site) -> None:
    deployment = site.deployment("every-type-schedule", "every-type")
    (schedule,) = deployment["schedules"]
    assert schedule["schedule"] == {"cron": "0 0 * * *", "timezone": "UTC", "day_or": True}
    assert deployment["global_concurrency_limit"]["limit"] == 1
    assert deployment["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert site.deployment("every-type")["schedules"] == []

    def planned() -> Any:
        return [run for run in site.runs_of("every-type") if run["auto_scheduled"]]

    runs = site.until(planned)
    assert {run["state_type"] for run in runs} == {"SCHEDULED"}
    assert {run["deployment_id"] for run in runs} == {deployment["id"]}
    assert all(run["parameters"] == {"kind": "small"} for run in runs)


def test_a_worker_runs_every_type_of_task(site: Site) -> None:
    execution = site.start("every-type", kind="big")

    def waits() -> Any:
        state = site.api("GET", f"/flow_runs/{execution}")["state_type"]
        assert state in {"SCHEDULED", "PENDING", "RUNNING", "PAUSED"}, site.said()
        return state == "PAUSED"

    site.until(waits)
    site.api("POST", f"/flow_runs/{execution}/resume", {"run_input": {"by": "Ada"}})
    assert site.finished(execution)["state_type"] == "COMPLETED", site.said()
    # The signal that it sent started the deployment of the workflow that listens.
    deployment = site.deployment("listener")["id"]
    (heard,) = site.until(lambda: site.runs_of("listener"))
    assert heard["deployment_id"] == deployment
    assert heard["parameters"] == {"n": 1, "all": {"sum": 12, "two": 3, "size": "L", "by": "Ada"}}
    assert site.finished(heard["id"])["state_type"] == "COMPLETED", site.said()


def test_a_signal_starts_who_listens_once(site: Site) -> None:
    command = ["-m", "compozy_prefect", "run", site.project, "--workflow", "teller", "-i", "n=2"]
    done = subprocess.run(
        [sys.executable, *command], env=site.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # This one breaks the schema of the trigger, and the next one comes through.
    assert site.finished(site.start("teller", input={"n": "3"}))["state_type"] == "COMPLETED"
    assert site.finished(site.start("teller", input={"n": 4}))

    def heard() -> Any:
        runs = site.runs_of("listener")
        return runs if {"n": 4} in [run["parameters"] for run in runs] else None

    started = [(run["parameters"]["n"], run["deployment_id"]) for run in site.until(heard)]
    started = [one for one in started if one[0] != 1]  # of the test before
    assert sorted(started) == [(2, None), (4, site.deployment("listener")["id"])]


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
