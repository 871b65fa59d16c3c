"""Tools of `type: cli`: real programs, their limits, and what is left of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.plan import (
    ArgumentPlan,
    CommandPlan,
    ExecPlan,
    NativePlan,
    RuntimePlan,
    ToolPlan,
)
from compozy_prefect.errors import ToolFailed
from compozy_prefect.expressions import Environment
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.processes import guarded, landlock
from compozy_prefect.runtime.processes.guarded import Fence, Limits, Program
from compozy_prefect.runtime.tools import cli, dispatch, programs
from compozy_prefect.runtime.tools.surroundings import Surroundings
from tests.support.processes import mine, nobody_left

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Calls a tool whose program may be any of `allow`, or the shell script `script`."""

    async def run(
        *command: Any,
        script: str = "",
        input: Any = None,
        allow: tuple[str, ...] = (),
        seconds: float = 20.0,
        most: int = 2 << 20,
        memory: int = 0,
        around: Any = None,
        offline: bool = False,
        **config: Any,
    ) -> Any:
        if script:
            file = tmp_path / "run.sh"
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(0o755)
            command, allow = ("./run.sh", *command), (*allow, "./run.sh")
        limits = ExecPlan(max_stdout=most, allowlist=tuple(map(CommandPlan, allow)))
        runtime = RuntimePlan(native_tools=NativePlan(exec=limits), memory_limit=memory << 20)
        given = {"command": list(command), **config}
        rendered = cli.rendered(given, {"input": input or {}}, Environment(), "", {})
        tool = ToolPlan("t", type="cli", config=given, timeout=seconds)
        surroundings = Surroundings(runtime, tmp_path, **(around or {}))
        return await dispatch.call(
            tool, input or {}, surroundings, config=lambda: rendered, offline=offline
        )

    return run


async def failure(awaitable: Any) -> ToolFailed:
    with pytest.raises(ToolFailed) as raised:
        await awaitable
    return raised.value


# What goes in and out


async def test_the_result_is_what_it_wrote(run: Run) -> None:
    assert await run("echo", "a b", "c") == {"exit_code": 0, "data": "a b c\n", "stderr": ""}


@pytest.mark.parametrize(
    ("written", "data"),
    [
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("12", 12),
        ("true", True),
        ("words", "words\n"),
        ("NaN", "NaN\n"),
        ("{a}", "{a}\n"),
    ],
)
async def test_json_is_read_where_it_is_json(run: Run, written: str, data: Any) -> None:
    assert (await run("echo", written))["data"] == data
    assert (await run("echo", written, stdout="text"))["data"] == f"{written}\n"


async def test_the_input_is_on_stdin_unless_the_file_says_what_is(run: Run) -> None:
    given = {"text": "ä", "n": [1]}
    assert (await run("cat", input=given))["data"] == given
    assert (await run("cat", input=given, stdin="words"))["data"] == "words"
    assert (await run("cat", input=given, stdin={"a": 1}))["data"] == {"a": 1}
    assert (await run("cat", input=given, stdin=None))["data"] == ""
    large = {"text": "x" * 1_000_000}
    assert (await run("cat", input=large))["data"] == large
    assert (await run("echo", "not interested", input=large))["exit_code"] == 0


async def test_templates_are_rendered_one_argument_at_a_time(run: Run) -> None:
    command = ["echo", "{{ .input.name }}", "n={{ .input.n }}", "{{ .input.n }}", "{{ .input.b }}"]
    given = {"name": "a b; c", "n": 1.5, "b": True}
    assert (await run(*command, input=given))["data"] == "a b; c n=1.5 1.5 true\n"
    given = {"name": "", "n": "007", "b": '{"a": 1}'}
    assert (await run(*command, input=given))["data"] == ' n=007 007 {"a": 1}\n'


async def test_an_argument_has_to_be_text(run: Run) -> None:
    for value, what in (([1], "a list"), ({}, "a map"), (None, "null")):
        fault = await failure(run("echo", "{{ .input.x }}", input={"x": value}))
        assert f"element 2 of `config.command` is {what}" in fault.message
        assert not fault.retryable


async def test_its_folder_is_the_projects_or_one_in_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "out").symlink_to("/")
    assert (await run("pwd"))["data"] == f"{tmp_path}\n"
    assert (await run("pwd", cwd="sub"))["data"] == f"{tmp_path}/sub\n"
    for folder, words in (("..", "leads out of"), ("out", "leads out of"), ("no", "no folder")):
        assert words in (await failure(run("pwd", cwd=folder))).message


