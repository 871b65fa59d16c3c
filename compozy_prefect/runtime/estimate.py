"""A workflow of the plan → what its models may take and cost, as a range, before it runs.

The least is a run in which every answer is good and short and every condition false; the most one
in which each call is repeated as often as the plan allows and each answer as long as it may be.
What nobody can know, such as the length of what a template brings, is a number that is said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from compozy_prefect.compiler.plan import AgentPlan, Json, ModelPlan, StepPlan, WorkflowPlan
from compozy_prefect.runtime.llm.media import TOKENS
from compozy_prefect.runtime.llm.prices import Price

BYTES = 4  # of a text, in a token
BROUGHT = 500  # tokens that one template may bring, at most, as far as is assumed
ANSWER = 1000  # tokens of an answer, at most, where the model has no `max_tokens`
ITEMS = 10  # of a collection whose size is not written out
FILE = 1000  # tokens of an attachment whose type nobody knows yet
TURNS = 5  # answers of an agent with tools that call one, at most, as far as is assumed

_TEMPLATE = re.compile(r"\{\{.*?\}\}", re.S)
_RANGE = re.compile(r"\s*(-?\d+)\s*\.\.\s*(-?\d+)\s*")

PriceOf = Callable[[ModelPlan], Awaitable[Price | None]]


@dataclass(frozen=True, slots=True)
class Range:
    low: float = 0
    high: float = 0

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __mul__(self, other: Range) -> Range:
        return Range(self.low * other.low, self.high * other.high)

    def to_json(self) -> list[Json]:
        return [self.low, self.high]


@dataclass(frozen=True, slots=True)
class Line:
    """One step that asks an agent. `usd` is None where the price is unknown."""

    step: str
    model: str
    calls: Range
    prompt_tokens: Range
    answer_tokens: Range
    usd: Range | None

    def to_json(self) -> dict[str, Json]:
        shown: dict[str, Json] = {"step": self.step, "model": self.model}
        for name in ("calls", "prompt_tokens", "answer_tokens", "usd"):
            value = getattr(self, name)
            shown[name] = value and value.to_json()
        return shown


@dataclass(frozen=True, slots=True)
class Estimate:
    lines: tuple[Line, ...]
    assumed: tuple[str, ...]

    @property
    def usd(self) -> Range | None:
        """The sum; None when a price is unknown."""
        total = Range()
        for line in self.lines:
            if line.usd is None:
                return None
            total += line.usd
        return total

    @property
    def tokens(self) -> Range:
        return sum((line.prompt_tokens + line.answer_tokens for line in self.lines), Range())

    def to_json(self) -> dict[str, Json]:
        return {
            "lines": [line.to_json() for line in self.lines],
            "tokens": self.tokens.to_json(),
            "usd": self.usd and self.usd.to_json(),
            "assumed": list(self.assumed),
        }


async def estimate(workflow: WorkflowPlan, price_of: PriceOf, items: int = ITEMS) -> Estimate:
    """`items` is the size of collections whose size is not written out."""
    assumed: dict[str, None] = {}
    lines = []
    for step, times in _steps(workflow, items, assumed):
        agent = workflow.agents[step.agent.agent] if step.agent is not None else None
        if agent is not None:
            line = _line(step, agent, times, assumed)
            lines.append(replace(line, usd=_usd(line, await price_of(agent.model))))
    return Estimate(tuple(lines), tuple(assumed))


def _steps(
    workflow: WorkflowPlan, items: int, assumed: dict[str, None]
) -> Iterator[tuple[StepPlan, Range]]:
    """Each step, and how often it runs."""
    certain = _certain(workflow)

    def walk(steps: tuple[StepPlan, ...], times: Range) -> Iterator[tuple[StepPlan, Range]]:
        for step in steps:
            sure = (
                not step.condition and not step.role and (step.path in certain or "/" in step.path)
            )
            own = times if sure else Range(0, times.high)
            yield step, own
            yield from walk(step.steps, own * _size(step, items, assumed))

    yield from walk(workflow.steps, Range(1, 1))


def _certain(workflow: WorkflowPlan) -> set[str]:
    """The steps at the top that run when nothing fails."""
    known: set[str] = set()
    at = workflow.start
    while at and at not in known and at in workflow.by_id:
        known.add(at)
        step = workflow.by_id[at]
        at = step.on_success.next
    return known


def _size(step: StepPlan, items: int, assumed: dict[str, None]) -> Range:
    if step.collection is None:
        return Range(1, 1)
    given = step.collection.items
    if isinstance(given, list):
        size = len(given)
    elif isinstance(given, str) and (match := _RANGE.fullmatch(given)):
        size = abs(int(match[2]) - int(match[1])) + 1
    else:
        assumed[f"`{step.path}` has at most {items} items"] = None
        return Range(0, items)
    return Range(0 if step.collection.filter else size, size)


def _line(step: StepPlan, agent: AgentPlan, times: Range, assumed: dict[str, None]) -> Line:
    model, loop = agent.model, agent.loop
    own, brought = _prompt(step, agent)
    if brought:
        assumed[f"a template brings at most {BROUGHT} tokens"] = None
    answer = model.params.get("max_tokens")
    if not answer:
        assumed[f"an answer of {model.provider}/{model.model} has at most {ANSWER} tokens"] = None
    longest = float(answer or ANSWER)
    turns = 0
    if agent.tools:
        turns = min(loop.turns or TURNS, TURNS)
        assumed[f"an agent calls tools in at most {turns} answers"] = None
    corrections = loop.corrections if _has_schema(step, agent) else 0
    tries = step.retry.attempts if step.retry.given else 1
    calls = Range(times.low, times.high * (1 + turns + corrections) * tries)
    # Each call of a talk holds what was said before it.
    own += _attached(step, agent, assumed)
    said = own + brought * BROUGHT
    grown = said + (turns + corrections) * (longest + BROUGHT) / 2
    return Line(
        step.path,
        f"{model.provider}/{model.model}",
        calls,
        Range(times.low * own, calls.high * grown),
        Range(times.low, calls.high * longest),
        None,
    )


def _prompt(step: StepPlan, agent: AgentPlan) -> tuple[float, int]:
    """The tokens that are written out, and the number of templates beside them."""
    texts: list[str] = [agent.instructions]
    assert step.agent is not None
    action = agent.actions.get(step.agent.action)
    actions = [action] if action is not None else list(agent.actions.values())
    chosen = max(actions, key=lambda one: len(one.prompt), default=None)
    if chosen is not None:
        texts += [chosen.prompt, _schema(chosen.output_schema)]
    texts.append(step.agent.prompt)
    written = sum(len(_TEMPLATE.sub("", text).encode()) for text in texts)
    return written / BYTES, sum(len(_TEMPLATE.findall(text)) for text in texts)


def _attached(step: StepPlan, agent: AgentPlan, assumed: dict[str, None]) -> int:
    """The tokens of the files that are sent with the prompt."""
    assert step.agent is not None
    action = agent.actions.get(step.agent.action)
    given = [*step.attachments, *agent.attachments, *(action.attachments if action else ())]
    total = 0
    for one in given:
        kind = one.type.strip().lower()
        kind = "pdf" if kind == "document" else kind
        files = len(one.urls or one.paths) or 1
        each = next((size for medium, size in TOKENS.items() if medium == kind), FILE)
        assumed[f"an attachment of type `{kind}` has {each} tokens"] = None
        total += files * each
    return total


def _schema(schema: Json) -> str:
    return "" if schema is None else json.dumps(schema)


def _has_schema(step: StepPlan, agent: AgentPlan) -> bool:
    assert step.agent is not None
    action = agent.actions.get(step.agent.action)
    return action is None or action.output_schema is not None


def _usd(line: Line, price: Price | None) -> Range | None:
    if price is None:
        return None

    def cost(prompt: float, answer: float) -> float:
        return prompt * price.input + answer * price.output

    prompt, answer = line.prompt_tokens, line.answer_tokens
    return Range(cost(prompt.low, answer.low), cost(prompt.high, answer.high))


def text(workflow: str, found: Estimate) -> str:
    """A table for people."""

    def shown(value: Any, form: str) -> str:
        if value is None:
            return "unknown"
        low, high = format(value.low, form), format(value.high, form)
        return low if low == high else f"{low} – {high}"

    head = ("task", "model", "calls", "tokens", "USD")
    rows = [
        (
            line.step,
            line.model,
            shown(line.calls, ",.0f"),
            shown(line.prompt_tokens + line.answer_tokens, ",.0f"),
            shown(line.usd, ".4f"),
        )
        for line in found.lines
    ]
    rows.append(("all", "", "", shown(found.tokens, ",.0f"), shown(found.usd, ".4f")))
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    out = [f"{workflow}:"]
    out += [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    out += [f"  assumed: {line}" for line in found.assumed]
    return "\n".join(out) + "\n"
