"""Resources and prompts of MCP servers of all three transports, and of some that misbehave."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.lock import Listing, difference
from compozy_prefect.compiler.plan import McpPlan, McpPromptPlan, McpResourcePlan, McpToolPlan
from compozy_prefect.errors import RunError, ServerFailed, ToolFailed
from compozy_prefect.runtime.mcp import asking, sessions
from compozy_prefect.runtime.mcp.connection import Connection
from compozy_prefect.runtime.mcp.results import LARGEST_READ
from compozy_prefect.runtime.mcp.tools import listing
from compozy_prefect.runtime.tools.surroundings import Surroundings
from tests.support.mcp_servers.started import (
    BAD,
    GOOD,
    PATHS,
    Served,
    over_stdio,
    reached,
    read,
    said,
    use,
)

pytestmark = pytest.mark.usefixtures("no_mcp_server_left")


@pytest.fixture(params=["stdio", *PATHS])
def good(
    request: pytest.FixtureRequest, tmp_path: Path, mcp_over_http: dict[str, Served]
) -> Connection:
    """A server that does what it should, over each transport."""
    if request.param == "stdio":
        return reached(over_stdio(GOOD, "stdio"), tmp_path)
    return reached(McpPlan("good", request.param, url=mcp_over_http[request.param].url), tmp_path)


async def failed(at: Connection, uri: str = "file:///a") -> RunError:
    with pytest.raises(RunError) as raised:
        await read(at, uri)
    return raised.value


# --- what a server gives --------------------------------------------------------------------------


async def test_what_is_read_over_all_transports(good: Connection, mcp_held: None) -> None:
    assert await read(good, "file:///handbook.md") == "# Handbook\n\nBe kind, {{ .nobody }}."
    assert await read(good, "data://settings") == {"days": [1, 2]}
    assert await read(good, "data://dot") == {"mime_type": "image/png", "data": "AAEC"}
    assert await read(good, "large://3") == "xxx", "one of a template of URIs"
    assert await said(good, "greet", name="Ada") == "Say hello to Ada, in a warm tone."
    assert await said(good, "greet", name="Ada", tone="dry") == "Say hello to Ada, in a dry tone."
    assert await said(good, "talk") == "user: Who are you?\n\nassistant: A clerk."
    assert await use(good, "add", a=1, b=2) == 3
    assert len(sessions.here()._entries) == 1, "one session for all of it"


async def test_what_is_listed(good: Connection, mcp_held: None) -> None:
    found = await listing(good, Surroundings())
    assert "add" in {tool.name for tool in found.tools}
    assert found.prompts == (
        McpPromptPlan("greet", "Greets somebody.", {"name": True, "tone": False}),
        McpPromptPlan("talk", "A talk."),
    )
    assert found.resources is not None
    assert McpResourcePlan("file:///handbook.md", "text/markdown") in found.resources
    assert McpResourcePlan("env://{name}", "text/plain", is_pattern=True) in found.resources


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("file:///nothing", "resource `file:///nothing` of MCP server `good`: Unknown resource"),
        ("data://broken", "its type is application/json, and it is no JSON"),
        (f"large://{LARGEST_READ + 1}", "it is 524,289 bytes, and a template gets at most 512 KiB"),
    ],
)
async def test_what_cannot_be_read(uri: str, told: str, good: Connection, mcp_held: None) -> None:
    fault = await failed(good, uri)
    assert isinstance(fault, ToolFailed)
    assert fault.code == "MCP_RESPONSE_ERROR"
    assert told in fault.message
    assert "(compozy.yaml:4)" in fault.message
    assert fault.details["resource"] == uri
    assert not fault.retryable
    assert await read(good, "large://1") == "x", "the session goes on"


async def test_a_prompt_that_is_not_filled_in(good: Connection, mcp_held: None) -> None:
    with pytest.raises(ToolFailed, match="prompt `greet` of MCP server `good`: Missing") as raised:
        await said(good, "greet")
    assert raised.value.details["prompt"] == "greet"


# --- servers that misbehave -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "code", "told"),
    [
        ("dies", "MCP_CONNECTION_ERROR", "with code 3"),
        ("killed", "MCP_CONNECTION_ERROR", "with signal SIGKILL"),
        ("dies-at-start", "MCP_CONNECTION_ERROR", "it said: there is no database"),
        ("hangs", "MCP_TIMEOUT_ERROR", "did not answer within 1.5 s"),
        ("not-json", "MCP_TIMEOUT_ERROR", "did not answer within 1.5 s"),
        ("stranger", "MCP_TIMEOUT_ERROR", "did not answer within 1.5 s"),
        ("garbage", "MCP_RESPONSE_ERROR", "writes to stdout what is no message"),
        ("flood", "MCP_RESPONSE_ERROR", "a message of more than 10 MiB"),
        ("huge", "MCP_RESPONSE_ERROR", "a message of more than 10 MiB"),
        ("notifies", "MCP_RESPONSE_ERROR", "10 MiB of notifications"),
        ("wrong", "MCP_RESPONSE_ERROR", "its answer is no MCP"),
    ],
)
@pytest.mark.parametrize("kind", ["resource", "prompt"])
async def test_a_server_that_fails_meanwhile(
    kind: str, how: str, code: str, told: str, tmp_path: Path
) -> None:
    patience = 1.5 if code == "MCP_TIMEOUT_ERROR" else 60.0
    at = reached(over_stdio(BAD, how, timeout=patience), tmp_path)
    start = time.monotonic()
    async with sessions.held():
        with pytest.raises(ToolFailed) as raised:
            await (read(at, "file:///a") if kind == "resource" else said(at, "greet", name="A"))
    assert raised.value.code == code
    assert told in raised.value.message
    if how != "dies-at-start":
        assert f"{kind} `" in raised.value.message
    assert time.monotonic() - start < 60


async def test_one_that_died_is_started_again(tmp_path: Path, mcp_held: None) -> None:
    at = reached(over_stdio(BAD, "dies-once"), tmp_path)
    fault = await failed(at)
    assert fault.retryable
    assert await read(at, "file:///a") == "call 1"


async def test_a_list_that_does_not_end(tmp_path: Path, mcp_held: None) -> None:
    at = reached(over_stdio(BAD, "endless-resources"), tmp_path)
    with pytest.raises(ToolFailed, match="its list of resources does not end after 100"):
        await listing(at, Surroundings())


async def test_a_read_that_is_cancelled_leaves_the_session(
    good: Connection, mcp_held: None
) -> None:
    await read(good, "large://1")
    reading = asyncio.create_task(read(good, "large://1000000"))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await read(good, "large://2") == "xx"


# --- the lock -------------------------------------------------------------------------------------

GREET = McpPromptPlan("greet", "Greets.", {"name": True})
PAGE = McpResourcePlan("file:///a", "text/plain")


def locked(how: str, **more: Any) -> McpPlan:
    named = {"work": "Works.", "other": "Works, too."}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    tools = tuple(McpToolPlan(name, text, schema) for name, text in named.items())
    made = over_stdio(BAD, how, is_locked=True, tools=tools, prompts=(GREET,), resources=(PAGE,))
    return replace(made, **more)


async def test_what_is_as_the_lock_has_it(tmp_path: Path, mcp_held: None) -> None:
    at = reached(locked("ok"), tmp_path)
    assert await said(at, "greet", name="Ada") == "call 1"
    assert await read(at, "file:///a") == "call 2"
    assert await read(at, "file:///another") == "call 3", "the lock says nothing of it"


async def test_a_prompt_that_is_gone(tmp_path: Path, mcp_held: None) -> None:
    at = reached(locked("no-prompts"), tmp_path)
    with pytest.raises(ServerFailed) as raised:
        await said(at, "greet", name="Ada")
    assert raised.value.code == "MCP_PROMPTS_CHANGED"
    assert raised.value.details["difference"] == ["- prompt `greet` is gone"]
    assert "its prompts are not those of compozy.lock (compozy.yaml:4)" in raised.value.message
    assert await read(at, "file:///a") == "call 1", "what else there is can be read"


async def test_what_has_changed(tmp_path: Path, mcp_held: None) -> None:
    at = reached(locked("more", is_locked=False), tmp_path)
    with pytest.raises(ServerFailed) as raised:
        await said(at, "greet", name="Ada")
    assert raised.value.details["difference"] == [
        "~ prompt `greet` has changed:",
        "    +argument tone: needed",
    ]
    fault = await failed(at)
    assert fault.code == "MCP_RESOURCES_CHANGED"
    assert "    -mime type: text/plain" in fault.details["difference"]
    assert "    +mime type: text/html" in fault.details["difference"]


def test_a_lock_that_says_nothing_of_prompts_differs_in_nothing() -> None:
    assert not difference(Listing(), Listing((), (GREET,), (PAGE,))).lines
    found = difference(Listing((), (), (PAGE,)), Listing((), (GREET,), ()))
    assert found.lines == ("+ prompt `greet` is new", "- resource `file:///a` is gone")
    assert (found.gone, found.new) == (("resource file:///a",), ("prompt greet",))


# --- what a template calls it with ----------------------------------------------------------------


def test_arguments_of_a_prompt_are_text() -> None:
    given = {"name": "Ada", "count": 3, "is_new": True, "tags": ["a"], "none": None}
    wanted = asking.wanted("s", "prompt", ["greet", given])
    assert wanted.arguments == {"name": "Ada", "count": "3", "is_new": "true", "tags": '["a"]'}
    assert asking.wanted("s", "resource", ["file:///a"]).name == "file:///a"


@pytest.mark.parametrize(
    ("method", "args", "told"),
    [
        ("tool", [], "`.mcps.s.tool` does not exist: there are `resource` and `prompt`"),
        ("resource", [], "takes one argument, and has 0"),
        ("resource", [None], "takes a text first, and this is null"),
        ("resource", ["a", {}], "takes one argument, and has 2"),
        ("prompt", ["greet", "Ada"], "takes a map after the name"),
    ],
)
def test_calls_that_mean_nothing(method: str, args: list[Any], told: str) -> None:
    with pytest.raises(ToolFailed) as raised:
        asking.wanted("s", method, args)
    assert told in raised.value.message
    assert not raised.value.retryable