async def test_its_environment_is_what_is_declared(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTSIDE", "1")
    around = {"declared": {"OWN": "x y", "LD_PRELOAD": "/x.so"}, "outside": dict(os.environ)}
    said = (await run(script="env", around=around))["data"]
    names = {line.partition("=")[0] for line in said.splitlines()} - {"PWD", "_", "SHLVL"}
    assert names == {"PATH", "LANG", "OWN"}
    assert "OWN=x y" in said


def test_programs_of_the_project_are_not_in_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:.:relative:/usr/bin:{tmp_path}")
    assert programs.path_of(tmp_path) == ["/usr/bin"]


async def test_an_exit_code_is_a_failure_unless_the_file_says_no(run: Run) -> None:
    script = "echo out; echo why >&2; exit 3"
    fault = await failure(run(script=script))
    assert fault.message == "tool `t`: `./run.sh` ended with code 3: why"
    assert fault.details["exit_code"] == 3
    assert (fault.details["stdout"], fault.details["stderr"]) == ("out\n", "why\n")
    result = await run(script=script, fail_on_error=False)
    assert result == {"exit_code": 3, "data": "out\n", "stderr": "why\n"}
    assert "with signal 15" in (await failure(run(script="kill -TERM $$"))).message


async def test_of_errors_the_end_is_kept_and_goes_to_the_log(run: Run) -> None:
    printed: list[str] = []
    script = "seq 1 10000 >&2"
    result = await run(script=script, around={"printed": printed.append})
    assert len(result["stderr"]) == 1024
    assert result["stderr"].endswith("\n9999\n10000\n")
    assert printed == [result["stderr"]]


async def test_a_failure_names_the_place(run: Run) -> None:
    place = {"place": ("tools.yaml", 7, 12, 7, 30)}
    fault = await failure(run("rm", "-rf", ".", around=place))
    assert fault.message.endswith("(tools.yaml:7)")
    assert (fault.code, fault.details["column"]) == ("TOOL_NOT_ALLOWED", 12)


# Which programs


async def test_a_program_is_allowed_by_name_or_path(run: Run, tmp_path: Path) -> None:
    real = programs.find(["cat"], RuntimePlan(), tmp_path).path
    for allow, command in (("seq", "seq"), ("seq", "/usr/bin/seq"), ("/usr/bin/seq", "seq")):
        assert (await run(command, "2", allow=(allow,)))["data"] == "1\n2\n"
    assert os.path.basename(real) == "cat"
    assert "`seq` is not one of" in (await failure(run("seq", "2"))).message


async def test_a_link_counts_as_what_it_is_called(run: Run, tmp_path: Path) -> None:
    """As with `busybox`, where one file is many programs."""
    folder = tmp_path.parent / f"{tmp_path.name}-bin"
    folder.mkdir()
    many = folder / "many"
    many.write_text('#!/bin/sh\necho "$(basename "$0")"\n')
    many.chmod(0o755)
    for name in ("one", "two"):
        (folder / name).symlink_to(many)
    (tmp_path / "linked").symlink_to(folder)
    allow = (str(folder / "one"),)
    assert (await run(str(folder / "one"), allow=allow))["data"] == "one\n"
    for other in ("two", "many"):
        assert "is not one of" in (await failure(run(str(folder / other), allow=allow))).message
    # Links of folders are followed.
    assert (await run(f"{tmp_path}/linked/one", allow=allow))["data"] == "one\n"


async def test_a_program_that_is_not_there(run: Run, tmp_path: Path) -> None:
    fault = await failure(run("no-such-program", allow=("no-such-program",)))
    assert "there is no program `no-such-program` in the system's `PATH`" in fault.message
    (tmp_path / "text").write_text("text")
    assert "there is no program" in (await failure(run("./text", allow=("./text",)))).message
    (tmp_path / "text").chmod(0o755)
    fault = await failure(run("./text", allow=("./text",)))
    assert "`./text` cannot be started: Exec format error" in fault.message
    assert fault.code == "TOOL_NOT_FOUND"


async def test_arguments_are_held_to_their_rules(tmp_path: Path) -> None:
    rules = (
        ArgumentPlan(0, "word", r"[a-z]+"),
        ArgumentPlan(1, enum=("fast", "slow"), optional=True),
    )
    one = CommandPlan("echo", arguments=rules, max_args=3)
    for arguments, words in (
        (["a"], ""),
        (["a", "fast"], ""),
        ([], "argument 1 of `echo`, `word`, is missing"),
        (["A"], "is `A`, which does not fit `[a-z]+`"),
        (["a", "x"], "argument 2 of `echo` is `x`; it may be fast, slow"),
        (["a", "fast", "more"], "`echo` may not be called with `more`"),
        (["a", "fast", "b", "c"], "has 4 arguments, and may have 3"),
    ):
        runtime = RuntimePlan(native_tools=NativePlan(exec=ExecPlan(allowlist=(one,))))
        if not words:
            assert programs.find(["echo", *arguments], runtime, tmp_path).entry == one
            continue
        with pytest.raises(programs.NotAllowed) as raised:
            programs.find(["echo", *arguments], runtime, tmp_path)
        assert words in str(raised.value)
    slow = CommandPlan("echo", arguments=(ArgumentPlan(0, pattern="(a+)+b"),))
    runtime = RuntimePlan(native_tools=NativePlan(exec=ExecPlan(allowlist=(slow,))))
    with pytest.raises(programs.NotAllowed):  # which another engine would try for years
        programs.find(["echo", "a" * 100], runtime, tmp_path)
    loose = replace(one, additional=True)
    runtime = RuntimePlan(native_tools=NativePlan(exec=ExecPlan(allowlist=(loose,))))
    programs.find(["echo", "a", "fast", "more"], runtime, tmp_path)


# How they end


async def test_calls_at_once_do_not_disturb_each_other(run: Run) -> None:
    async def one(n: int) -> Any:
        if n % 4 == 3:
            return await failure(run("sleep", "98765", seconds=0.5))
        return await run("echo", str(n))

    results = await asyncio.gather(*(one(n) for n in range(16)))
    for n, result in enumerate(results):
        if n % 4 == 3:
            assert result.code == "TOOL_TIMEOUT"
        else:
            assert result["data"] == n
    await nobody_left()


async def test_a_call_that_is_cancelled_leaves_nothing(run: Run) -> None:
    for after in (0.0, 0.02, 0.3):
        task = asyncio.create_task(run(script="sleep 98765 & sleep 98765"))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await nobody_left()


async def test_nothing_is_left_when_the_flow_is_killed(tmp_path: Path) -> None:
    code = f"""
import asyncio
from pathlib import Path
from compozy_prefect.runtime.processes import command
from compozy_prefect.runtime.processes.guarded import Program
script = "setsid sleep 98765 & (setsid sleep 98765 &) ; echo; sleep 98765"
program = Program(("/bin/sh", "-c", script), {str(tmp_path)!r})
asyncio.run(command.run(program, b"", seconds=None, most_out=9999, most_err=9999))
"""
    flow = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 20
    while len(mine()) < 3 and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert len(mine()) == 3
    flow.send_signal(signal.SIGKILL)
    flow.wait()
    await nobody_left()


@pytest.mark.skipif(os.geteuid() != 0, reason="it becomes somebody else")
@pytest.mark.parametrize("storm", ["os.fork()", "os.fork() or os.setsid()"])
async def test_a_user_without_privileges_is_bounded_too(
    storm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a PID namespace the guard finds what it has to end."""
    python = "/usr/bin/python3"
    if not os.path.exists(python):
        pytest.skip("it needs a Python that everybody may run")
    source = Path(guarded.__file__).parent
    folder = Path(f"/tmp/compozy-guard-{os.getpid()}")
    folder.mkdir(mode=0o755)
    popen = subprocess.Popen
    try:
        for name in ("guard.py", "landlock.py"):
            (folder / name).write_text((source / name).read_text())
        monkeypatch.setattr(sys, "executable", python)
        monkeypatch.setattr(guarded, "_GUARD", folder / "guard.py")
        monkeypatch.setattr(
            guarded.subprocess, "Popen", lambda *a, **k: popen(*a, **k, user=65534, group=65534)
        )
        for script, reason in (
            ("import os, time\nif os.fork() == 0:\n  os.setsid()\n  time.sleep(98765)", ""),
            ("import os\nos.kill(os.getppid(), 9)\nimport time; time.sleep(98765)", "error"),
            (f"import os, time\nfor _ in range(14): {storm}\ntime.sleep(9)", "processes"),
        ):
            program = Program((python, "-c", script), "/", limits=Limits(processes=64))
            began = time.monotonic()
            process = await asyncio.to_thread(guarded.start, program)
            await asyncio.to_thread(process.wait, 30)
            assert time.monotonic() - began < 20
            if reason == "error":
                assert process.returncode == 1
            else:
                assert process.reason == reason
            process.forget()
            await nobody_left()
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


async def test_limits_of_the_kernel_are_set(run: Run) -> None:
    said = (await run(script="ulimit -c; ulimit -n; ulimit -t"))["data"].split()
    assert said == ["0", "1024", "21"]


async def test_a_fence_holds_for_what_a_program_starts(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("inside")
    (tmp_path / "b").write_text("outside")
    program = Program(
        ("/bin/sh", "-c", "cat a; cat ../b; echo x > new; echo y > ../new; cat new"),
        str(tmp_path / "in"),
        env={"PATH": "/usr/bin:/bin"},
        fence=Fence(landlock.PROGRAMS, read=(str(tmp_path / "in"),), write=(str(tmp_path / "in"),)),
    )
    process = guarded.start(program)
    said = process.streams[1].read() or b""
    process.close()
    assert said == b"insidex\n"
    assert not (tmp_path / "new").exists()


# As tools


async def test_a_mock_starts_nothing(tmp_path: Path) -> None:
    tool = ToolPlan("t", type="cli", config={"command": ["rm", "-rf", "/"]})
    answers = Mocks.from_mapping({"tools": {"t": {"output": {"a": 1}}}})
    around = Surroundings(RuntimePlan(), tmp_path)
    assert await dispatch.call(tool, {}, around, mocks=answers) == {"a": 1}


async def test_the_result_is_held_to_its_schema(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"data": {"type": "object"}}}
    tool = ToolPlan("t", type="cli", config={"command": ["cat"]}, output_schema=schema)
    around = Surroundings(RuntimePlan(), tmp_path)
    result = await dispatch.call(tool, {"a": 1}, around)
    assert json.dumps(result["data"]) == '{"a": 1}'
