"""agents: the tool loop, its bounds, and talks that broke off and go on."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from compozy_prefect.compiler.plan import BudgetPlan, LoopPlan, ModelPlan
from compozy_prefect.errors import BudgetExceeded, ToolFailed
from compozy_prefect.runtime.agents import LARGEST_RESULT, AgentRequest, answer
from compozy_prefect.runtime.budgets import Budget, Meter
from compozy_prefect.runtime.calls import Called
from compozy_prefect.runtime.llm.client import (
    ModelAnswer,
    ModelRequest,
    ToolCall,
    ToolOffer,
    Usage,
)

ONE = Usage(10, 5, 0.25, 1)
SEARCH = ToolOffer(
    "search",
    "Looks it up.",
    {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]},
)
ASK = AgentRequest(
    agent="a",
    action="x",
    step="s",
    model=ModelPlan("openai", "gpt-4o"),
    api_key=None,
    instructions="",
    prompt="Find it.",
    tools=(SEARCH, ToolOffer("note")),
)


def wants(*calls: tuple[str, Any], text: str = "") -> ModelAnswer:
    made = tuple(ToolCall(f"c{n}", name, given) for n, (name, given) in enumerate(calls))
    return ModelAnswer(text, ONE, "scripted", made, "tool_calls")


def says(text: str) -> ModelAnswer:
    return ModelAnswer(text, ONE, "scripted")


class Scripted:
    def __init__(self, *answers: ModelAnswer | BaseException) -> None:
        self.answers = list(answers)
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest, *, on_chunk: Any = None) -> ModelAnswer:
        self.requests.append(request)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, BaseException):
            raise found
        return found

    def told(self) -> list[Any]:
        """The results that the model was told of last."""
        return [m["content"] for m in self.requests[-1].messages if m["role"] == "tool"]


class Used:
    """A tool that answers with its arguments, or fails."""

    def __init__(self, *failures: bool) -> None:
        self.failures = list(failures)
        self.made: list[tuple[str, Any, str]] = []
        self.running = self.most = 0

    async def __call__(self, name: str, arguments: dict[str, Any], key: str, _: Any) -> Any:
        self.made.append((name, arguments, key))
        number = len(self.made)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1
        if self.failures and self.failures.pop(0):
            raise ToolFailed("it broke")
        return {"n": number} if name == "search" else {"same": True}


class Died(BaseException):
    """The process ends here."""


class Kept:
    """What an earlier process has left, and what this one keeps."""

    def __init__(self, kept: dict[str, Any] | None = None, *, until: int = 10**6) -> None:
        self.kept, self.until = dict(kept or {}), until

    def get(self, key: str) -> Any:
        return self.kept.get(key)

    def note(self, key: str, value: Any) -> None:
        self.kept[key] = json.loads(json.dumps(value))

    async def keep(self, key: str, value: Any) -> None:
        self.note(key, value)
        self.until -= 1
        if self.until == 0:
            raise Died


class Seen:
    streams = False

    def __init__(self) -> None:
        self.open: dict[str, str] = {}
        self.ended_calls: list[Called] = []

    def began(self, key: str, kind: str, name: str) -> None:
        self.open[key] = kind

    def ended(self, called: Called) -> None:
        del self.open[called.key]
        self.ended_calls.append(called)

    def chunk(self, text: str | None) -> None: ...


async def test_tools_are_called_until_the_model_is_done():
    model = Scripted(wants(("search", {"q": "a"}), ("note", {})), says("found"))
    used, seen, spent = Used(), Seen(), []
    out = await answer(ASK, model, use=used, watch=seen, meter=Meter("s", (), spent.append))
    assert (out.output, out.usage) == ({"response": "found"}, Usage(20, 10, 0.5, 2))
    assert sum(spent, Usage()) == out.usage
    assert used.made == [("search", {"q": "a"}, "turn-1/1"), ("note", {}, "turn-1/2")]
    user, asked, first, second = model.requests[1].messages
    assert user["role"] == "user"
    assert [call["function"]["name"] for call in asked["tool_calls"]] == ["search", "note"]
    assert (first["tool_call_id"], json.loads(first["content"])) == ("c0", {"n": 1})
    assert (second["tool_call_id"], json.loads(second["content"])) == ("c1", {"same": True})
    assert [(one.key, one.kind) for one in seen.ended_calls] == [
        ("turn-1", "model"),
        ("turn-1/1", "tool"),
        ("turn-1/2", "tool"),
        ("turn-2", "model"),
    ]
    assert not seen.open


async def test_results_keep_the_order_of_the_calls_and_a_bound():
    calls = [("search", {"q": str(n)}) for n in range(30)]
    model, used = Scripted(wants(*calls), says("ok")), Used()
    await answer(replace(ASK, loop=LoopPlan(parallel=4)), model, use=used)
    assert used.most == 4
    ids = [m["tool_call_id"] for m in model.requests[1].messages if m["role"] == "tool"]
    assert ids == [f"c{n}" for n in range(30)]


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        (("serch", {"q": "a"}), "TOOL_NOT_FOUND", "there are: search, note"),
        (("search", "{broken"), "TOOL_INVALID_INPUT", "no JSON object"),
        (("search", {}), "TOOL_INVALID_INPUT", "`q`"),
        (("search", {"q": 1}), "TOOL_INVALID_INPUT", "expected string"),
    ],
)
async def test_what_is_wrong_with_a_call_is_told_to_the_model(call, code, said):
    model, used = Scripted(wants(call), says("ok")), Used()
    await answer(ASK, model, use=used)
    error = json.loads(model.told()[0])["error"]
    assert error["code"] == code
    assert said in error["message"]
    assert not used.made


async def test_a_tool_that_fails_is_told_and_the_talk_goes_on():
    model, used = Scripted(wants(("search", {"q": "a"})), says("ok")), Used(True)
    out = await answer(ASK, model, use=used)
    assert json.loads(model.told()[0]) == {
        "error": {"code": "TOOL_EXECUTION_ERROR", "message": "it broke"}
    }
    assert out.output == {"response": "ok"}


async def test_a_large_result_is_cut():
    async def use(*_: Any) -> Any:
        return "ä" * LARGEST_RESULT

    model = Scripted(wants(("search", {"q": "a"})), says("ok"))
    await answer(ASK, model, use=use)
    told = model.told()[0]
    assert len(told.encode()) < LARGEST_RESULT + 100
    assert f"[cut off: {2 * LARGEST_RESULT + 2} bytes" in told


ALWAYS = {"q": "a"}


@pytest.mark.parametrize(
    ("loop", "failures", "said", "turns"),
    [
        (LoopPlan(turns=3), [], "in 4 answers in a row", 4),
        (LoopPlan(errors=4), [True] * 9, "`search` failed 4 times in a row", 4),
        (LoopPlan(turns=0, errors=0, stalls=2), [True] * 9, "its turns repeat", 3),
    ],
)
async def test_bounds(loop, failures, said, turns):
    model, used, spent = Scripted(wants(("search", ALWAYS))), Used(*failures), []
    with pytest.raises(BudgetExceeded, match=said) as raised:
        await answer(replace(ASK, loop=loop), model, use=used, meter=Meter("s", (), spent.append))
    assert len(model.requests) == turns == len(spent)
    assert raised.value.code == "BUDGET_EXCEEDED"
    assert raised.value.details["tools"]["search"] == len(used.made)


async def test_the_same_call_with_the_same_result_ends_a_talk():
    model = Scripted(wants(("note", {})))
    with pytest.raises(BudgetExceeded, match="`note` 4 times with the same result"):
        await answer(ASK, model, use=Used())
    assert len(model.requests) == 4


async def test_one_tool_may_be_called_so_often():
    model = Scripted(*[wants(("search", {"q": str(n)})) for n in range(4)], says("ok"))
    used = Used()
    await answer(replace(ASK, loop=LoopPlan(calls={"search": 2})), model, use=used)
    assert len(used.made) == 2
    assert [json.loads(one).get("error", {}).get("code") for one in model.told()] == [
        None,
        None,
        "BUDGET_EXCEEDED",
        "BUDGET_EXCEEDED",
    ]


def script() -> list[ModelAnswer]:
    return [
        wants(("search", {"q": "a"}), ("search", {"q": "b"})),
        wants(("search", {"q": "c"}), text="one more"),
        says("done"),
    ]


@pytest.mark.parametrize("at", range(1, 6))
async def test_a_talk_that_broke_off_goes_on_at_the_call_it_had_reached(at):
    whole, model = Used(), Scripted(*script())
    expected = await answer(ASK, model, use=whole)

    kept, first, used = Kept(until=at), Scripted(*script()), Used()
    with pytest.raises(Died):
        await answer(ASK, first, use=used, calls=kept)
    left = {key for key in kept.kept if key.startswith("turn-") and "/" not in key}
    rest, seen = Scripted(*script()[len(left) :]), Seen()
    again = await answer(ASK, rest, use=used, calls=Kept(kept.kept), watch=seen)
    assert again.output == expected.output
    assert again.usage == expected.usage, "what was paid before counts, once"
    assert len(first.requests) + len(rest.requests) == 3
    assert [one.key for one in seen.ended_calls if one.again] == [
        key for key in ("turn-1", "turn-1/1", "turn-1/2", "turn-2", "turn-2/1") if key in kept.kept
    ]
    keys = [key for _, _, key in used.made]
    assert len(keys) - len(set(keys)) <= 1, "only what was under way is called again"


async def test_a_call_that_takes_too_long_is_a_call():
    class Hangs(Scripted):
        async def complete(self, request: ModelRequest, *, on_chunk: Any = None) -> ModelAnswer:
            await asyncio.Event().wait()
            raise AssertionError

    spent: list[Usage] = []
    budget = Budget("the run", BudgetPlan(calls=2), lambda: 0.0)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await answer(ASK, Hangs(), meter=Meter("s", (budget,), spent.append))
    with pytest.raises(BudgetExceeded, match="2 calls"):
        await answer(ASK, Hangs(), meter=Meter("s", (budget,), spent.append))
    assert spent == [Usage(calls=1)] * 2


async def test_another_question_is_asked_anew():
    kept = Kept()
    await answer(ASK, Scripted(*script()), use=Used(), calls=kept)
    model, used = Scripted(*script()), Used()
    await answer(replace(ASK, prompt="Find that."), model, use=used, calls=Kept(kept.kept))
    assert len(model.requests) == 3
    assert len(used.made) == 3


async def test_an_error_that_nobody_asked_for_is_no_answer():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    model = Scripted(says('{"error": "no idea"}'), says('{"n": 1}'))
    out = await answer(replace(ASK, tools=(), schema=schema), model)
    assert out.output == {"n": 1}
    assert "says that it failed" in model.requests[1].messages[-1]["content"]
    asked = {"type": "object", "properties": {"error": {"type": "string"}}}
    model = Scripted(says('{"error": "no idea"}'))
    assert (await answer(replace(ASK, tools=(), schema=asked), model)).output == {
        "error": "no idea"
    }
