"""A tool of an MCP server and its input → what the server gives; errors name the place in YAML."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from compozy_prefect.compiler.lock import Tools
from compozy_prefect.compiler.plan import Json, ToolPlan
from compozy_prefect.errors import RunError, ServerFailed, ToolFailed
from compozy_prefect.runtime.mcp import sessions
from compozy_prefect.runtime.mcp.connection import Connection
from compozy_prefect.runtime.mcp.faults import Changed, Failed
from compozy_prefect.runtime.mcp.results import result
from compozy_prefect.runtime.mcp.session import Heard
from compozy_prefect.runtime.tools.failures import placed
from compozy_prefect.runtime.tools.surroundings import Surroundings

TYPE = "mcp"  # of a tool of a server

_CODES = {"timeout": "MCP_TIMEOUT_ERROR", "protocol": "MCP_RESPONSE_ERROR"}
_CODES |= dict.fromkeys(("start", "refused", "exit", "gone"), "MCP_CONNECTION_ERROR")
_CODES |= {"output": "MCP_RESPONSE_ERROR", "tool": "TOOL_EXECUTION_ERROR"}
_KNOWN = frozenset({"start", "refused", "gone", "tool"})  # the server has done nothing, or told
_QUIET = 0.5  # seconds between two lines about the progress of a call


async def call(
    tool: ToolPlan, input: dict[str, Any], config: Mapping[str, Any], around: Surroundings
) -> Json:
    """Any JSON. `config` holds the `connection`, and the server's `name` of the tool.

    Raises ToolFailed, and ServerFailed where no agent is to go on.
    """
    connection: Connection = config["connection"]
    name = str(config["name"])
    try:
        answer = await sessions.here().call(
            connection, name, input, _progress(around), around.printed
        )
        return result(answer)
    except Failed as fault:
        raise _told(fault, connection, around, name) from None


async def listed(connection: Connection, around: Surroundings) -> Tools:
    """All tools that the server has. Raises RunError."""
    try:
        return await sessions.here().tools(connection, around.printed)
    except Failed as fault:
        raise _told(fault, connection, around) from None


def _progress(around: Surroundings) -> Heard:
    last = 0.0

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _QUIET and progress != total:
            return
        last = now
        share = f"{progress:g}" if total is None else f"{progress:g} of {total:g}"
        around.printed(f"progress: {share}" + (f", {message}" if message else ""))

    return heard


def _told(fault: Failed, connection: Connection, around: Surroundings, tool: str = "") -> RunError:
    server = connection.server
    what = f"tool `{tool}` of MCP server `{server.id}`" if tool else f"MCP server `{server.id}`"
    where, place = placed(around)
    details: dict[str, Any] = {"server": server.id, "kind": fault.kind, **place}
    details |= {"tool": tool} if tool else {}
    if isinstance(fault, Changed):
        details["difference"] = list(fault.lines)
        return ServerFailed(
            f"MCP server `{server.id}`: {fault.message}{where}:\n" + "\n".join(fault.lines) + "\n"
            "look at what has changed, and write `compozy mcp lock` if it is to be so",
            code="MCP_TOOLS_CHANGED",
            details=details,
        )
    message = f"{what}: {fault.message}{where}{_advice(fault, connection)}"
    code, known = _CODES.get(fault.kind), fault.kind in _KNOWN
    if server.is_required and code == "MCP_CONNECTION_ERROR":
        final = fault.kind == "start"
        return ServerFailed(
            message, code=code, details=details, retryable=not final, is_known=known
        )
    again = fault.kind in ("refused", "exit", "gone", "timeout")
    return ToolFailed(message, code=code, details=details, retryable=again, is_known=known)


def _advice(fault: Failed, connection: Connection) -> str:
    """What to do, where it is clear."""
    if fault.kind == "start" and connection.transport == "stdio":
        return (
            f"; it is started with `{connection.shown}`, in the project's folder, with the "
            "variables of `env` and PATH"
        )
    if fault.kind in ("refused", "start", "gone"):
        return f"; it is looked for at {connection.shown}"
    return ""
