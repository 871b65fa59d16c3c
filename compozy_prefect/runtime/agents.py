"""An agent's rendered instructions and prompt → its output, validated (language.md §4.5).

One call of the model, and another for each answer that breaks the action's output schema: the
model is shown its answer and what was wrong with it (service.md §8.2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from compozy_prefect.compiler.plan import Json, ModelPlan
from compozy_prefect.errors import OutputInvalid
from compozy_prefect.runtime import schemas
from compozy_prefect.runtime.llm.client import ModelClient, ModelRequest, Usage
from compozy_prefect.runtime.redaction import redact

RETRIES = 1  # rounds in which the model is shown what was wrong with its answer
_STARTS = 200  # places in an answer where a JSON value is looked for


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """One action of an agent, ready to be asked: `instructions` and `prompt` are rendered.

    `schema` is the action's output schema, `input` its effective and valid input.
    """

    agent: str
    action: str
    step: str
    model: ModelPlan = field(repr=False)  # its `api_key` may be no template but the key itself
    api_key: str | None = field(repr=False)
    instructions: str
    prompt: str
    input: dict[str, Any] = field(default_factory=dict)
    schema: Json | None = None
    json_mode: bool = False


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """The output of the action. `usage` and `calls` count re-prompts, the good answer included."""

    output: Json
    usage: Usage
    calls: int


async def answer(
    request: AgentRequest, client: ModelClient, *, structured_output_retries: int = RETRIES
) -> AgentAnswer:
    """Ask the agent, and again while its answer breaks the schema.

    Raises OutputInvalid when the last re-prompt did not help either, with `violations` in the
    details; MissingKey and ModelFailed from the client.
    """
    messages: list[dict[str, Any]] = []
    if request.instructions:
        messages.append({"role": "system", "content": request.instructions})
    messages.append({"role": "user", "content": request.prompt})
    usage = Usage()
    calls = 0
    while True:
        reply = await client.complete(_question(request, messages))
        usage += reply.usage
        calls += 1
        output, wrong = read(reply.text, request.schema, request.json_mode)
        if not wrong:
            return AgentAnswer(output, usage, calls)
        if calls > structured_output_retries:
            raise _invalid(request, reply.text, wrong, calls)
        messages += [
            {"role": "assistant", "content": reply.text or "(an empty answer)"},
            {"role": "user", "content": _feedback(wrong, calls, structured_output_retries)},
        ]


def read(text: str, schema: Json | None, json_mode: bool) -> tuple[Json, list[str]]:
    """The output that an answer stands for, or what is wrong with it (language.md §4.5, no. 6)."""
    text = _clean(text)
    if schema is None:
        return (_free(text) if json_mode else {"response": text}), []
    wrong: list[str] = []
    for value in _values(text):
        broken = schemas.violations(value, schema)
        if not broken:
            return value, []
        wrong = wrong or broken
    # Words are the value of a schema for text, whether or not they happen to be JSON as well.
    if schemas.fits(text, schema):
        return text, []
    return None, wrong or ["at `$`: the answer holds no JSON value"]


def _question(request: AgentRequest, messages: list[dict[str, Any]]) -> ModelRequest:
    return ModelRequest(
        agent=request.agent,
        action=request.action,
        step=request.step,
        model=request.model,
        api_key=request.api_key,
        messages=tuple(messages),
        input=request.input,
        schema=request.schema,
        json_mode=request.json_mode,
    )


def _free(text: str) -> Json:
    """JSON mode without a schema: an object as it is, another value wrapped, words as words."""
    for candidate in (text, _fenced(text)):
        try:
            value = _parse(candidate)
        except ValueError:
            continue
        return value if isinstance(value, dict) else {"__value__": value}
    return {"response": text}


def _values(text: str) -> Iterator[Json]:
    """The whole answer as JSON, then the fenced block in it, then objects and arrays in it.

    The first one is what the specification asks for; the later ones save an answer that quotes
    something in brackets before it comes to the point.
    """
    for candidate in dict.fromkeys((text, _fenced(text))):
        try:
            yield _parse(candidate)
        except ValueError:
            continue
    decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=_number, strict=False)
    tries, at = 0, 0
    while tries < _STARTS and (found := re.compile(r"[{\[]").search(text, at)):
        tries += 1
        try:
            value, at = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            at = found.start() + 1
            continue
        yield _without_surrogates(value)


def _fenced(text: str) -> str:
    found = re.search(r"```[\w+-]*[ \t]*\r?\n(.*?)\r?\n?[ \t]*```", text, re.DOTALL)
    return found.group(1) if found else text


def _parse(text: str) -> Json:
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_number, strict=False)
    except RecursionError as fault:
        raise ValueError("nested too deeply") from fault
    return _without_surrogates(value)


def _refuse(constant: str) -> Json:
    raise ValueError(f"{constant} is not JSON")


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is out of range")
    return value


def _clean(text: str) -> str:
    """Without half characters, which neither a database nor a terminal can take."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _without_surrogates(value: Json) -> Json:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _feedback(wrong: list[str], attempt: int, retries: int) -> str:
    faults = "\n".join(f"- {line}" for line in wrong)
    return (
        f"FINALIZATION_FEEDBACK (attempt {attempt} of {retries}): the answer above does not fit "
        f"the JSON schema it has to fit:\n{faults}\n"
        "Answer again with the corrected JSON value only, without any other words."
    )


def _invalid(request: AgentRequest, text: str, wrong: list[str], calls: int) -> OutputInvalid:
    asked = "one answer" if calls == 1 else f"{calls} answers"
    return OutputInvalid(
        f"{asked} of action `{request.action}` of agent `{request.agent}` broke its output schema; "
        f"in the last one, {wrong[0]}"
        + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""),
        details={"violations": wrong, "calls": calls, "answer": redact(text, limit=500)},
    )
