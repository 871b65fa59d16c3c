"""MCP servers: whether they can be reached as they are described (language.md §8, §14 row 30)."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import suppress
from typing import get_args

from compozy_prefect.compiler.checks.nouns import is_blank, is_given, is_template, nouns, place
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.scope import mcp_id
from compozy_prefect.diagnostics import Diagnostic, error, warning
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse
from compozy_prefect.language.models.mcp import Mcp
from compozy_prefect.language.models.tool import Effect
from compozy_prefect.language.names import suggest
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence

RESERVED = frozenset({"host", "content-length", "connection", "transfer-encoding"})
"""Headers that the client writes itself."""

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SHELL = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ADDRESS = re.compile(r"(?i)https?://[^/\s?#]")


def servers(project: Project) -> Iterator[Diagnostic]:
    for mcp in nouns(project, Mcp):
        if _transport(mcp) == "stdio":
            yield from _process(mcp)
        else:
            yield from _address(mcp)
        yield from _identity(mcp)
        yield from _fixed(mcp)
        yield from headers(mcp.node.get("headers"), RESERVED, "CZ320")
        yield from _proto(mcp)
        yield from _effects(mcp)
        for name in ("url", "command", "args", "headers", "env"):
            yield from shell_variables(mcp.node.get(name))


def _transport(mcp: Mcp) -> str:
    if (mcp.url or "").startswith("stdio://"):
        return "stdio"
    if mcp.transport:
        return mcp.transport
    return "stdio" if is_given(mcp, "command") and not is_given(mcp, "url") else "sse"


def _process(mcp: Mcp) -> Iterator[Diagnostic]:
    node, url = mcp.node, (mcp.url or "").strip()
    if url.startswith("stdio://"):
        if not url.removeprefix("stdio://").strip("./"):
            hint = "write `stdio://./server.py`, a path from the project's directory"
            yield error("CZ320", "the address names no program", node.at("url").span, hint)
        if is_given(mcp, "command"):
            hint = "remove one of them"
            message = "the program stands in `url` and in `command`"
            yield error("CZ320", message, node.key_span("command"), hint)
    else:
        if is_given(mcp, "url"):
            yield error(
                "CZ320",
                "a server over `stdio` has no `url`: it is started with `command`",
                node.key_span("url"),
                "remove it, or write `transport: sse` or `transport: streamable-http`",
            )
        elif not is_given(mcp, "command"):
            yield error(
                "CZ320",
                "a server over `stdio` needs a `command`",
                place(mcp, "transport", "id"),
                "add `command:`, the program that is started",
            )
    if mcp.command and not mcp.args:
        yield from _split(mcp)
    if is_given(mcp, "headers"):
        hint = "give the process what it needs with `env:`"
        message = "a server over `stdio` has no `headers`; they are ignored"
        yield warning("CZ320", message, node.key_span("headers"), hint)


def _fixed(mcp: Mcp) -> Iterator[Diagnostic]:
    """What is started is what the files say: no input of a run may choose it."""
    is_url = (mcp.url or "").startswith("stdio://")
    for name, text in (("url", mcp.url if is_url else None), ("command", mcp.command)):
        if text and is_template(text):
            hint = "write the program itself; its arguments may read `.env`"
            span = mcp.node.at(name).span
            yield error("CZ320", "what is started must be written out", span, hint)
    for index, arg in enumerate(mcp.args):
        with suppress(TemplateError):  # which is reported with all templates
            if any(read.segments[0] != "env" for read in parse(arg).reads):
                hint = "give the process the value in a variable, with `env:`"
                span = mcp.node.at("args", index).span
                yield error("CZ320", "an argument of a server may read `.env` only", span, hint)


def _effects(mcp: Mcp) -> Iterator[Diagnostic]:
    known = get_args(Effect)
    for tool, effect in mcp.effects.items():
        if effect not in known:
            message = f"`{effect}` is no effect of the tool `{tool}`"
            hint = suggest(effect, known, what="there are")
            yield error("CZ320", message, mcp.node.at("effects", tool).span, hint)


def _split(mcp: Mcp) -> Iterator[Diagnostic]:
    """A command without `args` holds them, as a shell would read it."""
    import shlex

    try:
        shlex.split(mcp.command or "")
    except ValueError:
        hint = "close it, or write the arguments under `args:`"
        span = mcp.node.at("command").span
        yield error("CZ320", "a quote in the command is not closed", span, hint)


def _address(mcp: Mcp) -> Iterator[Diagnostic]:
    node = mcp.node
    transport = mcp.transport or "sse"
    if not is_given(mcp, "url"):
        command = is_given(mcp, "command")
        yield error(
            "CZ320",
            f"a server over `{transport}` needs a `url`",
            place(mcp, "transport", "id", "command"),
            "write `transport: stdio` for a server that is started with a `command`"
            if command
            else "add `url:`, or `command:` for a server that is started",
        )
    elif mcp.url is not None:
        yield from address(node.at("url"), mcp.url)
        if is_given(mcp, "command"):
            say = error if mcp.transport else warning
            yield say(
                "CZ320",
                f"the server is reached by `url`, over `{transport}`, and no `command` starts it",
                node.key_span("command"),
                "remove one of them, or write `transport: stdio` and remove `url`",
            )
    if is_given(mcp, "args") and not is_given(mcp, "command"):
        hint = "they belong to a `command`"
        message = f"a server over `{transport}` has no `args`; they are ignored"
        yield warning("CZ320", message, node.key_span("args"), hint)


def address(node: Node, url: str, code: str = "CZ320") -> Iterator[Diagnostic]:
    """What is wrong with an address of the web, unless it is only known when it runs."""
    if is_template(url) or _ADDRESS.match(url.strip()):
        return
    scheme, there, _ = url.strip().partition("://")
    variable = _SHELL.match(url.strip())
    if variable:
        hint = f"write `{{{{ .env.{variable[1]} }}}}`"
    elif there and scheme.lower() in ("http", "https"):
        hint = f"write `{scheme}://` and the name of a host"
    elif there:
        hint = "it begins with `http://` or `https://`"
    else:
        hint = f"write `http://{url.strip()}`, or `https://…`"
    yield error(code, f"`{url.strip()}` is no http address", node.span, hint)


def _identity(mcp: Mcp) -> Iterator[Diagnostic]:
    if is_given(mcp, "id") or not (is_given(mcp, "url") or is_given(mcp, "command")):
        return
    derived = mcp_id(mcp)
    if not derived or is_template(derived) or is_template(mcp.url or ""):
        yield error(
            "CZ320",
            "the server needs an `id`: its address does not tell one",
            place(mcp, "url", "command"),
            "add `id:`",
        )


def headers(given: Node | None, reserved: Container[str], code: str) -> Iterator[Diagnostic]:
    """What is wrong with headers; `reserved` are names that the client writes itself."""
    if not isinstance(given, Mapping):
        return
    for name, node in given.entries.items():
        span = given.key_span(name)
        if name.lower() in reserved:
            hint = "remove it: the client writes it itself"
            yield error(code, f"the header `{name}` cannot be set", span, hint)
        elif not _HEADER.fullmatch(name):
            hint = "letters, digits and `-`, such as `X-Api-Key`"
            yield error(code, f"`{name}` is no name for a header", span, hint)
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, str) and ("\n" in value or "\r" in value):
            hint = "write it in one line, in quotes; a block that begins with `|` ends in a break"
            message = f"the header `{name}` has a line break"
            yield error(code, message, node.span, hint)


def _proto(mcp: Mcp) -> Iterator[Diagnostic]:
    if mcp.proto is None:
        return
    from datetime import date

    try:
        date.fromisoformat(mcp.proto)
    except ValueError:
        hint = "write a version of the protocol, such as `2025-03-26`"
        span = mcp.node.at("proto").span
        yield error("CZ320", f"`{mcp.proto}` is no day of the calendar", span, hint)


def shell_variables(node: Node | None, code: str = "CZ320") -> Iterator[Diagnostic]:
    """`${NAME}` is what a shell fills in, and nothing here does."""
    if isinstance(node, Mapping):
        for value in node.entries.values():
            yield from shell_variables(value, code)
    elif isinstance(node, Sequence):
        for value in node.items:
            yield from shell_variables(value, code)
    elif isinstance(node, Scalar) and isinstance(node.value, str) and not is_blank(node):
        for found in _SHELL.finditer(node.value):
            yield warning(
                code,
                f"`{found[0]}` stays as it is: no shell reads it",
                node.span_of(*found.span()),
                f"write `{{{{ .env.{found[1]} }}}}`",
            )
