"""An effect log outside of the process that is killed: a server that writes down who called.

with Effects() as effects:
    effects.hold("b2")       # calls of these steps get no answer before `release`
    effects.log              # ["one", "b1", "b2"]
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.prefect_server import until


class Effects:
    """Takes `POST {"step": …}` and answers `{"step": …}`; `tool` is its YAML."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._held: set[str] = set()
        self._free = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def tool(self) -> str:
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return f"{{id: effect, description: It, type: http, config: {{base_url: '{url}'}}}}"

    def hold(self, *steps: str) -> None:
        self._free.clear()
        self._held = set(steps)

    def release(self) -> None:
        self._held = set()
        self._free.set()

    def until(self, *steps: str) -> None:
        """Returns when these steps have called."""
        until(lambda: Counter(self.log), lambda seen: not Counter(steps) - seen)

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def take(self, step: str) -> None:
        self.log.append(step)
        if step in self._held:
            self._free.wait(60)


def _handler(effects: Effects) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body: Any = json.loads(self.rfile.read(int(self.headers["content-length"])))
            effects.take(body["step"])
            answer = json.dumps(body).encode()
            try:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                pass  # who asked was killed

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def effects() -> Iterator[Effects]:
    server = Effects()
    yield server
    server.close()
