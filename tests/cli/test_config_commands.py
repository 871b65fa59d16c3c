"""`compozy config show|validate|diagnostics`, and the flags of settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from compozy_prefect.cli import main
from compozy_prefect.compiler.plan import loads

Captured = pytest.CaptureFixture[str]

GOOD = """\
name: demo
llm: {provider_timeout: 2m, admin_token: hunter2}
redis: {url: "redis://me:hunter3@cache:6379/0?token=hunter4", password: hunter5}
temporal: {namespace: mine}
models: [{provider: mock, model: m}]
agents: [{id: a, instructions: i, actions: [{id: x, prompt: p}]}]
tasks: [{id: s, agent: a, action: x}]
"""
BAD = """\
name: demo
llm: {retry_atempts: 4}
server: {port: 99999, auth: {enabled: true, admin_key: hunter2}}
tasks: [{id: s, agent: nobody, action: x}]
"""


@pytest.fixture
def good(tmp_path: Path) -> str:
    (tmp_path / "compozy.yaml").write_text(GOOD)
    return str(tmp_path)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    (tmp_path / "compozy.yaml").write_text(BAD)
    return str(tmp_path)


def _row(text: str, key: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [key])


def test_show(good: str, capsys: Captured) -> None:
    assert main(["config", "show", good, "--sources"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["KEY", "VALUE", "SOURCE"]
    assert _row(out, "llm.provider_timeout") == ["llm.provider_timeout", "120s", "compozy.yaml:2"]
    assert _row(out, "llm.retry_attempts") == ["llm.retry_attempts", "3", "default"]
    assert main(["config", "show", good]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["KEY", "VALUE"]


@pytest.mark.parametrize("arguments", [["--json"], ["--format", "json"], ["-f", "yaml"]])
def test_show_as_data(good: str, arguments: list[str], capsys: Captured) -> None:
    assert main(["config", "show", good, *arguments]) == 0
    out = capsys.readouterr().out
    data = json.loads(out) if "yaml" not in arguments else yaml.safe_load(out)
    assert data["config"]["llm"]["provider_timeout"] == 120.0
    assert data["config"]["redis"]["url"] == ("redis://me:[REDACTED]@cache:6379/0?token=[REDACTED]")
    assert data["config"]["llm"]["admin_token"] == "[REDACTED]"
    assert data["sources"]["llm.provider_timeout"] == "compozy.yaml:2"


@pytest.mark.parametrize("command", ["show", "validate", "diagnostics"])
@pytest.mark.parametrize("arguments", [[], ["--json"], ["--sources"], ["--verbose"]], ids=str)
def test_no_secret_is_printed(
    command: str,
    arguments: list[str],
    good: str,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter6")
    main(["config", command, good, *arguments])
    said = capsys.readouterr()
    assert "hunter" not in said.out + said.err


def test_validate(good: str, capsys: Captured) -> None:
    assert main(["config", "validate", good]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "✅ Configuration is valid\n"


def test_validate_says_what_is_wrong_with_settings_and_with_nothing_else(
    bad: str, capsys: Captured
) -> None:
    assert main(["config", "validate", bad]) == 1
    err = capsys.readouterr().err
    assert "warning[CZ303]: `llm` has no key `retry_atempts`; it is ignored" in err
    assert "did you mean `retry_attempts`?" in err
    assert "compozy.yaml:3:16" in err
    assert "`server.port` must be at most 65535, not 99999" in err
    assert "`server.auth.admin_key` has less than 16 characters" in err
    assert "2 errors and 1 warning" in err
    assert "nobody" not in err
    assert "hunter2" not in err


def test_a_file_that_is_no_yaml_is_told(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "compozy.yaml").write_text("name: [")
    assert main(["config", "validate", str(tmp_path)]) == 1
    assert "CZ101" in capsys.readouterr().err
    assert main(["config", "diagnostics", str(tmp_path)]) == 0
    assert "Loaded: no" in capsys.readouterr().out


def test_a_variable_that_cannot_be(
    good: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PORT", "many")
    assert main(["config", "validate", good]) == 1
    assert "DB_PORT: `database.port` must be a whole number" in capsys.readouterr().err
    # Nothing here acts on it, so that it stops no workflow.
    assert main(["validate", good]) == 0
    monkeypatch.setenv("LLM_RETRY_ATTEMPTS", "many")
    assert main(["validate", good]) == 1
    assert "LLM_RETRY_ATTEMPTS: `llm.retry_attempts`" in capsys.readouterr().err


def test_diagnostics(good: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PROVIDER_TIMEOUT", "9s")
    assert main(["config", "diagnostics", good]) == 0
    out = capsys.readouterr().out
    assert "Precedence: flag > file > environment > default" in out
    line = next(line for line in out.splitlines() if "llm.provider_timeout" in line)
    assert line.split()[:3] == ["llm.provider_timeout", "120s", "compozy.yaml:2"]
    assert line.endswith("`timeout` of models that have none; hides LLM_PROVIDER_TIMEOUT")
    assert "does nothing: Prefect runs the workflows" in out
    assert "--llm-retry-attempts" not in out
    assert main(["config", "diagnostics", good, "-v"]) == 0
    out = capsys.readouterr().out
    assert _row(out, "llm.retry_attempts") == [
        "llm.retry_attempts",
        "LLM_RETRY_ATTEMPTS",
        "--llm-retry-attempts",
    ]


def test_diagnostics_of_nothing(tmp_path: Path, capsys: Captured) -> None:
    assert main(["config", "diagnostics", str(tmp_path)]) == 0
    assert "there is no compozy.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--llm-provider-timeout", "3s", "plan"],
        ["plan", "--llm-provider-timeout=3s"],
    ],
)
def test_flags(arguments: list[str], good: str, capsys: Captured) -> None:
    assert main([*arguments, good]) == 0
    plan = loads(capsys.readouterr().out)
    assert plan.workflows["demo"].agents["a"].model.timeout == 3.0
    # They are of one call.
    assert main(["plan", good]) == 0
    assert loads(capsys.readouterr().out).workflows["demo"].agents["a"].model.timeout == 120.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--llm-retry-attempts", "x"], "must be a whole number"),
        (["--llm-retry-attempts", "-1"], "must be at least 0"),
        (["--llm-retry-attempts"], "needs a value"),
        (["--llm-retry-atempts", "3"], "--llm-retry-atempts"),
    ],
)
def test_wrong_flags(arguments: list[str], said: str, good: str, capsys: Captured) -> None:
    assert main(["plan", good, *arguments]) == 2
    assert said in capsys.readouterr().err
