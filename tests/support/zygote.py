"""A process that has imported everything, and is forked for every `compozy` command.

Importing Prefect takes two seconds, and starting it some hundred times is most of what a test of
crashes would do. The command in the fork is the real one: its own process id, environment,
streams, event loop and connections, and it ends or dies by itself.

    zygote = Zygote(env)                  # the environment in which Prefect finds its server
    one = zygote.start("run", ".", "--json", cwd=folder, env={"COMPOZY_FAULT": …})
    one.kill(); one.wait(30); one.err()

Linux only, as a fork of a process with Prefect in it has to be.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


class Zygote:
    """Use as a context manager. `folder` takes what the commands print."""

    def __init__(
        self, folder: Path, env: dict[str, str] | None = None, without: tuple[str, ...] = ()
    ) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={**{k: v for k, v in os.environ.items() if k not in without}, **(env or {})},
        )

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def start(
        self,
        *arguments: str,
        cwd: Path,
        env: dict[str, str] | None = None,
        visits: Path | None = None,
    ) -> Command:
        """`compozy` with these arguments, running. `visits` takes the places that it comes to."""
        base = self._folder / f"command-{next(self._numbers)}"
        out, err = Path(f"{base}.out"), Path(f"{base}.err")
        err.touch()
        out.touch()
        request = {
            "arguments": [str(one) for one in arguments],
            "cwd": str(cwd),
            "env": env or {},
            "out": str(out),
            "err": str(err),
            "visits": str(visits or ""),
        }
        return Command(self, self.ask(request), out, err)

    def end(self) -> None:
        """Kills all commands that are running still, as those of a test that failed."""
        self.ask({"end": True})

    def ask(self, request: Any) -> int | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: int | None = json.loads(self._process.stdout.readline())
        return answer


class Command:
    """A command in a process of its own. `code` as soon as it has ended, negative for a signal."""

    def __init__(self, zygote: Zygote, pid: int | None, out: Path, err: Path) -> None:
        assert pid is not None
        self._zygote, self.pid, self._out, self._err = zygote, pid, out, err
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._zygote.ask({"wait": self.pid})
        return self._code

    def wait(self, seconds: float) -> int:
        """Its exit code. Raises TimeoutError, and kills it, when it takes longer."""
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"not over in {seconds:g} s: {self.err()}")
            time.sleep(0.01)
        return code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            while self.poll() is None:
                time.sleep(0.005)

    def out(self) -> str:
        return self._out.read_text("utf-8")

    def err(self) -> str:
        return self._err.read_text("utf-8")

    @property
    def json(self) -> Any:
        return json.loads(self.out())

    @property
    def execution(self) -> str:
        """The id of the execution that it runs; empty before it has said it."""
        for line in self.err().splitlines(keepends=True):
            if line.startswith("run ") and line.endswith("\n"):
                return line.split()[1]
        return ""


def _main() -> None:
    # What the command would do first, and the imports it would make.
    from compozy_prefect.flows import local

    local.reach()

    import prefect.main
    import prefect.task_engine  # noqa: F401

    import compozy_prefect.cli.executions
    import compozy_prefect.cli.run
    import compozy_prefect.flows.control
    import compozy_prefect.flows.resume
    import compozy_prefect.flows.run
    import compozy_prefect.runtime.tools.http  # noqa: F401

    running: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
            running.discard(pid)
        elif "end" in request:
            answer = _end(running)
        else:
            answer = os.fork()
            if answer == 0:
                _command(request)
            running.add(answer)
        print(json.dumps(answer), flush=True)
    _end(running)


def _end(running: set[int]) -> None:
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    running.clear()


def _command(request: Any) -> None:
    import importlib

    from prefect.context import refresh_global_settings_context

    from compozy_prefect import cli, faults

    try:
        for number, file in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
            flags = os.O_RDWR | os.O_CREAT if number else os.O_RDONLY
            os.dup2(os.open(file, flags, 0o600), number)
        os.chdir(request["cwd"])
        os.environ |= request["env"]
        if any(name.startswith("PREFECT_") for name in request["env"]):
            refresh_global_settings_context()
        importlib.reload(faults)
        if request["visits"]:
            _note_visits(Path(request["visits"]))
        sys.argv = ["compozy", *request["arguments"]]
        cli.entry()
    finally:
        os._exit(99)


def _note_visits(file: Path) -> None:
    """Writes down the places of `faults` that the command comes to, a line for each visit."""
    from compozy_prefect import faults

    go_on = faults.point

    async def point(name: str, subject: str = "") -> None:
        with file.open("a") as lines:
            lines.write(f"{name}\n")
        await go_on(name, subject)

    faults.point = point


if __name__ == "__main__":
    _main()
