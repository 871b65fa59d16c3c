"""`compozy.lock` beside the project: whether it can be read, and fits what agents use (§8)."""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.nouns import place
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.lock import NAME
from compozy_prefect.compiler.places import servers_used
from compozy_prefect.compiler.scope import mcp_id
from compozy_prefect.diagnostics import Diagnostic, warning
from compozy_prefect.language.models.mcp import Mcp
from compozy_prefect.language.names import suggest
from compozy_prefect.language.nodes import Mapping

_WRITE = "`compozy mcp lock` starts it, asks it for its tools, and writes them down"


def locks(project: Project) -> Iterator[Diagnostic]:
    lock, _, faults = project.lock
    yield from faults
    if faults or not lock.exists:
        return
    held: set[str] = set()
    told: set[int] = set()
    for checked in project.workflows:
        scope = checked.scope
        known = {*scope.mcps, *(mcp_id(mcp) for mcp in servers_used(scope))}
        held |= {lock.key(scope.workflow.key, id) for id in known}
        if any(kind == "mcps" for kind, _ in scope.broken):
            held |= lock.servers.keys()  # one that is faulty may be any
        for mcp in servers_used(scope):
            if id(mcp.node) in told:
                continue
            told.add(id(mcp.node))
            key = lock.key(scope.workflow.key, mcp_id(mcp))
            if not key:
                message = f"the MCP server `{mcp_id(mcp)}` is not in {NAME}"
                yield warning("CZ336", message, place(mcp, "id", "url", "command"), _WRITE)
            else:
                yield from _named(mcp, [tool.name for tool in lock.servers[key].tools])
    for key in lock.servers:
        if key not in held:
            message = f"{NAME} holds the MCP server `{key}`, which the project does not have"
            hint = "write it again with `compozy mcp lock`"
            yield warning("CZ336", message, lock.span(key), hint)


def _named(mcp: Mcp, tools: list[str]) -> Iterator[Diagnostic]:
    given = mcp.tool_filter
    effects = mcp.node.get("effects")
    named = {}
    if isinstance(effects, Mapping):
        named = {name: effects.key_span(name) for name in mcp.effects if name != "*"}
    if given is not None and given.mode == "allow":  # what is blocked is not in the lock
        for index, name in enumerate(given.names):
            named[name] = given.node.at("list", index).span
    for name, span in named.items():
        if name not in tools:
            hint = suggest(name, tools, what="its tools are")
            message = f"the MCP server `{mcp_id(mcp)}` has no tool `{name}`"
            yield warning("CZ336", message, span, hint)


def unlocked(project: Project) -> Iterator[Diagnostic]:
    """Servers in use without any lock; reported under `--strict` only."""
    if project.lock.lock.exists:
        return
    used = {id(mcp.node): mcp for one in project.workflows for mcp in servers_used(one.scope)}
    for mcp in used.values():
        message = f"what the MCP server `{mcp_id(mcp)}` offers is only known when it runs"
        yield warning("CZ336", message, place(mcp, "id", "url", "command"), _WRITE)
