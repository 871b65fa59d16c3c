"""A program and its limits → a process of it that a guard looks after (`guard.py`).

It has its own folder, environment and limits, and all that it has started is gone when it is: after
its end, a limit, a time-out, and after the end of this process, however that comes. Only on Linux
are memory, processor time and what left its session looked after.
"""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from compozy_prefect.errors import CompozyError
from compozy_prefect.runtime.processes.watchdog import LIFE_SECONDS

MEMORY = 2048 << 20  # bytes, where nothing else is said
PROCESSES = 128  # at a time, of one program
OPEN_FILES = 1024
ENDED_BY = {
    "memory": "it took more memory than its limit",
    "cpu": "it took more processor time than its limit",
    "processes": "it started more processes than it may",
}
"""Of the limit that ended a program, the words."""

_ROOM = 64 << 20  # bytes that a process may reserve beyond what it may use
_GUARD = Path(__file__).with_name("guard.py")


class NotStarted(CompozyError):
    """A program that cannot be started; the text says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of memory and seconds of processor time of a program and all that it starts; 0 for no
    bound on the seconds. `processes` may be there at a time, and each has `files` open."""

    memory: int = MEMORY
    cpu: float = 0.0
    processes: int = PROCESSES
    files: int = OPEN_FILES


@dataclass(frozen=True, slots=True)
class Fence:
    """The only files of a program, by Landlock: what it may start, read, and write.

    Of the folders of `listed` it sees the names of what is in them.
    """

    run: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """What is started: the program `path`, or that which `argv` begins with; with a `runner`, a
    file, its `main(argv)` in a Python. `is_offline`: without a network, as far as the system can
    take it away. `is_narrow`: without sockets other than those of the internet, and offline without
    any; and it cannot change the attributes of files. Where that cannot be, it does not start.
    """

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = Limits()
    fence: Fence | None = None
    is_offline: bool = False
    is_narrow: bool = False
    path: str = ""
    runner: str = ""

    def to_marshal(self) -> bytes:
        limits, fence = self.limits, self.fence
        bounds = [
            # What a program reserves is a multiple of what it uses, for some; for Python it is not.
            ("DATA", limits.memory + _ROOM if self.runner else 4 * limits.memory + _ROOM),
            ("CPU", min(int(limits.cpu or LIFE_SECONDS) + 1, LIFE_SECONDS)),
            ("NOFILE", limits.files),
            ("CORE", 0),
        ]
        spec = {
            "path": self.path or self.argv[0],
            "argv": list(self.argv),
            "cwd": self.cwd,
            "env": dict(self.env),
            "bounds": bounds,
            "memory": limits.memory,
            "cpu": limits.cpu,
            "processes": limits.processes,
            "fence": fence
            and [[*one] for one in (fence.run, fence.read, fence.write, fence.listed)],
            "offline": self.is_offline,
            "narrow": self.is_narrow,
            "runner": self.runner,
        }
        return marshal.dumps(spec)


def start(program: Program) -> Guarded:
    """Blocks for some 30 ms. Raises NotStarted."""
    asked, asks = os.pipe()
    hears, answers = os.pipe()
    # `site` has the packages of a project, which a program that is no Python does not need.
    flags = ["-I", "-X", "utf8"] if program.runner else ["-I", "-S"]
    try:
        guard = subprocess.Popen(  # noqa: S603 - this interpreter, and a script of ours
            [sys.executable, *flags, str(_GUARD), str(asked), str(answers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            bufsize=0,
            pass_fds=(asked, answers),
            start_new_session=True,
        )
    except OSError as fault:
        os.close(asks)
        os.close(hears)
        raise NotStarted(f"no process can be started: {fault.strerror}") from None
    finally:
        os.close(asked)
        os.close(answers)
    started = Guarded(guard, asks, hears)
    body = program.to_marshal()
    try:
        _write(asks, len(body).to_bytes(4, "little") + body)
        pid, why = started.hear()
    except (OSError, ValueError) as fault:
        started.close()
        raise NotStarted(f"its guard does not start: {fault}") from None
    if why:
        started.close()
        raise NotStarted(why)
    started.pid = pid
    return started


class Guarded:
    """A program that was started. `pid` is its own; `reason` is what limit ended it, if one did.

    `returncode` is None while it or its guard is there.
    """

    def __init__(self, guard: subprocess.Popen[bytes], asks: int, hears: int) -> None:
        assert guard.stdin is not None
        assert guard.stdout is not None
        assert guard.stderr is not None
        self.pid = 0
        self.returncode: int | None = None
        self.reason = ""
        self.streams: tuple[IO[bytes], IO[bytes], IO[bytes]] = (
            guard.stdin,
            guard.stdout,
            guard.stderr,
        )
        self._guard = guard
        self._asks, self._hears = asks, hears

    @property
    def hears(self) -> int:
        """The descriptor that can be read when the program has ended, and all that it started."""
        return self._hears

    def hear(self) -> tuple[int, str]:
        """What the guard says next. Raises ValueError when it says nothing."""
        size = int.from_bytes(_read(self._hears, 4), "little")
        code, why = marshal.loads(_read(self._hears, size))  # noqa: S302 - of our own script
        return int(code), str(why)

    def poll(self) -> int | None:
        if self.returncode is None and self._guard.poll() is not None:
            try:
                self.returncode, self.reason = self.hear()
            except (ValueError, OSError):  # the guard was killed
                self.returncode, self.reason = -9, ""
        return self.returncode

    def wait(self, seconds: float) -> None:
        """Raises subprocess.TimeoutExpired."""
        self._guard.wait(seconds)
        self.poll()

    def kill(self) -> None:
        """Has it ended, with all that it started; some milliseconds later it is."""
        asks, self._asks = self._asks, -1
        if asks >= 0:
            with suppress(OSError):
                os.write(asks, b".")  # a child that was forked may have it open as well
            os.close(asks)

    def close(self) -> None:
        """Ends it and waits for it."""
        self.kill()
        try:
            self.wait(10.0)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self.forget()

    def forget(self) -> None:
        """Lets go of it in a child that was forked, and leaves it to the parent."""
        for stream in self.streams:
            with suppress(OSError):
                stream.close()
        for name in ("_asks", "_hears"):
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                os.close(fd)


def _write(fd: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(fd, view) :]


def _read(fd: int, size: int) -> bytes:
    out = b""
    while len(out) < size:
        chunk = os.read(fd, size - len(out)) if fd >= 0 else b""
        if not chunk:
            raise ValueError("it ended without a word")
        out += chunk
    return out
