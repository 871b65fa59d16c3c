"""What a server lists: its tools, prompts and resources, all pages of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from compozy_prefect.compiler.lock import Prompts, Resources, Tools
from compozy_prefect.compiler.plan import McpPromptPlan, McpResourcePlan, McpToolPlan
from compozy_prefect.runtime.mcp.faults import Failed

if TYPE_CHECKING:
    from mcp import Client

_MOST_PAGES, _MOST = 100, 2000


async def tools(client: Client) -> Tools:
    """By their names. Raises Failed when they do not end, as all of these do."""
    from mcp.shared.exceptions import MCPError
    from mcp_types import METHOD_NOT_FOUND

    try:
        found = await _all("tools", lambda cursor: client.list_tools(cursor=cursor))
    except MCPError as fault:
        if client.server_capabilities.tools is None and fault.error.code == METHOD_NOT_FOUND:
            return ()
        raise
    made = (McpToolPlan(one.name, one.description or "", one.input_schema) for one in found)
    return tuple(sorted(made, key=lambda one: one.name))


async def prompts(client: Client) -> Prompts:
    """By their names; a server that has none need not know the question."""
    if client.server_capabilities.prompts is None:
        return ()
    found = await _all("prompts", lambda cursor: client.list_prompts(cursor=cursor))
    made = (
        McpPromptPlan(
            one.name,
            one.description or "",
            {given.name: bool(given.required) for given in one.arguments or ()},
        )
        for one in found
    )
    return tuple(sorted(made, key=lambda one: one.name))


async def resources(client: Client) -> Resources:
    """By their URIs, with the templates of URIs that stand for many."""
    if client.server_capabilities.resources is None:
        return ()
    found = await _all("resources", lambda cursor: client.list_resources(cursor=cursor))
    alike = await _all(
        "resource_templates", lambda cursor: client.list_resource_templates(cursor=cursor)
    )
    made = [McpResourcePlan(str(one.uri), one.mime_type or "") for one in found]
    made += (McpResourcePlan(one.uri_template, one.mime_type or "", True) for one in alike)
    return tuple(sorted(made, key=lambda one: one.name))


async def _all(what: str, page: Callable[[str | None], Awaitable[Any]]) -> list[Any]:
    found: list[Any] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        answer = await page(cursor)
        found += getattr(answer, what)
        cursor = answer.next_cursor
        if not cursor or len(found) > _MOST:
            break
    if cursor or len(found) > _MOST:
        kind = what.replace("_", " ")
        raise Failed("output", f"its list of {kind} does not end after {len(found)}")
    return found
