"""Where a setting comes from (language.md §1.4): every set of sources, in both orders."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import check, compile_project
from compozy_prefect.language import registry
from compozy_prefect.language.config import EFFECTS, FLAGS, PRECEDENCE, Config, Outside
from compozy_prefect.language.load import load

KEY = "llm.retry_attempts"
SOURCES = ("flag", "file", "environment", "env file")
# The value that each source gives, and how it is named in the end.
VALUES = {"flag": 11, "file": 12, "environment": 13, "env file": 14}
NAMES = {
    "flag": "--llm-retry-attempts",
    "file": "compozy.yaml:2",
    "environment": "LLM_RETRY_ATTEMPTS",
    "env file": "LLM_RETRY_ATTEMPTS (env file)",
}
ORDERS = {
    "": SOURCES,
    "seed": SOURCES,
    "env-first": ("environment", "env file", "flag", "file"),
}


def _config(directory: Path, given: tuple[str, ...], order: str = "") -> Config:
    section = f"llm: {{retry_attempts: {VALUES['file']}}}" if "file" in given else ""
    (directory / "compozy.yaml").write_text(f"name: demo\n{section}\nworkflows: []\n")
    if "env file" in given:
        (directory / ".env").write_text(f"LLM_RETRY_ATTEMPTS={VALUES['env file']}\n")
    environ = {PRECEDENCE: order} if order else {}
    if "environment" in given:
        environ["LLM_RETRY_ATTEMPTS"] = str(VALUES["environment"])
    flags = {KEY: str(VALUES["flag"])} if "flag" in given else {}
    return load(directory, outside=Outside(environ, flags)).config


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "given",
    [
        pytest.param(some, id=" and ".join(some) or "nothing")
        for count in range(len(SOURCES) + 1)
        for some in itertools.combinations(SOURCES, count)
    ],
)
def test_the_first_source_of_the_order_wins(
    given: tuple[str, ...], order: str, tmp_path: Path
) -> None:
    setting = _config(tmp_path, given, order).setting(KEY)
    expected = [source for source in ORDERS[order] if source in given]
    if not expected:
        assert (setting.value, str(setting.origin), setting.hidden) == (3, "default", ())
        return
    assert setting.value == VALUES[expected[0]]
    assert setting.origin.where == expected[0]
    assert str(setting.origin) == NAMES[expected[0]]
    assert [str(origin) for origin in setting.hidden] == [NAMES[one] for one in expected[1:]]


def test_a_value_that_cannot_be_leaves_the_next(tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text("name: demo\nllm: {retry_attempts: many}\n")
    config = load(tmp_path, outside=Outside({"LLM_RETRY_ATTEMPTS": "few"})).config
    assert config[KEY] == 3
    assert [str(one) for one in config.faults()] == [
        "error[CZ301]: LLM_RETRY_ATTEMPTS: `llm.retry_attempts` must be a whole number, "
        'not the text "few"'
    ]


@pytest.mark.parametrize(
    ("key", "name", "text", "value"),
    [
        ("llm.provider_timeout", "LLM_PROVIDER_TIMEOUT", "2m", 120.0),
        ("server.cors.allowed_origins", "SERVER_CORS_ALLOWED_ORIGINS", "a, b,", ["a", "b"]),
        ("server.auth.enabled", "SERVER_AUTH_ENABLED", "1", True),
        ("monitoring.enabled", "PROMETHEUS_ENABLED", "False", False),
        ("limits.max_string_length", "LIMITS_MAX_STRING_LENGTH", "1KiB", 1024),
        ("database.password", "DB_PASSWORD", "007", "007"),
        ("database.max_open_conns", "DB_MAX_CONNECTIONS", "7", 7),
        ("server.port", "COMPOZY_PORT", "8080", 8080),
        ("server.timeouts.http_read", "SERVER_HTTP_READ_TIMEOUT", "1s", 1.0),
        ("server.timeouts.server_shutdown", "SERVER_SHUTDOWN_TIMEOUT", "1s", 1.0),
        ("ratelimit.global_rate.limit", "RATELIMIT_GLOBAL_LIMIT", "5", 5),
        ("tasks.retry.child_state.max_attempts", "TASKS_RETRY_CHILD_MAX_ATTEMPTS", "2", 2),
        ("tasks.wait.siblings.timeout", "TASKS_WAIT_SIBLINGS_TIMEOUT", "2s", 2.0),
        ("llm.admin_token", "MCP_ADMIN_TOKEN", "t", "t"),
        ("runtime.environment", "COMPOZY_ENV", "production", "production"),
        ("cli.base_url", "COMPOZY_BASE_URL", "http://x", "http://x"),
        ("mode", "COMPOZY_MODE", "standalone", "standalone"),
    ],
)
def test_variables(key: str, name: str, text: str, value: Any) -> None:
    setting = Config(None, {}, Outside({name: text})).setting(key)
    assert (setting.value, str(setting.origin)) == (value, name)


def test_an_empty_variable_gives_nothing() -> None:
    assert Config(None, {}, Outside({"LLM_RETRY_ATTEMPTS": ""}))[KEY] == 3


def test_every_setting_has_a_default_and_a_reason_or_an_effect() -> None:
    config = Config(None, {}, Outside({}))
    for key in registry.all_keys():
        assert str(config.setting(key).origin) == "default"
        assert registry.has_effect(key) or registry.why_inert(key)
    assert set(EFFECTS) <= set(registry.all_keys())


def test_a_variable_and_a_flag_give_one_setting() -> None:
    names = Counter(name for key in registry.all_keys() for name in registry.variables(key))
    assert [name for name, count in names.items() if count > 1] == []
    assert len(FLAGS) == sum(bool(effect.flag) for effect in EFFECTS.values())


def test_under_config_and_under_an_old_name(tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text(
        "name: demo\nruntime: {timeout: 5s}\nconfig: {limits: {max_nesting_depth: 2}}\n"
    )
    config = load(tmp_path, outside=Outside({})).config
    assert config["runtime.tool_execution_timeout"] == 5.0
    assert config.setting("limits.max_nesting_depth").value == 2


PLANNED = """\
name: demo
{section}
models: [{{provider: mock, model: m}}]
agents: [{{id: a, instructions: i, actions: [{{id: x, prompt: p}}]}}]
tools: [{{id: t, type: http, config: {{base_url: "https://example.com"}}}}]
memories: [{{id: notes, type: buffer, persistence: {{type: in_memory}}}}]
tasks:
  - {{id: s, agent: a, action: x}}
  - {{id: u, tool: t}}
  - {{id: m, type: memory, operation: read, memory_ref: notes, key_template: k}}
