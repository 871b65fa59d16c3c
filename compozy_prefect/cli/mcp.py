"""`compozy mcp …`: the MCP servers of a project, for trying them out, and their lock."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import Parameter

from compozy_prefect.cli import DONE, FAILED
from compozy_prefect.cli.app import SETTINGS
from compozy_prefect.cli.output import note, print_json
from compozy_prefect.cli.run import InputFile, Items, input_of
from compozy_prefect.diagnostics import printable
from compozy_prefect.errors import ProjectInvalid, UsageError
from compozy_prefect.language.names import suggest

if TYPE_CHECKING:
    from compozy_prefect.compiler.compile import CheckedProject
    from compozy_prefect.compiler.lock import Tools
    from compozy_prefect.compiler.plan import Json, McpToolPlan
    from compozy_prefect.compiler.servers import Server

_T = TypeVar("_T")
_Path = Annotated[Path, Parameter()]
_Flag = Annotated[bool, Parameter(negative="")]


def list_(path: _Path = Path("."), /, *, json: _Flag = False) -> int:
    """List the MCP servers of a project; none is started.

    Parameters
    ----------
    path
        A project directory or a YAML file.
    json
        Print them as data.
    """
    _, servers = _servers(path)
    if json:
        print_json([one.data() for one in servers.values()])
        return DONE
    for one in servers.values():
        data = one.data()
        where = data["url"] or " ".join(data["command"] or [])
        locked = f"{len(data['tools'])} tools in the lock" if data["locked"] else "not locked"
        used = ", ".join(one.workflows) or "no workflow"
        print(printable(f"{one.key}  {data['transport']}  {where}\n  {locked}; used by {used}"))
    if not servers:
        note("the project has no MCP servers")
    return DONE


def tools(server: str, path: _Path = Path("."), /, *, json: _Flag = False) -> int:
    """Start or reach an MCP server, and list its tools.

    Parameters
    ----------
    server
        The id of the server.
    path
        A project directory or a YAML file.
    json
        Print them as data, with their schemas.
    """
    checked, servers = _servers(path)
    one = _one(servers, server)
    found = _talk(lambda: _listed(checked, one))
    shown = [tool for tool in found if one.plan.has(tool.name)]
    if json:
        print_json([_data(tool) for tool in shown])
        return DONE
    for tool in shown:
        print(printable(f"{tool.name}{_arguments(tool)}"))
        for line in tool.description.strip().splitlines():
            print(printable(f"  {line}"))
    hidden = len(found) - len(shown)
    if hidden:
        note(f"{hidden} more are left out by `tool_filter`")
    return DONE


def call(
    server: str,
    tool: str,
    path: _Path = Path("."),
    /,
    *,
    input: Items = None,
    input_file: InputFile = None,
    json: _Flag = False,
) -> int:
    """Call a tool of an MCP server and print its result.

    Parameters
    ----------
    server
        The id of the server.
    tool
        The name of the tool, as the server has it.
    path
        A project directory or a YAML file.
    input
        key=value, as often as needed. JSON if it is JSON, text otherwise; a.b=1 nests.
    input_file
        The input as YAML or JSON; `-` reads stdin. Keys given by --input win.
    json
        Print text in quotes, too, so that what is printed is JSON.
    """
    given = input_of(input or [], input_file)
    checked, servers = _servers(path)
    one = _one(servers, server)
    result = _talk(lambda: _called(checked, one, tool, given))
    if isinstance(result, str) and not json:
        print(printable(result))
    else:
        print_json(result)
    return DONE


def lock(path: _Path = Path("."), /, *, check: _Flag = False, json: _Flag = False) -> int:
    """Ask the MCP servers of a project for their tools, and write compozy.lock.

    Parameters
    ----------
    path
        A project directory or a YAML file.
    check
        Write nothing; say how the servers differ from the lock, and exit with 1 if they do.
    json
        Print the differences as data.
    """
    from compozy_prefect.compiler.lock import NAME, difference, dumps

    checked, servers = _servers(path, locking=True)
    found = _talk(lambda: _all(checked, servers.values()))
    before = checked.project.lock.lock
    differs = {
        key: difference(before.servers.get(key, ()), found.get(key, ()))
        for key in sorted({*found, *before.servers})
    }
    changed = {key: one for key, one in differs.items() if one.lines}
    unlocked = [key for key in found if key not in before.servers]
    if json:
        print_json(
            {
                key: {"gone": [*d.gone], "new": [*d.new], "changed": [*d.changed]}
                for key, d in changed.items()
            }
        )
    for key, one in changed.items():
        print("\n".join([key, *(f"  {line}" for line in one.lines)]), file=sys.stderr)
    if check:
        good = not changed and not unlocked and before.exists == bool(servers)
        note(f"{NAME} is as the servers are" if good else f"{NAME} is not as the servers are")
        return DONE if good else FAILED
    target = checked.project.loaded.root / NAME
    text = dumps(found)
    if servers or before.exists:
        target.write_text(text, "utf-8")
        count = sum(len(one) for one in found.values())
        note(f"wrote {target}: {count} tools of {len(found)} servers")
    else:
        note("the project has no MCP servers")
    return DONE


def _servers(path: Path, *, locking: bool = False) -> tuple[CheckedProject, dict[str, Server]]:
    """The servers by their keys. Raises ProjectInvalid, but for a lock that is to be written."""
    from compozy_prefect.compiler.compile import check
    from compozy_prefect.compiler.servers import servers

    checked = check(path, env_file=SETTINGS.env_file, flags=SETTINGS.flags)
    errors = [one for one in checked.diagnostics if one.severity == "error"]
    if any(one.code != "CZ335" or not locking for one in errors):
        raise ProjectInvalid(checked.diagnostics, checked.sources)
    return checked, {one.key: one for one in servers(checked.project)}


def _one(servers: Mapping[str, Server], name: str) -> Server:
    if name not in servers:
        hint = suggest(name, servers, what="there are") or "it has none at all"
        raise UsageError(f"the project has no MCP server `{name}`; {hint}")
    return servers[name]


def _talk(work: Callable[[], Awaitable[_T]]) -> _T:
    from compozy_prefect.runtime.mcp import sessions

    async def held() -> _T:
        async with sessions.held():
            return await work()

    return asyncio.run(held())


async def _listed(checked: CheckedProject, server: Server) -> Tools:
    from compozy_prefect.runtime.mcp import tools

    return await tools.listed(*_reached(checked, server, locked=False))


async def _all(checked: CheckedProject, servers: Iterable[Server]) -> dict[str, Tools]:
    found: dict[str, Tools] = {}
    for server in servers:
        listed = await _listed(checked, server)
        found[server.key] = tuple(tool for tool in listed if server.plan.has(tool.name))
    return found


async def _called(checked: CheckedProject, server: Server, name: str, given: Any) -> Json:
    from compozy_prefect.compiler.plan import ToolPlan
    from compozy_prefect.runtime.mcp import tools
    from compozy_prefect.runtime.tools import dispatch

    connection, around = _reached(checked, server, locked=True)
    found = {tool.name: tool for tool in await tools.listed(connection, around)}
    if name not in found or not server.plan.has(name):
        known = [tool for tool in found if server.plan.has(tool)]
        hint = suggest(name, known, what="its tools are") or "it has none"
        raise UsageError(f"the MCP server `{server.key}` has no tool `{name}`; {hint}")
    plan = ToolPlan(name, type="mcp", input_schema=found[name].input_schema)
    config = {"connection": connection, "name": name}
    return await dispatch.call(plan, given, around, config=lambda: config)


def _reached(checked: CheckedProject, server: Server, *, locked: bool) -> Any:
    """The connection of a server and what a call is made in; templates read `.env` only."""
    from dataclasses import replace

    from compozy_prefect.expressions import Environment
    from compozy_prefect.runtime import templates
    from compozy_prefect.runtime.mcp.connection import connection
    from compozy_prefect.runtime.tools.surroundings import Surroundings

    loaded, span = checked.project.loaded, server.span
    env = {**os.environ, **loaded.env}
    place = (span.file, span.line, span.column, span.end_line, span.end_column)

    def render(text: str, where: tuple[str | int, ...]) -> str:
        return templates.render_text(text, {"env": env}, Environment(env=env), "/", {"/": place})

    plan = server.plan if locked else replace(server.plan, is_locked=False, tools=())
    made = connection(plan, render, env, {}, loaded.root.absolute())
    return made, Surroundings(root=loaded.root, outside=env, place=place, printed=_say)


def _say(text: str) -> None:
    note(printable(text.rstrip()))


def _data(tool: McpToolPlan) -> dict[str, Any]:
    schema = tool.input_schema
    return {"name": tool.name, "description": tool.description, "input_schema": schema}


def _arguments(tool: McpToolPlan) -> str:
    """`(path, depth?)`."""
    schema = tool.input_schema if isinstance(tool.input_schema, dict) else {}
    required = schema.get("required") or []
    names = [n if n in required else f"{n}?" for n in schema.get("properties") or {}]
    return f"({', '.join(names)})"
