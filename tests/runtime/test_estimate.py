"""estimate: what a run may cost is a range that holds what it does cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.runtime.estimate import BROUGHT, Estimate, Range, estimate, text
from compozy_prefect.runtime.llm.prices import given_price

MODEL = "{provider: custom, model: m, api_url: 'http://127.0.0.1:1', PRICE max_tokens: 100}"
AGENT = """
  - id: a
    model: custom:m
    instructions: "12345678"
    actions:
      - {id: x, prompt: "abcd"}
      - {id: y, prompt: "abcd{{ .input.t }}", output: {type: object}}
"""


async def of(tmp_path: Path, tasks: str, price: str = "price: {input: 1, output: 2},") -> Estimate:
    (tmp_path / "compozy.yaml").write_text(
        f"name: demo\nmodels: [{MODEL.replace('PRICE', price)}]\nagents:{AGENT}\n"
        f"tools: [{{id: t, type: http, config: {{base_url: 'http://127.0.0.1:1'}}}}]\n"
        f"tasks:\n{tasks}\n"
    )

    async def price_of(model: ModelPlan) -> Any:
        return given_price(model)

    return await estimate(compile_project(tmp_path).plan.workflows["demo"], price_of, 7)


async def test_one_call(tmp_path: Path) -> None:
    found = await of(tmp_path, "  - {id: s, agent: a, action: x}")
    [line] = found.lines
    assert line.calls == Range(1, 1)
    assert line.prompt_tokens == Range(3, 3), "twelve bytes that are written out"
    assert line.answer_tokens == Range(1, 100)
    assert found.usd is not None
    assert (found.usd.low, found.usd.high) == pytest.approx((5e-6, 203e-6))
    assert not found.assumed


@pytest.mark.parametrize(
    ("tasks", "calls"),
    [
        ("  - {id: s, condition: 'true', agent: a, action: x}", (0, 1)),
        ("  - {id: s, agent: a, action: x, retries: 2}", (1, 3)),
        ("  - {id: s, agent: a, action: y, with: {t: 1}}", (1, 3)),
        (
            "  - {id: c, type: collection, items: [1, 2, 3], task: {id: s, agent: a, action: x}}",
            (3, 3),
        ),
        (
            "  - {id: c, type: collection, items: '1..4', task: {id: s, agent: a, action: x}}",
            (4, 4),
        ),
        (
            "  - {id: c, type: collection, items: '{{ .workflow.input.l }}', "
            "task: {id: s, agent: a, action: x}}",
            (0, 7),
        ),
        (
            "  - {id: r, type: router, condition: '{{ .workflow.input.k }}', "
            "routes: {a: {id: s, agent: a, action: x}}}",
            (0, 1),
        ),
    ],
)
async def test_how_often(tasks: str, calls: tuple[int, int], tmp_path: Path) -> None:
    [line] = (await of(tmp_path, tasks)).lines
    assert (line.calls.low, line.calls.high) == calls


async def test_what_is_assumed_is_said(tmp_path: Path) -> None:
    found = await of(tmp_path, "  - {id: s, agent: a, action: y, with: {t: 1}}")
    assert f"a template brings at most {BROUGHT} tokens" in found.assumed
    shown = text("demo", found)
    assert "assumed: a template" in shown
    assert "1 – 3" in shown


async def test_an_unknown_price_is_unknown(tmp_path: Path) -> None:
    found = await of(tmp_path, "  - {id: s, agent: a, action: x}", price="")
    assert found.usd is None
    assert found.to_json()["usd"] is None
    assert "unknown" in text("demo", found)
