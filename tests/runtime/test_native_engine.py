"""Tools in JavaScript on the engine of the system, for projects that say `engine: native`.

How it is escaped from is in `test_javascript_escapes.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.plan import RuntimePlan, ToolPlan
from compozy_prefect.runtime.js import native
from compozy_prefect.runtime.js.call import needs_network, notice
from compozy_prefect.runtime.js.code import Missing, Module
from compozy_prefect.runtime.js.native import Engine
from compozy_prefect.runtime.processes import landlock, seccomp
from compozy_prefect.runtime.processes.pool import POOLS
from tests.support.internet import serving
from tests.support.javascript import Run, failure, goes_wrong, needs_fence, needs_node, runner

pytestmark = pytest.mark.usefixtures("no_engine_left")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runner(tmp_path, "node", "native", "tools.js")


# Results


@needs_node
async def test_an_entrypoint_may_be_a_module_of_commonjs(run: Run) -> None:
    assert await run(entry="module.exports = { t: ({ a }) => a }", input={"a": 3}) == 3


@pytest.mark.skipif(shutil.which("bun") is None, reason="there is no Bun in PATH")
@needs_fence
async def test_bun_is_run_by_the_same_rules(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SECRET=1")
    entry = "export const t = (i: any) => ({ bun: Boolean(process.versions.bun), ...i })"
    given = {"type": "bun", "entrypoint": "tools.ts"}
    assert await run(entry=entry, input={"a": 1}, **given) == {"bun": True, "a": 1}
    for path in ("/etc/passwd", ".env"):
        fault = await failure(run(f"() => Bun.file('{path}').text()", **given))
        assert "EACCES" in fault.message
    assert await run("() => process.env", type="bun") == {}
    fault = await failure(
        run("\n() => { throw Error('boo') }", place=("c.yaml", 3, 1, 3, 2), **given)
    )
    assert fault.message == "tool `t`: boo (c.yaml:4)"
    assert await failure(run("() => { for (;;) {} }", seconds=0.5, **given))


# What they may do


@needs_node
async def test_what_is_granted_works(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("text")
    (tmp_path / ".env").write_text("SECRET=1")
    fs = "import fs from 'node:fs';\nexport default () => "
    assert await run(fs + "fs.readFileSync('data/a.txt', 'utf8')") == "text"
    write = "fs.copyFileSync('data/a.txt', 'data/b.txt')"
    assert await run(fs + write, permissions=("--allow-read", "--allow-write=data")) is None
    assert (tmp_path / "data" / "b.txt").read_text() == "text"
    assert await run(fs + "fs.readdirSync('.')") == [".env", "data"]
    everything = ("--allow-read=/", "--allow-write=/")
    assert await run(fs + "fs.readFileSync('.env', 'utf8')", permissions=everything) == "SECRET=1"


@needs_node
async def test_a_file_that_took_the_place_of_another_is_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SECRET=1")
    code = "import fs from 'node:fs';\nexport default () => fs.readFileSync('a.txt', 'utf8')"
    for text in ("one", "two"):
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(tmp_path / "a.txt")
        assert await run(code) == text


@needs_node
async def test_the_network_is_all_or_nothing(run: Run) -> None:
    with serving(lambda asked: (200, {}, b"answer")) as server:
        code = f"async () => (await fetch('{server.url}')).text()"
        assert await run(code, permissions=("--allow-net",)) == "answer"
        for permissions in ((), ("--allow-net", "--deny-net")):
            fault = await failure(run(code, permissions=permissions))
            assert "EACCES" in fault.message
            assert fault.details["kind"] == "permission"
        assert len(server.asked) == 1
    assert needs_network(RuntimePlan("node", "native", permissions=("--allow-net",)))
    assert not needs_network(RuntimePlan("node", "native"))


@needs_node
async def test_variables_are_those_that_are_declared_or_granted(run: Run) -> None:
    given = {"outside": {"GRANTED": "g", "OTHER": "o"}, "declared": {"OWN": "1"}}
    code = "() => process.env"
    assert await run(code, permissions=("--allow-env=GRANTED",), **given) == {
        "GRANTED": "g",
        "OWN": "1",
    }
    assert await run(code, permissions=("--allow-env",), **given) == {"OWN": "1"}
    loads = {"NODE_OPTIONS": "--require /x.js", "LD_PRELOAD": "/x.so"}
    assert await run(code, declared=loads) == {}


@needs_node
async def test_processes_that_it_starts_are_ended_with_it(run: Run) -> None:
    code = """
      import { spawn } from "node:child_process";
      export default async () => {
        const args = ["-e", "process.stdin.resume(); setInterval(() => {}, 1000)"];
        const child = spawn(process.execPath, args, { detached: true });
        await new Promise((yes, no) => child.on("spawn", yes).on("error", no));
        process.exit(3);
      }"""
    fault = await failure(run(code))
    assert "with code 3" in fault.message  # said after all that it started is gone
    assert not [
        pid
        for pid in filter(str.isdigit, os.listdir("/proc"))
        if "setInterval(() => {}, 1000)" in _line(pid)
    ]


def _line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
    except OSError:
        return ""


# What cannot be kept to


@pytest.mark.parametrize(
    ("permission", "words"),
    [
        ("--allow-net=example.com", "the kernel does not tell hosts apart; write `--allow-net`"),
        ("--allow-net=example.com:443", "does not tell hosts apart"),
        ("--allow-sys=hostname", "write `--allow-sys` for all of it"),
        ("--deny-read=data", "allow what is needed, or take `engine: deno`"),
        ("--deny-write=data", "leaves out a part"),
        ("--deny-net=example.com", "leaves out a part"),
        ("--deny-env=A", "leaves out a part"),
        ("--deny-sys", "leaves out a part"),
        ("--allow-write", "the project's `.env`, which no tool may write; name folders"),
        ("--allow-write=.", "which no tool may write"),
        ("--allow-write=data,..", "which no tool may write"),
        ("--allow-read=..", "which no tool may read; write `--allow-read`"),
        ("--allow-run", "`--allow-run` is refused"),
        ("--allow-ffi", "`--allow-ffi` is refused"),
        ("--allow-import", "`--allow-import` is refused"),
        ("--allow-all", "`--allow-all` is refused"),
    ],
)
async def test_what_it_cannot_keep_to_is_refused(run: Run, permission: str, words: str) -> None:
    fault = await failure(run("() => 1", permissions=(permission,)))
    assert words in fault.message
    assert permission in fault.message
    assert fault.details["kind"] == "permission"
    assert not fault.retryable


def test_what_it_can_keep_to_is_not(tmp_path: Path) -> None:
    whole = ("--allow-sys", "--deny-read", "--deny-write", "--deny-env", "--deny-net")
    granted = native.permissions(
        ("--allow-read", "--allow-write=a", "--allow-net", *whole), tmp_path
    )
    assert (granted.read, granted.write, granted.net) == ((), (), False)


@needs_node
async def test_a_file_to_write_has_to_be_there(run: Run) -> None:
    fault = await failure(run("() => 1", permissions=("--allow-write=gone/a.txt",)))
    assert "gone/a.txt`: there is no such file; make it" in fault.message


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node in PATH")
async def test_without_a_fence_only_everything_is_allowed(
    run: Run, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr(landlock, "version", lambda: version)
    for permissions in ((), ("--allow-read",), ("--allow-read=/",), ("--allow-write=/",)):
        fault = await failure(run("() => 1", permissions=permissions))
        assert "it takes Landlock, of Linux 6.2 and newer" in fault.message
        assert "`--allow-read=/` and `--allow-write=/`" in fault.message
    everything = ("--allow-read=/", "--allow-write=/", "--allow-net")
    assert await run("() => 1", permissions=everything) == 1


KINDS = """
import socket
narrow(internet={internet})
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_PACKET):
    try:
        socket.socket(family, socket.SOCK_DGRAM).close()
    except PermissionError:
        continue
    print(family.name)
