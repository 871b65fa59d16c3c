"""Faults of providers × what a project says about them → how often each model is asked.

Every combination is a step of a real run, with an agent and models of its own; the steps run side
by side, and each is held to the oracle in `tests/support/fault_oracle.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from compozy_prefect import compile_project
from compozy_prefect.flows.run import run
from compozy_prefect.runtime.llm.client import ModelAnswer, ModelClient, ModelRequest
from compozy_prefect.runtime.llm.failover import Failover, Health
from compozy_prefect.runtime.llm.limits import Limited
from compozy_prefect.runtime.llm.providers import LiteLLMClient
from compozy_prefect.runtime.llm.wire import MEBI, Limits
from compozy_prefect.runtime.outcome import TaskState
from compozy_prefect.runtime.services import Services
from tests.support.asking import FORMATS, KEY, MODELS, SCHEMA, Pauses, ask
from tests.support.fault_oracle import COMPLETION, PROMPT, TOKENS, Rules, expected
from tests.support.formats import FORMATS as WIRE_FORMATS
from tests.support.model_server import Broken, Entry, Fault, ModelServer, Reply, Seen
from tests.support.prefect_server import Api

PATIENCE = 4  # seconds until a provider that hangs has timed out; all others have a minute
DOLLARS = 1000.0  # of a million tokens

ENTRIES: dict[str, Entry] = {
    "good": Reply('{"a": 1}', PROMPT, COMPLETION),
    "breaks": Reply('{"a": "one"}', PROMPT, COMPLETION),
    "words": Reply('{"a": 1', PROMPT, COMPLETION),
    "chatter": Reply('Here it is:\n```json\n{"a": 1}\n```\nAnything else?', PROMPT, COMPLETION),
    "busy": Fault(429),
    "soon": Fault(429, retry_after=1.5),
    "later": Fault(503, retry_after=20),
    "tomorrow": Fault(429, retry_after=86_400),
    "broken": Fault(500),
    "gateway": Fault(502),
    "away": Fault(503),
    "late": Fault(504),
    "full": Fault(529),
    "quota": Fault(kind="quota"),
    "cut": Broken("drop"),
    "half": Broken("half"),
    "hangs": Broken("hang"),
    "garbled": Broken("invalid"),
    "page": Broken("html"),
    "nothing": Broken("empty"),
    "empty": Reply("", PROMPT, COMPLETION),
    "huge": Broken("large"),
    "long": Fault(kind="context"),
    "key": Fault(kind="key"),
    "unknown": Fault(kind="model"),
    "refused": Fault(kind="refused"),
    "bad": Fault(400),
}
# What the model of an agent does, request by request; the last repeats.
SEQUENCES = [
    line.split()
    for line in """
    good
    chatter
    busy good
    soon good
    later later good
    tomorrow good
    broken away good
    gateway late full good
    away
    busy
    quota
    cut good
    cut
    half good
    half
    hangs good
    hangs
    garbled good
    page
    nothing good
    empty good
    empty
    breaks good
    words breaks good
    breaks
    words
    breaks away good
    breaks cut words half good
    away breaks cut good
    breaks refused
    breaks long
    away key
    full refused
    huge
    long
    key
    unknown
    refused
    bad
    """.strip().splitlines()
]


@dataclass(frozen=True)
class Setting:
    """What a project says: the rules, what its fallbacks do, and whether answers are streamed.

    `retry` are the fields of the step that make the tries of the rules.
    """

    rules: Rules
    fallbacks: tuple[str, ...] = ()
    streamed: bool = False
    retry: dict[str, Any] = field(default_factory=dict)


def _policy(tries: int) -> dict[str, Any]:
    return {
        "retry_policy": {
            "maximum_attempts": tries,
            "initial_interval": "1ms",
            "maximum_interval": "1ms",
        }
    }


def _retries(number: int) -> dict[str, Any]:
    policy = {"initial_interval": "1ms", "maximum_interval": "1ms"}
    return {"retries": number, "retry_policy": policy}


ONE_DOLLAR = DOLLARS / 10**6 * TOKENS  # what one answer costs
SETTINGS = {
    "once": Setting(Rules(attempts=1, corrections=0)),
    "attempts": Setting(Rules(), streamed=True),
    "policy": Setting(Rules(attempts=2, tries=3, corrections=1), retry=_policy(3)),
    "one fallback": Setting(Rules(attempts=1, corrections=1), ("good",), streamed=True),
    "two fallbacks": Setting(Rules(attempts=2), ("away", "breaks good")),
    "fallbacks that fail": Setting(
        Rules(attempts=2, tries=4, corrections=0), ("key", "away"), retry=_retries(3)
    ),
    "calls": Setting(Rules(attempts=2, tries=4, calls=2), ("away",), True, _policy(4)),
    "tokens": Setting(Rules(attempts=2, tries=3, tokens=20), retry=_retries(2)),
    "dollars": Setting(
        Rules(attempts=1, tries=3, usd=ONE_DOLLAR * 1.5, corrections=3, price=DOLLARS / 10**6),
        ("empty", "words good"),
        retry=_policy(3),
    ),
}
HANGS_IN = ("once", "attempts", "one fallback")  # elsewhere it would take too long


@dataclass(frozen=True)
class Combination:
    number: int
    name: str
    setting: Setting
    formats: tuple[str, ...]
    scripts: list[list[str]]

    @property
    def step(self) -> str:
        return f"step{self.number}"

    def path(self, model: int) -> str:
        return f"/{self.number}-{model}"

    def entry(self, model: int, number: int) -> Entry:
        """What the model answers to its request of this number."""
        script, spoken = self.scripts[model], WIRE_FORMATS[self.formats[model]]
        what = script[min(number, len(script)) - 1]
        if what == "half" and not self.setting.streamed:
            return Broken("truncated")
        if what == "refused" and "refused" not in spoken.kinds:
            return Reply("", 0, 0, finish="content_filter")  # this provider says it so
        return ENTRIES[what]

    def models(self, address: str) -> Iterator[dict[str, Any]]:
        hangs = any("hangs" in script for script in self.scripts)
        for model, provider in enumerate(self.formats):
            base = WIRE_FORMATS[provider].base
            yield {
                "id": f"m{self.number}-{model}",
                "provider": provider,
                "model": MODELS[provider],
                "api_url": address + self.path(model) + base,
                "api_key": "{{ .env.A_KEY }}",
                "timeout": f"{PATIENCE if hangs else 60}s",
                "retry_attempts": self.setting.rules.attempts,
                "price": {"input": DOLLARS, "output": DOLLARS},
            }

    def project(self, address: str) -> tuple[list[Any], Any, Any]:
        """The models, the agent and the task of a project that are this combination's."""
        models = list(self.models(address))
        models[0]["fallbacks"] = [model["id"] for model in models[1:]]
        action = {"id": "name", "prompt": "Name it.", "output": SCHEMA}
        agent = {"id": f"agent{self.number}", "model": models[0]["id"]}
        agent |= {"instructions": "Be brief.", "actions": [action]}
        rules = self.setting.rules
        limits = {"calls": rules.calls, "tokens": rules.tokens, "usd": rules.usd}
        budget = {name: limit for name, limit in limits.items() if limit}
        task = {"id": self.step, "agent": agent["id"], "action": "name", **self.setting.retry}
        return models, agent, task | ({"budget": budget} if budget else {})


