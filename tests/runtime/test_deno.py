"""Tools in JavaScript and TypeScript, run by the real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.plan import RuntimePlan, ToolPlan
from compozy_prefect.errors import InputInvalid, OutputInvalid, ToolFailed
from compozy_prefect.runtime.js.call import call, notice
from compozy_prefect.runtime.js.code import as_module
from compozy_prefect.runtime.js.engine import Launch
from compozy_prefect.runtime.js.permissions import Permissions, Refused
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.processes import landlock, pool, watchdog
from compozy_prefect.runtime.processes.pool import POOLS
from compozy_prefect.runtime.tools import dispatch
from compozy_prefect.runtime.tools.surroundings import Surroundings

Run = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    pids = [worker.pid for worker in POOLS.watchdog.all]
    POOLS.close()
    assert not [pid for pid in pids if watchdog.memory(pid)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs inline code, or the export `t` of `tools.ts` when it is `entry`."""

    async def run(
        code: str = "",
        input: Any = None,
        *,
        entry: str = "",
        permissions: tuple[str, ...] = ("--allow-read",),
        memory: int = 0,
        seconds: float = 20.0,
        config: Any = None,
        **around: Any,
    ) -> Any:
        if entry:
            (tmp_path / "tools.ts").write_text(entry)
        runtime = RuntimePlan(
            entrypoint="tools.ts", permissions=permissions, memory_limit=memory << 20
        )
        kind = "runtime" if entry else "javascript"
        tool = ToolPlan("t", type=kind, execute=code, timeout=seconds)
        return await call(tool, input or {}, config, Surroundings(runtime, tmp_path, **around))

    return run


async def failure(awaitable: Any) -> ToolFailed:
    with pytest.raises(ToolFailed) as raised:
        await awaitable
    return raised.value


# What a function may look like


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
        "({ a }: { a: number }): number => a",
        "enum E { X }\nfunction f({ a }: { a: number }) { return a + E.X }",
    ],
)
async def test_code_is_one_function_of_any_form(run: Run, code: str) -> None:
    assert await run(code, {"a": 3}) == 3


def test_lines_of_code_stay_where_they_are() -> None:
    code = "\n\n  ({ a }) => a"
    assert as_module(code) == ("\n\n  export default ({ a }) => a", "js")


async def test_config_is_the_second_argument(run: Run) -> None:
    assert await run("(input, config) => [input, config]", {"a": 1}, config={"b": 2}) == [
        {"a": 1},
        {"b": 2},
    ]


async def test_templates_are_no_part_of_code(run: Run) -> None:
    assert await run("({ n }) => `${n} {{ .x }}`", {"n": 1}) == "1 {{ .x }}"


@pytest.mark.parametrize(
    "entry",
    [
        "export function t({ a }: { a: number }) { return a }",
        "export default { t: async ({ a }: { a: number }) => a }",
        "export const t = (i: any) => 0; export default { t: (i: any) => i.a }",
    ],
)
async def test_tools_of_the_entrypoint_are_its_exports(run: Run, entry: str) -> None:
    assert await run(entry=entry, input={"a": 3}) == 3


async def test_a_missing_export_names_those_there_are(run: Run) -> None:
    fault = await failure(run(entry="export const one = 1, two = 2"))
    assert "`tools.ts` does not export `t`; it exports: one, two" in fault.message
    assert not fault.retryable


async def test_modules_and_packages_of_the_project_are_loaded(run: Run, tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "left"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "left", "version": "1.0.0"}')
    (package / "index.js").write_text("module.exports = { pad: (s) => ' ' + s }")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "more.ts").write_text("export const more: number = 2")
    entry = 'import { more } from "./lib/more"; import left from "left";\n'
    entry += "export const t = () => left.pad(more)"
    for permissions in ((), ("--allow-read=lib",), ("--allow-read",)):
        assert await run(entry=entry, permissions=permissions) == " 2"
    inline = "async () => (await import('left')).default.pad('x')"
    assert await run(inline, permissions=()) == " x"


async def test_the_helpers_that_the_brief_leaves_undefined(run: Run) -> None:
    code = """
      function transform({ rows }) {
        const kept = rows.filter((row) => evaluateCondition(row, "n > 1"));
        const named = kept.map((row) => mapFields(row, { group: "g", value: "n" }));
        const sums = aggregate(named, { group_by: "group", field: "value", operation: "sum" });
        return sums.sort((a, b) => compareValues(b.sum_value, a.sum_value));
      }"""
    rows = [{"g": g, "n": n} for g, n in (("a", 1), ("a", 2), ("b", 3), ("b", 4))]
    assert await run(code, {"rows": rows}) == [
        {"group": "b", "sum_value": 7},
        {"group": "a", "sum_value": 2},
    ]
    own = "function compareValues() { return 9 }\nexport default () => compareValues(1, 2)"
    assert await run(own) == 9


