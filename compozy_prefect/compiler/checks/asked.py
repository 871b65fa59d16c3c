"""What prompts ask of MCP servers: `.mcps.<id>.resource(…)` and `.prompt(…)` (language.md §8).

What `compozy.lock` does not have is a warning: a server may give what it does not list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.lock import NAME
from compozy_prefect.compiler.places import Place, places
from compozy_prefect.compiler.plan import McpPromptPlan, McpResourcePlan
from compozy_prefect.compiler.variables import ASKED_FOR, COUNTS, MCP_FIELDS
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse
from compozy_prefect.expressions.nodes import Call, ListOf, Literal, Node
from compozy_prefect.expressions.reads import Asked, Read
from compozy_prefect.language.names import nearest, suggest

_TAKES = {
    "resource": 'one text, the URI: `.resource("file:///notes.md")`',
    "prompt": 'a name, and perhaps a map: `.prompt("greet", dict "name" .input.name)`',
}
_EXPRESSION = re.compile(r"\{[^{}]*\}")  # of a template of URIs


def asked(project: Project) -> Iterator[Diagnostic]:
    for checked in project.workflows:
        for place in places(checked.scope):
            text = str(place.node.value)
            if place.sees == "prompt" and ".mcps" in text:
                with suppress(TemplateError):  # said by the pass over templates
                    yield from _Judge(project, checked, place).template(text)


class _Judge:
    """Of one prompt."""

    def __init__(self, project: Project, checked: Checked, place: Place) -> None:
        self._scope, self._place = checked.scope, place
        self._lock = project.lock.lock
        self._allowed = project.loaded.config["llm.allowed_mcp_names"]

    def template(self, text: str) -> Iterator[Diagnostic]:
        template = parse(text)
        calls = [one for one in template.asked if one.read.segments[0] == "mcps"]
        called = {id(one.read) for one in calls}
        for read in template.reads:
            if read.segments[0] == "mcps":
                yield from self._server(read)
                if id(read) not in called:
                    yield from self._field(read)
        for one in calls:
            if len(one.read.segments) == 4:
                yield from self._call(one)

    def _server(self, read: Read) -> Iterator[Diagnostic]:
        name = read.segments[1] if len(read.segments) > 1 else None
        known, scope = self._scope.mcps, self._scope
        if name is None or scope.is_broken("mcps", str(name)):
            return
        if str(name) not in known:
            hint = suggest(str(name), known, what="there are") or "there is none at all"
            span = self._place.span(read, 1)
            yield error("CZ216", f"unknown MCP server: `{name}`", span, hint)
        elif self._allowed and str(name) not in self._allowed:
            message = f"the MCP server `{name}` is none of `llm.allowed_mcp_names`"
            yield error("CZ216", message, self._place.span(read, 1), "add it there")

    def _field(self, read: Read) -> Iterator[Diagnostic]:
        name = str(read.segments[2]) if len(read.segments) > 2 else None
        if name is None or read.segments[2] is None or name in MCP_FIELDS:
            return
        near = nearest(name, [*ASKED_FOR, *MCP_FIELDS])
        hint = f"a resource is read with {_TAKES['resource']}"
        if near is not None:
            hint = f"it takes {_TAKES[near]}" if near in ASKED_FOR else f"did you mean `{near}`?"
        message = f"an MCP server has no field `{name}`"
        yield error("CZ402", message, self._place.span(read, 2), hint)

    def _call(self, one: Asked) -> Iterator[Diagnostic]:
        _, server, method, _ = map(str, one.read.segments)
        if method not in ASKED_FOR:
            hint = suggest(method, ASKED_FOR, what="there are")
            span = self._place.span(one.read, 2)
            yield error("CZ403", f"an MCP server has no method `{method}`", span, hint)
            return
        least, most = ASKED_FOR[method]
        given, takes = len(one.arguments), f"it takes {_TAKES[method]}"
        if not least <= given <= most:
            message = f"`{method}` takes {COUNTS[method]} and has {given}"
            yield error("CZ404", message, self._place.span(one.read, 2), takes)
            return
        kinds = [_kind(argument) for argument in one.arguments]
        for number, (kind, wanted) in enumerate(zip(kinds, ("text", "a map"), strict=False)):
            if kind not in ("", wanted):
                at = one.arguments[number]
                message = f"`{method}` takes {wanted} there, and this is {kind}"
                yield error("CZ410", message, self._place.node.span_of(at.start, at.end), takes)
                return
        name = one.arguments[0]
        key = self._lock.key(self._scope.workflow.key, server)
        if key and isinstance(name, Literal):
            listing = self._lock.servers[key]
            if method == "resource" and listing.resources is not None:
                yield from self._resource(key, name, listing.resources)
            elif method == "prompt" and listing.prompts is not None:
                yield from self._prompt(key, one.arguments, listing.prompts)

    def _resource(
        self, key: str, at: Literal, known: tuple[McpResourcePlan, ...]
    ) -> Iterator[Diagnostic]:
        if not any(_fits(str(at.value), one) for one in known):
            yield self._unlisted(key, "resource", at, [one.name for one in known])

    def _prompt(
        self, key: str, arguments: tuple[Node, ...], known: tuple[McpPromptPlan, ...]
    ) -> Iterator[Diagnostic]:
        at = arguments[0]
        assert isinstance(at, Literal)
        prompt = next((one for one in known if one.name == at.value), None)
        if prompt is None:
            yield self._unlisted(key, "prompt", at, [one.name for one in known])
            return
        given = _keys(arguments[1]) if len(arguments) > 1 else {}
        if given is None:
            return
        for name, node in given.items():
            if name not in prompt.arguments:
                hint = suggest(name, prompt.arguments, what="it has") or "it has none"
                message = f"the prompt `{prompt.name}` of `{key}` has no argument `{name}`"
                span = self._place.node.span_of(node.start, node.end)
                yield warning("CZ336", message, span, hint)
        missing = [name for name, needed in prompt.arguments.items() if needed > (name in given)]
        if missing:
            span = self._place.node.span_of(at.start, at.end)
            message = f"the prompt `{prompt.name}` of `{key}` needs `{'`, `'.join(missing)}`"
            yield warning("CZ336", message, span, f"write {_TAKES['prompt']}")

    def _unlisted(self, key: str, kind: str, at: Literal, known: list[str]) -> Diagnostic:
        hint = suggest(str(at.value), known, what="there are") or "it has none"
        message = f"the MCP server `{key}` has no {kind} `{at.value}` in {NAME}"
        return warning("CZ336", message, self._place.node.span_of(at.start, at.end), hint)


def _fits(uri: str, known: McpResourcePlan) -> bool:
    if not known.is_pattern:
        return uri == known.name
    parts = _EXPRESSION.split(known.name)
    return re.fullmatch(".*".join(map(re.escape, parts)), uri, re.S) is not None


def _kind(node: Node) -> str:
    """What a written value is; empty for what is only known when it runs."""
    if isinstance(node, Literal):
        if isinstance(node.value, str):
            return "text"
        kinds = {"bool": "a truth value", "NoneType": "null"}
        return kinds.get(type(node.value).__name__, "a number")
    if isinstance(node, ListOf) or (isinstance(node, Call) and node.name == "list"):
        return "a list"
    return "a map" if isinstance(node, Call) and node.name == "dict" else ""


def _keys(node: Node) -> dict[str, Node] | None:
    """The keys of a `dict` that is written out; None where they are not all known."""
    if not isinstance(node, Call) or node.name != "dict" or node.piped is not None:
        return None
    out: dict[str, Node] = {}
    for key in node.args[::2]:
        if not isinstance(key, Literal) or not isinstance(key.value, str):
            return None
        out[key.value] = key
    return out
