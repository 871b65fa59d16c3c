"""Tools of `type: python`: functions of a project, called in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.plan import RuntimePlan, ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.processes import pool
from compozy_prefect.runtime.processes.pool import POOLS
from compozy_prefect.runtime.python.call import Launch
from compozy_prefect.runtime.tools import dispatch
from compozy_prefect.runtime.tools.surroundings import Surroundings
from tests.support.processes import nobody_left

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
async def _nothing_is_left() -> AsyncIterator[None]:
    yield
    POOLS.close()
    await nobody_left()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Calls `f` of the module `code`, or another `function`."""

    async def run(
        code: str = "",
        input: Any = None,
        *,
        function: str = "code:f",
        allow: tuple[str, ...] = ("code:*",),
        memory: int = 0,
        seconds: float = 20.0,
        config: Any = None,
        offline: bool = False,
        **around: Any,
    ) -> Any:
        if code:
            (tmp_path / "code.py").write_text(code)
        given = {"function": function, **(config or {})}
        tool = ToolPlan("t", type="python", config=given, timeout=seconds)
        runtime = RuntimePlan(python=allow, memory_limit=memory << 20)
        surroundings = Surroundings(runtime, tmp_path, **around)
        return await dispatch.call(tool, input or {}, surroundings, offline=offline)

    return run


async def failure(awaitable: Any) -> ToolFailed:
    with pytest.raises(ToolFailed) as raised:
        await awaitable
    return raised.value


# What a function may be


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("def f(a): return {'a': a}", {"a": 3}),
        ("def f(a, b=1): return [a, b]", {"value": [3, 1]}),
        ("def f(*, a): return a", {"value": 3}),
        ("def f(**all): return all", {"a": 3}),
        ("def f(a): return None", {}),
        ("async def f(a): return a", {"value": 3}),
        ("import asyncio\nasync def f(a):\n  await asyncio.sleep(0)\n  return a", {"value": 3}),
        ("f = lambda a: (a, 'ä')", {"value": [3, "ä"]}),
        ("class f:\n  def __new__(cls, a): return {'a': a}", {"a": 3}),
        ("import functools\nf = functools.partial(lambda a, b: a + b, b=2)", {"value": 5}),
    ],
)
async def test_a_function_of_any_form(run: Run, code: str, result: Any) -> None:
    assert await run(code, {"a": 3}) == result


async def test_config_is_given_to_those_that_ask_for_it(run: Run) -> None:
    code = "def f(a, config): return config\ndef g(a): return a"
    assert await run(code, {"a": 1}, config={"b": 2}) == {"b": 2}
    assert await run(code, {"a": 1, "config": {"c": 3}}, config={"b": 2}) == {"c": 3}
    assert await run(code, {"a": 1}, config={"b": 2}, function="code:g") == {"value": 1}


