"""Prompts that ask MCP servers, in runs on a real Prefect server: tapes, mocks, resumes, ends."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import check, compile_project
from compozy_prefect.flows import local
from tests.support.compozy import Compozy
from tests.support.formats.base import Call, Reply
from tests.support.mcp_servers.started import BAD, GOOD, OVER_STDIO, none_is_left
from tests.support.model_server import ModelServer
from tests.support.prefect_server import Api, until
from tests.support.started import Started, nothing_is_open, rows, start

__all__ = ["start"]
CANARY = "sk-canary-0123456789abcdef"
HANDBOOK = "# Handbook\n\nBe kind, {{ .nobody }}."
BOOK = '{{ .mcps.good.resource("file:///handbook.md") }}'


def project(folder: Path, models: ModelServer, prompt: str, **more: str) -> Path:
    """Whose only agent has no tools unless `more` says so."""
    program = shlex.quote(sys.executable)
    text = f"""\
name: demo
models:
  - {{provider: openai, model: gpt-4o-mini, api_url: "{models.url}", api_key: "{CANARY}"}}
mcps:
  - id: good
    command: {program}
    args: ["{GOOD}", stdio]
    env: {{EFFECTS: "{folder}/effects", TOKEN: "{{{{ .env.A_TOKEN }}}}"}}
    timeout: 20s
  - {{id: bad, command: {program}, args: ["{BAD}", "{more.get("how", "ok")}"], timeout: 2s}}
agents:
  - id: finder
    model: openai:gpt-4o-mini
    instructions: '{more.get("instructions", BOOK)}'
    actions: [{{id: find, prompt: '{prompt}'}}]
    {more.get("agent", "")}
tasks:
  - {{id: find, agent: finder, action: find, with: {{what: it}}, retries: 0}}
