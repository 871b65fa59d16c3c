"""A real MCP server, written with the SDK: `python good.py [stdio|sse|streamable-http] [PORT]`.

With a port of 0 it takes a free one, and writes it to stdout. Each call is a line in `EFFECTS`, and
so is each resource and each prompt that is asked for.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import AssistantMessage, Message, UserMessage
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import ImageContent, TextContent

server = MCPServer("good")
BEGAN = time.time_ns()  # a process may be the second of a namespace of its own


def note(**what: Any) -> None:
    path = os.environ.get("EFFECTS")
    if path:
        with open(path, "a") as file:
            file.write(json.dumps({"began": BEGAN, **what}) + "\n")


def key_of(ctx: Context) -> str:
    """The key of a call that may be made again."""
    return str((ctx.request_context.meta or {}).get("idempotencyKey", ""))


@server.tool(description="Adds two numbers.")
def add(a: int, b: int) -> int:
    note(call="add", a=a, b=b)
    return a + b


@server.tool(description="Says it again.")
def Echo(text: str, ctx: Context) -> str:
    note(call="echo", text=text, **({"key": key} if (key := key_of(ctx)) else {}))
    return text


@server.tool(description="A record.")
def record(id: str) -> dict[str, Any]:
    return {"id": id, "tags": ["a", "b"]}


@server.tool(description="Several texts.")
def several(number: int = 2) -> list[str]:
    return ["one", "two"][:number]


@server.tool(description="A picture.")
def picture() -> list[TextContent | ImageContent]:
    return [
        TextContent(type="text", text="a dot"),
        ImageContent(type="image", data="AAAA", mime_type="image/png"),
    ]


@server.tool(description="Fails.")
def fail(why: str) -> str:
    raise ValueError(why)


@server.tool(description="The environment of the server.")
def environment() -> dict[str, str]:
    return dict(os.environ)


@server.tool(description="The request's headers.")
async def headers(ctx: Context) -> dict[str, str]:
    request = ctx.request_context.request
    return dict(request.headers) if request is not None else {}


@server.tool(description="Takes its time, and says how far it is.")
async def slow(seconds: float, ctx: Context) -> str:
    try:
        for part in range(4):
            await ctx.report_progress(part, 4, f"part {part}")
            await asyncio.sleep(seconds / 4)
        await ctx.report_progress(4, 4, "done")
    except asyncio.CancelledError:
        note(call="slow", cancelled=True)
        raise
    return "slept"


@server.tool(description="Waits until there is a file.")
async def gate(path: str) -> str:
    note(call="gate")
    try:
        while not os.path.exists(path):
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        note(call="gate", cancelled=True)
        raise
    return "open"


@server.tool(description="As much text as wanted.")
def large(size: int) -> str:
    return "x" * size


@server.resource("file:///handbook.md", mime_type="text/markdown")
def handbook() -> str:
    note(read="handbook")
    return "# Handbook\n\nBe kind, {{ .nobody }}."


@server.resource("data://settings", mime_type="application/json; charset=utf-8")
def settings() -> str:
    note(read="settings")
    return '{"days": [1, 2]}'


@server.resource("data://broken", mime_type="application/json")
def broken() -> str:
    return "{"


@server.resource("data://dot", mime_type="image/png")
def dot() -> bytes:
    return b"\x00\x01\x02"


@server.resource("env://{name}", mime_type="text/plain")
def variable(name: str) -> str:
    return os.environ.get(name, "")


@server.resource("large://{size}", mime_type="text/plain")
def large_text(size: str) -> str:
    return "x" * int(size)


@server.prompt(description="Greets somebody.")
def greet(name: str, tone: str = "warm") -> str:
    note(prompt="greet", name=name, tone=tone)
    return f"Say hello to {name}, in a {tone} tone."


@server.prompt(description="A talk.")
def talk() -> list[Message]:
    return [UserMessage("Who are you?"), AssistantMessage("A clerk.")]


if __name__ == "__main__":
    transport = sys.argv[1] if len(sys.argv) > 1 else "stdio"
    if transport == "stdio":
        server.run("stdio")
    else:
        import uvicorn

        # Tests reach it by other names than localhost, which it would not take.
        any_name = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        make = server.sse_app if transport == "sse" else server.streamable_http_app
        app = make(transport_security=any_name)
        # With its protocol said, asyncio sends small answers at once.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0))
        print(listening.getsockname()[1], flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        uvicorn.Server(config).run([listening])
