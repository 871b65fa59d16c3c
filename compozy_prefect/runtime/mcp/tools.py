"""What an MCP server is asked for → what it gives; errors name the place in YAML."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from compozy_prefect.compiler.lock import Listing, Tools
from compozy_prefect.compiler.plan import Json, ToolPlan
from compozy_prefect.runtime.mcp import results, sessions
from compozy_prefect.runtime.mcp.connection import Connection
from compozy_prefect.runtime.mcp.failures import told
from compozy_prefect.runtime.mcp.session import Heard
from compozy_prefect.runtime.tools.effects import IDEMPOTENT
from compozy_prefect.runtime.tools.surroundings import Surroundings

_QUIET = 0.5  # seconds between two lines about the progress of a call


async def call(
    tool: ToolPlan, input: dict[str, Any], config: Mapping[str, Any], around: Surroundings
) -> Json:
    """Any JSON. `config` holds the `connection`, and the server's `name` of the tool.

    Raises ToolFailed, and ServerFailed where no agent is to go on.
    """
    connection: Connection = config["connection"]
    name = str(config["name"])
    key = around.key if tool.effect == IDEMPOTENT else ""
    with told(connection, around, "tool", name):
        answer = await sessions.here().call(
            connection, name, input, _progress(around), around.printed, key
        )
        return results.result(answer)


async def listed(connection: Connection, around: Surroundings) -> Tools:
    """All tools that the server has. Raises RunError."""
    with told(connection, around):
        return await sessions.here().tools(connection, around.printed)


async def resource(connection: Connection, uri: str, around: Surroundings) -> Json:
    """The resource as `results.resource` has it. Raises RunError."""
    with told(connection, around, "resource", uri):
        return results.resource(await sessions.here().resource(connection, uri, around.printed))


async def prompt(
    connection: Connection, name: str, arguments: dict[str, str], around: Surroundings
) -> str:
    """The prompt as `results.prompt` has it. Raises RunError."""
    with told(connection, around, "prompt", name):
        return results.prompt(
            await sessions.here().prompt(connection, name, arguments, around.printed)
        )


async def listing(connection: Connection, around: Surroundings) -> Listing:
    """All that the server lists. Raises RunError."""
    with told(connection, around):
        return await sessions.here().listing(connection, around.printed)


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
