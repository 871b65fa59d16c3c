"""Attachments: from a project on disk to what each provider gets."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.errors import ModelFailed, NotRecorded, RunError
from compozy_prefect.runtime.attempt import Attempt
from compozy_prefect.runtime.cassette import Cassette
from compozy_prefect.runtime.context import RunContext
from compozy_prefect.runtime.scope import Scope
from compozy_prefect.runtime.services import Services
from compozy_prefect.runtime.tools import hosts
from tests.support.asking import KEY, MODELS
from tests.support.model_server import ModelServer, Reply

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 10
PDF = b"%PDF-1.7\n" + b"words" * 10
WAV = b"RIFF\x00\x00\x00\x00WAVEfmt "
MP4 = b"\x00\x00\x00\x18ftypmp42"
SEES = {**MODELS, "groq": "a-new-model", "ollama": "llava", "custom": "own"}


def based(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Shelf(BaseHTTPRequestHandler):
    """Files on a server; some paths lead elsewhere."""

    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        if name == "/away":
            self.send_response(302)
            port = self.server.server_address[1]
            self.send_header("Location", f"http://localhost:{port}/cat.png")
        elif name == "/round":
            self.send_response(302)
            self.send_header("Location", "/round")
        elif name == "/gone.png":
            self.send_response(404)
        else:
            body = {"/cat.png": PNG, "/doc": PDF, "/note": b"remember"}.get(name, b"x" * 2000)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain" if name == "/note" else "image/png")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def shelf() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def project(
    folder: Path, attached: str, models: ModelServer, provider: str = "openai", more: str = ""
) -> Path:
    """One task that asks one agent, in a file of a folder below the project."""
    model = SEES[provider]
    (folder / "flows").mkdir(exist_ok=True)
    for name, data in (("cat.png", PNG), ("doc.pdf", PDF), ("a.wav", WAV), ("b.mp4", MP4)):
        (folder / "flows" / name).write_bytes(data)
    (folder / "flows" / "notes.md").write_text("# Ünits\n")
    (folder / "top.png").write_bytes(PNG)
    (folder / ".env").write_text("TOKEN=very-secret-token\n")
    (folder / "compozy.yaml").write_text(f"""\
name: demo
workflows: [{{source: flows/look.yaml}}]
models:
  - {{provider: {provider}, model: "{model}", api_url: "{models.base(provider)}", api_key: {KEY}}}
{more}
""")
    (folder / "flows" / "look.yaml").write_text(f"""\
id: look
agents:
  - id: viewer
    model: "{provider}:{model}"
    instructions: Look.
    actions: [{{id: see, prompt: "What is it?"}}]
tasks:
  - id: see
    agent: viewer
    action: see
    with: {{file: "{{{{ .workflow.input.file }}}}"}}
    attachments: {attached}