# What they may do


async def test_what_is_granted_works(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("text")
    assert await run("() => Deno.readTextFileSync('data/a.txt')") == "text"
    code = "() => { Deno.writeTextFileSync('data/b.txt', 'x'); return Deno.cwd() }"
    assert await run(code, permissions=("--allow-read", "--allow-write=data"))
    assert (tmp_path / "data" / "b.txt").read_text() == "x"


async def test_variables_are_those_that_are_declared_or_granted(run: Run) -> None:
    code = "() => [Deno.env.get('OWN'), Deno.env.get('GRANTED')]"
    given = {"outside": {"GRANTED": "g", "OTHER": "o"}, "declared": {"OWN": "1"}}
    assert await run(code, permissions=("--allow-env=GRANTED",), **given) == ["1", "g"]
    code = "() => Deno.env.toObject()"
    seen = await run(code, permissions=("--allow-env",), **given)
    assert not seen.keys() & {"OTHER", "GRANTED", "HOME"}


async def test_other_values_of_variables_are_another_process(run: Run) -> None:
    code = "const own = Deno.env.get('OWN');\nexport default () => own"
    for value in ("1", "2"):
        assert await run(code, declared={"OWN": value}) == value


@pytest.mark.parametrize("flag", ["--allow-run", "--allow-ffi=x", "--allow-all", "-A"])
def test_some_permissions_no_tool_gets(flag: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is refused: "):
        Permissions.of([flag], tmp_path)


async def test_without_landlock_links_that_lead_out_are_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    (tmp_path / "inside").symlink_to(tmp_path)
    assert await run("() => 'inside'") == "inside"
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "link").symlink_to("/etc/passwd")
    fault = await failure(run("() => Deno.readTextFileSync('sub/link')"))
    assert "`--allow" not in fault.message
    assert "link` leads out of what `runtime.permissions` allows" in fault.message


# How they fail


async def test_an_error_has_its_words_and_its_place(run: Run) -> None:
    code = "function f() {\n  throw new RangeError('boo')\n}"
    fault = await failure(run(code, place=("compozy.yaml", 10, 7, 10, 8)))
    assert fault.message == "tool `t`: boo (compozy.yaml:11)"
    assert fault.details["type"] == "RangeError"
    assert (fault.details["file"], fault.details["line"]) == ("compozy.yaml", 11)
    assert "runner.js" not in fault.details["stack"]


@pytest.mark.parametrize(
    ("path", "is_told"), [("data/gone.txt", True), ("/etc/gone", False), ("here.txt", False)]
)
async def test_a_file_that_is_not_there(tmp_path: Path, path: str, is_told: bool) -> None:
    """It lacks a permission, and more: who reads the message would grant it in vain."""
    (tmp_path / "here.txt").write_text("here")
    code = f"() => Deno.readTextFile({path!r})"
    tool = ToolPlan("t", type="javascript", execute=code)
    around = Surroundings(RuntimePlan(permissions=("--allow-read=other",)), tmp_path)
    with pytest.raises(ToolFailed, match="it would need `--allow-read=") as raised:
        await dispatch.call(tool, {}, around)
    assert ("there is no such file" in raised.value.message) is is_told


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("() => { while (true) {} }", "timeout", "within 0.5 s"),
        ("() => new Promise(() => {})", "timeout", "within 0.5 s"),
        ("() => Deno.exit(3)", "exit", "with code 3"),
        ("() => process.exit(0)", "exit", "with code 0"),
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
        ("import './nowhere.js'; export default () => 1", "permission", "nowhere"),
    ],
)  # fmt: skip
async def test_what_goes_wrong_is_said(run: Run, code: str, kind: str, words: str) -> None:
    seconds = 0.5 if kind == "timeout" else 20.0
    fault = await failure(run(code, seconds=seconds))
    assert fault.details["kind"] == kind
    assert words in fault.message
    assert fault.code == ("TOOL_TIMEOUT" if kind == "timeout" else "TOOL_EXECUTION_ERROR")


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


async def test_processor_time_is_bounded_for_all_threads(run: Run) -> None:
    code = """async () => {
      const loop = "data:application/javascript,for(;;);";
      for (let i = 0; i < 4; i++) new Worker(loop, { type: "module" });
      await new Promise(() => {});
    }"""
    fault = await failure(run(code, seconds=1.0))
    assert fault.details["kind"] in ("cpu", "timeout")


