"""`compozy mcp …`: the MCP servers of a project, for trying them out, and their lock."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
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
    from compozy_prefect.compiler.lock import Listing
    from compozy_prefect.compiler.plan import Json, McpToolPlan
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
        used = ", ".join(one.workflows) or "no workflow"
        said = f"{_locked(data)}; used by {used}"
        print(printable(f"{one.key}  {data['transport']}  {where}\n  {said}"))
        for kind in ("prompts", "resources"):
            if data[kind]:
                print(printable(f"  {kind}: {', '.join(data[kind])}"))
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
    return _given(trial.tried(trial.called(checked.project, one, tool, given, _say)), json)


def resources(server: str, path: Path = Path("."), /, *, json: _Flag = False) -> int:
    """Start or reach an MCP server, and list its resources.

    Parameters
    ----------
    server
        The id of the server.
    path
        A project directory or a YAML file.
    json
        Print them as data.
    """
    found = _listing(server, path).resources or ()
    if json:
        print_json([asdict(one) for one in found])
        return DONE
    for one in found:
        print(printable(f"{one.name}  {one.mime_type}".rstrip()))
    return DONE


def prompts(server: str, path: Path = Path("."), /, *, json: _Flag = False) -> int:
    """Start or reach an MCP server, and list its prompts.

    Parameters
    ----------
    server
        The id of the server.
    path
        A project directory or a YAML file.
    json
        Print them as data; arguments are true where they are needed.
    """
    found = _listing(server, path).prompts or ()
    if json:
        print_json([asdict(one) for one in found])
        return DONE
    for one in found:
        names = [name if needed else f"{name}?" for name, needed in one.arguments.items()]
        print(printable(f"{one.name}({', '.join(names)})"))
        for line in one.description.strip().splitlines():
            print(printable(f"  {line}"))
    return DONE


def read(server: str, uri: str, path: Path = Path("."), /, *, json: _Flag = False) -> int:
    """Read a resource of an MCP server, and print what `.mcps.SERVER.resource("URI")` gives.

    Parameters
    ----------
    server
        The id of the server.
    uri
        The URI of the resource.
    path
        A project directory or a YAML file.
    json
        Print text in quotes, too, so that what is printed is JSON.
    """
    from compozy_prefect.runtime.mcp import trial

    checked, servers = _servers(path)
    one = _one(servers, server)
    return _given(trial.tried(trial.resource(checked.project, one, uri, _say)), json)


def prompt(
    server: str,
    name: str,
    path: Path = Path("."),
    /,
    *,
    input: Items = None,
    input_file: InputFile = None,
    json: _Flag = False,
) -> int:
    """Fill in a prompt of an MCP server, and print what `.mcps.SERVER.prompt("NAME", …)` gives.

    Parameters
    ----------
    server
        The id of the server.
    name
        The name of the prompt.
    path
        A project directory or a YAML file.
    input
        key=value of its arguments, as often as needed.
    input_file
        The arguments as YAML or JSON; `-` reads stdin. Keys given by --input win.
    json
        Print it in quotes, so that what is printed is JSON.
    """
    from compozy_prefect.runtime.mcp import trial

    given = input_of(input or [], input_file)
    checked, servers = _servers(path)
    one = _one(servers, server)
    return _given(trial.tried(trial.prompt(checked.project, one, name, given, _say)), json)


def lock(path: Path = Path("."), /, *, check: _Flag = False, json: _Flag = False) -> int:
    """Ask the MCP servers of a project what they have, and write compozy.lock.

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
        counts = [
            f"{sum(len(getattr(one, kind) or ()) for one in found.values())} {kind}"
            for kind in ("tools", "prompts", "resources")
        ]
        note(f"wrote {target}: {', '.join(counts)} of {len(found)} servers")
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


def _listing(server: str, path: Path) -> Listing:
    from compozy_prefect.runtime.mcp import trial

    checked, servers = _servers(path)
    return trial.tried(trial.listing(checked.project, _one(servers, server), _say))


def _given(value: Json, json: bool) -> int:
    if isinstance(value, str) and not json:
        print(printable(value))
    else:
        print_json(value)
    return DONE


def _locked(data: Mapping[str, Any]) -> str:
    """What the lock knows of a server."""
    if not data["locked"]:
        return "not locked"
    known = [kind for kind in ("tools", "prompts", "resources") if data[kind] or kind == "tools"]
    return f"{', '.join(f'{len(data[kind])} {kind}' for kind in known)} in the lock"


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
