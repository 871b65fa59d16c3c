"""`compozy test`: cases run as flows on a real server, what is said of them, and how it ends."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from compozy_prefect.cli import main
from compozy_prefect.flows.executions import Executions
from tests.support.compozy import Compozy, Said
from tests.support.model_server import ModelServer, Reply
from tests.support.prefect_server import Api

PROJECT = """\
name: shop
config:
  recover_on_error: true
  input:
    type: object
    properties:
      n: { type: integer }
      tries: { type: integer, default: 0 }
      patience: { type: string, default: 20s }
    required: [n]
  env: { GREETING: "{{ .env.HELLO | default('Hi') }}" }
tools:
  - id: bank
memories:
  - { id: notes, type: buffer, persistence: { type: in_memory, ttl: 1h } }
tasks:
  - id: note
    type: memory
    operation: append
    memory_ref: notes
    key_template: all
    payload: { role: user, content: "{{ .workflow.input.n }}" }
    on_success: { next: big }
  - id: big
    condition: "{{ .workflow.input.n > 100 }}"
    with: { v: 1 }
    on_success: { next: choose }
  - id: choose
    type: router
    condition: '{{ ternary "ask" "pay" (gt .workflow.input.n 100) }}'
    routes: { ask: ask, pay: pay }
    default: pay
  - id: ask
    type: wait
    wait_for: approval
    timeout: "{{ .workflow.input.patience }}"
    on_timeout: nobody
    on_success: { next: confirm }
  - id: confirm
    type: wait
    wait_for: approval
    on_success: { next: pay }
  - id: pay
    tool: bank
    retries: 1
    config: { retry_policy: { initial_interval: 10ms } }
    with: { to: "{{ .env.GREETING }} {{ .workflow.input.n }}" }
    on_success: { next: each }
    on_error: { next: nobody }
  - id: each
    type: collection
    items: [1, 2]
    task: { id: item, with: { v: "{{ .item }}" } }
    on_success: { next: enough }
  - id: enough
    type: router
    condition: '{{ ternary "again" "end" (lt (len .tasks.count.output.seen) 2) }}'
    routes: { again: count, end: end }
  - id: count
    with: { seen: "{{ append (.tasks.count.output.seen | default list) 1 }}" }
    on_success: { next: enough }
  - { id: nobody, with: { v: 1 }, on_success: { next: end } }
  - { id: end, with: { done: true } }
outputs:
  notes: "{{ .tasks.note.output.total_count }}"
  to: "{{ .tasks.pay.output.to | default 'nobody' }}"
  paid: "{{ .tasks.pay.output.ok | default false }}"
"""
WAITING = """\
name: waits
config: { input: { type: object, properties: { twice: { type: boolean, default: false } } } }
tools: [{ id: slow }]
tasks:
  - { id: one, type: wait, wait_for: approval, on_success: { next: choose } }
  - id: choose
    type: router
    condition: "{{ .workflow.input.twice }}"
    routes: { "true": two, "false": stuck }
  - { id: two, type: wait, wait_for: approval }
  - { id: stuck, tool: slow }
"""
PASSING = """\
mocks: { tools: { bank: [{ error: busy }, { output: { ok: true, to: Hi 5 } }] } }
cases:
  - name: a small one is paid at the second try
    input: { n: 5 }
    expect:
      output: { paid: true, notes: 1 }
      tasks:
        big: skipped
        choose: { route_taken: pay }
        ask: not run
        pay: { attempts: 2, input: { to: Hi 5 } }
        each: { output: [{ v: 1 }, { v: 2 }] }
        item-1: { output: { v: 2 } }
        enough: { route_taken: end }
        count: { output: { seen: { $length: 2 } } }

  - name: a large one is asked for twice
    input: { n: 500 }
    env: { HELLO: Hello }
    signals: [{ name: approval, payload: { by: Ada } }, { name: approval, payload: { by: Bob } }]
    expect:
      output: { notes: 1 }
      tasks:
        ask: { output: { signal: { payload: { by: Ada } } } }
        confirm: { output: { signal: { payload: { by: Bob } } } }
        pay: { input: { to: Hello 500 } }

  - name: nobody answers
    input: { n: 500, patience: 50ms }
    expect: { tasks: { ask: { error: { code: WAIT_TIMEOUT } }, nobody: SUCCESS, pay: not run } }
