"""`config` of tools: whether it can be looked at, and what it lacks (language.md §6.1)."""

from __future__ import annotations

from typing import NamedTuple

from compozy_prefect.compiler.checks.nouns import called, place
from compozy_prefect.diagnostics import Diagnostic, Span, error
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping, Node


class Config(NamedTuple):
    """The `config` of a tool; `node` is None, and `entries` are none, where the file has none."""

    tool: Tool
    node: Mapping | None
    entries: dict[str, Node]

    def key_span(self, name: str) -> Span:
        """Where a key stands; the type of the tool, without a `config`."""
        return self.node.key_span(name) if self.node is not None else place(self.tool, "type")

    def near(self, name: str) -> str | None:
        """A key that may be meant by `name`."""
        return nearest(name, self.entries)

    def lacks(self, name: str, way: str, at: Span | None = None) -> Diagnostic:
        """That there is no `name`, and the way to it."""
        near = self.near(name)
        span = self.key_span(near) if near else at or place(self.tool, "type")
        hint = f"`{near}` looks like it" if near else way
        return error("CZ324", f"{called(self.tool, 'tool')} needs `config.{name}`", span, hint)


def config_of(tool: Tool) -> Config | None:
    """None for what was reported, or for what is known only when it runs."""
    node = tool.node.get("config")
    if node is None:
        return Config(tool, None, {})
    if not isinstance(node, Mapping) or any(key[:1] == "$" for key in node.entries):
        return None
    return Config(tool, node, node.entries)
