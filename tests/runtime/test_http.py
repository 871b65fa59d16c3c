"""HTTP tools, against real servers on loopback."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.plan import RetryPlan, ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.flows.attempts import pause_before, retryable
from compozy_prefect.runtime.attempt import Attempt
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.scope import Scope
from compozy_prefect.runtime.services import Services
from compozy_prefect.runtime.tools import client, connections, http
from compozy_prefect.runtime.tools.dispatch import call
from compozy_prefect.runtime.tools.surroundings import Surroundings
from tests.support.internet import PUBLIC, Asked, Reply, Server, connect, serving

QUICK = {"maximum_attempts": 3, "initial_interval": "10ms"}


def echo(asked: Asked) -> Reply:
    """What was asked, or what the path says."""
    name = asked.path.partition("?")[0].rpartition("/")[2]
    if name == "around":
        return 302, {"Location": "/landed"}, b""
    if name == "large":
        return 200, {}, b"x" * (client.LARGEST + 1)
    if name == "slow":
        time.sleep(1.5)
    if name == "text":
        return 200, {"Content-Type": "text/plain"}, b"plain"
    seen = {
        "method": asked.method,
        "path": asked.path,
        "body": asked.body.decode() or None,
        "headers": asked.headers,
    }
    status = int(name) if name.isdigit() else 200
    return status, {"Content-Type": "application/json"}, json.dumps(seen).encode()


@pytest.fixture(scope="module")
def standing() -> Iterator[Server]:
    with serving(echo) as server:
        yield server


@pytest.fixture
def server(standing: Server) -> Server:
    standing.asked.clear()
    standing.reply = echo
    return standing


@pytest.fixture
def url(server: Server) -> str:
    return server.url


def tool(base: str, **config: Any) -> ToolPlan:
    return ToolPlan("api", type="http", config={"base_url": base, **config}, timeout=5.0)


async def got(base: str, path: str = "x", **config: Any) -> Any:
    return await call(tool(base, **config), {"endpoint": path})


# --- requests -------------------------------------------------------------------------------------


async def test_an_endpoint_is_joined_with_one_slash(url: str) -> None:
    for base, endpoint in (
        (url, "a/b"),
        (url + "/", "/a/b"),
        (url, f"{url}/a/b"),
        (url + "/a", "b"),
    ):
        answer = await call(tool(base), {"endpoint": endpoint})
        assert answer["status_code"] == 200
        assert (answer["data"]["method"], answer["data"]["path"]) == ("GET", "/a/b")
        assert answer["headers"]["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("base", "endpoint", "path"),
    [
        ("/v1", "", "/v1"),
        ("/v1?key=1", "a?b=2", "/v1/a?b=2&key=1"),
        ("/v1", "documents:translate", "/v1/documents:translate"),
        ("/v1", "a b/ü?q=a b", "/v1/a%20b/%C3%BC?q=a%20b"),
        ("/v1", "a%2Fb", "/v1/a%2Fb"),
        ("/v1", "a#part", "/v1/a"),
    ],
)
async def test_addresses(url: str, base: str, endpoint: str, path: str) -> None:
    assert (await got(url + base, endpoint))["data"]["path"] == path


async def test_data_is_the_body_or_the_query(url: str) -> None:
    posted = await call(tool(url), {"endpoint": "x", "data": {"n": 1, "ü": None}})
    assert (posted["data"]["method"], posted["data"]["body"]) == ("POST", '{"n":1,"ü":null}')
    assert posted["data"]["headers"]["content-type"] == "application/json"
    query = {"q": "a b", "tag": ["x", "y"], "no": None, "yes": True, "map": {"a": 1}}
    asked = {"endpoint": "x?a=1", "method": "get", "data": {"n": 1}, "query": query}
    got = await call(tool(url), asked)
    assert got["data"]["path"] == ("/x?a=1&q=a+b&tag=x&tag=y&yes=true&map=%7B%22a%22%3A+1%7D&n=1")
    assert got["data"]["body"] is None


async def test_every_method(url: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = await call(tool(url), {"endpoint": "x", "method": method.lower()})
        assert answer["data"]["method"] == method


async def test_an_answer_without_a_body_may_tell_of_a_large_one(server: Server) -> None:
    told = {"Content-Length": str(2**40), "Content-Encoding": "br"}
    server.reply = lambda asked: (200, told, b"")
    head = await call(tool(server.url), {"endpoint": "x", "method": "HEAD"})
    assert (head["data"], head["headers"]["content-length"]) == ("", str(2**40))


async def test_without_an_endpoint_the_input_is_posted(url: str) -> None:
    answer = await call(tool(url + "/billing"), {"action": "refund", "id": 7, "headers": {"a": 1}})
    assert answer["data"]["path"] == "/billing"
    assert json.loads(answer["data"]["body"]) == {"action": "refund", "id": 7, "headers": {"a": 1}}


async def test_the_file_says_a_method(url: str) -> None:
    asks = tool(url + "/search", method="get")
    seen = (await call(asks, {"q": "a b", "page": 2}))["data"]
    assert (seen["method"], seen["path"], seen["body"]) == ("GET", "/search?q=a+b&page=2", None)
    seen = (await call(tool(url, method="PUT"), {"endpoint": "x", "data": {"n": 1}}))["data"]
    assert (seen["method"], seen["body"]) == ("PUT", '{"n":1}')
    seen = (await call(tool(url, method="PUT"), {"endpoint": "x", "method": "GET"}))["data"]
    assert seen["method"] == "GET"


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data"])
async def test_forms(url: str, kind: str) -> None:
    data = {"a": "x & y", "list": [1, 2], "none": None, "ü": True}
    form = tool(url, headers={"Content-Type": kind})
    seen = (await call(form, {"endpoint": "x", "data": data}))["data"]
    assert seen["headers"]["content-type"].startswith(kind)
    if kind.startswith("application"):
        fields = parse_qs(seen["body"])
        assert fields == {"a": ["x & y"], "list": ["1", "2"], "ü": ["true"]}
    else:
        assert seen["body"].count('name="list"\r\n\r\n') == 2
        assert 'name="a"\r\n\r\nx & y\r\n' in seen["body"]


async def test_text_is_sent_as_it_is(url: str) -> None:
    seen = (await call(tool(url), {"endpoint": "x", "data": "a ü"}))["data"]
    assert (seen["body"], seen["headers"]["content-type"]) == ("a ü", "text/plain; charset=utf-8")
    xml = {
        "endpoint": "x",
        "method": "PUT",
        "body": "<a/>",
        "headers": {"Content-Type": "text/xml"},
    }
    seen = (await call(tool(url), xml))["data"]
    assert (seen["body"], seen["headers"]["content-type"]) == ("<a/>", "text/xml")


async def test_headers_and_the_key_of_the_call(url: str) -> None:
    with_headers = tool(url, headers={"Authorization": "Bearer x", "X-A": "1", "X-N": 7})
    post = {"endpoint": "x", "data": {}, "headers": {"x-a": "2"}}
    first = await call(with_headers, post, Surroundings(key="run/step"))
    again = await call(with_headers, post, Surroundings(key="run/step"))
    other = await call(with_headers, post, Surroundings(key="run/other"))
    keys = [one["data"]["headers"]["idempotency-key"] for one in (first, again, other)]
    assert keys[0] == keys[1] != keys[2]
    seen = first["data"]["headers"]
    assert (seen["authorization"], seen["x-a"], seen["x-n"]) == ("Bearer x", "2", "7")
    left = await call(with_headers, {"endpoint": "x", "headers": {"authorization": None}})
    assert "authorization" not in left["data"]["headers"]


@pytest.mark.parametrize(
    ("config", "sent"),
    [
        ({"auth": {"type": "bearer", "token": "t"}}, "Bearer t"),
        ({"auth": {"token": "t"}}, "Bearer t"),
        ({"auth": {"type": "basic", "username": "u", "password": "ü"}}, "Basic dTrDvA=="),
        ({"auth": {"token": "t"}, "headers": {"authorization": "own"}}, "own"),
    ],
)
async def test_credentials(url: str, config: dict[str, Any], sent: str) -> None:
    assert (await got(url, **config))["data"]["headers"]["authorization"] == sent


async def test_credentials_in_the_address_go_into_a_header(url: str) -> None:
    with_user = url.replace("http://", "http://user:pass@")
    seen = (await got(with_user))["data"]["headers"]
    assert seen["authorization"] == "Basic dXNlcjpwYXNz"
    assert "@" not in seen["host"]


@pytest.mark.parametrize(
    ("config", "input", "message"),
    [
        ({}, {"endpoint": "http://example.com/x"}, "is not on the host of the tool"),
        ({}, {"endpoint": "x", "method": "BREW"}, "`BREW` is no method; there are DELETE, GET"),
        ({}, {"endpoint": "x", "method": "GET", "data": [1]}, "`data` of GET is a map"),
        ({}, {"endpoint": "x", "query": "a=1"}, "`query` is a map"),
        ({}, {"endpoint": "x", "headers": []}, "`headers` is a map"),
        ({}, {"endpoint": "x", "data": {"n": float("nan")}}, "not JSON compliant"),
        ({}, {"endpoint": "large"}, "/large is larger than 10 MiB"),
        ({"max_body_bytes": 10}, {"endpoint": "x"}, "/x is larger than 10 bytes"),
        ({"max_body_bytes": "10"}, {"endpoint": "x"}, "`config.max_body_bytes` is a number"),
        ({"auth": {"type": "digest"}}, {"endpoint": "x"}, "there are bearer and basic"),
        ({"auth": {"token": ""}}, {"endpoint": "x"}, "has no `token`"),
        ({"auth": {"token": "a\nb"}}, {"endpoint": "x"}, "has a line break"),
        ({"timeout": "soon"}, {"endpoint": "x"}, "`config.timeout`: "),
        ({"retry": {"attempts": 3}}, {"endpoint": "x"}, "`config.retry.attempts` is none of"),
        ({"retry": -3}, {"endpoint": "x"}, "`config.retry`: attempts are a number"),
    ],
)
async def test_what_is_refused(
    url: str, config: dict[str, Any], input: dict[str, Any], message: str
) -> None:
    around = Surroundings(place=("compozy.yaml", 7, 3, 7, 9))
    with pytest.raises(ToolFailed) as raised:
        await call(tool(url, **config), input, around)
    assert message in raised.value.message
    assert raised.value.message.endswith(" (compozy.yaml:7)")
    assert raised.value.details["line"] == 7
    assert not raised.value.retryable


# --- answers --------------------------------------------------------------------------------------


async def test_a_status_is_an_answer_unless_the_file_says_otherwise(url: str) -> None:
    assert (await got(url, "503", retry=0))["status_code"] == 503
    for status, again in ((404, False), (503, True), (400, False), (429, True)):
        with pytest.raises(ToolFailed, match=f"answered {status}") as raised:
            await got(url, str(status), fail_on_error=True, retry=0)
        assert raised.value.details["status_code"] == status
        assert raised.value.retryable is again


async def test_data_that_is_described_as_an_object_is_one(url: str) -> None:
    schema = {"properties": {"data": {"type": "object"}}}
    described = replace(tool(url), output_schema=schema)
    assert (await call(described, {"endpoint": "text"}))["data"] == {"value": "plain"}
    assert (await call(tool(url), {"endpoint": "text"}))["data"] == "plain"


@pytest.mark.parametrize(
    ("kind", "body", "data"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("application/problem+json; charset=utf-8", b'{"a": 1}', {"a": 1}),
        ("text/html", b"[1, 2]", [1, 2]),
        ("text/plain", b"1", "1"),
        ("application/json", b"1", 1),
        ("application/json", b"", ""),
        ("application/json", b"{broken", "{broken"),
        ("application/json", b"[NaN]", "[NaN]"),
        ("application/json", b'["\\ud800"]', '["\\ud800"]'),
        ("application/json", b'["\\ud83d\\ude00"]', ["😀"]),
        ("application/json", b"\xef\xbb\xbf[1]", [1]),
        ("application/json", '["ü"]'.encode("utf-16"), ["ü"]),
        ("application/json", b"[" * 100_000, "[" * 100_000),
        ("text/plain; charset=iso-8859-1", b"\xfc", "ü"),
        ('text/plain; charset="windows-1252"', b"\x80", "€"),
        ("text/plain; charset=no-such", "ü".encode(), "ü"),
        ("text/plain; charset=base64", "ü".encode(), "ü"),
        ("text/plain", b"\xfc", "\ufffd"),
    ],
)
async def test_what_an_answer_says(server: Server, kind: str, body: bytes, data: Any) -> None:
    server.reply = lambda asked: (200, {"Content-Type": kind}, body)
    assert (await got(server.url))["data"] == data


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(b"hello")),
        ("x-gzip", gzip.compress(b"hel") + gzip.compress(b"lo")),
        ("gzip", gzip.compress(b"hello") + b"\0\0"),
        ("deflate", zlib.compress(b"hello")),
        ("deflate", zlib.compress(b"hello")[2:-4]),
        ("identity", b"hello"),
    ],
    ids=["gzip", "two parts", "padded", "zlib", "bare", "as it is"],
)
async def test_what_is_compressed(server: Server, encoding: str, body: bytes) -> None:
    server.reply = lambda asked: (200, {"Content-Encoding": encoding}, body)
    assert (await got(server.url))["data"] == "hello"
    assert server.asked[0].headers["accept-encoding"] == "gzip, deflate"


def packed(times: int = 1) -> bytes:
    """200 MiB of zeros, compressed so often."""
    body = zlib.compressobj(wbits=31)
    out = b"".join(body.compress(bytes(2**20)) for _ in range(200)) + body.flush()
    for _ in range(times - 1):
        out = gzip.compress(out)
    return out


@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        ("gzip", packed(), "is larger than 10 MiB"),
        ("gzip, gzip", packed(2), "is encoded as `gzip, gzip`, which was not asked for"),
        ("br", b"x", "is encoded as `br`"),
        ("gzip", gzip.compress(b"hello")[:-3], "is cut short"),
        ("gzip", b"hello", "cannot be unfolded"),
        ("deflate", b"hello", "cannot be unfolded"),
    ],
    ids=["bomb", "bomb in a bomb", "unknown", "cut", "no gzip", "no deflate"],
)
async def test_what_cannot_be_unfolded(
    server: Server, encoding: str, body: bytes, message: str
) -> None:
    import tracemalloc

    server.reply = lambda asked: (200, {"Content-Encoding": encoding}, body)
    tracemalloc.start()
    try:
        with pytest.raises(ToolFailed, match=message) as raised:
            await got(server.url)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not raised.value.retryable
    assert peak < 3 * client.LARGEST, "no more is unfolded than may be kept"


async def test_an_answer_without_end_is_left_at_the_bound() -> None:
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            while True:
                writer.write(piece)
                await writer.drain()
                sent += 65536
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ToolFailed, match="larger than 10 MiB"):
            await got(f"http://127.0.0.1:{port}")
    assert sent < 2 * client.LARGEST


# --- connections ----------------------------------------------------------------------------------


async def test_a_connection_is_used_again(server: Server) -> None:
    for _ in range(5):
        await got(server.url)
    await got(server.url, "around")
    assert len({one.connection for one in server.asked}) == 1


def test_each_event_loop_has_connections_of_its_own(server: Server, recwarn: Any) -> None:
    """And they are closed with it."""
    for _ in range(2):
        asyncio.run(got(server.url))
    assert len({one.connection for one in server.asked}) == 2
    assert not connections._OF_LOOP
    assert not [one for one in recwarn if issubclass(one.category, ResourceWarning)]


async def test_no_cookie_is_kept(server: Server) -> None:
    server.reply = lambda asked: (200, {"Set-Cookie": "session=1; Path=/"}, b"")
    assert (await got(server.url))["headers"]["set-cookie"] == "session=1; Path=/"
    await got(server.url)
    assert "cookie" not in server.asked[1].headers


async def test_a_call_ends_in_time(url: str) -> None:
    for slow in (replace(tool(url, retry=0), timeout=0.3), tool(url, timeout="300ms", retry=0)):
        with pytest.raises(ToolFailed, match=r"/slow did not answer within 0.3 s") as raised:
            await call(slow, {"endpoint": "slow"})
        assert raised.value.code == "TOOL_TIMEOUT"
        assert raised.value.retryable
        assert "attempts" not in raised.value.details


async def test_calls_that_are_given_up_leave_the_others_alone(server: Server) -> None:
    """Each of them gives its connection back."""
    server.reply = lambda asked: (
        (time.sleep(0.3), echo(asked))[1] if "wait" in asked.path else echo(asked)
    )
    hasty = replace(tool(server.url, retry=0), timeout=0.05)
    for _ in range(3):
        calls = [call(hasty, {"endpoint": "wait"}) for _ in range(60)]
        calls += [call(tool(server.url), {"endpoint": "x"}) for _ in range(60)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in ended[:60]} == {ToolFailed}
        assert not [one for one in ended[60:] if isinstance(one, BaseException)]
    pool = (await connections.pools()).of(is_open=True, is_tls=False)
    assert len(pool.connections) <= 20
    assert all(one.is_idle() for one in pool.connections)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"", "Server disconnected without sending a response"),
        (b"hello, who is there?\r\n\r\n", "illegal status line"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            "without sending complete message body",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "bad Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx", "larger than 10 MiB"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "illegal chunk header"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "failed: "),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000, "failed: "),
        (b"\0" * 1_000_000, "failed: "),
    ],
)
async def test_a_server_that_talks_nonsense(said: bytes, message: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ToolFailed, match=message):
            await got(f"http://127.0.0.1:{port}", retry=0)


async def test_a_server_that_never_ends_an_answer(server: Server) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            writer.close()

    dripping = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with dripping:
        port = dripping.sockets[0].getsockname()[1]
        with pytest.raises(ToolFailed, match=r"did not answer within 0.3 s"):
            await got(f"http://127.0.0.1:{port}", timeout="300ms", retry=0)
        assert (await got(server.url))["status_code"] == 200


async def test_offline_refuses_the_network(url: str) -> None:
    with pytest.raises(ToolFailed, match="needs the network"):
        await call(tool(url), {"endpoint": "x"}, offline=True)


async def test_a_certificate_is_that_of_the_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The connection goes to an address; the name is asked for and checked all the same."""
    context, trusting = certified("secure.test", tmp_path)
    asked_for: list[Any] = []
    context.sni_callback = lambda connection, name, _: asked_for.append(name)
    monkeypatch.setattr(connections, "_tls", lambda: trusting)
    with serving(echo, context) as server:
        names = {"secure.test": [PUBLIC], "other.test": [PUBLIC]}
        internet = connect(monkeypatch, names, server.port)
        written = ToolPlan("api", type="http", config={"base_url": "{{ .x }}"})
        seen = await http.call(
            written, {"endpoint": "x"}, {"base_url": "https://secure.test/"}, Surroundings()
        )
        assert seen["data"]["headers"]["host"] == "secure.test"
        assert asked_for == ["secure.test"]
        with pytest.raises(ToolFailed, match=r"its certificate is refused: .*other.test") as raised:
            await http.call(
                written, {"endpoint": "x"}, {"base_url": "https://other.test/"}, Surroundings()
            )
        assert not raised.value.retryable
        assert internet.connected == [(PUBLIC, 443), (PUBLIC, 443)]


