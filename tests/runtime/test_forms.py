"""The form of a signal, from what the task reads of it."""

from __future__ import annotations

from typing import Any

import pytest

from compozy_prefect.compiler.plan import Json, WaitPlan
from compozy_prefect.runtime.forms import form
from tests.support.plans import step


def fields(condition: str = "", outputs: Json = None, **processor: Any) -> dict[str, Json]:
    steps = (step("check", **processor),) if processor else ()
    wait = step("w", type="wait", wait=WaitPlan("s", condition), outputs=outputs, steps=steps)
    made = form(wait)
    assert (made["type"], made["additionalProperties"]) == ("object", True)
    properties: dict[str, Json] = made["properties"]
    return {name: found.get("type") for name, found in properties.items()}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("", {}),
        ("signal.payload.approved == true", {"approved": "boolean"}),
        ("signal.payload.level > 3 && signal.by != ''", {"level": "number", "by": "string"}),
        ("'yes' == signal.payload.answer", {"answer": "string"}),
        ("signal.payload.user.name == 'x'", {"user": None}),
        ("has(signal.payload.note)", {"note": None}),
        ("signal.metadata.source == 'x' && workflow.input.a == 1", {}),
        ("{{ eq .signal.payload.n 1 }}", {"n": "number"}),
    ],
)
def test_the_condition_names_fields(condition: str, expected: dict[str, Json]) -> None:
    assert fields(condition) == expected


def test_outputs_and_the_processor_name_more() -> None:
    outputs = {"by": "{{ .output.signal.payload.by | default('somebody') }}", "n": 1}
    given = {"text": ["{{ .signal.payload.text }}", "{{ .signal.by }}"]}
    assert fields("signal.payload.ok == true", outputs, with_=given) == {
        "ok": "boolean",
        "by": "string",
        "text": None,
    }


def test_titles_are_for_people() -> None:
    wait = step("w", type="wait", wait=WaitPlan("s", "signal.payload.is_urgent == true"))
    assert form(wait)["properties"]["is_urgent"] == {"title": "Is urgent", "type": "boolean"}