"""
MORE = """\
cases:
  - name: it cannot be paid
    input: { n: 1 }
    mocks: { tools: { bank: { error: no money } } }
    expect: { tasks: { pay: { status: FAILED, attempts: 2 }, nobody: SUCCESS, each: not run } }

  - name: what is refused
    input: { n: much }
    expect: { error: { code: INPUT_VALIDATION_ERROR, message: { $contains: expected integer } } }
"""

Captured = pytest.CaptureFixture[str]


class Run:
    """`compozy test` of a project, in this process."""

    def __init__(self, folder: Path, capsys: Captured) -> None:
        self.folder, self._capsys = folder, capsys
        (folder / "compozy.yaml").write_text(PROJECT)

    def write(self, text: str, name: str = "shop.test.yaml") -> None:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text)

    def __call__(self, *arguments: str | Path) -> Said:
        self._capsys.readouterr()
        code = main(["--quiet", "test", str(self.folder), *map(str, arguments)])
        said = self._capsys.readouterr()
        return Said(code, said.out, said.err)


@pytest.fixture
def run(prefect_server: Api, tmp_path: Path, capsys: Captured) -> Run:
    return Run(tmp_path, capsys)


def cases(said: Said) -> dict[str, Any]:
    return {case["name"]: case for case in said.json["cases"]}


def test_all_pass_and_what_they_cover(run: Run, prefect_server: Api) -> None:
    run.write(PASSING)
    run.write(MORE, "more/more.test.yaml")
    before = set(Executions.here().home.glob("executions/*"))
    said = run("--json", "--cov")
    assert said.code == 0, said.out
    report = said.json
    assert (report["ok"], report["passed"], report["failed"]) == (True, 5, 0)
    assert [case["file"] for case in report["cases"]] == ["more/more.test.yaml"] * 2 + [
        "shop.test.yaml"
    ] * 3
    found = report["coverage"]["workflows"]["shop"]
    # Every task; of `choose` not the default; on_error, on_timeout; `big` both ways.
    assert found["tasks"] == {"covered": 12, "total": 12}
    assert found["routes"] == {"covered": 4, "total": 5}
    assert found["edges"] == {"covered": 2, "total": 2}
    assert found["conditions"] == {"covered": 2, "total": 2}
    assert [one["message"] for one in found["missed"]] == [
        "router `choose` does not take its default"
    ]
    assert (report["coverage"]["percent"], found["missed"][0]["line"]) == (95.2, 32)
    # They are no executions of `compozy runs`, and nothing is kept to resume them.
    first = report["cases"][0]
    assert prefect_server.flow_run(first["execution_id"])["tags"] == ["compozy-test"]
    assert first["ui_url"].endswith(first["execution_id"])
    assert set(Executions.here().home.glob("executions/*")) - before <= {
        Executions.here().home / "executions" / ".pruned"
    }
    refused = cases(said)["what is refused"]
    assert (refused["status"], refused["execution_id"]) == ("passed", None)


def test_some_cases_and_their_coverage(run: Run) -> None:
    run.write(PASSING)
    run.write(MORE, "more.test.yaml")
    said = run("-k", "NOBODY", "--cov-min", "50")
    assert said.code == 1
    assert "✓ nobody answers" in said.out
    assert "a small one" not in said.out
    # note, big, choose, ask, nobody and end of 12; one of 5 routes; one of 2 edges; one of 2.
    assert "shop       6/12     1/5    1/2         1/2   42.8 %" in said.out
    assert "42.8 % covered, 9 of 21" in said.out
    assert said.err == "error: 42.8 % is less than the 50 % of --cov-min\n"
    assert run("-k", "refused", "--cov-min", "0").code == 0


def test_workflows_that_are_called_and_started_count(run: Run) -> None:
    for name, text in {
        "compozy.yaml": "name: p\nworkflows: [parent.yaml, child.yaml, heard.yaml]\n",
        "parent.yaml": """
