"""Tools in JavaScript and TypeScript, run by the real engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from compozy_prefect.compiler.plan import RuntimePlan, ToolPlan
from compozy_prefect.errors import InputInvalid, OutputInvalid, ToolFailed
from compozy_prefect.runtime.js.call import notice
from compozy_prefect.runtime.js.code import as_module
from compozy_prefect.runtime.js.engine import Launch
from compozy_prefect.runtime.js.permissions import Permissions, Refused
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.processes import landlock, pool, watchdog
from compozy_prefect.runtime.tools import dispatch
from compozy_prefect.runtime.tools.surroundings import Surroundings
from tests.support.javascript import Run, failure, goes_wrong, runner

pytestmark = pytest.mark.usefixtures("no_engine_left")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runner(tmp_path, "deno", "deno", "tools.ts")


# What a function may look like


@pytest.mark.parametrize(
    "code",
    [
        "({ a }: { a: number }): number => a",
        "enum E { X }\nfunction f({ a }: { a: number }) { return a + E.X }",
    ],
)
async def test_code_is_typescript_as_well(run: Run, code: str) -> None:
    assert await run(code, {"a": 3}) == 3


def test_lines_of_code_stay_where_they_are() -> None:
    code = "\n\n  ({ a }) => a"
    assert as_module(code) == ("\n\n  export default ({ a }) => a", "js")


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


async def test_an_import_may_leave_the_ending_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "more.ts").write_text("export const more: number = 2")
    entry = 'import { more } from "./lib/more";\nexport const t = () => more'
    for permissions in ((), ("--allow-read=lib",), ("--allow-read",)):
        assert await run(entry=entry, permissions=permissions) == 2


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
        ("() => Deno.exit(3)", "exit", "with code 3"),
        ("import './nowhere.js'; export default () => 1", "permission", "nowhere"),
    ],
)
async def test_what_goes_wrong_is_said(run: Run, code: str, kind: str, words: str) -> None:
    await goes_wrong(run, code, kind, words)


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
