"""An MCP server of the plan, rendered → what it takes to reach it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from compozy_prefect.compiler.plan import McpPlan

TOKENS = ("MCP_ADMIN_TOKEN", "MCP_PROXY_ADMIN_TOKEN")  # service.md §14 no. 7

Render = Callable[[str, tuple[str | int, ...]], str]
"""A text of the server and where it stands in it → the text without templates."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Calls with an equal one share a session.

    `command` is the program and its arguments; a process sees `variables` and nothing else.
    `is_public`: the host comes out of a template, and must not lead into a private network.
    """

    transport: str
    url: str
    command: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    variables: tuple[tuple[str, str], ...] = field(repr=False)
    root: str
    is_public: bool
    identity: int  # of the plan, which holds what cannot be compared quickly
    server: McpPlan = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        return self.server.id

    @property
    def shown(self) -> str:
        """How people are told of it: without what may be secret."""
        if self.transport == "stdio":
            return command_line(self.server)
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def command_line(server: McpPlan) -> str:
    """What a server over stdio is started with, as the files have it."""
    return shlex.join([server.command, *server.args])


def connection(
    server: McpPlan, render: Render, env: Mapping[str, str], declared: Mapping[str, str], root: Path
) -> Connection:
    """`env` is the environment around the server, `declared` what the files give to its process.

    Raises what `render` raises.
    """
    own = {name: render(text, ("env", name)) for name, text in server.env.items()}
    headers = {name: render(text, ("headers", name)) for name, text in server.headers.items()}
    if server.bearer_env:
        token = next((env[name] for name in TOKENS if env.get(name)), "")
        if token and not any(name.lower() == "authorization" for name in headers):
            headers["Authorization"] = f"Bearer {token}"
    variables: dict[str, str] = {}
    if server.transport == "stdio":
        variables = {"PATH": env.get("PATH", os.defpath), **declared, **own}
    return Connection(
        transport=server.transport,
        url=render(server.url, ("url",)).strip(),
        command=_command(server, render, root),
        headers=tuple(headers.items()),
        variables=tuple(sorted(variables.items())),
        root=os.fspath(root),
        is_public="{{" in (urlsplit(server.url).netloc or server.url),
        identity=id(server),
        server=server,
    )


def _command(server: McpPlan, render: Render, root: Path) -> tuple[str, ...]:
    """A program with a `/` is a path from the project's folder; others are on the PATH."""
    if not server.command:
        return ()
    program = server.command
    if "/" in program:
        program = os.path.normpath(root / program)
    return (program, *(render(arg, ("args", n)) for n, arg in enumerate(server.args)))
