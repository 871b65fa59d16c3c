"""An effect log outside of the process that is killed: a server that writes down who called.

with Effects() as effects:
    effects.hold("b2")       # calls of these steps get no answer before `release`
    effects.log              # ["one", "b1", "b2"]
    effects.keys             # {"one": {"5f0c…"}}: the idempotency keys of the calls

A call may say more than its step: `fail: n` answers its first `n` calls with 500, or its
`status`, and `sleep: s` takes its time. Answers have no header that changes, so that outputs can
be compared.
"""

from __future__ import annotations

import json
import threading
import time
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
        self.keys: dict[str, set[str]] = {}
        self._held: set[str] = set()
        self._free = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def tool(self) -> str:
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        config = f"{{base_url: '{url}', fail_on_error: true}}"
        return f"{{id: effect, description: It, type: http, config: {config}}}"

    def clear(self) -> None:
        """Begins a new log."""
        self.log, self.keys = [], {}

    def hold(self, *steps: str) -> None:
        self._free.clear()
        self._held = set(steps)

    def release(self) -> None:
        self._held = set()
        self._free.set()

    def until(self, *steps: str, seconds: float = 30.0) -> None:
        """Returns when these steps have called."""
        until(lambda: Counter(self.log), lambda seen: not Counter(steps) - seen, seconds)

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def take(self, call: dict[str, Any], key: str) -> int:
        """The status of the answer."""
        step = call["step"]
        self.log.append(step)
        self.keys.setdefault(step, set()).add(key)
        if step in self._held:
            self._free.wait(60)
        if call.get("sleep"):
            time.sleep(call["sleep"])
        return call.get("status", 500) if self.log.count(step) <= call.get("fail", 0) else 200


def _handler(effects: Effects) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body: Any = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status = effects.take(body, self.headers["idempotency-key"])
            answer = json.dumps(body).encode()
            try:
                self.send_response_only(status)
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