def _combinations() -> Iterator[Combination]:
    number = 0
    for name, setting in SETTINGS.items():
        for sequence in SEQUENCES:
            if "hangs" in sequence and name not in HANGS_IN:
                continue
            scripts = [sequence, *(script.split() for script in setting.fallbacks)]
            turned = FORMATS[number % 5 :] + FORMATS
            formats = list(turned[: len(scripts)])
            if formats[0] == "ollama" and "refused" in sequence:
                formats[0] = "openai"  # ollama has no word for it
            title = f"{name}: {' '.join(sequence)}"
            yield Combination(number, title, setting, tuple(formats), scripts)
            number += 1


COMBINATIONS = tuple(_combinations())
assert len(COMBINATIONS) >= 200


@dataclass
class Ended:
    """What has become of a combination: its step, and what its models were asked."""

    state: TaskState
    asked: list[int]
    waits: list[float]


class _Clients:
    """A client for each combination, on a clock that goes by what it was asked to wait."""

    def __init__(self) -> None:
        self.pauses = [Pauses() for _ in COMBINATIONS]
        self._clients = [self._client(pauses) for pauses in self.pauses]

    @staticmethod
    def _client(pauses: Pauses) -> ModelClient:
        client = LiteLLMClient(
            sleep=pauses, clock=pauses.now, jitter=lambda: 0.0, limits=Limits(stream=MEBI // 10)
        )
        return Failover(Limited(client), Health(pauses.now))

    async def complete(self, request: ModelRequest, *, on_chunk: Any = None) -> ModelAnswer:
        number = int(request.step.rpartition("step")[2])
        listener = (lambda text: None) if COMBINATIONS[number].setting.streamed else None
        return await self._clients[number].complete(request, on_chunk=listener)


class _Providers:
    """Answers each model of each combination by its script, and counts its requests."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[int, int]] = Counter()
        self._lock = Lock()

    def __call__(self, seen: Seen) -> Entry:
        number, _, model = seen.path.split("/")[1].partition("-")
        key = int(number), int(model)
        with self._lock:
            self.asked[key] += 1
            nth = self.asked[key]
        return COMBINATIONS[key[0]].entry(key[1], nth)


@pytest.fixture(scope="module")
def ended(prefect_server: Api, tmp_path_factory: pytest.TempPathFactory) -> list[Ended]:
    """All combinations, run once."""
    with ModelServer() as server:
        return asyncio.run(_all(server, tmp_path_factory.mktemp("matrix")))


async def _all(server: ModelServer, folder: Path) -> list[Ended]:
    for provider in FORMATS:  # what the first call loads is loaded before anything is timed
        await ask(server, provider=provider)
    clients, providers = _Clients(), _Providers()
    server.answers_by(providers)
    states: dict[str, TaskState] = {}
    for corrections in sorted({one.setting.rules.corrections for one in COMBINATIONS}):
        chosen = [c for c in COMBINATIONS if c.setting.rules.corrections == corrections]
        text = json.dumps(_project(chosen, corrections, server.address), indent=1)
        (folder / "compozy.yaml").write_text(text)
        plan = compile_project(folder).plan
        result = await run(
            plan, "matrix", {}, services=Services.create(client=clients, env={"A_KEY": KEY})
        )
        states |= {state.id: state for state in result.tasks["all"].children.values()}
    return [
        Ended(
            states[one.step],
            [providers.asked[one.number, model] for model in range(len(one.scripts))],
            clients.pauses[one.number].seconds,
        )
        for one in COMBINATIONS
    ]


def _project(chosen: list[Combination], corrections: int, address: str) -> dict[str, Any]:
    """One workflow with a step for each combination; JSON is YAML."""
    parts = [one.project(address) for one in chosen]
    return {
        "name": "matrix",
        "llm": {"structured_output_retries": corrections},
        "models": [model for models, _, _ in parts for model in models],
        "agents": [agent for _, agent, _ in parts],
        "tasks": [
            {
                "id": "all",
                "type": "parallel",
                "strategy": "best_effort",
                "max_workers": 24,
                "tasks": [task for _, _, task in parts],
            }
        ],
    }


@pytest.mark.parametrize("one", COMBINATIONS, ids=lambda one: one.name)
def test_it_does_what_the_project_says(one: Combination, ended: list[Ended]) -> None:
    found, rules = ended[one.number], one.setting.rules
    wanted = expected(one.scripts, rules)
    error = found.state.error
    assert (error.code if error else "") == wanted.code, error
    assert found.state.status == ("FAILED" if wanted.code else "SUCCESS")
    assert found.asked == wanted.asked
    assert found.waits == pytest.approx(wanted.waits)
    assert found.state.attempts == wanted.tries
    assert KEY not in json.dumps(found.state.to_json())
    usage = found.state.usage
    assert usage is not None
    tokens = usage.prompt_tokens + usage.completion_tokens
    assert (usage.calls, tokens) == (wanted.calls, wanted.tokens)
    assert usage.cost_usd == pytest.approx(wanted.tokens * DOLLARS / 10**6)
    if rules.calls:
        assert usage.calls <= rules.calls
    if rules.tokens:
        assert tokens < rules.tokens + TOKENS, "one call more than fits, at most"
