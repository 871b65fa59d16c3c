"""Tools in JavaScript in a whole run, as `compozy run --json` shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.compozy import Compozy

PROJECT = """\
name: tools
runtime: {type: deno, entrypoint: ./tools.ts}
tools:
  - id: add
    output: {type: object, properties: {value: {type: number}}}
  - id: greet
    type: javascript
    env: {GREETING: Hello}
    execute: |
      async function greet({ name }) {
        if (name === "nobody") throw new Error("no such person");
        return { greeting: `${Deno.env.get("GREETING")} ${name}` };
      }
config:
  input: {type: object, properties: {name: {type: string}}}
tasks:
  - {id: greeting, tool: greet, with: {name: "{{ .workflow.input.name }}"}}
  - {id: sum, tool: add, with: {a: 1, b: 2}}
outputs:
  said: "{{ .tasks.greeting.output.greeting }}"
  sum: "{{ .tasks.sum.output.value }}"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "compozy.yaml").write_text(PROJECT)
    (tmp_path / "tools.ts").write_text(
        "export const add = ({ a, b }: { a: number; b: number }): number => a + b;\n"
    )
    return tmp_path


def test_both_kinds_run(project: Path, compozy: Compozy) -> None:
    said = compozy("run", project, "-i", "name=Ada", "--json")
    assert said.code == 0, said.err
    assert said.json["output"] == {"said": "Hello Ada", "sum": 3}
    assert "run on Deno" not in said.err


def test_a_failure_names_the_tool_and_the_line(project: Path, compozy: Compozy) -> None:
    said = compozy("run", project, "-i", "name=nobody", "--json")
    assert said.code == 1
    error = said.json["tasks"]["greeting"]["error"]
    assert error["message"] == "tool `greet`: no such person (compozy.yaml:11)"
    assert (error["details"]["file"], error["details"]["line"]) == ("compozy.yaml", 11)


def test_what_is_refused_starts_no_run(project: Path, compozy: Compozy) -> None:
    file = project / "compozy.yaml"
    text = file.read_text().replace("type: deno,", "type: deno, permissions: [--allow-run],")
    file.write_text(text)
    said = compozy("run", project, "-i", "name=Ada", "--json")
    assert (said.code, said.out) == (1, "")
    assert "`--allow-run` is refused: a process that a tool starts" in said.err