id: parent
tasks:
  - { id: call, tool: cp__call_workflow, with: { workflow_id: child, input: {} } }
  - { id: send, type: signal, signal: { id: hear, payload: {} } }
  - { id: choose, type: router, condition: "'on'", routes: { "on": maybe } }
  - { id: maybe, condition: "{{ eq 1 2 }}", with: { v: 1 } }
""",
        "child.yaml": "id: child\ntasks: [{ id: a, with: { v: 1 } }]\n",
        "heard.yaml": """
id: heard
triggers: [{ type: signal, name: hear, schema: { type: object } }]
tasks:
  - { id: a, with: { v: 1 } }
  - { id: b, condition: "{{ eq 1 1 }}", with: { v: 1 } }
""",
    }.items():
        (run.folder / name).write_text(text)
    run.write("cases: [{ name: a, workflow: parent, expect: { tasks: { maybe: skipped } } }]\n")
    said = run("--json", "--cov")
    assert said.code == 0, said.out
    found = said.json["coverage"]["workflows"]
    assert {name: (one["covered"], one["total"]) for name, one in found.items()} == {
        "parent": (5, 7),  # `maybe` is skipped: not run, and its condition does not hold
        "child": (1, 1),
        "heard": (3, 4),
    }
    assert [one["message"] for one in found["parent"]["missed"]] == [
        "task `maybe` does not run",
        "the condition of `maybe` does not hold",
    ]
    assert [one["message"] for one in found["heard"]["missed"]] == ["`b` is not skipped"]


FAILING = """\
mocks: { tools: { bank: { output: { ok: true, to: Hi 5 } } } }
cases:
  - name: differs
    input: { n: 5 }
    expect:
      output:
        to: Hi 6
        paid: { $type: string }
      tasks:
        big: SUCCESS
        each: { output: [{ v: 1 }] }
  - name: fails
    input: { n: 5 }
    mocks: { tools: { bank: { output: { ok: "{{" }, when: { to: nobody } } } }
    expect: { tasks: { pay: SUCCESS } }
  - name: passes
    input: { n: 5 }
  - { name: not now, input: { n: 5 }, skip: the bank is closed }
"""


def test_what_differs_is_shown_where_it_is_expected(run: Run, tmp_path: Path) -> None:
    run.write(FAILING)
    file = tmp_path / "junit.xml"
    said = run("--junit", file)
    assert said.code == 1
    assert said.err == ""
    head = said.out.splitlines()[:5]
    assert head[0] == "shop.test.yaml"
    assert [line.split("  ")[1] for line in head[1:]] == [
        "✗ differs",
        "✗ fails",
        "✓ passes",
        "- not now",
    ]
    assert head[4] == "  - not now  (the bank is closed)"
    assert (
        '  output.to: expected "Hi 6", saw "Hi 5"\n'
        "   --> shop.test.yaml:7:13\n"
        "    |\n"
        "  7 |         to: Hi 6\n"
        "    |             ^^^^\n"
    ) in said.out
    assert '  output.paid: expected {"$type": "string"}, saw true\n' in said.out
    assert '  tasks.big: expected "SUCCESS", saw "skipped"\n' in said.out
    assert (
        '  tasks.each.output: expected [{"v": 1}], saw [{"v": 1}, {"v": 2}]\n'
        '        {"v": 1}\n'
        '      + {"v": 2}\n'
    ) in said.out
    assert '  tasks.pay: expected "SUCCESS", saw "FAILED"\n' in said.out
    assert said.out.splitlines()[-1].startswith("1 passed, 2 failed, 1 skipped in ")
    root = ElementTree.fromstring(file.read_text("utf-8"))
    found = {one.get("name"): [child.tag for child in one] for one in root.iter("testcase")}
    assert found == {
        "differs": ["failure"],
        "fails": ["failure"],
        "passes": [],
        "not now": ["skipped"],
    }
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("4", "2", "1")


def test_the_first_that_fails_is_the_last(run: Run) -> None:
    run.write(FAILING)
    said = run("-x", "--jobs", "1", "--json")
    assert said.code == 1
    assert {name: case["status"] for name, case in cases(said).items()} == {
        "differs": "failed",
        "fails": "skipped",
        "passes": "skipped",
        "not now": "skipped",
    }
    assert cases(said)["fails"]["message"] == "not begun, as `differs` did not pass"


def test_a_case_that_takes_too_long(run: Run) -> None:
    (run.folder / "compozy.yaml").write_text(WAITING)
    run.write(
        """
