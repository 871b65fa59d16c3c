"""MCP servers whose host comes out of a template are connected to where it was looked at."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from compozy_prefect.compiler.plan import McpPlan
from compozy_prefect.errors import RunError
from compozy_prefect.runtime.mcp import sessions
from compozy_prefect.runtime.mcp.connection import Connection
from compozy_prefect.runtime.mcp.pinned import Pinned
from tests.runtime.test_http import certified
from tests.support.internet import PUBLIC, Asked, Reply, connect, out_of_bounds, serving
from tests.support.mcp_servers.started import PATHS, Served, reached, served, use

NAME = "rebind.example"


@pytest.fixture
async def held() -> AsyncIterator[None]:
    async with sessions.held():
        yield


async def answers(one: Served, root: Path) -> None:
    """Waits until it does: its port is known before."""
    await use(reached(McpPlan("near", one.transport, url=one.url), root), "add", a=0, b=0)
    await sessions.here().close()


def named(transport: str, port: int | str, root: Path) -> Connection:
    """As it is where `url` has a template for the host."""
    url = f"http://{NAME}:{port}{PATHS[transport]}"
    return replace(reached(McpPlan("far", transport, url=url), root), is_public=True)


async def failed(at: Connection) -> str:
    with pytest.raises(RunError) as raised:
        await use(at, "add", a=1, b=2)
    return raised.value.message


@pytest.mark.parametrize("transport", PATHS)
async def test_a_name_that_is_bound_anew_leads_nowhere_else(
    transport: str, tmp_path: Path, held: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(transport) as one, out_of_bounds() as (port, others):
        await answers(one, tmp_path)
        internet = connect(monkeypatch, {NAME: [[PUBLIC], ["127.0.0.1"]]}, int(one.port))
        at = named(transport, port, tmp_path)  # at which there is a server on loopback, too
        assert await use(at, "add", a=1, b=2) == 3
        assert await use(at, "add", a=2, b=2) == 4
        assert internet.looked_up == [NAME], "once for a session"
        assert {host for host, _ in internet.connected} == {PUBLIC}
        await sessions.here().close()
        said = await failed(at)
        assert f"the host {NAME} is in a private network (127.0.0.1)" in said
        assert internet.looked_up == [NAME, NAME], "the next session looks again"
        assert {host for host, _ in internet.connected} == {PUBLIC}
        assert others == []


async def test_one_address_that_is_private_is_one_too_many(
    tmp_path: Path, held: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    internet = connect(monkeypatch, {NAME: [PUBLIC, "10.0.0.1"]})
    assert "is in a private network (10.0.0.1)" in await failed(
        named("streamable-http", 80, tmp_path)
    )
    assert internet.connected == []


async def test_the_next_address_where_one_does_not_answer(
    tmp_path: Path, held: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = "93.184.216.35"
    with served("streamable-http") as one:
        await answers(one, tmp_path)
        internet = connect(monkeypatch, {NAME: [dead, PUBLIC]}, int(one.port))
        monkeypatch.setattr("compozy_prefect.runtime.mcp.pinned._PATIENCE", 0.05)
        assert await use(named("streamable-http", one.port, tmp_path), "add", a=1, b=2) == 3
        hosts = [host for host, _ in internet.connected]
        assert hosts[0] == dead
        assert hosts[-1] == PUBLIC
        assert hosts.count(dead) <= 2, "and it is asked last from then on"
        await sessions.here().close()


@pytest.fixture
def elsewhere() -> Iterator[tuple[int, list[object]]]:
    with out_of_bounds() as found:
        yield found


@pytest.mark.parametrize("where", ["another host", "an address", "the same host"])
async def test_where_redirects_lead(
    where: str,
    elsewhere: tuple[int, list[object]],
    tmp_path: Path,
    held: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port, others = elsewhere
    targets = {
        "another host": f"http://inside.example:{port}/mcp",
        "an address": f"http://127.0.0.1:{port}/mcp",
        "the same host": f"http://{NAME}:80/moved",
    }

    def reply(asked: Asked) -> Reply:
        if asked.path == "/moved":
            id = json.loads(asked.body).get("id") if asked.body else None
            error = {"jsonrpc": "2.0", "id": id, "error": {"code": -32603, "message": "moved in"}}
            return 200, {"Content-Type": "application/json"}, json.dumps(error).encode()
        return 307, {"Location": targets[where]}, b""

    with serving(reply) as server:
        names = {NAME: [PUBLIC], "inside.example": ["127.0.0.1"]}
        internet = connect(monkeypatch, names, server.port)
        at = named("streamable-http", 80, tmp_path)
        said = await failed(at)
        if where == "the same host":
            assert "moved in" in said
            assert {asked.path for asked in server.asked} == {"/mcp", "/moved"}
            assert all(asked.headers["host"] == NAME for asked in server.asked)
        assert {host for host, _ in internet.connected} == {PUBLIC}
        assert others == []


async def test_a_request_to_another_host_is_refused() -> None:
    """Whatever the SDK follows, or is told as the address of its messages."""
    reached: list[httpx2.URL] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        reached.append(request.url)
        assert request.headers["host"] == "a.example"
        assert request.extensions["sni_hostname"] == "a.example"
        return httpx2.Response(200)

    pinned = Pinned(httpx2.MockTransport(answer), "a.example", ["2001:4860::1"])
    async with httpx2.AsyncClient(transport=pinned) as client:
        assert (await client.get("https://a.example/x?y=1")).status_code == 200
        assert [str(url) for url in reached] == ["https://[2001:4860::1]/x?y=1"]
        with pytest.raises(httpx2.ConnectError, match=r"leads to another host, b\.example"):
            await client.get("https://b.example/")


@pytest.mark.parametrize("certificate", [NAME, "another.example"])
async def test_the_certificate_must_be_that_of_the_name(certificate: str, tmp_path: Path) -> None:
    own, trusting = certified(certificate, tmp_path)
    with serving(lambda asked: (200, {}, b"in"), own) as server:
        inner = httpx2.AsyncHTTPTransport(verify=trusting)
        async with httpx2.AsyncClient(transport=Pinned(inner, NAME, ["127.0.0.1"])) as client:
            url = f"https://{NAME}:{server.port}/"
            if certificate == NAME:
                assert (await client.get(url)).text == "in"
            else:
                with pytest.raises(httpx2.ConnectError, match="Hostname mismatch"):
                    await client.get(url)
