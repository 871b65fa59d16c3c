"""Tools with an `effect`: what is made again, what is in doubt, and who gets the key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.plan import (
    CommandPlan,
    ExecPlan,
    Json,
    NativePlan,
    RuntimePlan,
    ToolPlan,
)
from compozy_prefect.errors import InputInvalid, OutputInvalid, RunError, ToolFailed
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.processes.pool import POOLS
from compozy_prefect.runtime.tools.dispatch import call
from compozy_prefect.runtime.tools.effects import Decision, Doubt, Effects
from compozy_prefect.runtime.tools.surroundings import Surroundings
from tests.support.internet import Server, serving

QUICK = {"maximum_attempts": 3, "initial_interval": "5ms"}
MARK = "pay@effect"


class Kept(dict[str, Json]):
    """The calls of an attempt."""

    def note(self, key: str, value: Json) -> None:
        self[key] = value

    async def keep(self, key: str, value: Json) -> None:
        self[key] = value


class Person:
    def __init__(self, *decisions: Decision) -> None:
        self.decisions = list(decisions)
        self.asked: list[Doubt] = []

    async def __call__(self, doubt: Doubt) -> Decision:
        self.asked.append(doubt)
        return self.decisions.pop(0)


WRITE = ToolPlan("pay", type="http", effect="write")


def giving(value: Json, made: list[int]) -> Any:
    async def run() -> Json:
        made.append(1)
        return value

    return run


def failing(fault: Exception) -> Any:
    async def run() -> Json:
        raise fault

    return run


# --- marks ----------------------------------------------------------------------------------------


async def test_what_was_given_is_given_again() -> None:
    kept, made = Kept(), list[int]()
    for _ in range(2):
        effects = Effects(kept, None)
        assert await effects.once(WRITE, "pay", {}, giving({"n": 1}, made)) == {"n": 1}
        assert list(effects.made) == ["pay"]
    assert (len(made), kept[MARK]) == (1, {"gave": {"n": 1}})


@pytest.mark.parametrize("effect", ["", "read", "idempotent"])
async def test_of_others_nothing_is_kept(effect: str) -> None:
    kept, made = Kept(), list[int]()
    tool = ToolPlan("pay", type="http", effect=effect)
    for _ in range(2):
        await Effects(kept, None).once(tool, "pay", {}, giving(1, made))
    assert (len(made), kept) == (2, {})


async def test_a_failure_that_is_known_is_forgotten() -> None:
    kept, made = Kept(), list[int]()
    effects = Effects(kept, None)
    with pytest.raises(ToolFailed):
        await effects.once(WRITE, "pay", {}, failing(ToolFailed("no")))
    assert not effects.unknown
    assert await effects.once(WRITE, "pay", {}, giving(1, made)) == 1


@pytest.mark.parametrize(
    "fault", [ToolFailed("cut", is_known=False), TimeoutError(), ValueError("a bug")]
)
async def test_any_other_is_in_doubt(fault: Exception) -> None:
    kept, person, made = Kept(), Person(Decision("done", 7)), list[int]()
    effects = Effects(kept, person)
    with pytest.raises(type(fault)):
        await effects.once(WRITE, "pay", {"a": 1}, failing(fault))
    assert list(effects.unknown) == ["pay"]
    assert not person.asked
    effects = Effects(kept, person)  # of the resumed run
    assert await effects.once(WRITE, "pay", {"a": 1}, giving(1, made)) == 7
    assert (person.asked, made) == ([Doubt("pay", "pay", {"a": 1})], [])
    assert not effects.unknown
    assert await Effects(kept, None).once(WRITE, "pay", {}, giving(1, made)) == 7


async def test_of_two_calls_at_once_one_is_in_doubt() -> None:
    kept, begun = Kept(), asyncio.Event()
    effects = Effects(kept, None)

    async def cut() -> Json:
        await begun.wait()
        raise ToolFailed("cut", is_known=False)

    first = asyncio.create_task(effects.once(WRITE, "turn-1/1", {}, cut))
    await asyncio.sleep(0)
    await effects.once(WRITE, "turn-1/2", {}, giving(1, []))
    begun.set()
    with pytest.raises(ToolFailed):
        await first
    assert effects.unknown == ["pay"]


async def test_without_a_person_it_fails() -> None:
    kept, made = Kept({MARK: {"began": True}}), list[int]()
    effects = Effects(kept, None)
    with pytest.raises(ToolFailed, match="nobody can be asked") as raised:
        await effects.once(WRITE, "pay", {}, giving(1, made))
    assert (raised.value.code, raised.value.retryable, made) == ("IN_DOUBT", False, [])


async def test_a_call_that_fails_stays_in_doubt() -> None:
    kept, person = Kept({MARK: {"began": True}}), Person(Decision("fail"), Decision("repeat"))
    made = list[int]()
    for expected in (ToolFailed, None):
        effects = Effects(kept, person)
        if expected is not None:
            with pytest.raises(expected):
                await effects.once(WRITE, "pay", {}, giving(1, made))
        else:
            assert await effects.once(WRITE, "pay", {}, giving(1, made)) == 1
    assert (len(person.asked), len(made)) == (2, 1)


# --- what is known --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standing() -> Iterator[Server]:
    with serving(lambda asked: (200, {}, b"{}")) as server:
        yield server


@pytest.fixture
def server(standing: Server) -> Server:
    standing.asked.clear()
    standing.reply = lambda asked: (200, {}, b"{}")
    return standing


async def used(tool: ToolPlan, input: Any, kept: Kept, around: Any = None, **more: Any) -> Json:
    effects = Effects(kept, None)

    async def once(run: Any) -> Json:
        return await effects.once(tool, "pay", input, run)

    return await call(tool, input, around or Surroundings(key="K"), once=once, **more)


async def is_known(tool: ToolPlan, input: Any, around: Any = None) -> bool:
    """Whether it is known how a call ended that fails."""
    kept = Kept()
    with pytest.raises(RunError):
        await used(tool, input, kept, around)
    assert kept.get(MARK) in (None, {"began": True})
    return kept.get(MARK) is None


def http(url: str, effect: str = "write", **config: Any) -> ToolPlan:
    given = {"base_url": url, "fail_on_error": True, **config}
    return ToolPlan("pay", type="http", effect=effect, config=given, timeout=2.0)


REFUSED = (400, 404, 409, 429, 501, 503, 505)
UNTOLD = (408, 500, 502, 504, 520)


@pytest.mark.parametrize(
    ("status", "known"), [*((one, True) for one in REFUSED), *((one, False) for one in UNTOLD)]
)
async def test_statuses(server: Server, status: int, known: bool) -> None:
    server.reply = lambda asked: (status, {}, b"")
    assert await is_known(http(server.url), {"data": {}}) is known
    assert len(server.asked) == 1


async def test_connections(server: Server, unused_tcp_port: int) -> None:
    assert await is_known(http(f"http://127.0.0.1:{unused_tcp_port}"), {"data": {}})
    server.reply = lambda asked: None  # type: ignore[assignment, return-value]
    assert not await is_known(http(server.url), {"data": {}})
    server.reply = lambda asked: (200, {"Content-Encoding": "gzip"}, b"nonsense")
    assert not await is_known(http(server.url), {"data": {}})


async def test_what_breaks_a_schema() -> None:
    """The input before the call, and the result after it."""
    kept, text = Kept(), {"type": "object", "properties": {"a": {"type": "string"}}}
    function = ToolPlan("pay", type="javascript", effect="write", input_schema=text)
    with pytest.raises(InputInvalid):
        await used(function, {"a": 1}, kept)
    assert not kept
    code = "({ a }) => ({ a: 1 })"
    function = ToolPlan("pay", type="javascript", effect="write", execute=code, output_schema=text)
    with pytest.raises(OutputInvalid):
        await used(function, {"a": "x"}, kept)
    assert kept[MARK] == {"gave": {"a": 1}}


@pytest.mark.parametrize(
    ("code", "known"),
    [
        ("() => { throw new Error('no') }", True),
        ("() => 1n", False),
        ("() => new Promise(() => {})", False),
        ("() => Deno.exit(3)", False),
        ("(", True),
    ],
)
async def test_javascript(code: str, known: bool) -> None:
    tool = ToolPlan("pay", type="javascript", effect="write", execute=code, timeout=2.0)
    assert await is_known(tool, {}) is known


@pytest.mark.parametrize(
    ("code", "known"),
    [
        ("def f(): raise ValueError", True),
        ("def f(): return object()", False),
        ("def g(): ...", True),
        ("import time\ndef f(): time.sleep(9)", False),
        ("import os\ndef f(): os._exit(3)", False),
    ],
)
async def test_python(code: str, known: bool, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(code)
    around = Surroundings(RuntimePlan(python=("code:f",)), tmp_path)
    config = {"function": "code:f"}
    tool = ToolPlan("pay", type="python", effect="write", config=config, timeout=1.0)
    assert await is_known(tool, {}, around) is known
    POOLS.close()


@pytest.mark.parametrize(
    ("script", "known"), [("exit 3", True), ("kill -9 $$", False), ("sleep 9", False)]
)
async def test_programs(script: str, known: bool, tmp_path: Path) -> None:
    tool, around = program(script, tmp_path, "write")
    assert await is_known(tool, {}, around) is known


def program(script: str, folder: Path, effect: str) -> tuple[ToolPlan, Surroundings]:
    file = folder / "run.sh"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    runtime = RuntimePlan(
        native_tools=NativePlan(exec=ExecPlan(allowlist=(CommandPlan("./run.sh"),)))
    )
    config = {"command": ["./run.sh"], "stdin": None}
    tool = ToolPlan("pay", type="cli", effect=effect, config=config, timeout=1.0)
    return tool, Surroundings(runtime, folder, key="K-7")


# --- repeats and keys -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "method", "times"),
    [
        ("", "POST", 1),
        ("", "PUT", 3),
        ("read", "POST", 3),
        ("idempotent", "POST", 3),
        ("write", "PUT", 1),
        ("write", "GET", 1),
    ],
)
async def test_requests_that_are_made_again(
    server: Server, effect: str, method: str, times: int
) -> None:
    server.reply = lambda asked: (503, {}, b"")
    tool = http(server.url, effect, retry=QUICK)
    with pytest.raises(ToolFailed):
        await used(tool, {"endpoint": "x", "method": method}, Kept())
    assert [asked.method for asked in server.asked] == [method] * times
    keys = {asked.headers.get("idempotency-key") for asked in server.asked}
    assert len(keys) == 1


@pytest.mark.parametrize(("effect", "seen"), [("idempotent", "K-7"), ("write", ""), ("", "")])
async def test_the_key_of_programs_and_functions(effect: str, seen: str, tmp_path: Path) -> None:
    tool, around = program('printf "$COMPOZY_IDEMPOTENCY_KEY"', tmp_path, effect)
    assert (await used(tool, {}, Kept(), around))["data"] == seen
    code = "(_, config) => ({ key: config.idempotency_key ?? '' })"
    function = ToolPlan("pay", type="javascript", effect=effect, execute=code)
    assert await used(function, {}, Kept(), around) == {"key": seen}


async def test_a_mock_has_no_effect() -> None:
    kept, mocks = Kept(), Mocks.from_mapping({"tools": {"pay": {"output": {"n": 1}}}})
    assert await used(http("http://127.0.0.1:9"), {}, kept, mocks=mocks) == {"n": 1}
    assert not kept
