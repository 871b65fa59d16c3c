"""MCP servers for tests: how each is reached, and what is left of their processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.plan import Json, McpPlan, ToolPlan
from compozy_prefect.runtime.mcp import sessions
from compozy_prefect.runtime.mcp.connection import Connection, connection
from compozy_prefect.runtime.mcp.tools import call as call_tool
from compozy_prefect.runtime.mcp.tools import prompt, resource
from compozy_prefect.runtime.tools.surroundings import Surroundings
from tests.support.prefect_server import until
from tests.support.processes import of_session

HERE = Path(__file__).parent
GOOD, BAD = HERE / "good.py", HERE / "bad.py"
OVER_STDIO = f"{GOOD} stdio"  # in the command line of its process
PATHS = {"sse": "/sse", "streamable-http": "/mcp"}


class Served:
    """A server over HTTP, which may be killed and started again at the same port."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self.port = "0"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(GOOD), self.transport, self.port],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATHS[self.transport]}"


@contextmanager
def served(transport: str) -> Iterator[Served]:
    one = Served(transport)
    try:
        yield one
    finally:
        one.kill()


def reached(plan: McpPlan, root: Path, **env: str) -> Connection:
    def render(text: str, where: object) -> str:
        return text

    return connection(plan, render, {**os.environ, **env}, env, root)


def over_stdio(script: Path, *args: str, **plan: Any) -> McpPlan:
    return McpPlan(script.stem, "stdio", command=sys.executable, args=(str(script), *args), **plan)


async def use(
    at: Connection, tool: str, printed: Callable[[str], None] = lambda _: None, /, **input: Json
) -> Json:
    config = {"connection": at, "name": tool}
    return await call_tool(ToolPlan(tool, type="mcp"), input, config, _around(printed))


async def read(
    at: Connection, uri: str, printed: Callable[[str], None] = lambda _: None, /
) -> Json:
    return await resource(at, uri, _around(printed))


async def said(
    at: Connection, name: str, printed: Callable[[str], None] = lambda _: None, /, **given: str
) -> Json:
    return await prompt(at, name, given, _around(printed))


def _around(printed: Callable[[str], None]) -> Surroundings:
    return Surroundings(place=("compozy.yaml", 4, 3, 4, 9), printed=printed)


def processes(word: str) -> list[int]:
    """Those of the session whose command line holds the word."""
    return of_session(lambda line: word in line)


def none_is_left(word: str) -> None:
    assert until(lambda: processes(word), lambda found: not found) == []


@pytest.fixture
def no_mcp_server_left() -> Iterator[None]:
    yield
    for word in (str(BAD), OVER_STDIO):
        none_is_left(word)


@pytest.fixture(scope="module")
def mcp_over_http() -> Iterator[dict[str, Served]]:
    """A server of each kind over HTTP."""
    with served("sse") as sse, served("streamable-http") as streamable:
        yield {"sse": sse, "streamable-http": streamable}


@pytest.fixture
async def mcp_held() -> AsyncIterator[None]:
    """The sessions of the test's event loop stay open, and end with it."""
    async with sessions.held():
        yield
