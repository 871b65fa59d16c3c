"""Differences of plans: the sentences, what is breaking, and what comes after what changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.diff import Diff, diff
from compozy_prefect.compiler.plan import (
    ActionPlan,
    AgentCall,
    FanPlan,
    MemoryCall,
    MemoryPlan,
    ModelPlan,
    Plan,
    RetryPlan,
    RoutePlan,
    RouterPlan,
    SchedulePlan,
    ToolCall,
    Transition,
    WorkflowPlan,
)
from tests.support.plans import agent, plan, step

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases" / "graphs"
UPDATE = os.environ.get("UPDATE_CASES") == "1"


def _object(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or []}


def _plan(**fields: Any) -> Plan:
    steps = (
        step("a", then="b", agent=AgentCall("writer", "write")),
        step("b", then="c", tool=ToolCall("lookup"), otherwise="d"),
        step("c"),
        step("d"),
    )
    return plan(*fields.pop("steps", steps), **fields)


def _said(old: Plan, new: Plan) -> dict[str, list[str]]:
    """The messages by subject, with a mark for what is breaking."""
    found = diff(old, new)
    assert not found.is_empty
    assert json.loads(json.dumps(found.data()))["same"] is False
    return {
        subject.name: [f"{'! ' * c.is_breaking}{c.message}" for c in subject.changes]
        for part in found.parts
        for subject in part.subjects
    }


def _with(step_id: str, **fields: Any) -> Plan:
    old = _plan()
    steps = tuple(
        replace(one, **fields) if one.id == step_id else one for one in old.workflows["flow"].steps
    )
    return _plan(steps=steps)


def test_equal_plans() -> None:
    found = diff(_plan(), _plan())
    assert found.is_empty
    assert found.text() == "no difference\n"
    assert found.data()["same"] is True
    assert found.data()["workflows"] == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"timeout": 90.0}, "the time limit is new: 1m30s"),
        ({"retry": RetryPlan(5)}, "the number of attempts is now 5, and was 1"),
        (
            {"retry": RetryPlan(1, 0.25)},
            "the first pause between attempts is now 250ms, and was 1s",
        ),
        ({"condition": "input.x"}, "the condition is new: `input.x`"),
        ({"on_success": Transition("d")}, "what comes next is now `d`, and was `c`"),
        ({"on_error": Transition("")}, "what comes after a failure is gone, and was `d`"),
        ({"tool": ToolCall("slow")}, "the tool is now `slow`, and was `lookup`"),
        ({"with_": {"x": {"y": 1}}}, '`with` is new: {"x": {"y": 1}}'),
        ({"sleep": 3600.0}, "the pause before it is new: 1h"),
        ({"type": "aggregate"}, "the type is now `aggregate`, and was `basic`"),
        ({"env": {"A": "b"}}, '`env` is new: {"A": "b"}'),
        ({"output_schema": {"type": "object"}}, '`output_schema` is new: {"type": "object"}'),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_field_of_a_step(fields: dict[str, Any], message: str) -> None:
    assert _said(_plan(), _with("b", **fields)) == {"step b": [message]}


def test_what_comes_after_a_changed_step() -> None:
    found = diff(_plan(), _with("b", sleep=1.0))
    (subject,) = found.parts[0].subjects
    assert subject.after == ("c", "d")
    assert diff(_plan(), _with("c", sleep=1.0)).parts[0].subjects[0].after == ()


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [
        ("condition", "input.x == 'a'", '(input.x)  ==  "a"'),
        ("condition", "{{ .input.x }}", "{{.input.x}}"),
        ("with_", {"x": ["{{ .input.x | default 'a' }}"]}, {"x": ['{{.input.x|default "a"}}']}),
        (
            "with_",
            {"x": "Say {{ if .input.x }}hi{{ end }}."},
            {"x": "Say {{if (.input.x)}}hi{{/* or */}}{{end}}."},
        ),
    ],
    ids=["expression", "template", "list", "text"],
)  # fmt: skip
def test_a_template_that_is_only_written_otherwise(field: str, old: Any, new: Any) -> None:
    found = diff(_with("b", **{field: old}), _with("b", **{field: new}))
    assert not found.is_empty
    (subject,) = found.parts[0].subjects
    (change,) = subject.changes
    assert change.message.startswith("only the layout of ")
    assert change.is_layout
    assert (change.lines, change.is_breaking, subject.after) == ((), False, ())
    assert change.data()["layout"] is True


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [
        ("condition", "input.x == 'a'", "input.x == 'b'"),
        ("condition", "input.x", "{{ .input.x }}"),
        ("condition", "input.x", "{{/* as text */}}.input.x"),
        ("with_", {"x": "{{ .input.x }}"}, {"x": " {{ .input.x }}"}),
        ("with_", {"x": "a {{ .input.x }}"}, {"x": "a {{- .input.x }}"}),
        ("with_", {"x": "a b"}, {"x": "a  b"}),
        ("with_", {"x": "{{ .input.x"}, {"x": "{{  .input.x"}),
        ("with_", {"x": 1}, {"x": 1.0}),
        ("output_schema", {"default": "{{ .a }}"}, {"default": "{{.a}}"}),
    ],
)
def test_what_is_more_than_layout(field: str, old: Any, new: Any) -> None:
    (subject,) = diff(_with("b", **{field: old}), _with("b", **{field: new})).parts[0].subjects
    assert not any(change.is_layout for change in subject.changes)
    assert subject.after


def test_a_definition_that_is_only_written_otherwise() -> None:
    def of(prompt: str) -> Plan:
        return _plan(agents={"writer": agent(actions={"write": ActionPlan("write", prompt)})})

    (subject,) = diff(of("Hi {{ .input.x }}"), of("Hi {{.input.x}}")).parts[0].subjects
    assert [c.message for c in subject.changes] == [
        "only the layout of the prompt of `write` changed"
    ]
    assert subject.used_by == subject.after == ()


def test_a_prompt_shows_its_lines() -> None:
    long = "Write about it.\nBe kind.\nBe brief.\nThank them.\nSay goodbye."
    old = _plan(agents={"writer": agent(actions={"write": ActionPlan("write", long)})})
    changed = long.replace("brief", "verbose")
    new = _plan(agents={"writer": agent(actions={"write": ActionPlan("write", changed)})})
    (subject,) = diff(old, new).parts[0].subjects
    (change,) = subject.changes
    assert (subject.name, subject.used_by, subject.after) == (
        "agent writer",
        ("a",),
        ("b", "c", "d"),
    )
    assert change.message == "a change in the prompt of `write`"
    assert change.lines == (
        "@@ -2,3 +2,3 @@",
        " Be kind.",
        "-Be brief.",
        "+Be verbose.",
        " Thank them.",
    )


def test_a_long_text_is_cut() -> None:
    old, new = ("\n".join(f"{word} {i}" for i in range(40)) for word in ("old", "new"))
    before, after = (_plan(agents={"writer": agent(instructions=text)}) for text in (old, new))
    (change,) = diff(before, after).parts[0].subjects[0].changes
    assert change.lines[-1] == "… and 69 more lines"
    assert len(change.lines) == 13


def test_models_and_parameters() -> None:
    old = ModelPlan("openai", "gpt-4o", params={"temperature": 0.1, "seed": 1})
    new = ModelPlan("anthropic", "claude", params={"temperature": 0.2}, timeout=60.0)
    plans = (_plan(agents={"writer": agent(model=model)}) for model in (old, new))
    assert _said(*plans) == {
        "agent writer": [
            "the model is now `claude`, and was `gpt-4o`",
            "the parameter `seed` of the model is gone, and was 1",
            "the parameter `temperature` of the model is now 0.2, and was 0.1",
            "the provider is now `anthropic`, and was `openai`",
            "the time limit of a call is now 1m, and was 5m",
        ]
    }


def test_steps_that_come_go_move_and_change_their_name() -> None:
    inner = step("x", path="p/x", tool=ToolCall("lookup"))
    old = _plan(
        steps=(
            step("a", then="p"),
            step("p", type="parallel", fan=FanPlan(), steps=(inner,)),
            step("here", tool=ToolCall("slow")),
            step("gone"),
        )
    )
    new = _plan(
        steps=(
            step("a", then="p"),
            step("p", type="parallel", fan=FanPlan(), steps=(step("y", path="p/y"),)),
            step("there", tool=ToolCall("slow")),
            step("x", tool=ToolCall("lookup")),
        )
    )
    assert _said(old, new) == {
        "step p/y": ["was `gone` before"],
        "step there": ["was `here` before"],
        "step x": ["was `p/x` before"],
    }


def test_a_new_step_and_one_that_is_gone() -> None:
    old, new = _plan(steps=(step("a", then="b"), step("b", sleep=1.0))), _plan(steps=(step("a"),))
    assert _said(old, new) == {
        "step a": ["what comes next is gone, and was `b`"],
        "step b": ["is gone"],
    }
    assert _said(new, old) == {
        "step a": ["what comes next is new: `b`"],
        "step b": ["is new"],
    }


def test_routes() -> None:
    def router(default: str, *routes: tuple[str, str]) -> Plan:
        made = RouterPlan("{{ .x }}", "template", tuple(RoutePlan(*r) for r in routes), default)
        return _plan(steps=(step("r", type="router", router=made), step("a"), step("b")))

    old = router("", ("x", "a"), ("y", "b"))
    assert _said(old, router("b", ("x", "b"), ("z", "b"))) == {
        "step r": [
            "the route for everything else is new: `b`",
            "the route `x` is now `b`, and was `a`",
            "the route `y` is gone, and was `b`",
            "the route `z` is new: `b`",
        ]
    }
    assert _said(old, router("", ("y", "b"), ("x", "a"))) == {
        "step r": ["`router.routes`: the same in another order"]
    }


def test_another_order_in_the_file() -> None:
    old = _plan(steps=(step("a", then="b"), step("b"), step("c")))
    new = _plan(steps=(step("a", then="b"), step("c"), step("b")))
    assert _said(old, new) == {"order": ["the steps stand in another order: a, c, b"]}


def test_memories_and_who_uses_them() -> None:
    def remembers(size: int) -> Plan:
        call = MemoryCall("read", "chat", "k")
        return _plan(
            steps=(step("m", type="memory", memory=call, then="n"), step("n")),
            memories={"chat": MemoryPlan("chat", max_tokens=size)},
        )

    (subject,) = diff(remembers(10), remembers(20)).parts[0].subjects
    assert (subject.name, subject.used_by, subject.after) == ("memory chat", ("m",), ("n",))


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        (
            _object(),
            _object(["x"], x={"type": "string"}),
            ["! `x` is new and required: callers have to give it"],
        ),
        (_object(), _object(["x"], x={"default": 1}), ["`x` is new, optional"]),
        (_object(), _object(x={}), ["`x` is new, optional"]),
        (_object(x={}), _object(), ["`x` is gone, and not looked at any more"]),
        (
            _object(x={}),
            {**_object(), "additionalProperties": False},
            [
                "! `x` is gone, and refused",
                "! the input: `additionalProperties` is new: false",
            ],
        ),
        (_object(x={}), _object(["x"], x={}), ["! `x` is required now: callers have to give it"]),
        (_object(["x"], x={}), _object(x={}), ["`x` is optional now"]),
        (
            _object(x={"type": "string"}),
            _object(x={"type": ["string", "null"]}),
            ['`x`: `type` is now ["string", "null"], and was `string`'],
        ),
        (
            _object(x={"type": "number"}),
            _object(x={"type": "integer"}),
            ["! `x`: `type` is now `integer`, and was `number`"],
        ),
        (
            _object(x={"type": "integer"}),
            _object(x={"type": "number"}),
            ["`x`: `type` is now `number`, and was `integer`"],
        ),
        (
            _object(x={"enum": [1, 2]}),
            _object(x={"enum": [1]}),
            ["! `x`: `enum` is now [1], and was [1, 2]"],
        ),
        (
            _object(x={"enum": [1]}),
            _object(x={"enum": [1, 2]}),
            ["`x`: `enum` is now [1, 2], and was [1]"],
        ),
        (
            _object(x={"minimum": 1}),
            _object(x={"minimum": 0}),
            ["`x`: `minimum` is now 0, and was 1"],
        ),
        (_object(x={}), _object(x={"maxLength": 3}), ["`x`: `maxLength` is new: 3"]),
        (
            _object(x={"type": "string"}),
            _object(x={"type": "string", "maxLength": 3}),
            ["! `x`: `maxLength` is new: 3"],
        ),
        (
            _object(x={"default": 1}),
            _object(x={"default": 2}),
            ["`x`: `default` is now 2, and was 1"],
        ),
        (
            _object(x=_object(y={})),
            _object(x=_object(["y"], y={"default": 1})),
            ["! `x.y` is required now: callers have to give it", "`x.y`: `default` is new: 1"],
        ),
        (
            _object(x={"items": _object()}),
            _object(x={"items": _object(["y"], y={})}),
            ["! `x[].y` is new and required: callers have to give it"],
        ),
    ],
)
def test_the_input(old: Any, new: Any, messages: list[str]) -> None:
    assert _said(_plan(input_schema=old), _plan(input_schema=new)) == {"input": messages}


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ({"x": "1"}, {"x": "2"}, ["`x` is now `2`, and was `1`"]),
        ({"x": "1"}, {"x": "1", "y": "2"}, ["`y` is new: `2`"]),
        ({"x": "1", "y": "2"}, {"x": "1"}, ["! `y` is gone, and was `2`"]),
        (None, {"x": "1"}, ["! the result is now what `outputs` says"]),
        ({"x": "1"}, None, ["! the result is now the map of what all tasks give"]),
    ],
)
def test_the_outputs(old: Any, new: Any, messages: list[str]) -> None:
    assert _said(_plan(outputs=old), _plan(outputs=new)) == {"outputs": messages}


def test_workflows_that_come_and_go() -> None:
    old = _plan()
    new = replace(old, workflows={"other": WorkflowPlan("other", start="a", steps=(step("a"),))})
    found = diff(old, new)
    assert [(part.workflow, part.subjects[0].changes[0].message) for part in found.parts] == [
        ("flow", "is gone: nothing can start it any more"),
        ("other", "is new"),
    ]
    assert len(found.breaking) == 1


def test_what_makes_no_difference_says_so() -> None:
    old, new = (_plan(input_schema=_object(r, x={}, y={})) for r in (["x", "y"], ["y", "x"]))
    assert _said(old, new) == {"whole": ["is written otherwise, and runs as before"]}


def test_a_required_name_without_a_property() -> None:
    old, new = _plan(input_schema=_object()), _plan(input_schema=_object(["x"]))
    assert _said(old, new) == {"input": ["! `x` is new and required: callers have to give it"]}


def test_one_is_not_true_and_not_one_point_nought() -> None:
    values = (1, 1.0, True)
    for old in values:
        for new in values:
            if old is not new:
                said = _said(_with("b", with_={"x": old}), _with("b", with_={"x": new}))
                assert len(said["step b"]) == 1


def _every_field() -> list[Callable[[WorkflowPlan], WorkflowPlan]]:
    return [
        lambda w: replace(w, name="other"),
        lambda w: replace(w, description="other"),
        lambda w: replace(w, env={"A": "b"}),
        lambda w: replace(w, recover_on_error=True),
        lambda w: replace(w, start="c"),
        lambda w: replace(w, knowledge=[{"id": "k"}]),
        lambda w: replace(w, schemas={"s": {"type": "object"}}),
        lambda w: replace(w, schedule=SchedulePlan("@daily")),
        lambda w: replace(w, input_schema=True),
        lambda w: replace(w, tools={}),
    ]


@pytest.mark.parametrize("change", _every_field())
def test_no_difference_is_silent(change: Callable[[WorkflowPlan], WorkflowPlan]) -> None:
    old = _plan()
    new = replace(old, workflows={"flow": change(old.workflows["flow"])})
    for found in (diff(old, new), diff(new, old)):
        assert [subject for part in found.parts for subject in part.subjects]


# --- whole projects -------------------------------------------------------------------------------

CHANGES = [
    ("input: { id: none, kind: other }", "input: { id: none, kind: digital, country: DE }"),
    ("required: [id, kind]", "required: [id, kind, country]"),
    ("id: { type: string }\n", "id: { type: string }\n      country: { type: string }\n"),
    ("[digital, physical, other]", "[digital, physical]"),
    (
        "instructions: You look after orders.",
        "instructions: |\n      You look after orders.\n      Be kind.",
    ),
    ("retries: 2", "retries: 4"),
    ("timeout: 48h", "timeout: 1h"),
    ("download: deliver", "download: approval\n      pickup: deliver"),
    ("    strategy: best_effort\n", ""),
    ("{ id: summary,", "{ id: resume,"),
    ("max_tokens: 2000", "max_tokens: 4000"),
    ("  - id: total\n", "  - { id: log, tool: stock }\n\n  - id: total\n"),
    ('outputs:\n  id: "{{', 'outputs:\n  order: "{{'),
]


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    shutil.copytree(CASES / "every-type", tmp_path / "new")
    file = tmp_path / "new" / "compozy.yaml"
    text = file.read_text("utf-8")
    for old, new in CHANGES:
        assert old in text
        text = text.replace(old, new, 1)
    file.write_text(text, "utf-8")
    return file.parent


def _between(old: Path, new: Path) -> Diff:
    return diff(compile_project(old).plan, compile_project(new).plan)


def test_golden(changed: Path) -> None:
    path = CASES / "every-type.diff"
    text = _between(CASES / "every-type", changed).text()
    if UPDATE:
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_order_of_hashes_does_not_show(changed: Path, seed: str) -> None:
    command = ["plan", str(changed), "--diff", str(CASES / "every-type")]
    done = subprocess.run(
        [sys.executable, "-m", "compozy_prefect", *command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (CASES / "every-type.diff").read_text("utf-8")
