"""`cp__fetch`: what it asks and gives, and where it does not go."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from compozy_prefect.compiler.natives import NATIVES
from compozy_prefect.compiler.plan import FetchPlan, NativePlan, RuntimePlan
from compozy_prefect.errors import InputInvalid, ToolFailed
from compozy_prefect.runtime.tools import dispatch
from compozy_prefect.runtime.tools.surroundings import Surroundings
from tests.support.internet import PUBLIC, Server, connect, serving

FETCH = NATIVES["cp__fetch"]
SSRF = yaml.safe_load(
    (Path(__file__).parents[1] / "cases" / "http" / "ssrf.yaml").read_text("utf-8")
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(lambda asked: (200, {}, b"")) as server:
        yield server


def around(server: Server, plan: FetchPlan | None = None, *more: str) -> Surroundings:
    native = NativePlan(fetch=plan or FetchPlan())
    allowed = f"--allow-net=127.0.0.1:{server.port}"
    return Surroundings(RuntimePlan(native_tools=native, permissions=(allowed, *more)))


async def test_what_it_asks_and_gives(server: Server) -> None:
    server.reply = lambda asked: (
        404,
        {"Content-Type": "text/plain; charset=latin-1", "X-One": "1"},
        "nö".encode("latin-1"),
    )
    given = {"url": server.url + "/a?b=1", "method": "put", "headers": {"X-T": "v"}, "body": [1]}
    out = await dispatch.call(FETCH, given, around(server))
    asked = server.asked[0]
    assert (asked.method, asked.path, json.loads(asked.body)) == ("PUT", "/a?b=1", [1])
    assert asked.headers["x-t"] == "v"
    assert (out["status_code"], out["status_text"]) == (404, "Not Found")
    assert (out["body"], out["body_truncated"], out["headers"]["x-one"]) == ("nö", False, "1")
    assert out["duration_ms"] >= 0
    await dispatch.call(FETCH, {"url": server.url}, around(server))
    assert (server.asked[1].method, server.asked[1].path, server.asked[1].body) == ("GET", "/", b"")


@pytest.mark.parametrize("packed", [False, True])
async def test_a_large_body_is_cut(server: Server, packed: bool) -> None:
    body = b"x" * 3_000_000
    headers = {"Content-Encoding": "gzip"} if packed else {}
    server.reply = lambda asked: (200, headers, gzip.compress(body) if packed else body)
    plan = FetchPlan(max_body=100_000)
    out = await dispatch.call(FETCH, {"url": server.url}, around(server, plan))
    assert (len(out["body"]), out["body_truncated"]) == (100_000, True)
    exact = FetchPlan(max_body=3_000_000)
    out = await dispatch.call(FETCH, {"url": server.url}, around(server, exact))
    assert (len(out["body"]), out["body_truncated"]) == (3_000_000, False)


async def test_redirects(server: Server) -> None:
    server.reply = lambda asked: (
        (302, {"Location": "/there"}, b"") if asked.path == "/" else (200, {}, b"here")
    )
    out = await dispatch.call(FETCH, {"url": server.url}, around(server))
    assert (out["status_code"], out["body"]) == (200, "here")
    none = FetchPlan(redirects=0)
    out = await dispatch.call(FETCH, {"url": server.url}, around(server, none))
    assert (out["status_code"], out["headers"]["location"]) == (302, "/there")
    server.reply = lambda asked: (302, {"Location": "/"}, b"")
    with pytest.raises(ToolFailed, match="more than 5 times") as raised:
        await dispatch.call(FETCH, {"url": server.url}, around(server))
    assert raised.value.code == "Internal"


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ({"method": "OPTIONS"}, "PermissionDenied", "none of the methods"),
        (
            {"method": "POST"},
            "PermissionDenied",
            "none of the methods that the project allows: GET",
        ),
        ({"url": "file:///etc/passwd"}, "PermissionDenied", "file"),
        ({"url": "nothing"}, "PermissionDenied", "nothing"),
        ({"headers": {"Host": "else"}}, "InvalidArgument", "`Host` cannot be set"),
        ({"headers": {"X": "a\r\nB: c"}}, "InvalidArgument", "line break"),
        ({"body": "text"}, "InvalidArgument", "it goes into the query"),
        ({"url": "http://127.0.0.1:9/"}, "PermissionDenied", "--allow-net=127.0.0.1:9"),
    ],
)
async def test_what_is_refused(server: Server, given: dict[str, Any], code: str, says: str) -> None:
    plan = FetchPlan(methods=("GET", "HEAD"))
    with pytest.raises(ToolFailed) as raised:
        await dispatch.call(FETCH, {"url": server.url, **given}, around(server, plan))
    assert raised.value.code == code
    assert says in raised.value.message
    assert not raised.value.retryable
    assert not server.asked


async def test_it_does_not_wait_for_ever(server: Server) -> None:
    def late(asked: Any) -> Any:
        time.sleep(1.0)
        return 200, {}, b""

    server.reply = late
    with pytest.raises(ToolFailed, match=r"within 0\.1 s") as raised:
        await dispatch.call(FETCH, {"url": server.url, "timeout_ms": 100}, around(server))
    assert raised.value.code == "DeadlineExceeded"
    brief = FetchPlan(timeout=0.2)
    with pytest.raises(ToolFailed, match=r"within 0\.2 s"):
        await dispatch.call(FETCH, {"url": server.url, "timeout_ms": 60_000}, around(server, brief))


async def test_it_is_of_no_use_offline_or_switched_off(server: Server) -> None:
    with pytest.raises(ToolFailed, match="it needs the network"):
        await dispatch.call(FETCH, {"url": server.url}, around(server), offline=True)
    off = around(server)
    off = replace(off, runtime=replace(off.runtime, native_tools=NativePlan(enabled=False)))
    with pytest.raises(ToolFailed, match="switched off"):
        await dispatch.call(FETCH, {"url": server.url}, off)
    with pytest.raises(InputInvalid):
        await dispatch.call(FETCH, {}, around(server))


@pytest.mark.parametrize("one", [one for one in SSRF if "url" in one and "needs" in one], ids=str)
async def test_it_does_not_get_in(one: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda asked: (200, {}, b"")) as guarded:
        internet = connect(monkeypatch, {"public.test": [PUBLIC]} | one.get("resolves", {}))
        url = one["url"].replace("PORT", str(guarded.port))
        permissions = tuple(
            each.replace("PORT", str(guarded.port)) for each in one.get("permissions", ())
        )
        runtime = RuntimePlan(permissions=permissions)
        with pytest.raises(ToolFailed) as raised:
            await dispatch.call(FETCH, {"url": url}, Surroundings(runtime))
        assert raised.value.code == "PermissionDenied"
        needed = one["needs"].replace("PORT", str(guarded.port))
        assert f"--allow-net={needed}" in raised.value.message
        assert not guarded.asked
        assert not internet.connected