"""


@pytest.mark.parametrize(
    ("section", "where", "value"),
    [
        ("", "agents.a.model.timeout", 300.0),
        ("llm: {provider_timeout: 7s}", "agents.a.model.timeout", 7.0),
        ("llm: {retry_attempts: 0}", "agents.a.model.retry_attempts", 1),
        ("", "agents.a.loop.turns", 100),
        ("llm: {max_tool_iterations: 4}", "agents.a.loop.turns", 4),
        ("llm: {tool_call_caps: {default: 3, overrides: {t: 5}}}", "agents.a.loop.calls.t", 5),
        ("llm: {structured_output_retries: 0}", "agents.a.loop.corrections", 0),
        ("runtime: {tool_execution_timeout: 9s}", "tools.t.timeout", 9.0),
        ("memory: {ttl: 1h}", "memories.notes.ttl", 3600.0),
    ],
)
def test_the_plan_has_what_is_set(section: str, where: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text(PLANNED.format(section=section))
    at: Any = compile_project(tmp_path).plan.workflows["demo"]
    for step in where.split("."):
        at = at[step] if isinstance(at, dict) else getattr(at, step)
    assert at == value


def test_the_environment_reaches_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "compozy.yaml").write_text(PLANNED.format(section=""))
    monkeypatch.setenv("LLM_PROVIDER_TIMEOUT", "8s")
    workflow = compile_project(tmp_path).plan.workflows["demo"]
    assert workflow.agents["a"].model.timeout == 8.0
    given = compile_project(tmp_path, flags={"llm.provider_timeout": "6s"})
    assert given.plan.workflows["demo"].agents["a"].model.timeout == 6.0


def test_what_does_nothing_is_told_under_strict_only(tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text(
        "name: demo\n"
        "temporal: {host_port: 'x:1'}\n"
        "llm: {retry_attempts: 2, max_loop_restarts: 2}\n"
        "config: {redis: {port: 1}}\n"
        "tasks: [{id: a, with: {b: 1}}]\n"
    )
    assert check(tmp_path).diagnostics == ()
    found = check(tmp_path, strict=True).diagnostics
    assert [str(one) for one in found] == [
        "compozy.yaml:2:1: warning[CZ315]: `temporal` does nothing here: "
        "Prefect runs the workflows",
        "compozy.yaml:3:26: warning[CZ315]: `llm.max_loop_restarts` does nothing here: "
        "this version does not act on it yet",
        "compozy.yaml:4:10: warning[CZ315]: `redis` does nothing here: nothing is kept in Redis",
    ]
