"""What an agent's step does about faults of its models, by docs/agents.md alone.

A model of the rules in pure functions, which knows nothing of requests, exceptions and clocks: what
each model is scripted to do → how often it is asked, how long is waited, what is spent and how it
ends. `tests/runtime/test_fault_matrix.py` holds the runtime to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PROMPT, COMPLETION = 10, 5  # tokens of each answer
TOKENS = PROMPT + COMPLETION
LONGEST_WAIT = 60.0  # seconds of a Retry-After that is waited for
RESTS_AFTER, RESTS = 5, 30.0  # failures in a row, seconds

# fits, breaks: an answer, which fits the schema of the action or breaks it.
# again: it may pass, so the call is tried again, then the next model, then the step tries again.
# odd: no answer that can be used; the next model, then the step.
# other: wrong with this model, and stays so: the next one alone may help.
# never: wrong with the question: nobody else is asked.
Effect = Literal["fits", "breaks", "again", "odd", "other", "never"]


@dataclass(frozen=True)
class Behaviour:
    """One answer of a model. `tokens` are paid, `wait` is what it asks to wait, in seconds."""

    effect: Effect
    tokens: int = 0
    wait: float | None = None


ANSWERS: dict[str, Behaviour] = {
    "good": Behaviour("fits", TOKENS),
    "breaks": Behaviour("breaks", TOKENS),
    "words": Behaviour("breaks", TOKENS),
    "chatter": Behaviour("fits", TOKENS),
    "busy": Behaviour("again"),
    "soon": Behaviour("again", wait=1.5),
    "later": Behaviour("again", wait=20.0),
    "tomorrow": Behaviour("again", wait=86_400.0),
    "broken": Behaviour("again"),
    "gateway": Behaviour("again"),
    "away": Behaviour("again"),
    "late": Behaviour("again"),
    "full": Behaviour("again"),
    "quota": Behaviour("again"),
    "cut": Behaviour("again"),
    "half": Behaviour("again"),
    "hangs": Behaviour("again"),
    "garbled": Behaviour("odd"),
    "page": Behaviour("odd"),
    "nothing": Behaviour("odd"),
    "empty": Behaviour("odd", TOKENS),
    "huge": Behaviour("other"),
    "long": Behaviour("other"),
    "key": Behaviour("other"),
    "unknown": Behaviour("other"),
    "refused": Behaviour("never"),
    "bad": Behaviour("never"),
}


@dataclass(frozen=True)
class Rules:
    """What a project says. `attempts` of a call; `tries` of the step, 1 where it says nothing.

    `tokens`, `calls` and `usd` are its budget, 0 without; a token costs `price`.
    """

    attempts: int = 3
    tries: int = 1
    corrections: int = 2
    calls: int = 0
    tokens: int = 0
    usd: float = 0.0
    price: float = 0.0


@dataclass
class Expected:
    """`asked` is how many requests reach each model; `waits` are seconds, `code` of the error."""

    asked: list[int]
    waits: list[float] = field(default_factory=list)
    calls: int = 0
    tokens: int = 0
    tries: int = 0
    code: str = ""


@dataclass
class _Failed(Exception):
    """`again`: whether the step may try again."""

    code: str
    again: bool


def expected(scripts: list[list[str]], rules: Rules) -> Expected:
    """How a step ends whose model, and each of its fallbacks, does as its script says.

    The last entry of a script repeats.
    """
    return _Step(scripts, rules).run()


class _Step:
    def __init__(self, scripts: list[list[str]], rules: Rules) -> None:
        self._scripts, self._rules = scripts, rules
        self._seen = Expected([0] * len(scripts))
        self._failures = [0] * len(scripts)
        self._rests = [0.0] * len(scripts)

    def run(self) -> Expected:
        seen, rules = self._seen, self._rules
        for number in range(1, rules.tries + 1):
            seen.tries = number
            try:
                self._talk()
            except _Failed as failed:
                seen.code = failed.code
                if not failed.again:
                    break
            else:
                seen.code = ""
                break
        return seen

    def _talk(self) -> None:
        for _ in range(1 + self._rules.corrections):
            if self._call() == "fits":
                return
        raise _Failed("OUTPUT_VALIDATION_ERROR", again=False)

    def _call(self) -> Effect:
        rules, seen = self._rules, self._seen
        used = (
            (seen.calls, rules.calls),
            (seen.tokens, rules.tokens),
            (seen.tokens * rules.price, rules.usd),
        )
        if any(limit and spent >= limit for spent, limit in used):
            raise _Failed("BUDGET_EXCEEDED", again=False)
        seen.calls += 1
        again, last = False, ""
        models = range(len(self._scripts))
        # One that rests is asked when nobody else is left.
        for model in sorted(models, key=lambda model: self._rests[model] > self._now):
            effect = self._ask(model)
            if effect in ("fits", "breaks"):
                return effect
            last = "INVALID_LLM_RESPONSE" if effect == "odd" else "LLM_GENERATION_ERROR"
            if effect == "never":
                raise _Failed(last, again=False)
            again = again or effect != "other"
        raise _Failed(last, again)

    @property
    def _now(self) -> float:
        return sum(self._seen.waits)

    def _ask(self, model: int) -> Effect:
        """What a model gives after its attempts."""
        seen, script = self._seen, self._scripts[model]
        for attempt in range(1, self._rules.attempts + 1):
            behaviour = ANSWERS[script[min(seen.asked[model], len(script) - 1)]]
            seen.asked[model] += 1
            seen.tokens += behaviour.tokens
            if behaviour.effect in ("fits", "breaks"):
                self._failures[model], self._rests[model] = 0, 0.0
                return behaviour.effect
            wait = 0.1 * 2 ** (attempt - 1) if behaviour.wait is None else behaviour.wait
            if (
                behaviour.effect != "again"
                or attempt == self._rules.attempts
                or wait > LONGEST_WAIT
            ):
                break
            seen.waits.append(wait)
        if behaviour.effect in ("again", "odd"):
            self._failures[model] += attempt
            if self._failures[model] >= RESTS_AFTER:
                self._rests[model] = self._now + RESTS
        return behaviour.effect
