"""A process of its own that starts one program, holds it to its limits, and leaves none of it over.

It is run as a script and is told on a pipe what to start. What that program starts in turn comes
back here when it is orphaned, also in a session of its own, so that everything is found at the end:
when the program ends or takes too much, and when the process that asked for it is gone.

With a `runner` the program is Python, in a fork of this interpreter; see `python/runner.py`.
"""

from __future__ import annotations

import marshal
import os
import resource
import select
import signal
import sys
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TICK, SLOWEST_TICK = 0.02, 0.05  # seconds
END_SECONDS = 5.0
IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
THREADS = 1024  # that may be started, where nothing else bounds a storm of processes
_CLOCK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SUBREAPER, _DEATH_SIGNAL = 36, 1
_NEW_PIDS, _NEW_NET, _NEW_MOUNTS = 0x20000000, 0x40000000, 0x00020000
_RECURSIVE_PRIVATE = 0x44000
_NO_EXEC_SUID_DEV = 0xE


def main(asked: int, answers: int) -> None:
    """Says `(pid, "")` or `(0, why not)` in one pipe, and at the end `(code, reason)`.

    The other, once it has told what to start, says by its end that whoever asked is gone.

    `code` is that of the program, negative for a signal; `reason` is `memory`, `cpu` or `processes`
    if a limit ended it.
    """
    size = int.from_bytes(read_exactly(asked, 4), "little")
    spec = marshal.loads(read_exactly(asked, size))  # noqa: S302 - of our own process
    parent = os.getppid()
    prctl(_SUBREAPER, 1)
    reader, writer = os.pipe()
    told, tells = os.pipe()
    own = libc(
        "unshare", _NEW_PIDS | (_NEW_NET if spec["offline"] else 0)
    )  # what is forked from now on ends with the first of it
    first = os.fork()
    if first == 0:
        for fd in (reader, told, asked, answers):
            os.close(fd)
        os.setsid()
        prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if own:
            inside(spec, writer, tells)
        os.close(tells)
        attempt(spec, writer)
    os.close(writer)
    os.close(tells)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # what the program has closed is to read as closed
        os.dup2(nothing, fd)
    why = os.read(reader, 500)
    if why:
        os.waitpid(first, 0)
        say(answers, (0, why.decode("utf-8", "replace")))
        return
    pid = next(iter(children_of(first)), first) if own else first
    say(answers, (pid, ""))
    code, reason = watch(first, asked, parent, spec)
    kill(os.kill, first)  # and with it, where it is the first of a namespace, all the others
    end_all()
    ended = os.read(told, 4)
    if ended and not reason:  # the first of a namespace tells the code of the program
        code = int.from_bytes(ended, "little", signed=True)
    say(answers, (code, reason))


def inside(spec: dict[str, Any], writer: int, tells: int) -> None:
    """The first process of its own PID namespace: it starts the program, and has its children.

    The kernel ends all of them when this one ends. They see no other processes.
    """
    alone = libc("unshare", _NEW_MOUNTS)
    if alone and libc("mount", b"none", b"/", None, _RECURSIVE_PRIVATE, None):
        libc("mount", b"proc", b"/proc", b"proc", _NO_EXEC_SUID_DEV, None)
    pid = os.fork()
    if pid == 0:
        os.close(tells)
        attempt(spec, writer)
    os.close(writer)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    ended = 0
    while ended != pid:
        ended, status = os.waitpid(-1, 0)
    os.write(tells, os.waitstatus_to_exitcode(status).to_bytes(4, "little", signed=True))
    os._exit(0)


def attempt(spec: dict[str, Any], writer: int) -> None:
    """Becomes the program, or says why not."""
    try:
        become(spec, writer)
    except BaseException as fault:
        with suppress(OSError):
            os.write(writer, f"{getattr(fault, 'strerror', None) or fault}".encode()[:500])
    finally:
        os._exit(127)


