"""`compozy.lock`: the tools that MCP servers had when somebody looked at them (language.md §8).

    {"lock": 1, "servers": {"files": {"tools": {"read": {
        "description": "…", "hash": "sha256:…", "input_schema": {…}}}}}}

It stands beside `compozy.yaml` and is meant to be committed: agents are offered what it holds, and
a server that has changed since is told from it. A server is there under its id; where two workflows
have different ones of the same id, under `workflow/id`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from compozy_prefect.compiler.canonical import canonical
from compozy_prefect.compiler.plan import Json, McpPlan, McpToolPlan
from compozy_prefect.diagnostics import Diagnostic, SourceText, Span, error

NAME = "compozy.lock"
FORMAT = 1
_AGAIN = "write it again with `compozy mcp lock`"
_MOST_LINES = 12  # of the difference of one tool
_LONGEST_LINE = 200

Tools = tuple[McpToolPlan, ...]


@dataclass(frozen=True, slots=True)
class Lock:
    """`servers` by their key; `lines` where each begins. `exists` is false without a file."""

    servers: Mapping[str, Tools] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    exists: bool = False

    def key(self, workflow: str, id: str) -> str:
        """Under which it holds the server of a workflow; empty if it does not."""
        return next((key for key in (f"{workflow}/{id}", id) if key in self.servers), "")

    def locked(self, workflow: str, server: McpPlan) -> McpPlan:
        """The server with its tools, if they are known."""
        key = self.key(workflow, server.id)
        return replace(server, is_locked=True, tools=self.servers[key]) if key else server

    def differences(self, found: Mapping[str, Tools]) -> dict[str, Difference]:
        """How what the servers have differs, by their keys; without those that are alike."""
        keys = sorted({*found, *self.servers})
        each = {k: difference(self.servers.get(k, ()), found.get(k, ())) for k in keys}
        return {key: one for key, one in each.items() if one.lines}

    def holds(self, found: Mapping[str, Tools]) -> bool:
        """Whether it is what would be written."""
        is_needed = self.exists == bool(found)
        return is_needed and self.servers.keys() >= found.keys() and not self.differences(found)

    def span(self, key: str = "") -> Span:
        line = self.lines.get(key, 1)
        return Span(NAME, line, 1, line, 1)


class Read(NamedTuple):
    lock: Lock
    source: SourceText | None
    faults: tuple[Diagnostic, ...]


NONE = Read(Lock(), None, ())


def read(root: Path) -> Read:
    """The lock of the project in `root`; with faults it holds what could be read."""
    try:
        text = (root / NAME).read_text("utf-8")
    except FileNotFoundError:
        return NONE
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or "it is no UTF-8"
        source = SourceText(NAME, "")
        return Read(Lock(exists=True), source, (_fault(f"it cannot be read: {reason.lower()}"),))
    source = SourceText(NAME, text)
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("lock") != FORMAT:
            raise ValueError(f'it does not begin with `"lock": {FORMAT}`')
        servers = {str(key): _tools(key, one) for key, one in data["servers"].items()}
    except json.JSONDecodeError as fault:
        what = f"it is no JSON: {fault.msg.lower()}"
        return Read(Lock(exists=True), source, (_fault(what, fault.lineno, fault.colno),))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        told = str(fault) if isinstance(fault, ValueError) else "it has another shape"
        return Read(Lock(exists=True), source, (_fault(told),))
    lines = _lines(text, servers)
    return Read(Lock(servers, lines, True), source, ())


def _tools(server: str, data: Any) -> Tools:
    out = []
    for name, one in data["tools"].items():
        tool = McpToolPlan(name, one["description"], one["input_schema"])
        if not isinstance(tool.description, str) or not isinstance(tool.input_schema, dict):
            raise TypeError
        if one["hash"] != fingerprint(tool):
            raise ValueError(
                f"the tool `{name}` of `{server}` was changed by hand, or badly merged"
            )
        out.append(tool)
    return tuple(sorted(out, key=lambda tool: tool.name))


def _fault(what: str, line: int = 1, column: int = 1) -> Diagnostic:
    span = Span(NAME, line, column, line, column)
    return error("CZ335", f"{NAME} cannot be used: {what}", span, _AGAIN)


def _lines(text: str, servers: Iterable[str]) -> dict[str, int]:
    """Where the servers begin, as `dumps` writes them."""
    keys = {f"    {json.dumps(key, ensure_ascii=False)}: {{": key for key in servers}
    return {keys[line]: n for n, line in enumerate(text.splitlines(), 1) if line in keys}


def dumps(servers: Mapping[str, Iterable[McpToolPlan]]) -> str:
    """The text of the file: sorted, so that it differs where the tools do."""
    data = {
        key: {
            "tools": {
                tool.name: {
                    "description": tool.description,
                    "hash": fingerprint(tool),
                    "input_schema": tool.input_schema,
                }
                for tool in tools
            }
        }
        for key, tools in servers.items()
    }
    whole = {"lock": FORMAT, "servers": data}
    return json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def fingerprint(tool: McpToolPlan) -> str:
    """Of all that a model is told of a tool."""
    told: Json = [tool.name, tool.description, tool.input_schema]
    return "sha256:" + hashlib.sha256(canonical(told)).hexdigest()


class Difference(NamedTuple):
    """How the tools of a server differ from the locked ones. `lines` say it for people."""

    gone: tuple[str, ...]
    new: tuple[str, ...]
    changed: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def breaks(self) -> bool:
        """Whether what agents are offered is not what there is."""
        return bool(self.gone or self.changed)


def difference(locked: Iterable[McpToolPlan], found: Iterable[McpToolPlan]) -> Difference:
    before, after = {t.name: t for t in locked}, {t.name: t for t in found}
    gone = tuple(sorted(before.keys() - after.keys()))
    new = tuple(sorted(after.keys() - before.keys()))
    both = sorted(before.keys() & after.keys())
    changed = tuple(n for n in both if fingerprint(before[n]) != fingerprint(after[n]))
    lines = [f"- tool `{name}` is gone" for name in gone]
    lines += [f"+ tool `{name}` is new" for name in new]
    for name in changed:
        lines.append(f"~ tool `{name}` has changed:")
        lines += _changes(before[name], after[name])
    return Difference(gone, new, changed, tuple(lines))


def _changes(one: McpToolPlan, other: McpToolPlan) -> list[str]:
    found = difflib.unified_diff(_text(one), _text(other), n=0, lineterm="")
    lines = [line for line in found if not line.startswith(("---", "+++", "@@"))]
    more = [f"    … and {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
    return [f"    {line[:_LONGEST_LINE]}" for line in lines[:_MOST_LINES]] + more


def _text(tool: McpToolPlan) -> list[str]:
    said = [f"description: {line}" for line in tool.description.splitlines()]
    schema = json.dumps(tool.input_schema, indent=1, sort_keys=True, ensure_ascii=False)
    return [*said, *schema.splitlines()]
