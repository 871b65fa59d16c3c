"""What a client would meet outside, on loopback: names with addresses, and a host at one of them.

Only the look-up of a name is made up, and that a connection to `PUBLIC` ends at a server here. All
other addresses are connected to as they are.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore
import pytest
from httpcore2._backends.anyio import AnyIOBackend

from compozy_prefect.runtime.tools import hosts

PUBLIC = "93.184.216.34"
Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Asked:
    """A request as the server got it; names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Server:
    """Answers each request with what `reply` makes of it, and keeps what it was asked."""

    url: str
    port: int
    asked: list[Asked] = field(default_factory=list)
    reply: Callable[[Asked], Reply] = lambda asked: (200, {}, b"")


@contextmanager
def out_of_bounds() -> Iterator[tuple[int, list[Any]]]:
    """The port of a server on loopback that nobody may reach, and who has reached it."""
    reached: list[Any] = []
    servers = [socket.create_server(("127.0.0.1", 0))]
    port = servers[0].getsockname()[1]
    if socket.has_ipv6:
        with suppress(OSError):  # IPv6 is off on this machine
            servers.append(socket.create_server(("::1", port), family=socket.AF_INET6))

    def listen(server: socket.socket) -> None:
        while True:
            try:
                connection, peer = server.accept()
            except OSError:
                return
            reached.append(peer)
            connection.close()

    for server in servers:
        threading.Thread(target=listen, args=(server,), daemon=True).start()
    try:
        yield port, reached
    finally:
        for server in servers:
            server.close()


@contextmanager
def serving(reply: Callable[[Asked], Reply], tls: Any = None) -> Iterator[Server]:
    """A server on loopback. A header of a reply without value is not sent."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or the kernel holds a body back for 40 ms
        timeout = 10

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(size)
            asked = Asked(self.command, self.path, headers, body, self.client_address[1])
            server.asked.append(asked)
            status, given, body = server.reply(asked)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | given).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _answer

        def log_message(self, *args: Any) -> None:
            pass

    class Listening(ThreadingHTTPServer):
        request_queue_size = 256  # connections that come at once

    listening = Listening(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    if tls is not None:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True)
    port = listening.server_address[1]
    scheme = "http" if tls is None else "https"
    server = Server(f"{scheme}://127.0.0.1:{port}", port, reply=reply)
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()


@dataclass
class Internet:
    """`names` have addresses; where they have several lists of them, each look-up takes one."""

    names: dict[str, list[Any]]
    port: int
    looked_up: list[str] = field(default_factory=list)
    connected: list[tuple[str, int]] = field(default_factory=list)

    async def addresses(self, host: str, port: int | None) -> list[str]:
        self.looked_up.append(host)
        if host not in self.names:
            # What is a number in any spelling is an address to the system; it asks nobody.
            found = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
            return [str(address[0]) for *_, address in found]
        known = self.names[host]
        if known and isinstance(known[0], list):
            return known.pop(0) if len(known) > 1 else known[0]
        return list(known)


def connect(
    monkeypatch: pytest.MonkeyPatch, names: dict[str, list[Any]], port: int = 0
) -> Internet:
    """The names are known, and `PUBLIC` is the server at `port`, until the test ends."""
    internet = Internet(names, port)

    def connecting(really: Callable[..., Any]) -> Callable[..., Any]:
        async def connect_tcp(self: Any, host: str, port: int, *rest: Any, **more: Any) -> Any:
            internet.connected.append((host, port))
            if host == PUBLIC:
                host, port = "127.0.0.1", internet.port
            return await really(self, host, port, *rest, **more)

        return connect_tcp

    monkeypatch.setattr(hosts, "addresses", internet.addresses)
    for backend in (httpcore.AnyIOBackend, AnyIOBackend):  # of tools, and of MCP servers
        monkeypatch.setattr(backend, "connect_tcp", connecting(backend.connect_tcp))
    return internet
