"""How the engine is started: its flags, its files, and the second fence around them."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime.js import links
from compozy_prefect.runtime.js.code import Module
from compozy_prefect.runtime.processes import landlock, watchdog
from compozy_prefect.runtime.processes.worker import CallFailed, Worker

MEMORY = 2048 << 20  # bytes, where `memory_limit` says nothing
_ROOM = 768 << 20  # bytes that the engine reserves beyond what it uses
RUNNER = Path(__file__).with_name("deno.js")

_ENGINE = (
    *("run", "--quiet", "--no-prompt", "--no-config", "--no-lock"),
    # Nothing is fetched: packages are those of `node_modules`.
    *("--no-remote", "--cached-only", "--node-modules-dir=manual"),
    *("--unstable-sloppy-imports", "--unstable-detect-cjs"),
)
_ENVIRONMENT = {"DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """How a process is started; calls with the same one may share it.

    `engine` is the program, and `folder` that of its own files.
    """

    engine: str
    folder: str
    root: str
    module: Module
    flags: tuple[str, ...]
    read: tuple[str, ...]
    write: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = field(repr=False, default=())
    memory: int = MEMORY

    def command(self) -> list[str]:
        heap = self.memory >> 20
        return [
            self.engine,
            *_ENGINE,
            f"--v8-flags=--max-old-space-size={heap}",
            *self.flags,
            str(RUNNER),
        ]

    def start(self) -> Worker:
        """A new process. Blocks for some milliseconds. Raises CallFailed."""
        return _start(self)


def _start(launch: Launch) -> Worker:
    started: list[subprocess.Popen[bytes]] = []
    faults: list[Exception] = []

    def spawn() -> None:
        try:
            if landlock.version():
                read = (
                    *(str(RUNNER.parent), launch.folder, launch.root + "/node_modules"),
                    *launch.module.described(launch.root),
                    *launch.read,
                )
                landlock.restrict(launch.engine, read, (*launch.write, launch.folder))
            started.append(
                subprocess.Popen(  # noqa: S603 - the engine of the wheel, and flags of ours
                    launch.command(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=launch.root,
                    env={**dict(launch.variables), **_ENVIRONMENT, "DENO_DIR": launch.folder},
                    bufsize=0,
                    start_new_session=True,
                )
            )
        except (OSError, ValueError) as fault:
            faults.append(fault)

    if not landlock.version():
        path = links.outward([*launch.read, *launch.write])
        if path is not None:
            raise CallFailed(
                "start", f"the link `{path}` leads out of what `runtime.permissions` allows"
            )
    # Never one of a pool: what a thread is fenced in with stays.
    thread = threading.Thread(target=spawn)
    thread.start()
    thread.join()
    if faults:
        raise CallFailed("start", f"the engine does not start: {faults[0]}")
    watchdog.bound(started[0].pid, data=launch.memory + _ROOM)
    head: dict[str, Json] = {"entry": Path(launch.module.path).as_uri()}
    return Worker(_Engine(started[0]), launch.memory, head, _explain)


class _Engine:
    """The engine's process, which starts no other."""

    reason = ""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.pid = process.pid
        self.streams: tuple[IO[bytes], IO[bytes], IO[bytes]] = (
            process.stdin,
            process.stdout,
            process.stderr,
        )
        self._process = process

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, seconds: float) -> None:
        self._process.wait(seconds)

    def kill(self) -> None:
        if self._process.returncode is None:
            with suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)

    def forget(self) -> None:
        for stream in self.streams:
            with suppress(OSError):
                stream.close()


def is_out_of_memory(code: int | None, said: str) -> bool:
    """Whether the engine has ended itself so, by its code and its last words."""
    return "out of memory" in said and code is not None and code < 0


def _explain(code: int | None, said: str, is_first: bool) -> CallFailed | None:
    if is_out_of_memory(code, said):
        return CallFailed("memory")
    if is_first and code and said.startswith("error:"):
        return CallFailed("start", f"the engine does not start: {said[:500]}")
    return None