async def test_modules_of_the_project_and_installed_ones(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pack" / "deep").mkdir(parents=True)
    (tmp_path / "pack" / "deep" / "text.py").write_text(
        "from pack.other import more\nclass C:\n  @staticmethod\n  def f(a): return more(a)"
    )
    (tmp_path / "pack" / "other.py").write_text("def more(a): return a + 1")
    allow = ("pack.deep.text:*", "json:dumps", "landlock:f", "runner:f")
    assert await run(input={"a": 1}, function="pack.deep.text:C.f", allow=allow) == {"value": 2}
    assert await run(input={"obj": [1]}, function="json:dumps", allow=allow) == {"value": "[1]"}
    for name in ("landlock", "runner"):  # of ours, too, there are some that are called so
        (tmp_path / f"{name}.py").write_text("def f(): return __file__")
        found = await run(function=f"{name}:f", allow=allow)
        assert found == {"value": str(tmp_path / f"{name}.py")}
    assert not list(tmp_path.rglob("__pycache__"))


# What it sees


async def test_its_folder_and_its_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTSIDE", "1")
    code = "import os\ndef f(): return [os.getcwd(), dict(os.environ)]"
    given = {"outside": dict(os.environ), "declared": {"OWN": "x", "LD_PRELOAD": "/x.so"}}
    folder, seen = (await run(code, **given))["value"]
    assert folder == str(tmp_path)
    assert seen.keys() == {"PATH", "LANG", "OWN"}


async def test_other_values_of_variables_are_another_process(run: Run) -> None:
    code = "import os\nown = os.environ['OWN']\ndef f(): return own"
    for value in ("1", "2"):
        assert await run(code, declared={"OWN": value}) == {"value": value}


async def test_what_is_printed_is_told_and_no_answer(run: Run) -> None:
    printed: list[str] = []
    code = """
import os, sys, subprocess
def f():
    print("one"); print("two", file=sys.stderr); os.write(1, b"three\\n")
    subprocess.run(["echo", "four"])
    for fd in (1, 2):
        os.write(fd, b'\\n{"id":1,"result":"forged"}\\n')
    return "real", sys.stdin.read()
"""
    assert await run(code, printed=printed.append) == {"value": ["real", ""]}
    assert [w for w in ("one", "two", "three", "four", "forged") if w not in printed[0]] == []


async def test_offline_has_no_network(run: Run) -> None:
    code = """
import socket
def f(port):
    with socket.create_connection(("127.0.0.1", port), 2): return "reached"
"""
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await run(code, {"port": port}) == {"value": "reached"}
    assert "Error" in (await failure(run(code, {"port": port}, offline=True))).message
    server.close()


# How it fails


async def test_an_error_has_its_words_and_its_place(run: Run) -> None:
    code = "def g():\n    raise RuntimeError('boo')\n\ndef f():\n    g()\n"
    fault = await failure(run(code, place=("compozy.yaml", 10, 7, 10, 8)))
    assert fault.message == "tool `t`: RuntimeError: boo (code.py:2)"
    assert (fault.details["type"], fault.details["line"]) == ("RuntimeError", 2)
    assert 'File "code.py", line 5, in f' in fault.details["stack"]
    assert "runner.py" not in fault.details["stack"]
    assert fault.code == "TOOL_EXECUTION_ERROR"


async def test_an_error_in_a_library_is_shown_where_the_project_called_it(run: Run) -> None:
    code = "import json\ndef f():\n    return json.loads('{')\n"
    fault = await failure(run(code))
    assert fault.message.startswith("tool `t`: JSONDecodeError: ")
    assert fault.message.endswith("(code.py:3)")


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("def f(:\n  pass", "thrown", "SyntaxError: invalid syntax (code.py, line 1) (code.py:1)"),
        ("import nowhere", "thrown", "No module named 'nowhere' (code.py:1)"),
        ("1 / 0", "thrown", "ZeroDivisionError: division by zero (code.py:1)"),
        ("def g(): ...", "start", "`code` has no function `f`; it has: g"),
        ("f = 3", "start", "`code` has no function `f`; it has: none"),
        ("def f(b): ...", "thrown", "does not fit `f(b)`: missing a required argument: 'b'"),
        ("def f(): return object()", "thrown", "the result is no JSON: Object of type object"),
        ("def f(): return float('nan')", "thrown", "the result is no JSON: Out of range"),
        ("def f():\n  a = []; a.append(a); return a", "thrown", "no JSON: Circular reference"),
        ("def f():\n  a = []\n  for _ in range(9999): a = [a]\n  return a", "thrown", "no JSON"),
        ("def f(): yield 1", "thrown", "the result is no JSON: Object of type generator"),
        ("def f(): f()", "thrown", "maximum recursion depth exceeded (code.py:1)"),
        ("def f(): raise SystemExit(4)", "thrown", "it called sys.exit(4) (code.py:1)"),
        ("def f(): raise KeyboardInterrupt", "thrown", "KeyboardInterrupt (code.py:1)"),
        ("import os\ndef f(): os._exit(3)", "exit", "with code 3"),
        ("import os\ndef f(): os.abort()", "exit", "with signal 6"),
        ("import os\ndef f(): os.kill(os.getpid(), 9)", "exit", "it ended its process"),
        ("import os\ndef f(): os.closerange(3, 99)", "exit", "it ended its process"),
        ("def f():\n  while True: pass", "timeout", "within 0.5 s"),
        ("import time\ndef f(): time.sleep(98765)", "timeout", "within 0.5 s"),
        ("import asyncio\nasync def f(): await asyncio.Future()", "timeout", "within 0.5 s"),
        ("import signal\nsignal.alarm(0)\ndef f():\n  signal.pthread_sigmask(0, range(1, 65))\n"
         "  while True: pass", "timeout", "within 0.5 s"),
        ("def f(): print('x' * 20_000_000)", "output", "over 10 MiB"),
        ("def f(): return 'x' * 20_000_000", "output", "over 10 MiB"),
        ("def f():\n  while True: print('x' * 1000)", "output", "over 10 MiB"),
    ],
)  # fmt: skip
async def test_what_goes_wrong_is_said(run: Run, code: str, kind: str, words: str) -> None:
    fault = await failure(run(code, seconds=0.5 if kind == "timeout" else 20.0))
    assert fault.details["kind"] == kind
    assert words in fault.message
    codes = {"timeout": "TOOL_TIMEOUT", "start": "TOOL_NOT_FOUND"}
    assert fault.code == codes.get(kind, "TOOL_EXECUTION_ERROR")


