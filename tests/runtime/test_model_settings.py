"""What the settings under `llm` make of the calls of models."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.plan import ModelPlan, PausePlan, loads
from compozy_prefect.runtime.llm.client import ModelAnswer, ModelRequest, Usage
from compozy_prefect.runtime.llm.limits import Limited
from compozy_prefect.runtime.llm.providers import LiteLLMClient
from tests.support.asking import Pauses, request
from tests.support.model_server import Fault, ModelServer

PROJECT = """\
name: demo
models: [{{provider: openai, model: gpt-4o-mini, api_key: "{{{{ .env.KEY }}}}"{model}}}]
llm: {llm}
tasks: [{{id: a, prompt: Hello.}}]
"""


def planned(folder: Path, llm: str, model: str = "") -> ModelPlan:
    (folder / "compozy.yaml").write_text(PROJECT.format(llm=llm, model=model))
    plan = loads(compile_project(folder).plan.dumps())
    return plan.workflows["demo"].agents["a"].model


@pytest.mark.parametrize(
    ("llm", "pauses"),
    [
        ("{}", PausePlan(0.1, 10.0, 0.1)),
        ("{retry_backoff_base: 2s, retry_backoff_max: 5s}", PausePlan(2.0, 5.0, 0.1)),
        ("{retry_jitter: false}", PausePlan(0.1, 10.0, 0.0)),
        ("{retry_jitter_percent: 50}", PausePlan(0.1, 10.0, 0.5)),
    ],
)
def test_pauses_are_those_of_the_settings(llm, pauses, tmp_path):
    assert planned(tmp_path, llm).pauses == pauses


def test_pauses_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_RETRY_BACKOFF_BASE", "3s")
    monkeypatch.setenv("LLM_RATE_LIMITING_DEFAULT_CONCURRENCY", "4")
    found = planned(tmp_path, "{}")
    assert found.pauses.first == 3.0
    assert found.rate_limit == {"concurrency": 4}


async def test_pauses_double_up_to_the_longest(model_server):
    pauses = Pauses()
    plan = PausePlan(2.0, 5.0, 0.0)
    more: dict[str, Any] = {"pauses": plan, "retry_attempts": 5}
    client = LiteLLMClient(sleep=pauses, clock=pauses.now, jitter=lambda: 1.0)
    model_server.answers(Fault(500))
    with pytest.raises(Exception, match="in 5 attempts"):
        await client.complete(request(model_server, **more))
    assert pauses.seconds == [2.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("llm", "model", "limit"),
    [
        ("{}", "", {}),
        ("{rate_limiting: {enabled: true}}", "", {}),
        (
            "{rate_limiting: {default_concurrency: 3, default_requests_per_minute: 60}}",
            ", rate_limit: {concurrency: 1}",
            {"concurrency": 1, "requests_per_minute": 60},
        ),
        (
            "{rate_limiting: {default_token_burst: 9, per_provider_limits: {openai: "
            "{concurrency: 7, queue_size: 2}, groq: {concurrency: 1}}}}",
            ", rate_limit: {queue_size: 5}",
            {"token_burst": 9, "concurrency": 7, "queue_size": 5},
        ),
    ],
)
def test_limits_of_a_model_of_its_provider_and_of_all(llm, model, limit, tmp_path):
    found = planned(tmp_path, llm, model)
    assert found.rate_limit == limit
    assert found.is_limited


class Busy:
    """Counts the calls that are under way."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def complete(self, request: ModelRequest, *, on_chunk: Any = None) -> ModelAnswer:
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(5):
            await asyncio.sleep(0)
        self.now -= 1
        return ModelAnswer("ok", Usage(), "m")


async def test_without_rate_limiting_nothing_holds_calls_back(tmp_path, model_server: ModelServer):
    plan = planned(tmp_path, "{rate_limiting: {enabled: false}}", ", rate_limit: {concurrency: 1}")
    busy = Busy()
    limited = Limited(busy)
    one = replace(request(model_server), model=plan)
    await asyncio.gather(*(limited.complete(one) for _ in range(30)))
    assert busy.most == 30
