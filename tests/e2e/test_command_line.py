"""From a file to a finished run, as a user sees it: the real command, a real Prefect server."""

from __future__ import annotations

import json
import signal
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.compozy import Compozy
from tests.support.model_server import Fault, ModelServer, Reply
from tests.support.prefect_server import Api, until

ROOT = Path(__file__).resolve().parents[2]
HELLO = ROOT / "examples" / "hello-world"
# The brief's own file, where the repository stands beside it.
BRIEF = ROOT.parent / "shared" / "conformance" / "brief" / "hello-world"
GREETING = {"greeting": "Good day, Alice.", "tone": "formal"}

projects = pytest.mark.parametrize(
    "project",
    [
        pytest.param(HELLO, id="ours"),
        pytest.param(
            BRIEF,
            id="brief",
            marks=pytest.mark.skipif(not BRIEF.exists(), reason="the brief is not here"),
        ),
    ],
)


@projects
def test_offline(project: Path, compozy: Compozy, prefect_server: Api) -> None:
    said = compozy("run", project, "-i", "name=Alice", "--offline")
    assert said.code == 0, said.err
    output = said.json
    assert set(output) == {"greeting", "metadata"}
    assert "Alice" in output["greeting"]
    assert set(output["metadata"]) == {"tone", "timestamp"}
    assert datetime.fromisoformat(output["metadata"]["timestamp"]).tzinfo is not None
    assert "offline: greeter" in said.err
    assert "--offline was given" in said.err
    assert f"{prefect_server.url.removesuffix('/api')}/runs/flow-run/" in said.err


@projects
def test_mocked(project: Path, compozy: Compozy, tmp_path: Path, prefect_server: Api) -> None:
    (tmp_path / "mocks.yaml").write_text(
        f"agents: {{greeter: {{greet: {{output: {json.dumps(GREETING)}}}}}}}"
    )
    said = compozy("run", project, "-i", "name=Alice", "--mocks", "mocks.yaml", "--json")
    assert said.code == 0, said.err
    result = said.json
    assert list(result) == [
        "execution_id",
        "workflow_id",
        "status",
        "input",
        "output",
        "error",
        "tasks",
        "usage",
        "duration_seconds",
        "ui_url",
    ]
    assert result["status"] == "SUCCESS"
    assert result["workflow_id"] == "hello-world"
    assert result["input"] == {"name": "Alice"}
    assert result["output"]["greeting"] == GREETING["greeting"]
    assert result["tasks"]["generate_greeting"] == {
        "status": "SUCCESS",
        "type": "basic",
        "output": {"result": GREETING["greeting"], "tone": "formal"},
        "error": None,
        "parent": None,
    }
    assert result["usage"]["cost_usd"] == 0.0
    runs = prefect_server.settled(result["execution_id"], 1)
    assert runs["generate_greeting"]["state_type"] == "COMPLETED"


def _with_model(project: Path, target: Path, server: ModelServer) -> Path:
    """A copy of the project whose model is the server on loopback."""
    text = (project / "compozy.yaml").read_text()
    key = 'api_key: "{{ .env.OPENAI_API_KEY }}"'
    assert key in text
    target.mkdir(exist_ok=True)
    (target / "compozy.yaml").write_text(text.replace(key, f"{key}\n    api_url: {server.url}"))
    return target


@projects
def test_real_client_against_a_model_on_loopback(
    project: Path, compozy: Compozy, tmp_path: Path, prefect_server: Api
) -> None:
    script = [Fault(429, retry_after=0.01), Reply('{"greeting": 7}'), Reply(json.dumps(GREETING))]
    with ModelServer(script) as server:
        copy = _with_model(project, tmp_path / "project", server)
        (copy / ".env").write_text("OPENAI_API_KEY=sk-canary-0123456789abcdef\n")
        text = (copy / "compozy.yaml").read_text()
        url = f"api_url: {server.url}"
        (copy / "compozy.yaml").write_text(text.replace(url, f"{url}\n    top_k: 3"))
        said = compozy("run", copy, "-i", "name=Alice", "--json")
    assert said.code == 0, said.err
    result = said.json
    assert result["output"]["greeting"] == GREETING["greeting"]
    # One call was refused, one broke the schema, and the model was shown what was wrong with it.
    assert len(server.requests) == 3
    assert server.requests[0].authorization == "Bearer sk-canary-0123456789abcdef"
    assert "Alice" in server.requests[0].text
    assert "greeting" in server.requests[2].body["messages"][-1]["content"]
    assert result["usage"]["prompt_tokens"] == 20
    assert result["usage"]["completion_tokens"] == 10
    assert "sk-canary" not in said.out + said.err
    stored = json.dumps(
        [
            prefect_server.flow_run(result["execution_id"]),
            prefect_server.settled(result["execution_id"], 1),
            prefect_server.logs(result["execution_id"]),
            prefect_server.artifacts(result["execution_id"]),
        ]
    )
    assert "sk-canary" not in stored
    assert stored.count("does not take `top_k`; it is left out") == 1


def test_without_a_key(compozy: Compozy) -> None:
    said = compozy("run", HELLO, "-i", "name=Alice")
    assert said.code == 1
    assert said.out == ""
    for word in ("OPENAI_API_KEY", "gpt-4o-mini", "--offline", "--mocks"):
        assert word in said.err
    assert "Traceback" not in said.err


