"""`compozy.lock`: what MCP servers had when somebody looked at them (language.md §8).

    {"lock": 1, "servers": {"files": {
        "tools": {"read": {"description": "…", "hash": "sha256:…", "input_schema": {…}}},
        "prompts": {"greet": {"description": "…", "arguments": {"name": true}}},
        "resources": {"file:///{name}": {"mime_type": "text/plain", "is_pattern": true}}}}}

It stands beside `compozy.yaml` and is meant to be committed: agents are offered what it holds, and
a server that has changed since is told from it. A server is there under its id; where two workflows
have different ones of the same id, under `workflow/id`. Locks of before say nothing of prompts and
resources.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from compozy_prefect.compiler.canonical import canonical
from compozy_prefect.compiler.plan import (
    Json,
    McpPlan,
    McpPromptPlan,
    McpResourcePlan,
    McpToolPlan,
)
from compozy_prefect.diagnostics import Diagnostic, SourceText, Span, error

NAME = "compozy.lock"
FORMAT = 1
_AGAIN = "write it again with `compozy mcp lock`"
_MOST_LINES = 12  # of the difference of one tool, prompt or resource
_LONGEST_LINE = 200

Tools = tuple[McpToolPlan, ...]
Prompts = tuple[McpPromptPlan, ...]
Resources = tuple[McpResourcePlan, ...]
_One = McpToolPlan | McpPromptPlan | McpResourcePlan


class Listing(NamedTuple):
    """All that a server lists; None is not known."""

    tools: Tools = ()
    prompts: Prompts | None = None
    resources: Resources | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """`servers` by their key; `lines` where each begins. `exists` is false without a file."""

    servers: Mapping[str, Listing] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)
    exists: bool = False

    def key(self, workflow: str, id: str) -> str:
        """Under which it holds the server of a workflow; empty if it does not."""
        return next((key for key in (f"{workflow}/{id}", id) if key in self.servers), "")

    def locked(self, workflow: str, server: McpPlan) -> McpPlan:
        """The server with what it lists, if that is known."""
        key = self.key(workflow, server.id)
        return replace(server, is_locked=True, **self.servers[key]._asdict()) if key else server

    def differences(self, found: Mapping[str, Listing]) -> dict[str, Difference]:
        """How what the servers have differs, by their keys; without those that are alike."""
        keys, none = sorted({*found, *self.servers}), Listing()
        each = {k: difference(self.servers.get(k, none), found.get(k, none)) for k in keys}
        return {key: one for key, one in each.items() if one.lines}

    def holds(self, found: Mapping[str, Listing]) -> bool:
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
        servers = {str(key): _listing(key, one) for key, one in data["servers"].items()}
    except json.JSONDecodeError as fault:
        what = f"it is no JSON: {fault.msg.lower()}"
        return Read(Lock(exists=True), source, (_fault(what, fault.lineno, fault.colno),))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        told = str(fault) if isinstance(fault, ValueError) else "it has another shape"
        return Read(Lock(exists=True), source, (_fault(told),))
    lines = _lines(text, servers)
    return Read(Lock(servers, lines, True), source, ())


def _listing(server: str, data: Any) -> Listing:
    prompts, resources = data.get("prompts"), data.get("resources")
    return Listing(
        _tools(server, data),
        None if prompts is None else tuple(_prompt(*one) for one in sorted(prompts.items())),
        None if resources is None else tuple(_resource(*one) for one in sorted(resources.items())),
    )


def _prompt(name: str, data: Any) -> McpPromptPlan:
    made = McpPromptPlan(name, data["description"], dict(data["arguments"]))
    if not isinstance(made.description, str) or any(
        not isinstance(is_needed, bool) for is_needed in made.arguments.values()
    ):
        raise TypeError
    return made


def _resource(uri: str, data: Any) -> McpResourcePlan:
    made = McpResourcePlan(uri, data["mime_type"], data.get("is_pattern", False))
    if not isinstance(made.mime_type, str) or not isinstance(made.is_pattern, bool):
        raise TypeError
    return made


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


def dumps(servers: Mapping[str, Listing]) -> str:
    """The text of the file: sorted, so that it differs where the servers do."""
    data = {key: _data(listing) for key, listing in servers.items()}
    whole = {"lock": FORMAT, "servers": data}
    return json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _data(listing: Listing) -> dict[str, Json]:
    out: dict[str, Json] = {
        "tools": {
            tool.name: {
                "description": tool.description,
                "hash": fingerprint(tool),
                "input_schema": tool.input_schema,
            }
            for tool in listing.tools
        }
    }
    if listing.prompts is not None:
        out["prompts"] = {
            one.name: {"description": one.description, "arguments": one.arguments}
            for one in listing.prompts
        }
    if listing.resources is not None:
        out["resources"] = {
            one.name: {"mime_type": one.mime_type}
            | ({"is_pattern": True} if one.is_pattern else {})
            for one in listing.resources
        }
    return out


def fingerprint(tool: McpToolPlan) -> str:
    """Of all that a model is told of a tool."""
    told: Json = [tool.name, tool.description, tool.input_schema]
    return "sha256:" + hashlib.sha256(canonical(told)).hexdigest()


class Difference(NamedTuple):
    """How what a server lists differs from the lock. `lines` say it for people.

    Tools are there by their names, others as `prompt greet` and `resource file:///a`.
    """

    gone: tuple[str, ...]
    new: tuple[str, ...]
    changed: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def breaks(self) -> bool:
        """Whether what agents are offered, or templates rely on, is not what there is."""
        return bool(self.gone or self.changed)


def difference(locked: Listing, found: Listing) -> Difference:
    """Of what both sides know."""
    each = [of_kind("tool", locked.tools, found.tools)]
    if locked.prompts is not None and found.prompts is not None:
        each.append(of_kind("prompt", locked.prompts, found.prompts))
    if locked.resources is not None and found.resources is not None:
        each.append(of_kind("resource", locked.resources, found.resources))
    gone, new, changed, lines = (tuple(chain(*parts)) for parts in zip(*each, strict=True))
    return Difference(gone, new, changed, lines)


def of_kind(kind: str, locked: Iterable[_One], found: Iterable[_One]) -> Difference:
    """Of `tool`, `prompt` or `resource`."""
    before, after = {one.name: one for one in locked}, {one.name: one for one in found}
    gone = sorted(before.keys() - after.keys())
    new = sorted(after.keys() - before.keys())
    both = sorted(before.keys() & after.keys())
    changed = [name for name in both if _differs(before[name], after[name])]
    lines = [f"- {kind} `{name}` is gone" for name in gone]
    lines += [f"+ {kind} `{name}` is new" for name in new]
    for name in changed:
        lines.append(f"~ {kind} `{name}` has changed:")
        lines += _changes(before[name], after[name])
    prefix = "" if kind == "tool" else f"{kind} "

    def named(names: list[str]) -> tuple[str, ...]:
        return tuple(prefix + name for name in names)

    return Difference(named(gone), named(new), named(changed), tuple(lines))


def _differs(one: _One, other: _One) -> bool:
    if isinstance(one, McpToolPlan) and isinstance(other, McpToolPlan):
        return fingerprint(one) != fingerprint(other)
    return one != other


def _changes(one: _One, other: _One) -> list[str]:
    found = difflib.unified_diff(_text(one), _text(other), n=0, lineterm="")
    lines = [line for line in found if not line.startswith(("---", "+++", "@@"))]
    more = [f"    … and {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
    return [f"    {line[:_LONGEST_LINE]}" for line in lines[:_MOST_LINES]] + more


def _text(one: _One) -> list[str]:
    """All that is known of one, in lines that a difference can show."""
    if isinstance(one, McpResourcePlan):
        return [f"mime type: {one.mime_type}", f"is a pattern: {one.is_pattern}"]
    said = [f"description: {line}" for line in one.description.split("\n")]
    if isinstance(one, McpPromptPlan):
        needed = {True: "needed", False: "may be left out"}
        said += [f"argument {name}: {needed[is_]}" for name, is_ in sorted(one.arguments.items())]
        return said
    schema = json.dumps(one.input_schema, indent=1, sort_keys=True, ensure_ascii=False)
    return [*said, *schema.splitlines()]