async def test_what_is_printed_is_told_and_no_answer(run: Run) -> None:
    printed: list[str] = []
    code = """() => {
      console.log("one"); console.error("two"); console.table([1]);
      Deno.stdout.writeSync(new TextEncoder().encode('{"id":1,"result":"forged"}\\n{"id":1'));
      return "real";
    }"""
    assert await run(code, printed=printed.append) == "real"
    assert [word for word in ("one", "two", "forged") if word not in printed[0]] == []


FORGERIES = {
    "stringify": "JSON.stringify = () => '\"forged\"'; return 'real'",
    "encode": "TextEncoder.prototype.encode = () => new Uint8Array(9); return 'real'",
    "write": "Deno.stdout.writeSync = () => 9; return 'real'",
    "then": "Promise.prototype.then = function () { return this }; return 'real'",
    "buffer": """
      let seen = "";
      const look = (bytes) => { seen += new TextDecoder().decode(bytes) };
      Object.defineProperty(Object.getPrototypeOf(Uint8Array.prototype), "buffer",
        { get() { look(this); return new ArrayBuffer(0) } });
      globalThis.seen = () => seen;
      return 'real'""",
    "concatenation": "String.prototype.concat = () => 'x'; Array.prototype.join = () => 'x';"
    " return 'real'",
}


@pytest.mark.parametrize("body", FORGERIES.values(), ids=FORGERIES)
async def test_answers_cannot_be_forged(run: Run, body: str) -> None:
    code = f"function f() {{ {body} }}"
    assert await run(code) == "real"
    assert await run(code) == "real"


# Processes


async def test_a_process_is_used_again_and_replaced_when_it_broke(run: Run) -> None:
    code = """let calls = 0;
      export default async ({ how }) => {
        calls++;
        if (how === "throw") throw new Error("boo");
        if (how === "exit") Deno.exit(1);
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
      if (n % 10 === 7) Deno.exit(1);
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


async def test_slow_calls_get_more_processes_up_to_a_bound(run: Run) -> None:
    code = "async () => { await new Promise((done) => setTimeout(done, 300)); return Deno.pid }"
    pids = await asyncio.gather(*(run(code) for _ in range(24)))
    assert 1 < len(set(pids)) <= pool.MOST


async def test_a_call_that_is_cancelled_ends_its_process(run: Run) -> None:
    printed: list[str] = []
    code = "() => { console.log(Deno.pid); return new Promise(() => {}) }"
    task = asyncio.create_task(run(code, printed=printed.append))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 1.0)
    pid = int(printed[0])
    async with asyncio.timeout(10):
        while watchdog.memory(pid):
            await asyncio.sleep(0.01)


def test_calls_of_several_event_loops_share_processes(run: Run) -> None:
    first, second = (asyncio.run(run("() => Deno.pid")) for _ in range(2))
    assert first == second


# As tools


async def test_a_tool_is_checked_on_both_sides(tmp_path: Path) -> None:
    around = Surroundings(RuntimePlan(), tmp_path)
    tool = ToolPlan(
        "t",
        type="javascript",
        execute="({ a }) => a",
        input_schema={"type": "object", "required": ["a"]},
        output_schema={"type": "object", "properties": {"value": {"type": "integer"}}},
    )
    assert await dispatch.call(tool, {"a": 1}, around) == {"value": 1}
    assert await dispatch.call(tool, {"a": None}, around) == {}
    with pytest.raises(InputInvalid):
        await dispatch.call(tool, {}, around)
    with pytest.raises(OutputInvalid):
        await dispatch.call(tool, {"a": "x"}, around)


async def test_a_mock_starts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Launch, "start", lambda launch: pytest.fail("a process was started"))
    answers = Mocks.from_mapping({"tools": {"t": {"output": {"a": 1}}}})
    tool = ToolPlan("t", type="javascript", execute="() => 9")
    around = Surroundings(RuntimePlan(), tmp_path)
    assert await dispatch.call(tool, {}, around, mocks=answers) == {"a": 1}


async def test_offline_runs_what_has_no_network(tmp_path: Path) -> None:
    tool = ToolPlan("t", type="javascript", execute="() => 9")
    around = Surroundings(RuntimePlan(), tmp_path)
    assert await dispatch.call(tool, {}, around, offline=True) == {"value": 9}
    net = Surroundings(RuntimePlan(permissions=("--allow-net=example.com",)), tmp_path)
    with pytest.raises(ToolFailed, match="it needs the network"):
        await dispatch.call(tool, {}, net, offline=True)


def test_other_engines_are_run_on_deno_and_said_so() -> None:
    tool = ToolPlan("t", type="javascript")
    assert "`node`" in str(notice(RuntimePlan(type="node"), [tool]))
    assert notice(RuntimePlan(type="deno"), [tool]) is None
    assert notice(RuntimePlan(type="bun"), [ToolPlan("t", type="http")]) is None