def test_provider_that_is_down(compozy: Compozy, tmp_path: Path) -> None:
    with ModelServer() as server:
        copy = _with_model(HELLO, tmp_path / "project", server)
    text = (copy / "compozy.yaml").read_text()
    once = text.replace("    action: greet\n", "    action: greet\n    retries: 0\n")
    (copy / "compozy.yaml").write_text(once)
    said = compozy("run", copy, "--json", env={"OPENAI_API_KEY": "sk-canary-0123456789abcdef"})
    assert said.code == 1
    result = said.json
    assert result["status"] == "FAILED"
    assert result["error"]["message"]
    assert result["error"]["code"]
    assert result["tasks"]["generate_greeting"]["status"] == "FAILED"
    assert "Traceback" not in said.err
    assert "sk-canary" not in said.out + said.err


def test_invalid_input_starts_no_run(compozy: Compozy) -> None:
    said = compozy("run", HELLO, "-i", "name=5", "--offline", "--json")
    assert (said.code, said.out) == (1, "")
    assert "name" in said.err
    assert "/runs/flow-run/" not in said.err


def test_invalid_project_starts_no_run(compozy: Compozy, tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text("name: x\ntasks: [{id: a, agent: nobody, action: b}]\n")
    said = compozy("run", "--json")
    assert (said.code, said.out) == (1, "")
    assert "CZ211" in said.err
    assert "nobody" in said.err


def test_a_misspelt_input_is_told(compozy: Compozy) -> None:
    said = compozy("run", HELLO, "-i", "nmae=Alice", "--offline")
    assert said.code == 0
    assert "no input `nmae`; did you mean `name`?" in said.err


def test_output_is_utf8_in_any_locale(compozy: Compozy, tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text(
        'name: "h\u00e9"\ntasks: [{id: a, with: {x: 1}}]\n', "utf-8"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    said = compozy("plan", env=plain)
    assert said.json["project"]["name"] == "h\u00e9"


def test_several_workflows(compozy: Compozy, tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text("name: two\nworkflows: [{source: a.yaml}, b.yaml]\n")
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(
            f'id: {name}\ntasks: [{{id: t, with: {{v: "{name} {{{{ .workflow.input.x }}}}"}}}}]\n'
        )
    said = compozy("run")
    assert said.code == 2
    assert "a, b" in said.err
    said = compozy("run", "--workflow", "b", "-i", "x=1.50")
    assert said.json == {"t": {"output": {"v": "b 1.5"}}}


def test_input_forms(compozy: Compozy, tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text(
        'name: echo\ntasks: [{id: t, with: {all: "{{ .workflow.input }}"}}]\n'
        'outputs: {all: "{{ .tasks.t.output.all }}"}\n'
    )
    given = ["-i", "a=1", "-i", "b=text", "-i", "c.d.e=[1, null]", "-i", 'f="3"', "-i", "g=a=b"]
    said = compozy("run", *given, "--input-file", "-", input='{"a": 0, "h": true, "c": {"z": 1}}')
    assert said.code == 0, said.err
    assert said.json["all"] == {
        "a": 1,
        "h": True,
        "c": {"z": 1, "d": {"e": [1, None]}},
        "b": "text",
        "f": "3",
        "g": "a=b",
    }
    assert compozy("run", "-i", "nonsense").code == 2
    assert compozy("run", "-i", "a=1", "-i", "a.b=2").code == 2


def test_ctrl_c(compozy: Compozy, tmp_path: Path, prefect_server: Api) -> None:
    (tmp_path / "mocks.yaml").write_text("tools: {slow: {output: {}, delay: 60s}}")
    (tmp_path / "compozy.yaml").write_text(
        "name: slow\ntools: [{id: slow}]\ntasks: [{id: wait, tool: slow}]\n"
    )
    process = compozy.start("run", "--mocks", "mocks.yaml", "--json")
    try:
        assert process.stderr is not None
        execution = next(line.split()[1] for line in process.stderr if line.startswith("run "))
        until(
            lambda: prefect_server.flow_run(execution)["state_type"],
            lambda state: state == "RUNNING",
        )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert json.loads(out)["status"] == "CANCELED"
    assert prefect_server.flow_run(execution)["state_type"] == "CANCELLED"
    assert prefect_server.settled(execution, 1)["wait"]["state_type"] == "CANCELLED"


def test_detach(compozy: Compozy, prefect_server: Api) -> None:
    said = compozy("run", HELLO, "-i", "name=Alice", "--offline", "--detach")
    assert said.code == 0, said.err
    answer = said.json
    assert set(answer) == {"execution_id", "ui_url"}
    home, log = Path(compozy.env["COMPOZY_HOME"]), Path(said.err.split()[-1])
    assert log.is_file()
    assert log.parent == home.resolve() / "runs"
    until(
        lambda: prefect_server.flow_run(answer["execution_id"])["state_type"],
        lambda state: state == "COMPLETED",
    )
    refused = compozy("run", HELLO, "-i", "name=5", "--offline", "--detach")
    assert refused.code == 1
    assert "name" in refused.err


def test_server_that_is_not_there(compozy: Compozy) -> None:
    said = compozy("run", HELLO, "--offline", env={"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert said.code == 1
    assert "http://127.0.0.1:9/api" in said.err
    assert "Traceback" not in said.err