def certified(name: str, folder: Path) -> tuple[Any, Any]:
    """The contexts of a server with a certificate of its own, and of a client that trusts it."""
    import datetime
    import ssl

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    file = folder / "certificate.pem"
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(secret + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, ssl.create_default_context(cafile=str(file))


# --- redirects ------------------------------------------------------------------------------------

SECRETS = {"Authorization": "Bearer s", "Cookie": "s=1", "X-Api-Key": "s", "Accept": "text/csv"}


async def test_a_redirect_on_the_host_is_followed_with_all_that_was_sent(server: Server) -> None:
    assert (await got(server.url, "around", headers=SECRETS))["data"]["path"] == "/landed"
    first, second = (dict(one.headers) for one in server.asked)
    assert first == second


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (302, "PUT", "GET"),
        (303, "PUT", "GET"),
        (301, "PUT", "PUT"),
        (307, "POST", "POST"),
        (308, "PATCH", "PATCH"),
        (303, "HEAD", "HEAD"),
        (307, "DELETE", "DELETE"),
    ],
)
async def test_the_method_after_a_redirect(
    server: Server, status: int, method: str, then: str
) -> None:
    def reply(asked: Asked) -> Reply:
        return (status, {"Location": "/b"}, b"") if asked.path == "/a" else echo(asked)

    server.reply = reply
    body = {"data": {"n": 1}} if method in ("POST", "PUT", "PATCH") else {}
    await call(tool(server.url), {"endpoint": "a", "method": method, **body})
    last = server.asked[-1]
    assert (last.path, last.method) == ("/b", then)
    assert bool(last.body) is (then in ("POST", "PUT", "PATCH"))
    assert ("content-type" in last.headers) is bool(last.body)


