"""A tree as nouns: what stays when a part does not fit, and that nothing makes it fall over."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compozy_prefect.compiler.compile import check
from compozy_prefect.compiler.lower import lower
from compozy_prefect.diagnostics import has_errors
from compozy_prefect.language.durations import parse_duration
from compozy_prefect.language.models.project import Project, SingleFile, Workflow
from compozy_prefect.language.nodes import Mapping
from compozy_prefect.language.source import parse
from compozy_prefect.language.typed import Typed, typed

EVERYTHING = Path(__file__).parents[1] / "cases" / "plans" / "everything" / "compozy.yaml"


def _typed(text: str, kind: type[Project] | type[Workflow] = SingleFile) -> Typed:
    root, found, _ = parse(text, "compozy.yaml")
    assert not found
    assert isinstance(root, Mapping)
    return typed(root, kind)


def test_a_faulty_part_is_left_out_and_the_rest_stays() -> None:
    out = _typed(
        """
name: demo
models: [{provider: mock, model: m, temperature: hot, top_p: 0.5}]
agents:
  - id: writer
    instructions: Write.
    max_iterations: many
    actions: [{id: one, prompt: [x]}, {id: two, prompt: hi}, three]
tasks:
  - {id: a, with: {}, config: {retry_policy: {maximum_attempts: x, maximum_interval: 5s}}}
"""
    )
    assert isinstance(out.noun, SingleFile)
    (agent,), (model,), (task,) = out.noun.agents, out.noun.models, out.noun.tasks
    assert [action.id for action in agent.actions] == ["one", "two"]
    assert (agent.max_iterations, model.temperature, model.top_p) == (None, None, 0.5)
    assert task.config is not None
    assert task.config.retry_policy is not None
    assert task.config.retry_policy.maximum_attempts is None
    assert task.config.retry_policy.maximum_interval == 5.0
    assert len(out.diagnostics) == 5
    assert out.broken == set()


def test_what_cannot_be_built_is_remembered() -> None:
    out = _typed(
        """
name: demo
models: [{provider: opnai, model: m}]
tools: [{id: a b}, {type: http}]
tasks: [{with: {}}, {id: [x], with: {}}, {id: fine, with: {}}]
"""
    )
    assert out.broken == {("models", ""), ("tools", "a b"), ("tools", ""), ("tasks", "")}
    assert [task.id for task in out.noun.tasks][-1] == "fine"  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [Project, SingleFile, Workflow])
@pytest.mark.parametrize("text", ["{}", "name: [x]", "tasks: 1", "tasks: [1]", "id: {}\nagents: 5"])
def test_there_is_always_a_noun(text: str, kind: type[Project] | type[Workflow]) -> None:
    out = _typed(text, kind)
    assert isinstance(out.noun, kind)
    assert out.noun.node is not None
    assert out.diagnostics


def test_numbers_are_text_as_they_are_written() -> None:
    out = _typed(
        "name: 007\nversion: 1.10\nconfig: {env: {A: 0x1F, B: 1e3, C: -0}}\n"
        "tasks: [{id: 1_000, with: {n: 1.10}, on_error: {next: 1.0}}]\n"
    )
    noun = out.noun
    assert isinstance(noun, SingleFile)
    assert (noun.name, noun.version, noun.tasks[0].id) == ("007", "1.10", "1_000")
    assert noun.config is not None
    assert noun.config.env == {"A": "0x1F", "B": "1e3", "C": "-0"}
    assert noun.tasks[0].with_ == {"n": 1.1}
    assert noun.tasks[0].on_error is not None
    assert noun.tasks[0].on_error.next == "1.0"
    assert out.diagnostics == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1h30m", 5400),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1m0.5s", 60.5),
        ("250us", 0.00025),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("30 seconds", 30),
        ("5 minutes", 300),
        ("1 hour", 3600),
        ("1 Hour", 3600),
        ("1.5 hours", 5400),
        (" 30s ", 30),
        ("0", 0),
        ("", 0),
        (0, 0),
        (2.5, 2.5),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["soon", "-1s", -1, "1", "1h 30", "1x", "s", "1 fortnight", True, None, [], "999999d"]
)
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match=r"duration"):
        parse_duration(text)


# --- whatever stands in a file, the answer is diagnostics ----------------------------------------

BASE = yaml.safe_load(EVERYTHING.read_text("utf-8"))
VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 10**30, "", " ", "x", "a\nb", "yes", [], {}, [[]], [None], ["x"]),
    *({"": ""}, {"x": {}}, [{"id": "x"}], {"id": "x"}, {"id": None}, {"id": ["x"]}),
    *("{{", "{{ .nope }}", "{{ .tasks.x.output }}", "{% x %}", "\x7f", "日本", "30 parsecs"),
    *({"$ref": "local::tasks"}, {"$use": "agent(local::nothing)"}, {"$merge": 1}, {"$ref": 1}),
    *("prepare", "writer", "ticket", "schema::x", {"schema": "x"}, {"type": "objct"}),
]


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    if isinstance(value, (dict, list)):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(below, (*at, key))


PLACES = list(_places(BASE))


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(["set", "drop", "rename"]), st.data()),
        min_size=1,
        max_size=4,
    )
)
def test_no_project_is_too_odd(changes: list[Any], tmp_path: Path) -> None:
    data = copy.deepcopy(BASE)
    for place, what, draw in changes:
        holder = data
        try:
            for step in place[:-1]:
                holder = holder[step]
            holder[place[-1]]
        except (LookupError, TypeError):
            continue
        if what == "set":
            holder[place[-1]] = copy.deepcopy(draw.draw(st.sampled_from(VALUES)))
        elif what == "rename" and isinstance(holder, dict):
            holder[f"{place[-1]}x"] = holder.pop(place[-1])
        elif isinstance(holder, (dict, list)):
            del holder[place[-1]]
    (tmp_path / "compozy.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), "utf-8")
    checked = check(tmp_path)
    for diagnostic in checked.diagnostics:
        assert diagnostic.span is not None
        assert diagnostic.message
        assert diagnostic.span.line >= 1
    if not has_errors(checked.diagnostics):
        lower(checked.project).plan.dumps()
