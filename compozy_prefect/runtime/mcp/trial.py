"""MCP servers outside of a run: what tools they have, and a call of one (language.md §8)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.lock import Listing, Tools
from compozy_prefect.compiler.plan import Json, ToolPlan
from compozy_prefect.compiler.servers import Server
from compozy_prefect.errors import UsageError
from compozy_prefect.expressions import Environment
from compozy_prefect.language.names import suggest
from compozy_prefect.runtime import templates
from compozy_prefect.runtime.mcp import asking, sessions, tools
from compozy_prefect.runtime.mcp.connection import Connection, connection
from compozy_prefect.runtime.tools import dispatch
from compozy_prefect.runtime.tools.surroundings import Surroundings

_T = TypeVar("_T")
Printed = Callable[[str], None]


def tried(work: Awaitable[_T]) -> _T:
    """What the work gives; the sessions that it opens end with it."""

    async def held() -> _T:
        async with sessions.held():
            return await work

    return asyncio.run(held())


async def listed(project: Project, server: Server, printed: Printed) -> Tools:
    """The tools that a server has, whatever the lock says. Raises RunError."""
    return await tools.listed(*_reached(project, _unlocked(server), printed))


async def listing(project: Project, server: Server, printed: Printed) -> Listing:
    """All that a server lists, whatever the lock says. Raises RunError."""
    return await tools.listing(*_reached(project, _unlocked(server), printed))


async def offered(
    project: Project, servers: Iterable[Server], printed: Printed
) -> dict[str, Listing]:
    """What all servers list, of tools those that agents may get, by the keys of the servers."""
    found: dict[str, Listing] = {}
    for server in servers:
        one = await listing(project, server, printed)
        shown = tuple(tool for tool in one.tools if server.plan.has(tool.name))
        found[server.key] = one._replace(tools=shown)
    return found


async def resource(project: Project, server: Server, uri: str, printed: Printed) -> Json:
    """What a prompt would get. Raises RunError."""
    reached, around = _reached(project, server, printed)
    return await tools.resource(reached, uri, around)


async def prompt(
    project: Project, server: Server, name: str, given: dict[str, Any], printed: Printed
) -> Json:
    """What a prompt would get. Raises RunError."""
    reached, around = _reached(project, server, printed)
    what = asking.wanted(server.key, "prompt", [name, given])
    return await tools.prompt(reached, what.name, what.arguments, around)


async def called(
    project: Project, server: Server, name: str, given: dict[str, Any], printed: Printed
) -> Json:
    """The result of a tool. Raises UsageError when there is none of the name, and RunError."""
    reached, around = _reached(project, server, printed)
    found = {tool.name: tool for tool in await tools.listed(reached, around)}
    if name not in found or not server.plan.has(name):
        known = [tool for tool in found if server.plan.has(tool)]
        hint = suggest(name, known, what="its tools are") or "it has none"
        raise UsageError(f"the MCP server `{server.key}` has no tool `{name}`; {hint}")
    plan = ToolPlan(name, type="mcp", input_schema=found[name].input_schema)
    config = {"connection": reached, "name": name}
    return await dispatch.call(plan, given, around, config=lambda: config)


def _unlocked(server: Server) -> Server:
    plan = replace(server.plan, is_locked=False, tools=(), prompts=None, resources=None)
    return server._replace(plan=plan)


def _reached(project: Project, server: Server, printed: Printed) -> tuple[Connection, Surroundings]:
    """How it is reached and what a call is made in; templates read `.env` only."""
    loaded, span = project.loaded, server.span
    env = {**os.environ, **loaded.env}
    place = (span.file, span.line, span.column, span.end_line, span.end_column)

    def render(text: str, where: tuple[str | int, ...]) -> str:
        return templates.render_text(text, {"env": env}, Environment(env=env), "/", {"/": place})

    made = connection(server.plan, render, env, {}, loaded.root.absolute())
    return made, Surroundings(root=loaded.root, outside=env, place=place, printed=printed)