timeout: 6s
mocks: { tools: { slow: { output: { ok: true }, delay: 1m } } }
cases:
  - { name: is not signalled }
  - { name: is signalled once, input: { twice: true }, signals: [{ name: approval }] }
  - { name: is stuck, signals: [{ name: approval }] }
"""
    )
    said = run("--json")
    assert said.code == 1
    found = {name: case["message"] for name, case in cases(said).items()}
    waits = "it took longer than 6 s: it waits for "
    assert found == {
        "is not signalled": f"{waits}the signal `approval`, which `signals` does not give",
        "is signalled once": f"{waits}another signal `approval` than the 1 given",
        "is stuck": "it took longer than 6 s, in `stuck`",
    }
    assert {case["status"] for case in cases(said).values()} == {"failed"}


def test_what_cannot_be_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (run.folder / "compozy.yaml").write_text(
        """
name: asks
models: [{ provider: openai, model: gpt-4o, api_key: "{{ .env.OPENAI_API_KEY }}" }]
agents: [{ id: a, model: "openai:gpt-4o", instructions: Go., actions: [{ id: b, prompt: Go. }] }]
tasks: [{ id: ask, agent: a, action: b }]
"""
    )
    run.write(
        """
cases:
  - { name: no key, offline: false }
  - { name: mocked, offline: false, mocks: { agents: { a: { b: { output: hi } } } } }
  - { name: offline, expect: { output: { ask: { output: { response: { $type: string } } } } } }
"""
    )
    said = run("--json")
    assert said.code == 1
    found = {name: case["status"] for name, case in cases(said).items()}
    assert found == {"no key": "error", "mocked": "passed", "offline": "passed"}
    assert "OPENAI_API_KEY" in cases(said)["no key"]["message"]


def test_a_cassette_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    with ModelServer([Reply("It was recorded.")]) as model:
        (run.folder / "compozy.yaml").write_text(
            f"""
name: asks
models: [{{ provider: openai, model: gpt-4o, api_url: "{model.url}" }}]
agents:
  - id: a
    model: "openai:gpt-4o"
    instructions: Go.
    actions: [{{ id: b, prompt: "{{{{ .input.n }}}}" }}]
tasks:
  - {{ id: ask, agent: a, action: b, with: {{ n: "{{{{ .workflow.input.n }}}}" }}, retries: 0 }}
"""
        )
        taped = run.folder / "tapes" / "one.jsonl"
        assert main(["run", str(run.folder), "-i", "n=1", "--record", str(taped)]) == 0
    monkeypatch.delenv("OPENAI_API_KEY")
    run.write(
        """
cassette: tapes/one.jsonl
cases:
  - name: recorded
    input: { n: 1 }
    expect: { output: { ask: { output: { response: It was recorded. } } } }
  - name: not recorded
    input: { n: 2 }
    expect: { error: { code: NOT_RECORDED } }
  - name: mocked
    input: { n: 2 }
    mocks: { agents: { a: { b: { output: A mock. } } } }
    expect: { output: { ask: { output: { response: A mock. } } } }
