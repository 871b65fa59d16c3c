"""An agent's rendered instructions and prompt → its output, validated (language.md §4.5).

A talk with a model in turns: an answer that calls tools gets their results, and one that breaks the
action's output schema is shown what was wrong with it (service.md §8.1, §8.2).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from compozy_prefect.compiler.canonical import canonical
from compozy_prefect.compiler.plan import Json, LoopPlan, ModelPlan
from compozy_prefect.errors import (
    FATAL,
    BudgetExceeded,
    ModelFailed,
    OutputInvalid,
    RunError,
)
from compozy_prefect.runtime import schemas
from compozy_prefect.runtime.answers import read
from compozy_prefect.runtime.budgets import Meter, Spend
from compozy_prefect.runtime.calls import Called, Calls, Nowhere, Unwatched, Watch, size
from compozy_prefect.runtime.llm.client import (
    Candidate,
    ModelAnswer,
    ModelClient,
    ModelRequest,
    ToolCall,
    ToolOffer,
    Usage,
    paid_for,
)
from compozy_prefect.runtime.llm.questions import answer_from, answer_to, question
from compozy_prefect.runtime.redaction import redact
from compozy_prefect.runtime.together import together

LARGEST_RESULT = 64 * 1024  # bytes of a tool's result that the model gets to see
_SAID = 2_000  # characters of an error that the model gets to see

# Calls a tool by its name with arguments; the key names the call, also when it is made again. The
# last hears what models took of it, which the meter has counted.
Use = Callable[[str, dict[str, Json], str, Spend], Awaitable[Json]]


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """One action of an agent, ready to be asked: `instructions` and `prompt` are rendered.

    `schema` is the action's output schema, `input` its effective and valid input. `history` stands
    between the instructions and the prompt. `content` are parts of the prompt beside its text.
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
    tools: tuple[ToolOffer, ...] = ()
    loop: LoopPlan = field(default_factory=LoopPlan)
    history: tuple[dict[str, Any], ...] = ()
    content: tuple[dict[str, Any], ...] = ()
    others: tuple[Candidate, ...] = ()

    def messages(self) -> list[dict[str, Any]]:
        """What the model is asked first, in the form of OpenAI's chat completions."""
        messages: list[dict[str, Any]] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        messages += self.history
        asked: Any = self.prompt
        if self.content:
            asked = [{"type": "text", "text": self.prompt}, *self.content]
        return [*messages, {"role": "user", "content": asked}]

    def question(self, messages: list[dict[str, Any]]) -> ModelRequest:
        return ModelRequest(
            agent=self.agent,
            action=self.action,
            step=self.step,
            model=self.model,
            api_key=self.api_key,
            messages=tuple(messages),
            input=self.input,
            schema=self.schema,
            json_mode=self.json_mode,
            tools=self.tools,
            others=self.others,
        )


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """The output of the action. `text` are the last words.

    `usage` counts every call of a model, also of the agents, tasks and workflows that it called.
    """

    output: Json
    usage: Usage
    text: str = ""


async def answer(
    request: AgentRequest,
    client: ModelClient,
    *,
    use: Use | None = None,
    calls: Calls | None = None,
    watch: Watch | None = None,
    meter: Meter | None = None,
    permit: Callable[[], Awaitable[None]] | None = None,
) -> AgentAnswer:
    """Talks with the agent until its answer is one.

    `use` calls a tool that the request offers, `calls` has what an earlier process was told and
    keeps what this one is, and `meter` allows each call, and hears what it took as soon as it is
    paid, also of a talk that fails. `permit` is awaited before each call of the model. Raises
    OutputInvalid when the last correction did not help either, with `violations` in the details;
    BudgetExceeded when a bound of the talk or a budget is reached; MissingKey and ModelFailed from
    the client.
    """
    talk = _Talk(request, client, use, calls or Nowhere(), watch or Unwatched(), meter, permit)
    return await talk.run()


