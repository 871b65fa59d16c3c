"""What is wrong with test files is found before anything runs, with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.errors import ProjectInvalid
from compozy_prefect.testing.load import load
from tests.language.language_cases import lines
from tests.testing.testing_cases import compare
from tests.testing.testing_cases import load as fixtures

SHOP = """
name: shop
config:
  input:
    type: object
    properties: {n: {type: integer}, who: {type: string, default: Ada}}
models: [{provider: mock, model: m}]
agents:
  - {id: clerk, instructions: Write., actions: [{id: write, prompt: Write a line.}]}
tools:
  - id: bank
    output: {type: object, properties: {ok: {type: boolean}}}
tasks:
  - id: start
    agent: clerk
    action: write
    outputs:
      text: "Dear {{ .workflow.input.who }}"
      list: [a, b]
      n: "{{ .workflow.input.n }}"
      kind: '{{ ternary "tall" "small" true }}'
    on_success: {next: choose}
  - id: choose
    type: router
    condition: 'workflow.input.n > 100 ? "big" : "small"'
    routes: {big: wait, small: pay}
    default: pay
  - {id: wait, type: wait, wait_for: approval, on_success: {next: pay}}
  - {id: pay, tool: bank, with: {n: 1}, on_success: {next: fan}}
  - id: fan
    type: parallel
    tasks:
      - {id: left, with: {v: 1}}
      - {id: right, with: {v: 2}}
    on_success: {next: each}
  - id: each
    type: collection
    items: [1, 2]
    tasks:
      - {id: item, with: {v: 1}}
      - {id: "named-{{ .index }}", with: {v: 1}}
    on_success: {next: end}
  - {id: end, with: {done: true}}
outputs:
  text: "{{ .tasks.start.output.text }}"
  list: "{{ .tasks.start.output.list }}"
  n: "{{ .tasks.start.output.n }}"
  kind: "{{ .tasks.start.output.kind }}"
  open: "{{ .tasks.pay.output }}"
"""
MOCKS = {
    "good.yaml": "tools: {bank: {output: {ok: true}}}\n",
    "bad.yaml": "tools:\n  bank:\n    - error: 1\n",
    "broken.yaml": "tools: {bank\n",
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "compozy.yaml").write_text(SHOP)
    for name, text in MOCKS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def said(folder: Path, text: str) -> list[str]:
    (folder / "f.test.yaml").write_text(text)
    try:
        found = load(folder).warnings
    except ProjectInvalid as fault:
        found = fault.diagnostics
        shown = set(fault.sources)
    else:
        shown = {"f.test.yaml", "compozy.yaml"}
    assert {d.span.file for d in found if d.span} <= shown
    return [line.replace("f.test.yaml:", "") for line in lines(found)]


@pytest.mark.parametrize("case", fixtures("mistakes.yaml"))
def test_case(case: dict[str, Any], shop: Path) -> None:
    compare("mistakes.yaml", case, "found", said(shop, case["input"]))


def test_every_file_is_read_before_the_project_is_refused(shop: Path) -> None:
    (shop / "compozy.yaml").write_text(SHOP.replace("tool: bank", "tool: bnk"))
    (shop / "g.test.yaml").write_text("cases: 1\n")
    found = said(shop, "cases: [{name: a, expct: {}}]\n")
    assert [line.split()[0] for line in found] == ["CZ213", "CZ303", "CZ301"]


def test_several_workflows(shop: Path) -> None:
    (shop / "other.yaml").write_text("id: other\ntasks: [{id: a, with: {}}]\n")
    (shop / "compozy.yaml").write_text(SHOP + "workflows: [other.yaml]\n")
    text = "cases: [{name: a}, {name: b, workflow: other, expect: {tasks: {a: SUCCESS}}}]\n"
    assert said(shop, text) == [
        "CZ302 1:16-1:17 a case needs `workflow` | the project has shop, other"
    ]
    text = "workflow: other\ncases: [{name: a}, {name: b, workflow: shop, input: {n: 1}}]\n"
    assert said(shop, text) == []
    first, second = load(shop).cases
    assert (first.workflow, second.workflow) == ("other", "shop")


def test_what_a_file_says_and_its_cases_lay_over(shop: Path) -> None:
    (shop / "f.test.yaml").write_text(
        """
mocks: good.yaml
env: {A: 1, B: b}
offline: false
timeout: 5s
cases:
  - name: as the file
  - name: its own
    mocks:
      tools: {bank: [{error: no}, {output: 2}]}
      agents: {clerk: {write: {output: hi}}}
    env: {A: 2, C: 3}
    offline: true
    timeout: 1m
    signals: [{name: approval, payload: {ok: true}}, {name: approval}]
    skip: later
"""
    )
    first, second = load(shop).cases
    assert (first.offline, first.timeout, first.env) == (False, 5.0, {"A": "1", "B": "b"})
    assert first.mocks == {"tools": {"bank": {"output": {"ok": True}}}}
    assert (second.offline, second.timeout) == (True, 60.0)
    assert second.env == {"A": "2", "B": "b", "C": "3"}
    assert second.mocks == {
        "tools": {"bank": [{"error": "no"}, {"output": 2}]},
        "agents": {"clerk": {"write": {"output": "hi"}}},
    }
    assert second.signals == (("approval", {"ok": True}), ("approval", {}))
    assert (first.skip, second.skip) == ("", "later")
    assert second.place == "f.test.yaml:8:11"


def test_a_test_file_is_no_part_of_its_project(shop: Path) -> None:
    text = SHOP + "autoload: {enabled: true, strict: true, include: ['**/*.yaml']}\n"
    for name in MOCKS:
        (shop / name).unlink()
    (shop / "compozy.yaml").write_text(text)
    (shop / "agents").mkdir()
    (shop / "agents" / "agent.test.yaml").write_text("cases: [{name: b}]\n")
    assert said(shop, "cases: [{name: a}]\n") == []
    assert [case.file for case in load(shop).cases] == ["agents/agent.test.yaml", "f.test.yaml"]


def test_many_cases_are_read_at_once(shop: Path) -> None:
    cases = "".join(
        f"  - {{name: c{n}, input: {{n: {n}}}, expect: {{output: {{n: {n}}}}}}}\n"
        for n in range(500)
    )
    assert said(shop, f"cases:\n{cases}") == []
    assert len(load(shop).cases) == 500