def become(spec: dict[str, Any], writer: int) -> None:
    """The bounds that the kernel keeps, and then the program."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    for name, amount in spec["bounds"]:
        bound(getattr(resource, f"RLIMIT_{name}"), amount)
    if os.geteuid():
        bound(resource.RLIMIT_NPROC, threads(os.geteuid()) + THREADS)
    os.chdir(spec["cwd"])
    fence(spec["fence"], not spec["offline"], spec["narrow"])
    for number in (*IGNORED, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    if not spec.get("runner"):
        os.execve(spec["path"], spec["argv"], spec["env"])  # noqa: S606 - no shell
    os.environ.clear()
    os.environ.update(spec["env"])
    sys.path[:0] = [os.path.dirname(spec["runner"])]
    runner = __import__(os.path.basename(spec["runner"]).removesuffix(".py"))
    del sys.path[0], sys.modules[runner.__name__]
    os.close(writer)
    runner.main(spec["argv"])


def bound(kind: int, amount: int) -> None:
    hard = resource.getrlimit(kind)[1]
    amount = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    resource.setrlimit(kind, (amount, amount))


def threads(user: int) -> int:
    """How many a user has; the kernel counts those against what is bounded."""
    count = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue
    return count


def fence(given: list[list[str]] | None, tcp: bool, narrow: bool) -> None:
    """Signals reach only what the program started; `given` are the files that it may run, read,
    write and list, None for all. `narrow` is what `Program.is_narrow` says."""
    sys.path[:0] = [os.path.dirname(os.path.abspath(__file__))]
    import landlock  # type: ignore[import-not-found]

    if narrow:
        import seccomp  # type: ignore[import-not-found]

    del sys.path[0]
    if given is None:
        landlock.loosen(tcp=tcp)
    else:
        landlock.confine(*given, tcp=tcp)
    if narrow:
        seccomp.narrow(internet=tcp)
    for name in ("landlock", "seccomp"):  # they are free for modules of a project
        sys.modules.pop(name, None)


def watch(pid: int, asked: int, parent: int, spec: dict[str, Any]) -> tuple[int, str]:
    """Waits until the program ends, or has to: its code, and why."""
    at_once()
    seen = select.poll()
    seen.register(asked, select.POLLIN)
    if hasattr(os, "pidfd_open"):
        seen.register(os.pidfd_open(pid), select.POLLIN)
    tick, before = TICK, -1.0
    while True:
        is_over = any(fd == asked for fd, _ in seen.poll(tick * 1000))
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:  # maybe since the kernel let it start no more: then the others are there still
            is_storm = taken(spec["processes"])[0] > spec["processes"]
            return os.waitstatus_to_exitcode(status), "processes" if is_storm else ""
        if is_over or os.getppid() != parent:
            return -signal.SIGKILL, ""  # whoever asked knows why
        count, memory, seconds = taken(spec["processes"])
        for reason, amount, limit in (
            ("processes", count, spec["processes"]),
            ("memory", memory, spec["memory"]),
            ("cpu", seconds, spec["cpu"]),
        ):
            if limit and amount > limit:
                return -signal.SIGKILL, reason
        tick = TICK if seconds != before else min(tick * 1.5, SLOWEST_TICK)
        before = seconds


def at_once() -> None:
    """Runs this process before the others, where that is allowed: it has little to do, and has to
    do it also when very many others are there."""
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def taken(most: int) -> tuple[int, int, float]:
    """Processes that descend from this one, the bytes that they have in memory, and seconds of
    processor time; beyond `most` processes no further ones are counted.

    What several share is counted for each: who shares what, the kernel tells only while none of
    them forks.
    """
    count, memory = 0, 0
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = spent.ru_utime + spent.ru_stime
    waiting = [os.getpid()]
    while waiting and count <= most:
        for pid in children_of(waiting.pop()):
            waiting.append(pid)
            fields = stat(pid)
            if fields:
                count += 1
                memory += int(fields[21]) * _PAGE
                seconds += sum(map(int, fields[11:15])) / _CLOCK
    return count, memory, seconds


def children_of(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    out: list[int] = []
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                out += map(int, file.read().split())
        except OSError:
            continue
    return out


def stat(pid: int) -> list[bytes]:
    """The fields of proc(5) after the name; nothing for a process that is over."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2].split()
    except OSError:
        return []


def end_all() -> None:
    """Kills all that descends from this process, and waits for it.

    Each is killed as it is found, and a group as one, since they may start others faster than they
    are counted; the children of what is gone come back here.
    """
    deadline = time.monotonic() + END_SECONDS
    groups = {os.getpgrp()}
    while time.monotonic() < deadline:
        waiting = [os.getpid()]
        while waiting:
            for pid in children_of(waiting.pop()):
                kill(os.kill, pid)
                fields = stat(pid)
                if fields and fields[0] != b"Z":
                    waiting.append(pid)
                    group = int(fields[2])
                    if group > 1 and group not in groups:
                        groups.add(group)
                        kill(os.killpg, group)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            time.sleep(0.001)
        except ChildProcessError:
            return


def kill(how: Any, whom: int) -> None:
    with suppress(OSError):
        how(whom, signal.SIGKILL)


def prctl(option: int, value: int) -> None:
    libc("prctl", option, value, 0, 0, 0)


def libc(name: str, *arguments: object) -> bool:
    """Whether a call of Linux succeeded."""
    if sys.platform != "linux":
        return False
    import ctypes

    return bool(getattr(ctypes.CDLL(None), name)(*arguments) == 0)


def read_exactly(fd: int, size: int) -> bytes:
    out = b""
    while len(out) < size:
        chunk = os.read(fd, size - len(out))
        if not chunk:
            sys.exit(0)  # whoever asked is gone
        out += chunk
    return out


def say(answers: int, what: tuple[int, str]) -> None:
    body = marshal.dumps(what)
    with suppress(OSError):  # less than a pipe takes at once
        os.write(answers, len(body).to_bytes(4, "little") + body)


if __name__ == "__main__":
    for _number in IGNORED:
        signal.signal(_number, signal.SIG_IGN)  # a pipe says when it is over
    main(int(sys.argv[1]), int(sys.argv[2]))