async def test_to_another_origin_go_no_secrets(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on the way back, either."""
    hops = {"/a": "http://other.test/b", "/b": "http://api.test/c"}

    def reply(asked: Asked) -> Reply:
        to = hops.get(asked.path)
        return (302, {"Location": to}, b"") if to else echo(asked)

    server.reply = reply
    connect(monkeypatch, {"api.test": [PUBLIC], "other.test": [PUBLIC]}, server.port)
    await call(tool("http://api.test", headers=SECRETS), {"endpoint": "a", "data": {"s": 1}})
    assert [one.headers["host"] for one in server.asked] == ["api.test", "other.test", "api.test"]
    for one in server.asked[1:]:
        assert one.body == b""
        assert one.headers == {
            "host": one.headers["host"],
            "accept": "text/csv",
            "accept-encoding": "gzip, deflate",
            "user-agent": "Compozy/1.0",
        }


async def test_a_body_goes_to_no_other_origin(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.reply = lambda asked: (307, {"Location": "http://other.test/"}, b"")
    connect(monkeypatch, {"api.test": [PUBLIC], "other.test": [PUBLIC]}, server.port)
    answer = await call(tool("http://api.test"), {"endpoint": "a", "data": {"s": 1}})
    assert answer["status_code"] == 307
    assert answer["headers"]["location"] == "http://other.test/"
    assert len(server.asked) == 1


async def test_redirects_have_an_end(server: Server) -> None:
    server.reply = lambda asked: (302, {"Location": asked.path + "x"}, b"")
    with pytest.raises(ToolFailed, match="redirects more than 2 times"):
        await got(server.url, max_redirects=2)
    assert len(server.asked) == 3
    assert (await got(server.url, max_redirects=0))["status_code"] == 302


async def test_what_is_no_redirect_is_the_answer(server: Server) -> None:
    server.reply = lambda asked: (304, {"Location": "/b"}, b"")
    assert (await got(server.url))["status_code"] == 304
    server.reply = lambda asked: (302, {}, b"")
    assert (await got(server.url))["status_code"] == 302


# --- attempts -------------------------------------------------------------------------------------


def failing(times: int, status: int = 503, **headers: str) -> Any:
    """Fails so often, then answers."""
    left = [times]

    def reply(asked: Asked) -> Reply:
        left[0] -= 1
        return echo(asked) if left[0] < 0 else (status, headers, b"")

    return reply


async def test_what_is_idempotent_is_asked_for_again(server: Server) -> None:
    for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS"):
        server.asked.clear()
        server.reply = failing(2)
        answer = await call(tool(server.url, retry=QUICK), {"endpoint": "x", "method": method})
        assert (answer["status_code"], len(server.asked)) == (200, 3)
        keys = {one.headers.get("idempotency-key") for one in server.asked}
        assert len(keys) == 1, "it is the same call"


@pytest.mark.parametrize(
    ("method", "status"), [("POST", 503), ("PATCH", 503), ("GET", 404), ("GET", 501)]
)
async def test_what_is_asked_for_once(server: Server, method: str, status: int) -> None:
    server.reply = failing(2, status)
    answer = await call(tool(server.url, retry=QUICK), {"endpoint": "x", "method": method})
    assert (answer["status_code"], len(server.asked)) == (status, 1)


async def test_the_last_answer_counts(server: Server) -> None:
    server.reply = failing(9)
    assert (await got(server.url, retry=QUICK))["status_code"] == 503
    assert len(server.asked) == 3
    with pytest.raises(ToolFailed, match="answered 503, 3 times") as raised:
        await got(server.url, retry=QUICK, fail_on_error=True)
    assert raised.value.details["attempts"] == 3


async def test_a_server_says_when_to_come_again(server: Server) -> None:
    server.reply = failing(1, 429, **{"Retry-After": "1"})
    start = time.monotonic()
    assert (await got(server.url, retry=QUICK))["status_code"] == 200
    assert 1.0 <= time.monotonic() - start < 2.0
    server.reply = failing(1, 503, **{"Retry-After": formatdate(time.time() + 2, usegmt=True)})
    start = time.monotonic()
    assert (await got(server.url, retry=QUICK))["status_code"] == 200
    assert 0.5 <= time.monotonic() - start < 3.0


async def test_a_server_that_wants_too_long_a_pause_is_left_alone(server: Server) -> None:
    for pause in ("3600", formatdate(time.time() + 3600, usegmt=True)):
        server.asked.clear()
        server.reply = failing(1, 429, **{"Retry-After": pause})
        assert (await got(server.url, retry=QUICK))["status_code"] == 429
        assert len(server.asked) == 1
    server.reply = failing(1, 429, **{"Retry-After": "whenever"})
    assert (await got(server.url, retry=QUICK))["status_code"] == 200


async def test_nobody_listens() -> None:
    with pytest.raises(
        ToolFailed, match=r"GET http://127.0.0.1:9/x failed: Connection refused, 2 times"
    ) as raised:
        await got("http://127.0.0.1:9", retry={**QUICK, "maximum_attempts": 2})
    assert raised.value.retryable
    with pytest.raises(ToolFailed, match="failed") as raised:
        await call(tool("http://127.0.0.1:9"), {"endpoint": "x", "data": {}})
    assert "attempts" not in raised.value.details


async def test_pauses_end_with_the_call(server: Server) -> None:
    server.reply = failing(9)
    slow = replace(tool(server.url, retry={"initial_interval": "30s"}), timeout=1.0)
    start = time.monotonic()
    assert (await call(slow, {"endpoint": "x"}))["status_code"] == 503
    assert time.monotonic() - start < 0.9


@pytest.mark.parametrize(
    ("task", "config", "asked", "again"),
    [
        ("", "", 3, False),  # the tool asks as often as a task would
        ("retries: 4", "", 1, True),  # the task does, and the tool once in each attempt
        ("retries: 4", "retry: 1", 2, False),  # the tool does, as it says
        ("", "retry: 0", 1, True),
    ],
)
async def test_attempts_do_not_multiply(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    config: str,
    asked: int,
    again: bool,
) -> None:
    monkeypatch.setattr(http, "_LIKE_A_STEP", RetryPlan(initial=0.01))
    server.reply = failing(99)
    config = f", {config.replace('1', '{maximum_attempts: 2, initial_interval: 10ms}')}" * bool(
        config
    )
    (tmp_path / "compozy.yaml").write_text(f"""\
name: demo
tools:
  - {{id: api, type: http, config: {{base_url: "{server.url}", fail_on_error: true{config}}}}}
tasks:
  - {{id: ask, tool: api, with: {{endpoint: x}}{", " + task if task else ""}}}
""")
    found = compile_project(tmp_path)
    (workflow,) = found.plan.workflows.values()
    services = Services.create(env={}, root=found.root)
    context = RunContext(found.plan, workflow, "run", {}, services.env, time.monotonic())
    step = workflow.steps[0]
    with pytest.raises(ToolFailed) as raised:
        await Attempt(Scope(workflow, found.plan.spans, context, services), step, {}).run()
    assert len(server.asked) == asked
    assert retryable(raised.value, step.retry) is again
    assert raised.value.message.endswith("(compozy.yaml:3)")


def test_a_task_waits_as_long_as_the_server_wants() -> None:
    fault = ToolFailed("busy", details={"retry_after_seconds": 20.0})
    assert pause_before(fault, 1.0, RetryPlan()) == 20.0
    assert pause_before(fault, 30.0, RetryPlan()) == 30.0
    assert pause_before(fault, 1.0, RetryPlan(maximum=5.0)) == 5.0
    assert pause_before(ToolFailed("broken"), 1.0, RetryPlan()) == 1.0