""")
    return folder


async def see(
    folder: Path, input: dict[str, Any] | None = None, cassette: Cassette | None = None
) -> Any:
    found = compile_project(folder)
    workflow = found.plan.workflows["look"]
    services = Services.create(env=dict(found.env), root=found.root, cassette=cassette)
    given = {"file": ""} | (input or {})
    context = RunContext(found.plan, workflow, "run", given, services.env, time.monotonic())
    scope = Scope(workflow, found.plan.spans, context, services)
    return (await Attempt(scope, workflow.steps[0], {}).run()).output


def content(models: ModelServer) -> list[Any]:
    return list(models.requests[-1].body["messages"][-1]["content"])


WIRE = {
    "openai": lambda body: body["messages"][1]["content"][1:],
    "groq": lambda body: body["messages"][1]["content"][1:],
    "custom": lambda body: body["messages"][1]["content"][1:],
    "anthropic": lambda body: body["messages"][0]["content"][1:],
    "google": lambda body: body["contents"][0]["parts"][1:],
    "ollama": lambda body: body["messages"][1]["images"],
}
OPENAI_IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{based(PNG)}"}}
OPENAI_FILE = {
    "type": "file",
    "file": {"filename": "doc.pdf", "file_data": f"data:application/pdf;base64,{based(PDF)}"},
}


def source(mime: str, data: bytes) -> dict[str, str]:
    return {"type": "base64", "media_type": mime, "data": based(data)}


def inline(mime: str, data: bytes) -> dict[str, Any]:
    return {"inline_data": {"data": based(data), "mime_type": mime}}


@pytest.mark.parametrize(
    ("provider", "attached", "sent"),
    [
        ("openai", "cat.png", OPENAI_IMAGE),
        ("groq", "cat.png", OPENAI_IMAGE),
        ("custom", "cat.png", OPENAI_IMAGE),
        ("anthropic", "cat.png", {"type": "image", "source": source("image/png", PNG)}),
        ("google", "cat.png", inline("image/png", PNG)),
        ("ollama", "cat.png", based(PNG)),
        ("openai", "doc.pdf", OPENAI_FILE),
        ("anthropic", "doc.pdf", {"type": "document", "source": source("application/pdf", PDF)}),
        ("google", "doc.pdf", inline("application/pdf", PDF)),
        ("google", "a.wav", inline("audio/wav", WAV)),
        ("google", "b.mp4", inline("video/mp4", MP4)),
        (
            "custom",
            "a.wav",
            {"type": "input_audio", "input_audio": {"data": based(WAV), "format": "wav"}},
        ),
    ],
)
async def test_each_wire_format_has_its_own_way(provider, attached, sent, tmp_path, model_server):
    folder = project(tmp_path, f"[{{type: file, path: {attached}}}]", model_server, provider)
    model_server.answers(Reply("a cat"))
    assert await see(folder) == {"response": "a cat"}
    assert WIRE[provider](model_server.requests[0].body) == [sent]


async def test_a_text_is_a_part_of_what_is_said(tmp_path, model_server):
    await see(project(tmp_path, "[{type: file, path: notes.md, name: Notes}]", model_server))
    assert content(model_server)[1:] == [{"type": "text", "text": "Notes:\n# Ünits\n"}]


async def test_patterns_templates_and_the_order(tmp_path, model_server):
    attached = (
        "[{type: image, paths: ['*.png', ../top.png]}, {type: IMAGE, path: '{{ .with.file }}'}]"
    )
    await see(project(tmp_path, attached, model_server), {"file": "cat.png"})
    assert len(content(model_server)) == 3, "the same file twice is one"


async def test_the_attachments_of_agent_and_action_come_behind(tmp_path, model_server):
    folder = project(tmp_path, "[{type: file, path: notes.md, name: task}]", model_server)
    file = folder / "flows" / "look.yaml"
    text = file.read_text()
    text = text.replace(
        "    instructions:", "    attachments: [{type: image, path: cat.png}]\n    instructions:"
    )
    again = "{type: file, path: ./notes.md, name: action}"
    text = text.replace('prompt: "What is it?"', f'prompt: "What is it?", attachments: [{again}]')
    file.write_text(text)
    await see(folder)
    said = content(model_server)
    assert [part["type"] for part in said] == ["text", "text", "image_url"]
    assert said[1]["text"].startswith("action:"), "the later definition holds, at the first place"


@pytest.mark.parametrize(
    ("attached", "file", "said"),
    [
        ("[{type: image, path: '{{ .with.file }}'}]", "../../x.png", "outside of the project"),
        ("[{type: image, path: '{{ .with.file }}'}]", "/etc/passwd", "outside of the project"),
        ("[{type: file, path: '{{ .with.file }}'}]", "../.env", "hidden file"),
        ("[{type: image, path: out.png}]", "", "outside of the project"),
        ("[{type: image, paths: ['out*.png']}]", "", "outside of the project"),
        ("[{type: image, path: loop.png}]", "", "is no file"),
        ("[{type: image, path: none.png}]", "", "there is no file `none.png`"),
        ("[{type: image, paths: ['none*.png']}]", "", "no file fits"),
        ("[{type: image, path: '{{ .with.file }}'}]", "", "is empty"),
        ("[{type: image, path: notes.md}]", "", "is text/markdown, and one of type `image`"),
        ("[{type: pdf, path: cat.png}]", "", "is image/png, and one of type `pdf`"),
        ("[{type: image, url: '{{ .with.file }}'}]", "ftp://x/y.png", "is no http address"),
        ("[{type: '{{ .with.file }}', path: cat.png}]", "picture", "unknown type `picture`"),
    ],
)
async def test_what_is_refused(attached, file, said, tmp_path, model_server):
    inside = tmp_path / "project"
    inside.mkdir()
    (tmp_path / "x.png").write_bytes(PNG)
    folder = project(inside, attached, model_server)
    (folder / "flows" / "out.png").symlink_to(tmp_path / "x.png")
    (folder / "flows" / "loop.png").symlink_to("loop.png")
    with pytest.raises(RunError, match=said) as raised:
        await see(folder, {"file": file})
    assert raised.value.code == "ATTACHMENT_FAILED"
    assert not raised.value.retryable
    assert model_server.requests == []


async def test_a_file_has_a_bound(tmp_path, model_server):
    settings = "attachments: {max_download_size_bytes: 20, text_part_max_bytes: 4}"
    folder = project(tmp_path, "[{type: image, path: cat.png}]", model_server, more=settings)
    with pytest.raises(RunError, match="more than 20 bytes"):
        await see(folder)
    project(tmp_path, "[{type: file, path: notes.md}]", model_server, more=settings)
    with pytest.raises(RunError, match="more than 4 bytes of text"):
        await see(folder)


async def test_allowed_types_are_those_of_the_settings(tmp_path, model_server):
    settings = "attachments: {allowed_mime_types: {image: [image/jpeg]}}"
    folder = project(tmp_path, "[{type: file, path: cat.png}]", model_server, more=settings)
    with pytest.raises(RunError, match="allowed_mime_types"):
        await see(folder)


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_whoever_takes_addresses_gets_them(provider, tmp_path, model_server):
    url = "https://pictures.example/cat.png"
    await see(project(tmp_path, f"[{{type: image, url: '{url}'}}]", model_server, provider))
    [sent] = WIRE[provider](model_server.requests[0].body)
    assert url in json.dumps(sent)


@pytest.mark.parametrize("provider", ["google", "ollama", "anthropic", "openai"])
async def test_others_get_the_image_itself(provider, shelf, tmp_path, model_server):
    """Also of a server without TLS, to which no provider goes."""
    folder = project(tmp_path, f"[{{type: image, url: '{shelf}/cat.png'}}]", model_server, provider)
    await see(folder)
    assert based(PNG) in json.dumps(WIRE[provider](model_server.requests[0].body))


async def test_an_address_in_the_input_may_be_the_file_itself(tmp_path, model_server):
    folder = project(tmp_path, "[{type: image, url: '{{ .with.file }}'}]", model_server)
    await see(folder, {"file": f"data:image/jpeg;base64,{based(PNG)}"})
    assert content(model_server)[1] == OPENAI_IMAGE, "it is what its bytes say"


@pytest.mark.parametrize(
    ("attached", "settings", "said"),
    [
        ("{type: pdf, url: '{{ .with.file }}/doc'}", "", "127.0.0.1 is loopback: it would need"),
        ("{type: pdf, url: 'SHELF/doc'}", "{ssrf_strict: true}", "`attachments.ssrf_strict` is on"),
        ("{type: image, url: 'SHELF/away'}", "", "localhost leads to .* is loopback"),
        ("{type: pdf, url: '{{ .with.file }}?://127.0.0.1/'}", "", "127.0.0.1 is loopback"),
        ("{type: image, url: 'SHELF/round'}", "", "redirects more than 3 times"),
        ("{type: image, url: 'SHELF/gone.png'}", "", "answered 404"),
        (
            "{type: url, url: 'SHELF/big'}",
            "{max_download_size_bytes: 1000}",
            "larger than 1,000 bytes",
        ),
        ("{type: image, url: 'SHELF/note'}", "", "is text/plain"),
    ],
)
async def test_downloads_that_are_refused(attached, settings, said, shelf, tmp_path, model_server):
    attached = f"[{attached.replace('SHELF', shelf)}]"
    more = f"attachments: {settings}" if settings else ""
    with pytest.raises(RunError, match=said):
        await see(project(tmp_path, attached, model_server, more=more), {"file": shelf})
    assert model_server.requests == []


async def test_a_permission_names_a_host(shelf, tmp_path, model_server):
    more = f"runtime: {{permissions: ['--allow-net={shelf.removeprefix('http://')}']}}"
    folder = project(tmp_path, "[{type: pdf, url: '{{ .with.file }}'}]", model_server, more=more)
    await see(folder, {"file": f"{shelf}/doc"})
    assert content(model_server)[1]["file"]["filename"] == "doc"


async def test_a_name_is_looked_up_once(shelf, tmp_path, model_server, monkeypatch):
    """The connection goes to the address that was found to be public."""
    port = shelf.rpartition(":")[2]
    looked_up = []

    async def addresses(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    monkeypatch.setattr(hosts, "addresses", addresses)
    monkeypatch.setattr(hosts, "kind_of", lambda address: None)
    folder = project(tmp_path, "[{type: pdf, url: '{{ .with.file }}'}]", model_server)
    await see(folder, {"file": f"http://nowhere.invalid:{port}/doc"})
    assert looked_up == ["nowhere.invalid"]
    assert content(model_server)[1]["file"]["filename"] == "doc"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
    ],
)
def test_public_addresses(address, public):
    assert hosts.is_public(address) is public


# --- models and cassettes -------------------------------------------------------------------------


async def test_a_model_that_cannot_see_is_not_asked(tmp_path, model_server, monkeypatch):
    monkeypatch.setitem(SEES, "openai", "gpt-3.5-turbo")
    folder = project(tmp_path, "[{type: image, path: cat.png}]", model_server)
    with pytest.raises(ModelFailed, match=r"gpt-3.5-turbo was not asked: it does not take images"):
        await see(folder)
    assert model_server.requests == []
    spare = (
        f'{{provider: openai, model: gpt-4o-mini, api_url: "{model_server.url}", api_key: {KEY}}}'
    )
    project(tmp_path, "[{type: image, path: cat.png}]", model_server, more=f"  - {spare}")
    file = folder / "compozy.yaml"
    first = "provider: openai, model: "
    file.write_text(
        file.read_text().replace(first, f"fallbacks: ['openai:gpt-4o-mini'], {first}", 1)
    )
    await see(folder)
    assert [one.body["model"] for one in model_server.requests] == ["gpt-4o-mini"]


async def test_a_cassette_holds_the_digest(shelf, tmp_path, model_server):
    attached = f"[{{type: image, path: cat.png}}, {{type: pdf, url: '{shelf}/doc'}}]"
    folder = project(tmp_path, attached, model_server, "google")
    tape = tmp_path / "tape.jsonl"
    model_server.answers(Reply("a cat"))
    await see(folder, cassette=Cassette.record(tape))
    written = tape.read_text()
    assert hashlib.sha256(PNG).hexdigest() in written
    assert hashlib.sha256(PDF).hexdigest() in written
    assert based(PNG) not in written
    assert based(PDF) not in written
    model_server.answers()
    again = await see(folder, cassette=Cassette.replay(tape))
    assert again == {"response": "a cat"}
    assert model_server.requests == []
    (folder / "flows" / "cat.png").write_bytes(PNG + b"!")
    with pytest.raises(NotRecorded):
        await see(folder, cassette=Cassette.replay(tape))
