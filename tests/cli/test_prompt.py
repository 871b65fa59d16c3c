"""`compozy prompt`: the messages, tools and tokens of a task; nothing is sent."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from compozy_prefect.cli import main

PROJECT = """\
name: demo
models: [{provider: openai, model: gpt-4o-mini, api_key: "{{ .env.OPENAI_API_KEY }}"}]
config: {input: {type: object, properties: {who: {type: string}}, required: [who]}}
tools:
  - id: look/up
    description: Finds it.
    type: http
    config: {base_url: "http://127.0.0.1:1"}
    input: {type: object, properties: {q: {type: string}}}
agents:
  - id: a
    model: openai:gpt-4o-mini
    instructions: Be brief.
    tools: [look/up]
    actions:
      - id: x
        prompt: "Greet {{ .input.who }} after {{ .tasks.first.output.n }}."
        output: {type: object, properties: {g: {type: string}}, required: [g]}
      - {id: y, prompt: "About {{ .input.what }}."}
tasks:
  - {id: first, with: {n: 1}}
  - {id: greet, agent: a, action: x, with: {who: "{{ .workflow.input.who }}"}}
  - id: each
    type: collection
    items: [1, 2]
    task: {id: one, agent: a, action: y, with: {what: "{{ .item }}"}}
  - {id: never, condition: .workflow.input.who == "nobody", agent: a, action: y, with: {what: x}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "compozy.yaml").write_text(PROJECT)
    (tmp_path / "outputs.yaml").write_text("first: {n: 7}\n")

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path


def test_what_would_be_sent(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = str(project / "outputs.yaml")
    code = main(["prompt", "greet", str(project), "-i", "who=Ada", "--outputs", outputs, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    system, user = found["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert user["content"].startswith("Greet Ada after 7.")
    assert '"required":["g"]' in user["content"], "with tools the schema stands in the prompt"
    [tool] = found["tools"]
    assert tool["function"]["name"] == "look_up"
    assert found["tokens"] > 20
    assert found["usd"] == pytest.approx(found["tokens"] * 0.15e-6)


def test_as_text(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompt", "each/one", str(project), "-i", "who=Ada", "--item", "[3]"]) == 0
    said = capsys.readouterr()
    assert "--- user\nAbout [3]." in said.out
    assert "--- tool look_up\nFinds it." in said.out
    assert "openai/gpt-4o-mini: " in said.err
    assert "nothing was sent" in said.err


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["gret"], 'did you mean "greet"?', 2),
        (["first"], "asks no agent", 2),
        (["greet"], "breaks", 1),
        (["never", "-i", "who=Ada"], "the condition of `never` is false", 0),
        (["each/one", "-i", "who=Ada"], ".item", 1),
    ],
)
def test_what_cannot_be_shown(
    arguments: list[str], said: str, code: int, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prompt", arguments[0], str(project), *arguments[1:]]) == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_files_are_shown_by_their_digest(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = PROJECT.replace("with: {what: x}}", "with: {what: x}, attachments: ATTACHED}")
    attached = "[{type: file, path: a.png}, {type: pdf, url: 'http://127.0.0.1:1/a.pdf'}]"
    (project / "compozy.yaml").write_text(text.replace("ATTACHED", attached))
    (project / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 5000)
    assert main(["prompt", "never", str(project), "-i", "who=nobody", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    _, image, document = found["messages"][-1]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;sha256,")
    assert document["file"]["file_id"] == "http://127.0.0.1:1/a.pdf", "nothing is fetched"
    assert found["tokens"] > 3000


def test_outputs_that_were_not_given(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompt", "greet", str(project), "-i", "who=Ada", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["missing"] == ["first"]
    assert "the output of `first` is read and reads as null" in said.err
    outputs = str(project / "outputs.yaml")
    assert main(["prompt", "greet", str(project), "-i", "who=Ada", "--outputs", outputs]) == 0
    assert "reads as null" not in capsys.readouterr().err
