"""Tools: whether each has what its kind needs (language.md §6, §14 row 28)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compozy_prefect.compiler.checks.http import http
from compozy_prefect.compiler.checks.nouns import called, is_given, nouns, place
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.language.javascript import PATH
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.nodes import Mapping
from compozy_prefect.language.permissions import VARIABLES

_VARIABLE = re.compile(r"[A-Z0-9_]+")


def tools(project: Project) -> Iterator[Diagnostic]:
    for tool in nouns(project, Tool):
        yield from _identity(tool)
        yield from _environment(tool)
        if tool.type == "http":
            yield from http(tool)
        elif tool.type == "javascript":
            if not is_given(tool, "execute"):
                yield error(
                    "CZ324",
                    f"{called(tool, 'tool')} needs `execute`, the JavaScript that it runs",
                    place(tool, "type"),
                    "add a function: `execute: \"({ name }) => ({ greeting: 'Hello ' + name })\"`",
                )
        elif "type" not in tool.node.entries and tool.execute:
            yield from _without_type(tool)


def _identity(tool: Tool) -> Iterator[Diagnostic]:
    if ".." in tool.id and tool.node.at("id").data() == tool.id:
        yield error(
            "CZ324",
            f"the id `{tool.id}` has `..` in it",
            tool.node.at("id").span,
            "an id is a name, and leads nowhere",
        )


def _without_type(tool: Tool) -> Iterator[Diagnostic]:
    """A path was the way to name a file of its own, before there were types (§6.1)."""
    text = tool.execute or ""
    if not PATH.fullmatch(text.strip()):
        yield warning(
            "CZ324",
            f"{called(tool, 'tool')} has no `type`, and its `execute` is not run",
            tool.node.key_span("execute"),
            "add `type: javascript`; without a type a tool is an export of `runtime.entrypoint`",
        )


def _environment(tool: Tool) -> Iterator[Diagnostic]:
    given = tool.node.get("env")
    if not isinstance(given, Mapping):
        return
    for name, value in given.entries.items():
        span = given.key_span(name)
        if name in VARIABLES or name.startswith("DENO_"):
            hint = "remove it: it changes what the process of the tool loads"
            yield error("CZ324", f"a tool cannot set `{name}`", span, hint)
        elif not _VARIABLE.fullmatch(name):
            near = re.sub(r"\W", "_", name.upper(), flags=re.ASCII)
            hint = f"capital letters, digits and `_`: `{near}`"
            yield error("CZ324", f"`{name}` is no name for a variable", span, hint)
        text = value.data()
        if isinstance(text, str) and ("\n" in text or "\0" in text):
            what = "a line break" if "\n" in text else "a zero byte"
            hint = "write it in one line, in quotes; a block that begins with `|` ends in a break"
            yield error("CZ324", f"the variable `{name}` has {what}", value.span, hint)