"""
    )
    said = run()
    assert said.code == 0, said.out


def test_mistakes_are_told_before_anything_runs(run: Run, prefect_server: Api) -> None:
    run.write(PASSING)
    run.write(
        "cases: [{ name: a, expect: { tasks: { pai: SUCCESS }, otput: 1 } }]\n", "b.test.yaml"
    )
    before = prefect_server.post("/flow_runs/count", {})
    said = run("--json")
    assert (said.code, said.out) == (1, "")
    assert "error[CZ303]: `expect` has no key `otput`\n --> b.test.yaml:1:55" in said.err
    assert "error[CZ701]: workflow `shop` has no task `pai`\n --> b.test.yaml:1:39" in said.err
    assert "2 errors" in said.err
    assert prefect_server.post("/flow_runs/count", {}) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--jobs", "0"], "--jobs is 0"),
        (["--cov-min", "101"], "--cov-min is 101"),
        (["--junit", "/nowhere/at/all.xml"], "--junit is /nowhere/at/all.xml; there is no such"),
        (["-k", "nobody at all"], "no case of 2 has 'nobody at all'"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, tmp_path: Path, capsys: Captured) -> None:
    run = Run(tmp_path, capsys)
    run.write(MORE)
    found = run(*arguments)
    assert (found.code, found.out) == (2, "")
    assert said in found.err


def test_no_tests(tmp_path: Path, capsys: Captured) -> None:
    found = Run(tmp_path, capsys)()
    assert (found.code, found.out) == (2, "")
    assert found.err == (
        f"error: there are no test files in {tmp_path}; one is called like `hello.test.yaml`\n"
    )


def test_a_test_file_is_no_project(tmp_path: Path, capsys: Captured) -> None:
    run = Run(tmp_path, capsys)
    run.write(MORE)
    file = tmp_path / "shop.test.yaml"
    for command in ("validate", "plan", "run"):
        assert main([command, str(file)]) == 2
        said = capsys.readouterr().err
        assert said == f"error: {file} holds tests; `compozy test {file}` runs them\n"


def test_list(tmp_path: Path, capsys: Captured) -> None:
    run = Run(tmp_path, capsys)
    run.write(PASSING)
    run.write(MORE, "more.test.yaml")
    assert run("--list").out.splitlines() == [
        "more.test.yaml:2: it cannot be paid",
        "more.test.yaml:7: what is refused",
        "shop.test.yaml:3: a small one is paid at the second try",
        "shop.test.yaml:17: a large one is asked for twice",
        "shop.test.yaml:28: nobody answers",
    ]
    assert run("--list", "--json", "-k", "paid").json[0] == {
        "name": "it cannot be paid",
        "file": "more.test.yaml",
        "line": 2,
        "workflow_id": "shop",
    }


def test_five_hundred_cases(run: Run) -> None:
    """Most of them are refused by the schema, which takes no server; `SLOW=1` runs them all."""
    slow = os.environ.get("SLOW") == "1"
    refused = "x" if not slow else "1"
    status = "FAILED" if not slow else "SUCCESS"
    listed = "".join(
        f"  - {{ name: c{n}, input: {{ n: {refused if n % 100 else 1} }}, "
        f"expect: {{ status: {status if n % 100 else 'SUCCESS'} }} }}\n"
        for n in range(500)
    )
    run.write(f"mocks: {{ tools: {{ bank: {{ output: {{ ok: true }} }} }} }}\ncases:\n{listed}")
    said = run("--json", "--cov-min", "40")
    assert said.code == 0, said.out[:2000]
    assert [case["name"] for case in said.json["cases"]] == [f"c{n}" for n in range(500)]
    assert (said.json["passed"], said.json["coverage"]["workflows"]["shop"]["covered"]) == (500, 12)


def test_an_interruption(run: Run, compozy: Compozy) -> None:
    run.write(
        """
mocks: { tools: { bank: { output: { ok: true }, delay: 1m } } }
cases:
  - { name: refused, input: { n: x }, expect: { status: FAILED } }
  - { name: one, input: { n: 5 } }
  - { name: two, input: { n: 5 } }
"""
    )
    process = compozy.start("test", run.folder, "--jobs", "1", env={"PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout.readline() == "shop.test.yaml\n"
        assert process.stdout.readline().startswith("  ✓ refused")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "  - one  (interrupted)\n  - two  (interrupted)\n" in out
    assert "1 passed, 2 skipped" in out
    assert "Traceback" not in err


def test_no_server(run: Run, compozy: Compozy) -> None:
    run.write(PASSING)
    said = compozy("test", run.folder, env={"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert said.code == 1
    assert "error: the Prefect server at http://127.0.0.1:9/api" in said.err
    assert "Traceback" not in said.err


def test_json_is_all_that_is_printed(run: Run) -> None:
    run.write("cases: [{ name: a, input: { n: x }, expect: { status: FAILED } }]\n")
    said = run("--json")
    assert json.loads(said.out)["passed"] == 1
    assert said.err == ""
