"""A script of answers → a server on 127.0.0.1 that speaks the wire formats of five providers.

    with ModelServer([Reply("Hello"), Fault(429, retry_after=0.2), Reply(None)]) as server:
        ...                               # api_url: server.base("anthropic"), or server.url
        server.requests[0].authorization  # "Bearer …"

Requests take the entries of the script in turn and the last one repeats; a function in their place
makes the entry of each request. The path decides on the format. Standard library only.
"""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.formats import FORMATS, format_of
from tests.support.formats.base import Call, Fault, Format, Reply, halves

__all__ = ["Broken", "Call", "Entry", "Fault", "ModelServer", "Reply", "Seen", "closed", "huge"]

MEGABYTES = 50 * 2**20


@dataclass(frozen=True)
class Broken:
    """A conversation that goes wrong:

    `hang` accepts and never answers; `drop` resets the connection; `truncated` ends in the middle
    of the body; `invalid` is no JSON; `html` is a page; `empty` nothing at all; `redirect` points
    elsewhere; `drip` sends a byte each `seconds`; `large` and `packed` are 50 MB, the latter
    compressed. Of streams: `half` breaks off, `short` ends early but in good order, `quiet` falls
    silent in the middle, `error` tells of a fault there, `garbled` holds half an event.
    """

    how: str
    seconds: float = 30.0  # how long `hang` and `quiet` last, unless the server stops before


@dataclass(frozen=True)
class Seen:
    """One request: method, path, headers with lower-case names, body as text and as JSON."""

    method: str
    path: str
    headers: dict[str, str]
    text: str
    body: Any
    at: float  # time.monotonic()

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")


Entry = Reply | Fault | Broken


def huge(size: int = 5_000_000) -> Reply:
    """An answer of so many characters."""
    return Reply("x" * size)


def closed() -> str:
    """An address on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


class ModelServer:
    """Use as a context manager; `url` is the base of OpenAI's API, ending in `/v1`.

    `sent` counts the bytes of bodies that have gone out.
    """

    def __init__(self, script: Iterable[Entry] = ()) -> None:
        self.script: list[Entry] = list(script)
        self.function: Callable[[Seen], Entry] | None = None
        self.requests: list[Seen] = []
        self.sent = 0
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return self.base("openai")

    def base(self, provider: str) -> str:
        """The `api_url` of a provider; those without a format of their own speak OpenAI's."""
        return self.address + FORMATS.get(provider, FORMATS["openai"]).base

    def answers(self, *script: Entry) -> ModelServer:
        """Another script, and a clean record."""
        with self._lock:
            self.script, self.function = list(script), None
            self.requests, self.sent = [], 0
        return self

    def answers_by(self, function: Callable[[Seen], Entry]) -> ModelServer:
        """Entries from a function of the request, and a clean record."""
        self.answers()
        self.function = function
        return self

    def __enter__(self) -> ModelServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def take(self, seen: Seen) -> Entry:
        with self._lock:
            self.requests.append(seen)
            number, function = len(self.requests), self.function
            script = self.script or [Reply()]
        return function(seen) if function else script[min(number, len(script)) - 1]

    def count(self, size: int) -> None:
        with self._lock:
            self.sent += size

    def wait(self, seconds: float) -> bool:
        """Whether the server was stopped in the meantime."""
        return self._stopped.wait(seconds)


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = json.loads(text) if text.startswith("{") else None
            seen = Seen("POST", self.path, headers, text, body, time.monotonic())
            entry = server.take(seen)
            spoken = format_of(self.path)
            if spoken is None:
                self._send(404, b'{"detail": "Not Found"}')
                return
            request = spoken.request(self.path, body)
            streams = spoken.streams(self.path, request)
            if isinstance(entry, Broken):
                self.close_connection = True
                self._break(entry, spoken, request, streams)
            elif isinstance(entry, Fault):
                self._refuse(entry, spoken)
            else:
                server.wait(entry.delay) if entry.delay else None
                if streams:
                    self._stream(spoken, spoken.events(entry, request))
                    self._write(b"0\r\n\r\n")
                else:
                    self._send(200, json.dumps(spoken.body(entry, request)).encode())

        do_GET = do_POST

        def _refuse(self, fault: Fault, spoken: Format) -> None:
            status, refusal = spoken.refusal(fault)
            extra = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self._send(status, json.dumps(spoken.error(status, refusal)).encode(), extra)

        def _send(
            self, status: int, data: bytes, extra: dict[str, str] | None = None, length: int = -1
        ) -> None:
            self.send_response(status)
            kind = {"Content-Type": "application/json"}
            size = {"Content-Length": str(len(data) if length < 0 else length)}
            for name, value in (kind | size | (extra or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self._write(data)

        def _stream(self, spoken: Format, events: Iterable[bytes]) -> None:
            """The events as chunks; the one that ends the body is left to the caller."""
            self.send_response(200)
            self.send_header("Content-Type", spoken.stream_type)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in events:
                self._write(f"{len(event):x}\r\n".encode() + event + b"\r\n")

        def _write(self, data: bytes) -> None:
            self.wfile.write(data)
            server.count(len(data))

        def _break(self, entry: Broken, spoken: Format, request: Any, streams: bool) -> None:
            whole = json.dumps(spoken.body(Reply("a scripted answer"), request)).encode()
            events = spoken.events(Reply("a scripted answer"), request)
            match entry.how:
                case "hang":
                    server.wait(entry.seconds)
                case "drop":
                    # Closing with a linger of zero seconds sends RST instead of FIN.
                    option = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
                    self.connection.close()
                case "truncated":
                    self._send(200, whole[: len(whole) // 2], length=len(whole))
                case "invalid":
                    self._send(200, whole[: len(whole) // 2])
                case "html":
                    page = b"<!doctype html><title>Welcome</title><p>It works!"
                    self._send(200, page, {"Content-Type": "text/html"})
                case "empty":
                    self._send(200, b"")
                case "redirect":
                    self._send(307, b"", {"Location": server.address + self.path})
                case "drip":
                    self._send(200, b"", length=len(whole))
                    for byte in whole:
                        self._write(bytes((byte,)))
                        if server.wait(entry.seconds):
                            break
                case "large" if streams:
                    event = events[len(events) // 2]
                    endless = (event for _ in range(MEGABYTES // len(event) * 2))
                    self._stream(spoken, endless)
                case "large":
                    self._send(200, whole[:60], length=MEGABYTES)
                    for _ in range(MEGABYTES // 2**16):
                        self._write(b"x" * 2**16)
                case "packed":
                    body = gzip.compress(whole[:-1] + b" " * MEGABYTES + whole[-1:], 1)
                    self._send(200, body, {"Content-Encoding": "gzip"})
                case "half":
                    self._stream(spoken, halves(events))
                case "short":
                    self._stream(spoken, halves(events))
                    self._write(b"0\r\n\r\n")
                case "quiet":
                    self._stream(spoken, halves(events))
                    server.wait(entry.seconds)
                case "garbled":
                    half = events[1].rstrip()[:-2] + b"\n\n"
                    self._stream(spoken, [events[0], half, *events[2:]])
                    self._write(b"0\r\n\r\n")
                case "error":
                    _, refusal = spoken.refusal(Fault(529, "the model is overloaded"))
                    self._stream(spoken, [*halves(events), spoken.error_event(refusal)])
                    self._write(b"0\r\n\r\n")
                case _:
                    raise ValueError(entry.how)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
