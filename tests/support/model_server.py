"""A script of answers → a server on 127.0.0.1 that speaks OpenAI's chat completions.

    with ModelServer([Reply("Hello"), Fault(429, retry_after=0.2), Reply(None)]) as server:
        ...                               # api_url: server.url
        server.requests[0].authorization  # "Bearer …"

Requests take the entries of the script in turn and the last one repeats. Standard library only.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from compozy_prefect.runtime.llm.samples import sample


@dataclass(frozen=True)
class Reply:
    """A good answer. `text` None: data for the `json_schema` of the request."""

    text: str | None = "ok"
    prompt_tokens: int = 10
    completion_tokens: int = 5
    delay: float = 0.0


@dataclass(frozen=True)
class Fault:
    """A refusal with a status; `retry_after` in seconds becomes the header."""

    status: int
    message: str = "the script says no"
    retry_after: float | str | None = None


@dataclass(frozen=True)
class Broken:
    """A broken conversation: `invalid` JSON, a `truncated` body, `hang`, or `drop` (a reset)."""

    how: str
    seconds: float = 30.0  # how long `hang` hangs, unless the server stops before


@dataclass(frozen=True)
class Seen:
    """One request: path, headers with lower-case names, body as text and as JSON."""

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


class ModelServer:
    """Use as a context manager; `url` is the API's base, ending in `/v1`."""

    def __init__(self, script: Iterable[Entry] = ()) -> None:
        self.script: list[Entry] = list(script)
        self.requests: list[Seen] = []
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def answers(self, *script: Entry) -> ModelServer:
        """Another script, and a clean record."""
        with self._lock:
            self.script = list(script)
            self.requests = []
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
            if not self.script:
                return Reply()
            return self.script[min(len(self.requests), len(self.script)) - 1]

    def wait(self, seconds: float) -> None:
        self._stopped.wait(seconds)


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = json.loads(text) if text.startswith("{") else None
            entry = server.take(Seen(self.path, headers, text, body, time.monotonic()))
            if isinstance(entry, Broken):
                self._break(entry)
            elif isinstance(entry, Fault):
                extra = {} if entry.retry_after is None else {"Retry-After": str(entry.retry_after)}
                error = {"message": entry.message, "type": "scripted", "code": None}
                self._send(entry.status, json.dumps({"error": error}), extra)
            else:
                server.wait(entry.delay) if entry.delay else None
                self._send(200, json.dumps(completion(entry, body or {})))

        def _send(self, status: int, text: str, extra: dict[str, str] | None = None) -> None:
            data = text.encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for name, value in (extra or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True

        def _break(self, entry: Broken) -> None:
            self.close_connection = True
            if entry.how == "invalid":
                self._send(200, '{"choices": [{"message": ')
            elif entry.how == "hang":
                server.wait(entry.seconds)
            elif entry.how == "truncated":
                whole = json.dumps(completion(Reply(), {})).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(whole)}\r\n"
                self.wfile.write(head.encode() + b"Content-Type: application/json\r\n\r\n")
                self.wfile.write(whole[: len(whole) // 2])
                self._reset(linger=False)
            else:
                self._reset(linger=True)

        def _reset(self, linger: bool) -> None:
            self.wfile.flush()
            if linger:
                # Closing with a linger of zero seconds sends RST instead of FIN.
                option = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
                self.connection.close()
            else:
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def completion(reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    """The body of a good answer."""
    text = reply.text
    if text is None:
        wanted = body.get("response_format") or {}
        schema = (wanted.get("json_schema") or {}).get("schema")
        text = "ok" if schema is None else json.dumps(sample(schema, "server"))
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body.get("model", "scripted"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        },
    }
