"""MCP servers, whose tools agents may call (language.md §8)."""

from typing import Any, Literal

from compozy_prefect.language.models.base import Noun, Seconds, Selector, Variables, field


class ToolFilter(Noun):
    """Which tools of a server there are for agents (service.md §3.1)."""

    called = "`tool_filter`"

    mode: Literal["allow", "block"] = field(
        ..., "`allow`: none but those in `list`; `block`: all but those."
    )
    names: list[str] = field(
        ..., "Names of tools, as the server has them.", key="list", min_length=1
    )


class Mcp(Noun):
    """An MCP server and how it is reached."""

    called = "an MCP server"

    id: str | None = field(None, "Unique; the host or the path of `url` if not given.")
    resource: str | None = field(None, "`mcp`, in autoloaded files.")
    name: str | None = field(None, "Ignored.")
    version: str | None = field(None, "Ignored.")
    description: str | None = field(None, "Ignored.")
    transport: Literal["sse", "streamable-http", "http", "stdio"] | None = field(
        None, "`sse` if not given, or `stdio` when there is only a `command`."
    )
    url: str | None = field(None, "Of the server; a template.", example="http://localhost:6001/mcp")
    command: str | None = field(None, "The program, for `stdio`.")
    args: list[str] = field([], "Its arguments.")
    headers: Variables = field({}, "Of the requests; templates.")
    env: Variables = field({}, "Environment of the process; templates.")
    proto: str | None = field(
        None,
        "Version of the protocol.",
        pattern=r"\d{4}-\d{2}-\d{2}",
        hint="a date such as `2025-03-26`",
        example="2025-03-26",
    )
    start_timeout: Seconds | None = field(
        None, "Of the start; `llm.mcp_readiness_timeout`, a minute, if not given."
    )
    max_sessions: int = field(0, "Sessions at a time; 0 for any number.", ge=0)
    timeout: Seconds | None = field(
        None, "Of one call; `llm.mcp_client_timeout`, 30 seconds, if not given.", gt=0
    )
    tool_filter: ToolFilter | None = field(None, "Which of its tools there are.")
    effects: Variables = field(
        {}, "Of its tools, by name or `*`: `read`, `write` or `idempotent`, as `effect` of a tool."
    )
    capabilities: list[Any] = field([], "Informational.")
    permissions: list[Any] = field([], "Informational.")
    security: str | None = field(None, "`admin_token`: `MCP_ADMIN_TOKEN` as bearer token.")
    auth: dict[str, Any] | None = field(None, "Informational.")


McpReference = str | Selector | Mcp