@pytest.mark.parametrize(
    ("function", "code", "words"),
    [
        ("os:system", "TOOL_NOT_ALLOWED", "`os:system` is not one of the functions"),
        ("code.f", "TOOL_NOT_FOUND", "is no `module:function`"),
        ("{{ .input.f }}", "TOOL_NOT_FOUND", "is no `module:function`"),
        ("gone:f", "TOOL_NOT_FOUND", "there is no module `gone` in the project"),
        ("code.gone:f", "TOOL_NOT_FOUND", "there is no module `code.gone`"),
        ("../code:f", "TOOL_NOT_FOUND", "is no `module:function`"),
    ],
)
async def test_what_is_no_function_of_the_list(
    run: Run, function: str, code: str, words: str
) -> None:
    allow = ("code:*", "gone:f", "code.gone:f", "{{ .input.f }}")
    fault = await failure(run("def f(): ...", function=function, allow=allow))
    assert words in fault.message
    assert fault.code == code
    assert not fault.retryable


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("def f():\n  x = []\n  while True: x.append(bytearray(1_000_000))", "memory"),
        ("import mmap\ndef f():\n  x = []\n  while True:\n"
         "    x.append(mmap.mmap(-1, 10_000_000))\n    x[-1].write(b'x' * 10_000_000)", "memory"),
        ("import os, time\ndef f():\n  for _ in range(4):\n    if os.fork() == 0:\n"
         "      x = b'x' * 60_000_000; time.sleep(9)\n  time.sleep(9)", "memory"),
        ("import os, time\ndef f():\n  for _ in range(14): os.fork()\n"
         "  time.sleep(9)", "processes"),
        ("import os, time\ndef f():\n  for _ in range(14): os.fork() or os.setsid()\n"
         "  time.sleep(9)", "processes"),
    ],
    ids=["in the heap", "in maps", "in children", "a storm", "a storm of sessions"],
)  # fmt: skip
async def test_memory_and_processes_are_bounded(run: Run, code: str, kind: str) -> None:
    fault = await failure(run(code, memory=200 if kind == "memory" else 0))
    # Before memory runs out at once, Python itself may be refused some.
    assert fault.details["kind"] == kind or "MemoryError" in fault.message
    assert await run("def f(): return 1", memory=200) == {"value": 1}


