"""The JSON Schemas for editors: valid themselves, and of one mind with the compiler.

What the compiler reads without a fault, the schema takes; what it calls a value of the wrong type,
or a missing key, the schema refuses. The projects are those of the examples, of the cases of the
checks, and of the brief where it stands beside the repository.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from compozy_prefect.compiler.editor import KINDS, describe, schema
from compozy_prefect.language.durations import parse_duration
from compozy_prefect.language.load import load
from compozy_prefect.language.models.base import fields_of
from compozy_prefect.language.models.task import TASK_TYPES
from compozy_prefect.language.source import parse

ROOT = Path(__file__).parents[2]
CHECKS = ROOT / "tests" / "cases" / "checks"
BRIEF = ROOT.parent / "shared" / "conformance" / "brief"


@cache
def _validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(schema(kind))


def _data(text: str) -> Any:
    """As the language reads YAML."""
    node, *_ = parse(text, "compozy.yaml")
    return None if node is None else node.data()


def _faults(kind: str, value: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in _validator(kind).iter_errors(value)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_schema_is_one(kind: str) -> None:
    Draft202012Validator.check_schema(schema(kind))
    assert describe(kind).endswith(".")


def _files() -> list[Path]:
    here = [*(ROOT / "examples").rglob("*.yaml"), *(ROOT / "tests" / "cases").rglob("compozy.yaml")]
    here += (ROOT / "tests" / "cases" / "plans").rglob("flows/*.yaml")
    if BRIEF.exists():
        here += [
            *BRIEF.glob("hello-world/*"),
            *BRIEF.glob("project/**/*.yaml"),
            *BRIEF.glob("*.yaml"),
        ]
    return sorted(
        path for path in here if path.name != "mocks.yaml" and "fragments" not in path.parts
    )


def _kind(path: Path) -> str:
    if path.name.endswith(".test.yaml"):
        return "test"
    return "project" if path.name == "compozy.yaml" else "workflow"


@pytest.mark.parametrize("path", _files(), ids=lambda path: "/".join(path.parts[-3:]))
def test_projects_fit(path: Path) -> None:
    assert _faults(_kind(path), _data(path.read_text("utf-8"))) == []


FRAGMENTS = sorted(BRIEF.glob("fragments/*.yaml"))


@pytest.mark.skipif(not FRAGMENTS, reason="the brief is not here")
@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
def test_parts_of_the_brief_fit(path: Path) -> None:
    for name, listed in _data(path.read_text("utf-8")).items():
        for value in listed:
            assert _faults(name.removesuffix("s"), value) == []


def _cases() -> list[Any]:
    out = []
    for path in sorted(CHECKS.glob("*.yaml")):
        for case in yaml.load(path.read_text("utf-8"), yaml.CSafeLoader):
            if "input" in case:
                out.append(pytest.param(case["input"], id=case["name"]))
    return out


# Of the shape of a file; the rest of what may be wrong takes more than a schema to see.
SHAPE = ("CZ301", "CZ302", "CZ304", "CZ305")
# JSON has one 1000, and YAML writes it as `1e3` too, which is no whole number here.
LENIENT = {"a whole number written as a float"}


@pytest.mark.parametrize("text", _cases())
def test_cases_agree(text: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (tmp_path / "compozy.yaml").write_text(text, "utf-8")
    value = _data(text)
    found = [d for d in load(tmp_path).diagnostics if d.severity == "error"]
    if not isinstance(value, dict) or request.node.callspec.id in LENIENT:
        return
    faults = _faults("project", value)
    if not found:
        assert faults == []
    elif all(one.code in SHAPE for one in found):
        assert faults != []


def test_everything_is_described() -> None:
    definitions = schema("project")["$defs"] | schema("test")["$defs"]
    for name, made in definitions.items():
        assert made.get("description") or name == "directive", name
        for key, field in made["properties"].items():
            assert field.get("description"), f"{name}.{key}"
    reached = {noun.__name__ for noun in (*KINDS.values(), *TASK_TYPES.values())}
    assert reached - {"Workflow"} <= set(definitions)


def test_fields_say_what_the_nouns_declare() -> None:
    made = schema("model")["$defs"]["Model"]["properties"]
    assert made["provider"]["anyOf"][0]["enum"][0] == "openai"
    assert made["timeout"]["examples"] == ["2m"]
    assert made["default"]["default"] is False
    assert made["retry_attempts"]["minimum"] == 0
    for declared in fields_of(KINDS["model"]).values():
        assert made[declared.key]["description"].startswith(declared.spec.description.rstrip("."))


TASK: dict[str, Any] = {"id": "a"}


@pytest.mark.parametrize(
    "value",
    [
        TASK,
        {**TASK, "type": None},
        {**TASK, "type": "parallel", "tasks": [TASK]},
        {**TASK, "routes": {"x": "b", "y": TASK}, "condition": "{{ .x }}"},
        {**TASK, "items": [1], "task": {"id": "b-{{ .index }}"}},
        {**TASK, "type": "wait", "wait_for": "go", "timeout": "{{ .workflow.input.timeout }}"},
        {**TASK, "wait_for": "go", "processor": {"with": {}}},
        {**TASK, "type": "aggregate", "outputs": {"x": 1}},
        {**TASK, "agent": "writer", "action": "write"},
        {**TASK, "agent": {"id": "writer"}},
        {**TASK, "agent": {"id": "writer", "instructions": "Write."}},
        {**TASK, "$use": 'agent(local::agents.#(id="x"))'},
        {"$ref": "local::tasks.0"},
        {**TASK, "$use": "task(local::tasks.0)", "tasks": [TASK]},
        {**TASK, "type": "parallel", "tasks": {"$merge": ["local::a", "local::b"]}},
        {**TASK, "with": {"$ref": "local::defaults"}, "sleep": {"$ref": "local::pause"}},
        {**TASK, "nobody": "knows this key"},
        {**TASK, "env": {"PORT": 8080, "$merge": [{"A": "b"}]}},
    ],
    ids=str,
)
def test_good_tasks(value: Any) -> None:
    assert _faults("task", value) == []


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("text", "$"),
        ({}, "$"),
        ({"id": ["a"]}, "$.id"),
        ({**TASK, "type": "paralell"}, "$.type"),
        ({**TASK, "type": "parallel"}, "$"),
        ({**TASK, "tasks": [TASK]}, "$"),
        ({**TASK, "type": "parallel", "tasks": []}, "$.tasks"),
        ({**TASK, "type": "parallel", "tasks": ["b"]}, "$.tasks[0]"),
        ({**TASK, "type": "parallel", "tasks": [{}]}, "$.tasks[0]"),
        ({**TASK, "routes": ["b"], "condition": "x"}, "$.routes"),
        ({**TASK, "routes": {"x": "b"}}, "$"),
        ({**TASK, "items": [1], "mode": "both"}, "$.mode"),
        ({**TASK, "timeout": "{{ .workflow.input.timeout }}"}, "$.timeout"),
        ({**TASK, "timeout": "soon"}, "$.timeout"),
        ({**TASK, "retries": "3"}, "$.retries"),
        ({**TASK, "retries": -1}, "$.retries"),
        ({**TASK, "final": "yes"}, "$.final"),
        ({**TASK, "with": "text"}, "$.with"),
        ({**TASK, "env": {"PORT": True}}, "$.env.PORT"),
        ({**TASK, "agent": ["writer"]}, "$.agent"),
        ({**TASK, "agent": {"id": "writer", "actions": []}}, "$.agent"),
        ({**TASK, "operation": "append", "memory_ref": "a b", "key_template": "k"}, "$.memory_ref"),
    ],
    ids=str,
)
def test_bad_tasks(value: Any, where: str) -> None:
    assert [fault.split(": ")[0] for fault in _faults("task", value)] == [where]


DURATIONS = (
    "30s",
    "1h30m",
    "500ms",
    ".5s",
    "7d",
    "5 minutes",
    "1 Hour",
    "2  weeks",
    "0",
    "",
    " 3s ",
)
NO_DURATIONS = ("5", "s", "5 sekunden", "-1s", "{{ .x }}", "1h 30m", "1.5.5s")


@pytest.mark.parametrize("text", [*DURATIONS, *NO_DURATIONS])
def test_durations_agree(text: str) -> None:
    faults = _faults("task", {**TASK, "sleep": text})
    if text in DURATIONS:
        parse_duration(text)
        assert faults == []
    else:
        with pytest.raises(ValueError, match=r"duration"):
            parse_duration(text)
        assert faults != []


def test_a_project_file_with_tasks_is_a_workflow() -> None:
    assert _faults("project", {"name": "x"}) == []
    assert _faults("project", {}) == ["$: 'name' is a required property"]
    assert _faults("project", {"id": "x", "tasks": [TASK]}) == []
    assert _faults("project", {"id": "x", "tasks": [TASK], "outputs": []}) != []
