"""The types of tools that run, and how each is called. What a type needs is imported when it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

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


def _in(module: str, networked: bool) -> Kind:
    """The `call` of a module."""

    async def call(
        tool: ToolPlan, input: dict[str, Any], config: dict[str, Any], around: Surroundings
    ) -> Json:
        loaded = import_module(f"compozy_prefect.runtime.{module}")
        return cast(Json, await loaded.call(tool, input, config, around))

    return Kind(call, lambda around: networked)


_JAVASCRIPT = Kind(javascript.call, lambda around: javascript.needs_network(around.runtime))

KINDS = {
    "http": _in("tools.http", networked=True),
    "mcp": _in("mcp.tools", networked=True),  # what a server does nobody here can tell
    "cli": _in("tools.cli", networked=False),  # what is offline has no network
    "python": _in("python.call", networked=False),
    "native": _in("native.call", networked=False),
    "fetch": _in("native.call", networked=True),
    **dict.fromkeys(javascript.TYPES, _JAVASCRIPT),
}