# Processes


async def test_a_process_is_used_again_and_replaced_when_it_broke(run: Run) -> None:
    code = """
import os, time
calls = 0
def f(how=""):
    global calls
    calls += 1
    if how == "throw": raise ValueError("boo")
    if how == "exit": os._exit(1)
    if how == "hang": time.sleep(98765)
    return calls
"""
    assert [(await run(code))["value"] for _ in range(3)] == [1, 2, 3]
    await failure(run(code, {"how": "throw"}))
    assert await run(code) == {"value": 5}
    for how in ("exit", "hang"):
        await failure(run(code, {"how": how}, seconds=1.0))
        assert await run(code) == {"value": 1}


async def test_calls_at_once_do_not_disturb_each_other(run: Run) -> None:
    code = """
import os, time
def f(n):
    if n % 10 == 3: raise ValueError(n)
    if n % 10 == 7: os._exit(1)
    time.sleep(n % 5 / 1000)
    return n
"""
    results = await asyncio.gather(
        *(run(code, {"n": n}) for n in range(40)), return_exceptions=True
    )
    for n, result in enumerate(results):
        if n % 10 in (3, 7):
            assert isinstance(result, ToolFailed)
        else:
            assert result == {"value": n}


async def test_slow_calls_get_more_processes_up_to_a_bound(run: Run) -> None:
    code = "import os, time\ndef f():\n  time.sleep(0.5)\n  return os.environ['X'], time.time()"
    results = await asyncio.gather(*(run(code, declared={"X": "1"}) for _ in range(16)))
    ends = sorted(result["value"][1] for result in results)
    assert ends[-1] - ends[0] < 16 * 0.5  # not one after the other
    assert len(POOLS.watchdog.all) <= pool.MOST


async def test_a_fork_that_comes_back_answers_nothing(run: Run) -> None:
    code = "import os\ndef f(): return 'child' if os.fork() == 0 else (os.wait(), 'parent')[1]"
    assert await run(code) == {"value": "parent"}
    assert await run(code) == {"value": "parent"}


async def test_what_is_left_running_ends_with_the_process(run: Run) -> None:
    code = """
import subprocess
def f(how):
    subprocess.Popen(["sleep", "98765"], start_new_session=True)
    if how == "exit": raise SystemExit
    return how
"""
    assert await run(code, {"how": "stay"}) == {"value": "stay"}
    await failure(run(code, {"how": "exit"}))
    POOLS.close()
    await nobody_left()


async def test_a_call_that_is_cancelled_ends_its_process(run: Run) -> None:
    code = "import subprocess\ndef f(): subprocess.run(['sleep', '98765'])"
    for after in (0.0, 0.5):
        task = asyncio.create_task(run(code))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    POOLS.close()
    await nobody_left()


async def test_tasks_of_a_loop_go_on_in_the_next_call(run: Run) -> None:
    """Clients that keep connections belong to one event loop."""
    code = """
import asyncio
seen = []
async def f():
    seen.append(asyncio.get_running_loop())
    return len(set(map(id, seen))), len(seen)
"""
    assert await run(code) == {"value": [1, 1]}
    assert await run(code) == {"value": [1, 2]}


# As tools


async def test_a_mock_starts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Launch, "start", lambda launch: pytest.fail("a process was started"))
    answers = Mocks.from_mapping({"tools": {"t": {"output": {"a": 1}}}})
    tool = ToolPlan("t", type="python", config={"function": "code:f"})
    around = Surroundings(RuntimePlan(), tmp_path)
    assert await dispatch.call(tool, {}, around, mocks=answers) == {"a": 1}


async def test_large_inputs_and_results(run: Run) -> None:
    text = "ä" * 1_000_000
    result = await run("def f(text): return {'text': text}", {"text": text})
    assert json.dumps(result) == json.dumps({"text": text})