outputs: {{found: "{{{{ .tasks.find.output.response }}}}"}}
"""
    (folder / "compozy.yaml").write_text(text)
    return folder


def asked(models: ModelServer) -> list[str]:
    """The instructions and the prompt of the first question."""
    return [one["content"] for one in models.requests[0].body["messages"]][:2]


def effects(folder: Path) -> list[Any]:
    log = folder / "effects"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


PROMPT = (
    '{{ .mcps.good.prompt("greet", dict "name" .input.what "tone" "dry") }} '
    '{{ (.mcps.good.resource("data://settings")).days }} '
    '{{ .mcps.good.resource("file:///handbook.md") | len }} {{ .mcps.good.transport }}'
)


def test_a_prompt_reads_what_a_server_gives_and_a_tape_needs_none(
    tmp_path: Path, prefect_server: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", CANARY)
    tape = tmp_path / "tape.jsonl"
    with ModelServer() as models:
        models.answers_by(lambda _: Reply("found"))
        folder = project(tmp_path, models, PROMPT)
        recorded = local.run(folder, cassette=local.cassette(tape, None))
        assert recorded.status == "SUCCESS", recorded.error
        instructions, prompt = asked(models)
        assert instructions == HANDBOOK, "what a server gives is no template"
        said = "Say hello to it, in a dry tone."
        assert prompt == f"{said} [1,2] {len(HANDBOOK)} stdio"
    none_is_left(OVER_STDIO)
    seen = effects(tmp_path)
    assert [{k: v for k, v in one.items() if k != "began"} for one in seen] == [
        {"prompt": "greet", "name": "it", "tone": "dry"},
        {"read": "settings"},
        {"read": "handbook"},
    ], "each is asked for once"
    shown = nothing_is_open(prefect_server, recorded.execution_id)
    names = {row["name"] for row in shown}
    assert names == {"find", "good/greet", "good/data://settings", "good/file:///handbook.md"}
    lines = "\n".join(prefect_server.logs(recorded.execution_id))
    assert "resource good/file:///handbook.md: 23 B in, 39 B out, " in lines
    assert CANARY not in tape.read_text()
    assert '"kind": "resource", "name": "good/file:///handbook.md"' in tape.read_text()

    monkeypatch.delenv("A_TOKEN")
    replayed = local.run(folder, cassette=local.cassette(None, tape))
    assert replayed.status == "SUCCESS", replayed.error
    assert replayed.output == recorded.output
    assert effects(tmp_path) == seen, "no server was started"

    text = (folder / "compozy.yaml").read_text().replace('"tone" "dry"', '"tone" "wet"')
    (folder / "compozy.yaml").write_text(text)
    other = local.run(folder, cassette=local.cassette(None, tape))
    assert other.error is not None
    assert "no such call of the prompt `good/greet`" in other.error.message


def test_a_secret_that_a_server_gives_reaches_neither_model_nor_tape_nor_prefect(
    tmp_path: Path, prefect_server: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "qwertz-one-of-a-kind")
    tape = tmp_path / "tape.jsonl"
    with ModelServer() as models:
        models.answers_by(lambda _: Reply("found"))
        prompt = 'Token: {{ .mcps.good.resource("env://TOKEN") }}.'
        result = local.run(project(tmp_path, models, prompt), cassette=local.cassette(tape, None))
        assert result.status == "SUCCESS", result.error
        assert asked(models)[1] == "Token: [REDACTED]."
    lines = "\n".join(prefect_server.logs(result.execution_id))
    for place in (tape.read_text(), lines, json.dumps(rows(prefect_server, result.execution_id))):
        assert "qwertz" not in place


def test_offline_nothing_is_read_that_the_mocks_do_not_name(
    tmp_path: Path, prefect_server: Api, compozy: Compozy
) -> None:
    with ModelServer() as models:
        folder = project(tmp_path, models, '{{ .mcps.good.prompt("greet", dict "name" "Ada") }}')
    refused = local.run(folder, offline=True)
    assert refused.status == "FAILED"
    assert refused.error is not None
    said = refused.error.message
    assert "the prompt `greet` of MCP server `good` is refused with --offline" in said
    assert 'add `mcps: {good: {prompts: {"greet": {output: …}}}}` to a file' in said
    mocks: dict[str, Any] = {
        "good": {
            "prompts": {"greet": [{"output": "Hi Ada.", "when": {"name": "Ada"}}]},
            "resources": {"file:///handbook.md": {"output": "A short one."}},
        }
    }
    answered = local.run(folder, offline=True, mocks={"mcps": mocks})
    assert answered.status == "SUCCESS", answered.error
    mocks["good"]["resources"]["file:///handbook.md"] = {"error": "it burns"}
    failing = local.run(folder, offline=True, mocks={"mcps": mocks})
    assert failing.error is not None
    assert failing.error.message.endswith("it burns")
    mocks["good"]["prompts"]["greet"][0]["when"] = {"name": "Bob"}
    unmatched = local.run(folder, offline=True, mocks={"mcps": mocks})
    assert unmatched.error is not None
    assert "the mocks of prompt `greet` of `good` have no entry" in unmatched.error.message
    assert effects(tmp_path) == [], "no server was started"
    file = tmp_path / "mocks.yaml"
    file.write_text(json.dumps({"mcps": {"good": mocks["good"], "goood": {}}}))
    told = compozy("run", str(folder), "--offline", "--mocks", file).err
    assert "the mocks name the MCP server `goood`" in told
    assert "did you mean `good`?" in told


def test_what_was_read_is_not_read_again(
    tmp_path: Path, prefect_server: Api, start: Callable[..., Started]
) -> None:
    waits = Reply("", calls=(Call("gate", {"path": str(tmp_path / "open")}, "1"),))
    with ModelServer() as models:

        def turn(seen: Any) -> Reply:
            said = [one for one in seen.body["messages"] if one["role"] == "assistant"]
            return Reply("found") if said else waits

        models.answers_by(turn)
        folder = project(tmp_path, models, PROMPT, agent="mcps: [good]")
        begun = start("run", str(folder))
        until(lambda: json.dumps(effects(tmp_path)), lambda said: '"gate"' in said)
        id = begun.kill()
        none_is_left(OVER_STDIO)
        (tmp_path / "open").touch()
        models.answers_by(turn)
        ended = start("resume", id).ended()
        assert ended["status"] == "SUCCESS"
        assert len(models.requests) == 1, "the first answer was kept: the question is the same"
    seen = effects(tmp_path)
    assert len({one["began"] for one in seen}) == 2, "the session is opened again"
    assert sum("prompt" in one for one in seen) == 1
    assert sum("read" in one for one in seen) == 2
    found = rows(prefect_server, id)
    assert {"good/greet", "good/data://settings", "gate"} <= {row["name"] for row in found}
    none_is_left(OVER_STDIO)


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("dies", "MCP_CONNECTION_ERROR", "resource `file:///a` of MCP server `bad`: it ended"),
        ("hangs", "MCP_TIMEOUT_ERROR", "did not answer within 2 s"),
        ("wrong", "MCP_RESPONSE_ERROR", "its answer is no MCP"),
    ],
)
def test_a_server_that_fails_ends_the_step(
    how: str, code: str, said: str, tmp_path: Path, prefect_server: Api
) -> None:
    with ModelServer() as models:
        models.answers_by(lambda _: Reply("found"))
        prompt = '{{ .mcps.bad.resource("file:///a") }}'
        folder = project(tmp_path, models, prompt, how=how, instructions="Look.")
        result = local.run(folder)
        assert result.status == "FAILED"
        assert result.error is not None
        assert result.error.code == code
        assert said in result.error.message
        assert models.requests == [], "the model was asked nothing"
    none_is_left(str(BAD))


def test_the_lock_knows_prompts_and_resources(
    tmp_path: Path, prefect_server: Api, compozy: Compozy
) -> None:
    prompt = '{{ .mcps.bad.prompt("greet", dict "nam" "Ada") }}'
    with ModelServer() as models:
        models.answers_by(lambda _: Reply("found"))
        folder = project(tmp_path, models, prompt, instructions="Look.")
        assert compozy("mcp", "lock", folder).code == 0
        found = [d.message for d in check(folder).diagnostics if d.code == "CZ336"]
        assert found == [
            "the prompt `greet` of `bad` needs `name`",
            "the prompt `greet` of `bad` has no argument `nam`",
        ]
        plan = compile_project(folder).plan.workflows["demo"].mcps
        assert list(plan) == ["bad"], "the server that nothing uses is not in the plan"
        assert plan["bad"].prompts is not None
        lock = folder / "compozy.lock"
        lock.write_text(lock.read_text().replace('"name": true', '"nam": true'))
        result = local.run(folder)
        assert result.error is not None
        assert result.error.code == "MCP_PROMPTS_CHANGED"
        assert "    +argument name: needed" in result.error.message
        assert models.requests == []
