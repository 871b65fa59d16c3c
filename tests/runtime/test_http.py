"""HTTP tools, against a real server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from compozy_prefect.compiler.plan import ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.runtime.tools import http
from compozy_prefect.runtime.tools.dispatch import call
from compozy_prefect.runtime.tools.surroundings import Surroundings


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked; some paths do something else."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size).decode()
        if self.path == "/elsewhere":
            return self._send(302, b"moved", location="http://example.com/")
        if self.path == "/around":
            return self._send(302, b"", location="/landed")
        if self.path == "/large":
            return self._send(200, b"x" * (http.LARGEST + 1))
        if self.path == "/slow":
            threading.Event().wait(2)
        if self.path == "/text":
            return self._send(200, b"plain", kind="text/plain")
        status = int(self.path[1:]) if self.path[1:].isdigit() else 200
        seen = {
            "method": self.command,
            "path": self.path,
            "body": json.loads(body) if body else None,
            "headers": {k.lower(): v for k, v in self.headers.items()},
        }
        self._send(status, json.dumps(seen).encode(), kind="application/json")
        return None

    def _send(
        self, status: int, body: bytes, *, kind: str = "text/html", location: str = ""
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def tool(base: str, **config: Any) -> ToolPlan:
    return ToolPlan("api", type="http", config={"base_url": base, **config}, timeout=1.0)


async def test_an_endpoint_is_joined_with_one_slash(url: str) -> None:
    for base, endpoint in ((url, "a/b"), (url + "/", "/a/b"), (url, f"{url}/a/b")):
        answer = await call(tool(base), {"endpoint": endpoint})
        assert answer["status_code"] == 200
        assert (answer["data"]["method"], answer["data"]["path"]) == ("GET", "/a/b")
        assert answer["headers"]["content-type"] == "application/json"


async def test_data_is_the_body_or_the_query(url: str) -> None:
    posted = await call(tool(url), {"endpoint": "x", "data": {"n": 1}})
    assert (posted["data"]["method"], posted["data"]["body"]) == ("POST", {"n": 1})
    got = await call(
        tool(url), {"endpoint": "x", "method": "get", "data": {"n": 1}, "query": {"q": "a b"}}
    )
    assert got["data"]["path"] == "/x?q=a+b&n=1"
    assert got["data"]["body"] is None


async def test_without_an_endpoint_the_input_is_posted(url: str) -> None:
    answer = await call(tool(url + "/billing"), {"action": "refund", "id": 7})
    assert answer["data"]["path"] == "/billing"
    assert answer["data"]["body"] == {"action": "refund", "id": 7}


async def test_headers_and_the_key_of_the_call(url: str) -> None:
    with_headers = tool(url, headers={"Authorization": "Bearer x"})
    first = await call(with_headers, {"endpoint": "x", "data": {}}, Surroundings(key="run/step"))
    again = await call(with_headers, {"endpoint": "x", "data": {}}, Surroundings(key="run/step"))
    other = await call(with_headers, {"endpoint": "x", "data": {}}, Surroundings(key="run/other"))
    keys = [one["data"]["headers"]["idempotency-key"] for one in (first, again, other)]
    assert keys[0] == keys[1] != keys[2]
    assert first["data"]["headers"]["authorization"] == "Bearer x"


async def test_a_status_is_an_answer_unless_the_file_says_otherwise(url: str) -> None:
    assert (await call(tool(url), {"endpoint": "503"}))["status_code"] == 503
    with pytest.raises(ToolFailed, match="answered 404") as raised:
        await call(tool(url, fail_on_error=True), {"endpoint": "404"})
    assert raised.value.details["status_code"] == 404


async def test_redirects_stay_on_the_host(url: str) -> None:
    assert (await call(tool(url), {"endpoint": "around"}))["data"]["path"] == "/landed"
    assert (await call(tool(url), {"endpoint": "elsewhere"}))["status_code"] == 302


async def test_data_that_is_described_as_an_object_is_one(url: str) -> None:
    schema = {"properties": {"data": {"type": "object"}}}
    described = ToolPlan("api", type="http", config={"base_url": url}, output_schema=schema)
    assert (await call(described, {"endpoint": "text"}))["data"] == {"value": "plain"}
    assert (await call(tool(url), {"endpoint": "text"}))["data"] == "plain"


@pytest.mark.parametrize(
    ("input", "message"),
    [
        ({"endpoint": "http://example.com/x"}, "is not on the host of the tool"),
        ({"endpoint": "x", "method": "BREW"}, "`BREW` is no method"),
        ({"endpoint": "large"}, "larger than 10 MiB"),
        ({"endpoint": "slow"}, "did not answer within 1 s"),
    ],
)
async def test_what_is_refused(url: str, input: dict[str, Any], message: str) -> None:
    with pytest.raises(ToolFailed, match=message):
        await call(tool(url), input)


async def test_nobody_listens() -> None:
    with pytest.raises(ToolFailed, match="failed") as raised:
        await call(tool("http://127.0.0.1:9"), {"endpoint": "x"})
    assert raised.value.retryable


async def test_a_host_out_of_a_template_must_be_public(url: str) -> None:
    written = ToolPlan("api", type="http", config={"base_url": "{{ .input.base }}"})
    with pytest.raises(ToolFailed, match="private network"):
        await call(written, {"endpoint": "x"}, config=lambda: {"base_url": url})


async def test_offline_refuses_the_network(url: str) -> None:
    with pytest.raises(ToolFailed, match="needs the network"):
        await call(tool(url), {"endpoint": "x"}, offline=True)
