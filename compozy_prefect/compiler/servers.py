"""A project → all MCP servers in it, also those that no agent uses, as they are planned."""

from __future__ import annotations

from typing import Any, NamedTuple

from compozy_prefect.compiler.checks.nouns import place
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.definitions import mcp_plan
from compozy_prefect.compiler.places import servers_used
from compozy_prefect.compiler.plan import McpPlan
from compozy_prefect.diagnostics import Span
from compozy_prefect.language.models.mcp import Mcp


class Server(NamedTuple):
    """`key` is what `compozy.lock` calls it; `workflows` are those that use it."""

    key: str
    plan: McpPlan
    span: Span
    workflows: tuple[str, ...]

    def data(self) -> dict[str, Any]:
        """As JSON, without what may be secret."""
        plan = self.plan
        return {
            "id": self.key,
            "transport": plan.transport,
            "command": [plan.command, *plan.args] if plan.command else None,
            "url": plan.url or None,
            "locked": plan.is_locked,
            "tools": [tool.name for tool in plan.tools if plan.has(tool.name)],
            "prompts": [one.name for one in plan.prompts or ()],
            "resources": [one.name for one in plan.resources or ()],
            "workflows": list(self.workflows),
        }


def servers(project: Project) -> list[Server]:
    """By their keys. One that several workflows see is one, if it is the same in all of them."""
    found: dict[int, tuple[Mcp, str, set[str]]] = {}
    for checked in project.workflows:
        scope, name = checked.scope, checked.scope.workflow.key
        for mcp in scope.mcps.values():
            found.setdefault(id(mcp.node), (mcp, name, set()))
        for mcp in servers_used(scope):
            found.setdefault(id(mcp.node), (mcp, name, set()))[2].add(name)
    config, lock = project.loaded.config, project.lock.lock
    plans = [(mcp_plan(mcp, config), mcp, name, used) for mcp, name, used in found.values()]
    alike: dict[str, list[McpPlan]] = {}
    for plan, *_ in plans:
        if plan not in alike.setdefault(plan.id, []):
            alike[plan.id].append(plan)
    out: dict[str, Server] = {}
    for plan, mcp, name, used in plans:
        key = plan.id if len(alike[plan.id]) == 1 else f"{name}/{plan.id}"
        before = out[key].workflows if key in out else ()
        made = lock.locked(name, plan)
        span = place(mcp, "id", "url", "command")
        out[key] = Server(key, made, span, tuple(sorted({*before, *used})))
    return [out[key] for key in sorted(out)]
