"""The MCP servers of an agent → the tools that its model is offered (language.md §6.6, §8).

The tools are those of `compozy.lock`, and of a server that it does not hold those that the server
lists. Names are lower-cased. A tool of the agent's own wins over one of the same name; where two
servers have one, both are called `server/tool`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from compozy_prefect.compiler.lock import Tools
from compozy_prefect.compiler.plan import AgentPlan, McpPlan, McpToolPlan, ToolPlan, pointer
from compozy_prefect.errors import NotRecorded, RunError
from compozy_prefect.expressions import Environment
from compozy_prefect.runtime import schemas, templates
from compozy_prefect.runtime.calls import Calls
from compozy_prefect.runtime.context import Context
from compozy_prefect.runtime.mcp.connection import Connection, connection
from compozy_prefect.runtime.scope import Scope
from compozy_prefect.runtime.tools.surroundings import Surroundings

_log = logging.getLogger(__name__)

Around = Callable[[str, str], Surroundings]  # of a server by its key, for what is called so


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool under the name that the model gets, and the key of its server."""

    tool: ToolPlan
    server: str
    name: str


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of one agent, as a step sees them."""

    scope: Scope
    agent: AgentPlan
    action: str
    seen: Context
    env: Mapping[str, str] = field(repr=False)
    environment: Environment = field(repr=False)
    around: Around

    async def offered(self, calls: Calls) -> dict[str, Offered]:
        """The tools by the names under which they are offered.

        What an unlocked server lists is kept in `calls`: a talk that goes on is offered the same.
        Raises RunError for a server that is required and cannot be asked.
        """
        found = {}
        for key in self.agent.mcps:
            server = self.scope.workflow.mcps[key]
            tools = server.tools if server.is_locked else await self._listed(key, server, calls)
            found[key] = [tool for tool in tools if server.has(tool.name) and _usable(key, tool)]
        return self._named(found)

    def connection(self, key: str) -> Connection:
        """Raises TemplateFailed."""
        scope, server = self.scope, self.scope.workflow.mcps[key]
        at = pointer("workflows", scope.workflow.id, "mcps", key)

        def render(text: str, where: tuple[str | int, ...]) -> str:
            place = at + pointer(*where)
            return templates.render_text(text, self.seen, self.environment, place, scope.spans)

        declared = {name: self.env[name] for name in self.agent.env}
        return connection(server, render, self.env, declared, scope.services.root)

    async def _listed(self, key: str, server: McpPlan, calls: Calls) -> Tools:
        kept = calls.get(f"mcp/{key}")
        if kept is not None:
            return _from_json(kept)
        services = self.scope.services
        tape, mocks = services.cassette, services.mocks
        if mocks is not None and mocks.has_agent(self.agent.id, self.action):
            return ()  # it answers without looking at what it is offered
        try:
            if tape is not None and tape.replays:
                return _from_json(tape.answer("mcp", server.id, "tools"))
            if services.offline:
                _log.warning(
                    "the tools of MCP server `%s` are not known offline, and its agent `%s` is "
                    "offered none of them; `compozy mcp lock` writes them down",
                    server.id,
                    self.agent.id,
                )
                return ()
            await self.scope.permit()
            if tape is None:
                tools = await self._asked(key)
            else:
                tools = await tape.kept(
                    "mcp", server.id, "tools", lambda: self._asked(key), _to_json
                )
        except NotRecorded:
            raise
        except RunError as fault:
            if server.is_required:
                raise
            _log.warning("an agent goes on without its tools: %s", fault.message)
            return ()
        calls.note(f"mcp/{key}", _to_json(tools))
        return tools

    async def _asked(self, key: str) -> Tools:
        # Imported late: the SDK takes half a second.
        from compozy_prefect.runtime.mcp import tools

        server = self.scope.workflow.mcps[key]
        return await tools.listed(self.connection(key), self.around(key, server.id))

    def _named(self, found: Mapping[str, Collection[McpToolPlan]]) -> dict[str, Offered]:
        own = {name.lower() for name in self.agent.tools}
        times = Counter(tool.name.lower() for tools in found.values() for tool in tools)
        out: dict[str, Offered] = {}
        for key, tools in found.items():
            server = self.scope.workflow.mcps[key]
            for tool in tools:
                name = tool.name.lower()
                if name in own:
                    continue
                if times[name] > 1:
                    name = f"{server.id}/{name}"
                if name in out:  # of one server, which tells them by capital letters
                    name = f"{server.id}/{tool.name}"
                plan = ToolPlan(
                    name,
                    type="mcp",
                    description=tool.description,
                    input_schema=tool.input_schema,
                    timeout=server.timeout,
                    effect=server.effect(tool.name),
                )
                out[name] = Offered(plan, key, tool.name)
        return out


def _usable(key: str, tool: McpToolPlan) -> bool:
    why = schemas.validator(tool.input_schema)
    if isinstance(why, str):
        _log.warning("tool `%s` of MCP server `%s` is left out: its schema %s", tool.name, key, why)
    return not isinstance(why, str)


def _to_json(tools: Iterable[McpToolPlan]) -> list[dict[str, Any]]:
    return [
        {"name": t.name, "description": t.description, "input_schema": t.input_schema}
        for t in tools
    ]


def _from_json(data: Any) -> Tools:
    return tuple(McpToolPlan(**one) for one in data)