class _Talk:
    def __init__(
        self,
        request: AgentRequest,
        client: ModelClient,
        use: Use | None,
        calls: Calls,
        watch: Watch,
        meter: Meter | None,
        permit: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._request, self._client, self._use = request, client, use
        self._calls, self._watch, self._meter = calls, watch, meter
        self._permit = permit
        self._messages = request.messages()
        self._usage = Usage()
        self._turn = 0
        self._replays = True  # as long as the talk is the one that is kept
        self._bounds = _Bounds(request)

    async def run(self) -> AgentAnswer:
        request, corrections, turns = self._request, 0, 0
        while True:
            reply = await self._ask()
            if reply.calls:
                turns += 1
                if request.loop.turns and turns > request.loop.turns:
                    raise self._bounds.exceeded(f"it called tools in {turns} answers in a row")
                await self._tools(reply)
                continue
            output, wrong = read(reply.text, request.schema, request.json_mode)
            if wrong and reply.finish == "length":
                wrong = [*wrong, "the answer broke off at the model's limit of tokens"]
            wrong = wrong or _reported(output, request.schema)
            if not wrong:
                return AgentAnswer(output, self._usage, reply.text)
            if corrections == request.loop.corrections:
                raise _invalid(request, reply.text, wrong, corrections + 1)
            corrections += 1
            self._messages += [
                {"role": "assistant", "content": reply.text or "(an empty answer)"},
                {"role": "user", "content": _feedback(wrong, corrections, request.loop)},
            ]

    async def _ask(self) -> ModelAnswer:
        """The next answer: the one that is kept, if the question is the same."""
        self._turn += 1
        key = f"turn-{self._turn}"
        asking = self._request.question(self._messages)
        asked, started = _fingerprint(asking), time.monotonic()
        kept = self._calls.get(key) if self._replays else None
        self._watch.began(key, "model", asking.model.model)
        if kept is not None and kept["asked"] == asked:
            reply = answer_from(kept["answer"])
            self._told(key, "model", reply.model, started, reply.usage, again=True)
            return reply
        self._replays = False
        asks = False
        try:
            if self._meter is not None:
                self._meter.allow()
            if self._permit is not None:
                await self._permit()
            chunks = self._watch.chunk if self._watch.streams else None
            asks = True
            reply = await self._client.complete(asking, on_chunk=chunks)
        except BaseException as fault:
            said, taken = str(fault) or "cancelled", _taken(fault) if asks else None
            self._told(key, "model", asking.model.model, started, taken, error=said)
            raise
        self._told(key, "model", reply.model, started, reply.usage)
        record = {"asked": asked, "answer": answer_to(reply)}
        if reply.calls:
            await self._calls.keep(key, record)
        else:
            self._calls.note(key, record)
        return reply

    def _told(
        self,
        key: str,
        kind: str,
        name: str,
        started: float,
        usage: Usage | None = None,
        *,
        error: str = "",
        again: bool = False,
        sizes: tuple[int, int] = (0, 0),
    ) -> None:
        if usage is not None:
            self._usage += usage
            if self._meter is not None:
                self._meter.add(usage)
        seconds = time.monotonic() - started
        usage = usage or Usage()
        self._watch.ended(Called(key, kind, name, seconds, usage, error, again, sizes))

    async def _tools(self, reply: ModelAnswer) -> None:
        """Makes the calls of an answer, and puts their results into the talk, in their order."""
        self._messages.append(reply.to_message())
        slots = asyncio.Semaphore(self._request.loop.parallel or len(reply.calls))

        async def one(number: int, call: ToolCall) -> str:
            async with slots:
                return await self._tool(f"turn-{self._turn}/{number}", call)

        results = await together(one(n, call) for n, call in enumerate(reply.calls, 1))
        for call, result in zip(reply.calls, results, strict=True):
            self._messages.append(
                {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": result}
            )
        self._bounds.check(reply.calls, results)

    async def _tool(self, key: str, call: ToolCall) -> str:
        """What the model is told of a call: its result, or what went wrong, as JSON."""
        started = time.monotonic()
        self._bounds.made[call.name] += 1
        kept = self._calls.get(key) if self._replays else None
        self._watch.began(key, "tool", call.name)
        if kept is not None:
            spent = Usage.from_json(kept["usage"]) if "usage" in kept else None
            self._told(key, "tool", call.name, started, spent, error=kept["error"], again=True)
            return str(kept["result"])
        error, taken = "", list[Usage]()
        try:
            called = await self._called(key, call, taken.append)
            result = json.dumps(called, ensure_ascii=False)
        except FATAL:
            raise  # none of them is to be told to a model
        except RunError as fault:
            error = fault.message
            told = {"code": fault.code, "message": redact(fault.message, limit=_SAID)}
            result = json.dumps({"error": told}, ensure_ascii=False)
        except BaseException as fault:
            self._told(key, "tool", call.name, started, error=str(fault) or "cancelled")
            raise
        finally:
            self._usage = sum(taken, self._usage)
        sizes = size(call.arguments), len(result.encode("utf-8", "replace"))
        self._told(key, "tool", call.name, started, error=error, sizes=sizes)
        result = _shortened(result)
        record: dict[str, Json] = {"result": result, "error": error}
        if taken:
            record["usage"] = sum(taken, Usage()).kept()
        await self._calls.keep(key, record)
        return result

    async def _called(self, key: str, call: ToolCall, spend: Spend) -> Json:
        offered = {offer.name: offer for offer in self._request.tools}
        offer = offered.get(call.name)
        if offer is None or self._use is None:
            known = ", ".join(offered) or "none"
            raise RunError(
                f"there is no tool `{call.name}`; there are: {known}", code="TOOL_NOT_FOUND"
            )
        most = self._request.loop.calls.get(call.name, self._request.loop.calls.get("", 0))
        if self._bounds.made[call.name] > most > 0:
            raise RunError(
                f"`{call.name}` may be called {most} times, and was", code="BUDGET_EXCEEDED"
            )
        if isinstance(call.arguments, str):
            raise RunError("the arguments are no JSON object", code="TOOL_INVALID_INPUT")
        wrong = schemas.violations(call.arguments, offer.schema)
        if wrong:
            raise RunError(
                "the arguments break the schema of the tool: " + "; ".join(wrong[:5]),
                code="TOOL_INVALID_INPUT",
            )
        return await self._use(call.name, call.arguments, key, spend)


class _Bounds:
    """What ends a talk that leads nowhere (service.md §8.1)."""

    def __init__(self, request: AgentRequest) -> None:
        self._request, self._loop = request, request.loop
        self.made: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._last = ""
        self._same = 0
        self._turns: Counter[str] = Counter()

    def check(self, calls: tuple[ToolCall, ...], results: list[str]) -> None:
        """Raises BudgetExceeded when the calls of an answer were one too many."""
        loop = self._loop
        for call, result in zip(calls, results, strict=True):
            name = call.name
            failed = _is_error(result)
            self._failed[name] = self._failed[name] + 1 if failed else 0
            if loop.errors and self._failed[name] >= loop.errors:
                times = self._failed[name]
                raise self.exceeded(f"`{name}` failed {times} times in a row, last with {result}")
            one = canonical([name, call.arguments, result]).decode("utf-8", "replace")
            self._same = self._same + 1 if one == self._last and not failed else 1
            self._last = one
            if loop.repeats and self._same > loop.repeats:
                raise self.exceeded(f"it called `{name}` {self._same} times with the same result")
        if loop.stalls:
            turn = canonical(
                [[c.name, c.arguments, r] for c, r in zip(calls, results, strict=True)]
            )
            self._turns[hashlib.sha256(turn).hexdigest()] += 1
            if max(self._turns.values()) > loop.stalls:
                raise self.exceeded("its turns repeat, and lead nowhere")

    def exceeded(self, what: str) -> BudgetExceeded:
        request = self._request
        made = ", ".join(f"`{name}` {times}" for name, times in self.made.most_common(5))
        return BudgetExceeded(
            f"agent `{request.agent}` was stopped in action `{request.action}`: {what}"
            + (f" (calls of tools: {made})" if made else ""),
            details={"agent": request.agent, "action": request.action, "tools": dict(self.made)},
        )


def _taken(fault: BaseException) -> Usage | None:
    """What a call has taken that ended so; None when no provider was asked.

    A call that failed is one all the same: else a budget of calls would not hold a task that tries
    again and again.
    """
    if isinstance(fault, ModelFailed) and fault.details.get("attempts"):
        return Usage(calls=1) + paid_for(fault)
    return Usage(calls=1) if isinstance(fault, asyncio.CancelledError) else None


def _is_error(result: str) -> bool:
    return result.startswith('{"error": {"code": ')


def _shortened(text: str) -> str:
    data = text.encode("utf-8", "replace")
    if len(data) <= LARGEST_RESULT:
        return text
    begin = data[:LARGEST_RESULT].decode("utf-8", "ignore")
    return f"{begin}\n[cut off: {len(data)} bytes, of which {LARGEST_RESULT} are shown]"


def _fingerprint(asked: ModelRequest) -> str:
    """What an answer belongs to: the same question, of the same model."""
    return hashlib.sha256(canonical(question(asked))).hexdigest()


def _reported(output: Json, schema: Json | None) -> list[str]:
    """An answer may say in a field `error`, which nobody asked for, that it is none (§8.2)."""
    if schema is None or not isinstance(output, dict) or output.get("error") is None:
        return []
    declared = schema.get("properties") if isinstance(schema, dict) else None
    if isinstance(declared, dict) and "error" in declared:
        return []
    return [f"at `error`: the answer says that it failed: {json.dumps(output['error'])[:500]}"]


def _feedback(wrong: list[str], attempt: int, loop: LoopPlan) -> str:
    faults = "\n".join(f"- {line}" for line in wrong)
    return (
        f"FINALIZATION_FEEDBACK (attempt {attempt} of {loop.corrections}): the answer above does "
        f"not fit the JSON schema it has to fit:\n{faults}\n"
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