try:
    os.chmod("/tmp/nothing-there", 0)
except OSError as fault:
    print(errno.errorcode[fault.errno])
"""


@pytest.mark.skipif(os.uname().machine not in seccomp._MACHINES, reason="there is no filter")
@pytest.mark.parametrize("internet", [False, True])
def test_sockets_are_taken_away_without_root_too(internet: bool) -> None:
    python = "/usr/bin/python3"
    if not os.path.exists(python):
        pytest.skip("it needs a Python that everybody may run")
    script = Path(seccomp.__file__).read_text() + KINDS.format(internet=internet)
    who: dict[str, Any] = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    ended = subprocess.run([python, "-"], input=script, text=True, capture_output=True, **who)
    kinds = ["AF_INET", "AF_INET6"] if internet else []
    assert ended.stdout.split() == [*kinds, "EPERM"], ended.stderr


def test_without_a_filter_of_calls_nothing_is_narrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_MACHINES", {})
    with pytest.raises(OSError, match="no filter for system calls"):
        seccomp.narrow(internet=False)


# The engine


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("node", "there is no `node` in `PATH`; install it, or take `engine: deno`"),
        ("bun", "there is no `bun` in `PATH`"),
        ("deno", "`engine: native` is for `type: node` and `type: bun`"),
    ],
)
async def test_an_engine_that_is_not_there(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, words: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    fault = await failure(run("() => 1", type=engine))
    assert words in fault.message
    assert fault.code == "TOOL_NOT_FOUND"


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("""'["/x/node", {"node": "18.20.1"}]'""", "18.20.1, is too old: it takes 20.19"),
        ("'hello'", "does not say what it is"),
    ],
)
async def test_an_engine_that_is_another(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    says: str,
    words: str,
) -> None:
    folder = tmp_path_factory.mktemp("bin")
    (folder / "node").write_text(f"#!/bin/sh\necho {says}\n")
    (folder / "node").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    assert words in (await failure(run("() => 1"))).message


@pytest.mark.parametrize(
    ("name", "version", "takes"),
    [
        ("node", (20, 20, 2), False),
        ("node", (22, 17, 1), False),
        ("node", (22, 18, 0), True),
        ("node", (23, 5, 0), False),
        ("node", (24, 0, 0), True),
        ("bun", (1, 2, 3), True),
    ],
)
def test_typescript_is_for_those_that_take_it(
    name: str, version: tuple[int, ...], takes: bool
) -> None:
    engine = Engine(name, "/x", version)
    module = Module("/p/tools.js", "t", ("/p/tools.js", "/p/more.ts"), "tools.js")
    native.check(engine, Module("/p/tools.js", "t", ("/p/tools.js",), "tools.js"))
    if takes:
        native.check(engine, module)
    else:
        with pytest.raises(
            Missing, match=r"`more\.ts` is TypeScript, which the `node` of `PATH`, 2"
        ):
            native.check(engine, module)


def test_who_asks_for_it_needs_no_note() -> None:
    tool = ToolPlan("t", type="javascript")
    assert notice(RuntimePlan("node", "native"), [tool]) is None
    assert "`engine: native`" in str(notice(RuntimePlan("node"), [tool]))


# How they fail


@needs_node
async def test_an_error_has_its_words_and_its_place(run: Run, tmp_path: Path) -> None:
    code = "function f() {\n  throw new RangeError('boo')\n}"
    fault = await failure(run(code, place=("compozy.yaml", 10, 7, 10, 8)))
    assert fault.message == "tool `t`: boo (compozy.yaml:11)"
    assert fault.details["type"] == "RangeError"
    assert "runner.js" not in fault.details["stack"]
    for head in ("export const t = ", "exports.t = "):  # frames of the latter are paths
        fault = await failure(run(entry=head + "() => {\n\n  throw Error('boo') }"))
        assert fault.message == "tool `t`: boo (tools.js:3)"
        assert (
            "at t (tools.js:3" in fault.details["stack"] or "tools.js:3" in fault.details["stack"]
        )
        POOLS.close()  # files are read once a process


@needs_node
@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("() => process.abort()", "exit", "with signal 6"),
        ("() => process.kill(process.pid, 'SIGKILL')", "exit", "with signal 9"),
        ("() => { while (true) process.stdout.write('x'.repeat(1000)) }", "output", "over 10 MiB"),
        ("() => { Promise.reject('words'); return new Promise(() => {}) }", "thrown", ": words"),
        ("import './nowhere.js'; export default () => 1", "thrown", "nowhere"),
    ],
)
async def test_what_goes_wrong_is_said(run: Run, code: str, kind: str, words: str) -> None:
    await goes_wrong(run, code, kind, words)


@needs_node
async def test_the_least_memory_is_enough_to_begin(run: Run) -> None:
    assert await run("() => 1", memory=1) == 1


# Answers


@needs_node
async def test_what_is_printed_is_told_and_no_answer(run: Run) -> None:
    printed: list[str] = []
    code = """() => {
      console.log("one"); console.error("two");
      process.stdout.write('{"id":1,"result":"forged"}\\n{"id":1');
      return "real";
    }"""
    assert await run(code, printed=printed.append) == "real"
    assert [word for word in ("one", "two", "forged") if word not in printed[0]] == []


FORGERIES = {
    "stringify": "JSON.stringify = () => '\"forged\"'",
    "encode": "TextEncoder.prototype.encode = () => new Uint8Array(9)",
    "write": "process.stdout.write = process.stdout._write = () => 9",
    "write of the module": "const fs = await import('node:fs'); fs.default.writeSync = () => 9;"
    " (await import('node:module')).syncBuiltinESMExports()",
    "then": "Promise.prototype.then = function () { return this }",
    "events": "const { EventEmitter } = await import('node:events');"
    " const own = EventEmitter.prototype.emit; EventEmitter.prototype.emit = function (...a)"
    " { return own.apply(this, a) }",
    "object": "Object.prototype.toJSON = () => 'forged'; delete Object.prototype.toJSON;"
    " Object.prototype.value = 'forged'; Object.defineProperty = () => {}",
    "concatenation": "String.prototype.concat = () => 'x'; Array.prototype.join = () => 'x'",
    "iteration": "Array.prototype[Symbol.iterator] = function* () { yield 'x' }",
    "length": """
      let seen = "";
      Object.defineProperty(Object.getPrototypeOf(Uint8Array.prototype), "byteLength",
        { get() { seen += Buffer.prototype.latin1Slice.call(this); return 0 } });
      globalThis.seen = () => seen""",
}


@needs_node
@pytest.mark.parametrize("body", FORGERIES.values(), ids=FORGERIES)
async def test_answers_cannot_be_forged(run: Run, body: str) -> None:
    code = f"async function f() {{ {body}; return globalThis.seen?.() || 'real' }}"
    assert await run(code) == "real"
    assert await run(code) == "real"


@needs_node
async def test_a_full_pipe_does_not_lose_an_answer(run: Run) -> None:
    """Who has used `process.stdout` has made the pipe one that does not block."""
    code = "() => { process.stdout.write('x'); return 'ü'.repeat(2e6) }"
    assert await run(code) == "ü" * 2_000_000


# Processes


@needs_node
async def test_other_bounds_are_another_process(run: Run) -> None:
    code = "let calls = 0;\nexport default () => ++calls"
    for permissions in ((), ("--allow-net",), ("--allow-read",)):
        assert await run(code, permissions=permissions) == 1
    assert await run(code, declared={"A": "1"}) == 1
    assert await run(code) == 2
