"""What tools in JavaScript can rely on, on Deno and on the engine of the system."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from compozy_prefect.errors import ToolFailed
from tests.support.javascript import Run, failure, goes_wrong, needs_node, runner

pytestmark = pytest.mark.usefixtures("no_engine_left")


@pytest.fixture(params=["deno", pytest.param("native", marks=needs_node)])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    return runner(tmp_path, "node", request.param, "tools.js")


@pytest.mark.parametrize(
    "code",
    [
        "function f({ a }) { return a }",
        "async function f({ a }) { return a }",
        "({ a }) => a",
        "async ({ a }) => { return a };",
        "function ({ a }) { return a }",
        "(function ({ a }) { return a })",
        "export default ({ a }) => a",
        "const f = ({ a }) => a;",
        "// a comment\n  ({ a }) => a",
        "function g(x) { return x }\nexport default function f({ a }) { return g(a) }",
        "({ a }) => aggregate([{ a }], { field: 'a' })[0].sum_a",
    ],
)
async def test_code_is_one_function_of_any_form(run: Run, code: str) -> None:
    assert await run(code, {"a": 3}) == 3


async def test_config_is_the_second_argument(run: Run) -> None:
    given = await run("(input, config) => [input, config]", {"a": "ü€😀"}, config={"b": 2})
    assert given == [{"a": "ü€😀"}, {"b": 2}]


@pytest.mark.parametrize(
    "entry",
    [
        "export function t({ a }) { return a }",
        "export default { t: async ({ a }) => a }",
        "export const t = () => 0; export default { t: (i) => i.a }",
    ],
)
async def test_tools_of_the_entrypoint_are_its_exports(run: Run, entry: str) -> None:
    assert await run(entry=entry, input={"a": 3}) == 3


async def test_a_missing_export_names_those_there_are(run: Run) -> None:
    fault = await failure(run(entry="export const one = 1, two = 2"))
    assert "`tools.js` does not export `t`; it exports: one, two" in fault.message
    assert not fault.retryable


async def test_modules_and_packages_of_the_project_are_loaded(run: Run, tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "left"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "left", "version": "1.0.0"}')
    (package / "index.js").write_text("module.exports = { pad: (s) => ' ' + s }")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "more.js").write_text("export const more = 2")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    entry = 'import { more } from "./lib/more.js"; import left from "left";\n'
    entry += "export const t = () => left.pad(more)"
    for permissions in ((), ("--allow-read=lib",), ("--allow-read",)):
        assert await run(entry=entry, permissions=permissions) == " 2"
    inline = "async () => (await import('left')).default.pad('x')"
    assert await run(inline, permissions=()) == " x"


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("() => { while (true) {} }", "timeout", "within 0.5 s"),
        ("() => new Promise(() => {})", "timeout", "within 0.5 s"),
        ("() => process.exit(0)", "exit", "with code 0"),
        ("() => process.exit(3)", "exit", "with code 3"),
        ("() => 'x'.repeat(20e6)", "output", "over 10 MiB"),
        ("() => { while (true) console.log('x'.repeat(1000)) }", "output", "over 10 MiB"),
        ("() => ({ n: 1n })", "thrown", "no JSON"),
        ("() => { const a = {}; a.a = a; return a }", "thrown", "no JSON"),
        ("() => { throw null }", "thrown", "null"),
        ("() => { throw { get message() { throw 1 } } }", "thrown", ""),
        ("() => Promise.reject('words')", "thrown", "words"),
        ("() => { setTimeout(() => { throw Error('late') }); return new Promise(() => {}) }",
         "thrown", "late"),
        ("() => { Promise.reject(Error('lost')); return new Promise(() => {}) }",
         "thrown", "lost"),
    ],
)  # fmt: skip
async def test_what_goes_wrong_is_said(run: Run, code: str, kind: str, words: str) -> None:
    await goes_wrong(run, code, kind, words)


@pytest.mark.parametrize(
    "code",
    [
        "() => { const a = []; while (true) a.push(new Array(1000).fill(Math.random())) }",
        "() => { const a = []; while (true) a.push(new Uint8Array(1e6).fill(1)) }",
    ],
    ids=["in the heap", "in buffers"],
)
async def test_memory_is_bounded(run: Run, code: str) -> None:
    fault = await failure(run(code, memory=200))
    assert fault.details["kind"] == "memory"
    assert "200 MiB" in fault.message
    assert not fault.retryable


async def test_a_process_is_used_again_and_replaced_when_it_broke(run: Run) -> None:
    code = """let calls = 0;
      export default async ({ how }) => {
        calls++;
        if (how === "throw") throw new Error("boo");
        if (how === "exit") process.exit(1);
        if (how === "hang") await new Promise(() => {});
        return calls;
      }"""
    assert [await run(code) for _ in range(3)] == [1, 2, 3]
    await failure(run(code, {"how": "throw"}))
    assert await run(code) == 5
    for how in ("exit", "hang"):
        await failure(run(code, {"how": how}, seconds=1.0))
        assert await run(code) == 1


async def test_calls_at_once_do_not_disturb_each_other(run: Run) -> None:
    code = """async ({ n }) => {
      if (n % 10 === 3) throw new Error(`no ${n}`);
      if (n % 10 === 7) process.exit(1);
      await new Promise((done) => setTimeout(done, n % 5));
      return n;
    }"""
    results = await asyncio.gather(
        *(run(code, {"n": n}) for n in range(60)), return_exceptions=True
    )
    for n, result in enumerate(results):
        if n % 10 in (3, 7):
            assert isinstance(result, ToolFailed)
        else:
            assert result == n
