"""What went wrong with an MCP server → an error that says in what, and its place in the YAML."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from compozy_prefect.errors import RunError, ServerFailed, ToolFailed
from compozy_prefect.runtime.mcp.connection import Connection
from compozy_prefect.runtime.mcp.faults import Changed, Failed
from compozy_prefect.runtime.tools.failures import placed
from compozy_prefect.runtime.tools.surroundings import Surroundings

_CODES = {"timeout": "MCP_TIMEOUT_ERROR", "protocol": "MCP_RESPONSE_ERROR"}
_CODES |= dict.fromkeys(("start", "refused", "exit", "gone"), "MCP_CONNECTION_ERROR")
_CODES |= {"output": "MCP_RESPONSE_ERROR", "tool": "TOOL_EXECUTION_ERROR"}
_KNOWN = frozenset({"start", "refused", "gone", "tool"})  # the server has done nothing, or told


@contextmanager
def told(
    connection: Connection, around: Surroundings, kind: str = "", name: str = ""
) -> Iterator[None]:
    """Raises RunError for what goes wrong meanwhile.

    `kind` is what the server is asked for, `tool`, `resource` or `prompt`, and `name` which.
    """
    try:
        yield
    except Failed as fault:
        raise _error(fault, connection, around, kind, name) from None


def _error(
    fault: Failed, connection: Connection, around: Surroundings, kind: str, name: str
) -> RunError:
    server = connection.server
    what = f"{kind} `{name}` of MCP server `{server.id}`" if kind else f"MCP server `{server.id}`"
    where, place = placed(around)
    details: dict[str, Any] = {"server": server.id, "kind": fault.kind, **place}
    details |= {kind: name} if kind else {}
    if isinstance(fault, Changed):
        details["difference"] = list(fault.lines)
        return ServerFailed(
            f"MCP server `{server.id}`: {fault.message}{where}:\n" + "\n".join(fault.lines) + "\n"
            "look at what has changed, and write `compozy mcp lock` if it is to be so",
            code=f"MCP_{fault.what.upper()}_CHANGED",
            details=details,
        )
    message = f"{what}: {fault.message}{where}{_advice(fault, connection)}"
    code, known = _CODES.get(fault.kind), fault.kind in _KNOWN
    if fault.kind == "tool" and kind in ("resource", "prompt"):
        code = "MCP_RESPONSE_ERROR"
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
