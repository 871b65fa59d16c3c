"""The types of tools that run, and how each is called. What a type needs is imported when it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from compozy_prefect.compiler.plan import Json, ToolPlan
from compozy_prefect.runtime.js import call as javascript
from compozy_prefect.runtime.tools.surroundings import Surroundings


@dataclass(frozen=True, slots=True)
class Kind:
    """`call` gives any JSON for the input and the rendered `config`, or raises ToolFailed.

    `networked` says of what surrounds a call whether the tool may use a network.
    """

    call: Callable[[ToolPlan, dict[str, Any], dict[str, Any], Surroundings], Awaitable[Json]]
    networked: Callable[[Surroundings], bool]


async def _http(
    tool: ToolPlan, input: dict[str, Any], config: dict[str, Any], around: Surroundings
) -> Json:
    from compozy_prefect.runtime.tools import http

    return await http.call(tool, input, config, around)


async def _mcp(
    tool: ToolPlan, input: dict[str, Any], config: dict[str, Any], around: Surroundings
) -> Json:
    from compozy_prefect.runtime.mcp import tools

    return await tools.call(tool, input, config, around)


async def _cli(
    tool: ToolPlan, input: dict[str, Any], config: dict[str, Any], around: Surroundings
) -> Json:
    from compozy_prefect.runtime.tools import cli

    return await cli.call(tool, input, config, around)


async def _python(
    tool: ToolPlan, input: dict[str, Any], config: dict[str, Any], around: Surroundings
) -> Json:
    from compozy_prefect.runtime.python.call import call

    return await call(tool, input, config, around)


async def _native(
    tool: ToolPlan, input: dict[str, Any], config: dict[str, Any], around: Surroundings
) -> Json:
    from compozy_prefect.runtime.native.call import call

    return await call(tool, input, config, around)


_JAVASCRIPT = Kind(javascript.call, lambda around: javascript.needs_network(around.runtime))

KINDS = {
    "http": Kind(_http, lambda around: True),
    "mcp": Kind(_mcp, lambda around: True),  # what a server does nobody here can tell
    "cli": Kind(_cli, lambda around: False),  # what is offline has no network
    "python": Kind(_python, lambda around: False),
    "native": Kind(_native, lambda around: False),
    "fetch": Kind(_native, lambda around: True),
    **dict.fromkeys(javascript.TYPES, _JAVASCRIPT),
}
