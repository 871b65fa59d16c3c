"""`compozy mcp …`: the MCP servers of a project, for trying them out, and their lock."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from compozy_prefect.compiler.plan import McpToolPlan
    from compozy_prefect.compiler.servers import Server

_Flag = Annotated[bool, Parameter(negative="")]


def list_(path: Path = Path("."), /, *, json: _Flag = False) -> int:
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


def tools(server: str, path: Path = Path("."), /, *, json: _Flag = False) -> int:
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
    from compozy_prefect.runtime.mcp import trial

    checked, servers = _servers(path)
    one = _one(servers, server)
    found = trial.tried(trial.listed(checked.project, one, _say))
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
    path: Path = Path("."),
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
    from compozy_prefect.runtime.mcp import trial

    given = input_of(input or [], input_file)
    checked, servers = _servers(path)
    one = _one(servers, server)
    result = trial.tried(trial.called(checked.project, one, tool, given, _say))
    if isinstance(result, str) and not json:
        print(printable(result))
    else:
        print_json(result)
    return DONE


def lock(path: Path = Path("."), /, *, check: _Flag = False, json: _Flag = False) -> int:
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
    from compozy_prefect.compiler.lock import NAME, dumps
    from compozy_prefect.runtime.mcp import trial

    checked, servers = _servers(path, locking=True)
    found = trial.tried(trial.offered(checked.project, servers.values(), _say))
    before = checked.project.lock.lock
    changed = before.differences(found)
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
        good = before.holds(found)
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
