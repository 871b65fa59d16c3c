"""`.mcps.<id>.resource(…)` and `.mcps.<id>.prompt(…)` of prompts → what the server gives.

Mocks answer, or the tape, or else the server, over the session that the agent's tools have, too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Literal

from compozy_prefect.compiler.plan import Json, McpPlan
from compozy_prefect.compiler.variables import ASKED_FOR, COUNTS
from compozy_prefect.errors import ToolFailed
from compozy_prefect.runtime.mcp.offering import Servers
from compozy_prefect.runtime.schemas import shown


@dataclass(frozen=True, slots=True)
class Wanted:
    """A resource by its URI, or a prompt by its name with what it is filled in with.

    `arguments` of a prompt are text, as the protocol has it.
    """

    kind: Literal["resource", "prompt"]
    name: str
    arguments: dict[str, str]


def wanted(server: str, method: str, args: list[Json]) -> Wanted:
    """What the call of a template means. Raises ToolFailed.

    Of the arguments of a prompt null is left out; what is no text is written as JSON.
    """

    def wrong(message: str) -> ToolFailed:
        details: dict[str, Json] = {"server": server, "method": method}
        return ToolFailed(
            f"`.mcps.{server}.{method}` {message}",
            code="TOOL_INVALID_INPUT",
            details=details,
            retryable=False,
        )

    if method not in ASKED_FOR:
        raise wrong("does not exist: there are `resource` and `prompt`")
    least, most = ASKED_FOR[method]
    if not least <= len(args) <= most:
        raise wrong(f"takes {COUNTS[method]}, and has {len(args)}")
    if not isinstance(args[0], str) or not args[0]:
        raise wrong(f"takes a text first, and this is {shown(args[0])}")
    if method == "resource":
        return Wanted("resource", args[0], {})
    given = args[1] if len(args) > 1 else {}
    if not isinstance(given, dict):
        raise wrong("takes a map after the name of the prompt")
    arguments = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in given.items()
        if value is not None
    }
    return Wanted("prompt", args[0], arguments)


async def read(servers: Servers, key: str, what: Wanted) -> Json:
    """What the server, by its key in the plan, gives. Raises RunError."""
    server = servers.scope.workflow.mcps[key]
    services = servers.scope.services
    mocks, tape = services.mocks, services.cassette
    mocked = mocks and mocks.for_server(server.id, what.kind, what.name, what.arguments)
    name = f"{server.id}/{what.name}"
    if mocked:
        return await mocked.given(
            f"{what.kind} `{what.name}` of MCP server `{server.id}`",
            server.timeout,
            {"server": server.id, what.kind: what.name},
            late="MCP_TIMEOUT_ERROR",
            failed="MCP_RESPONSE_ERROR",
        )
    if tape is not None and tape.replays:
        return tape.answer(what.kind, name, what.arguments)
    if services.offline:
        raise _refused(server, what)
    await servers.scope.permit()

    asked = partial(_asked, servers, key, what)
    if tape is None:
        return await asked()
    return await tape.kept(what.kind, name, what.arguments, asked)


async def _asked(servers: Servers, key: str, what: Wanted) -> Json:
    # Imported late: the SDK takes half a second.
    from compozy_prefect.runtime.mcp import tools

    around = servers.around(key, servers.scope.workflow.mcps[key].id)
    if what.kind == "resource":
        return await tools.resource(servers.connection(key), what.name, around)
    return await tools.prompt(servers.connection(key), what.name, what.arguments, around)


def _refused(server: McpPlan, what: Wanted) -> ToolFailed:
    mock = f"mcps: {{{server.id}: {{{what.kind}s: {{{json.dumps(what.name)}: {{output: …}}}}}}}}"
    return ToolFailed(
        f"the {what.kind} `{what.name}` of MCP server `{server.id}` is refused with --offline: it "
        f"needs the server, and the mocks do not name it; add `{mock}` to a file and give it with "
        "--mocks FILE",
        code="TOOL_NOT_FOUND",
        details={"server": server.id, what.kind: what.name, "offline": True},
        retryable=False,
    )
