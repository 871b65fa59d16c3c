"""What is on disk and among the processes about the local Prefect server.

`$COMPOZY_HOME/prefect` comes in; which processes serve it, and a lock that lets one program at a
time change that, go out. The kernel's process table is the truth: a server is a process whose
command line is `server_main.py … --home <this folder>`. The state file only makes the look-up
quick, so losing it, or finding nonsense in it, costs nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from compozy_prefect.errors import ServerUnavailable

MAIN = Path(__file__).with_name("server_main.py")

_COMMAND = re.compile(rf"[ /]{re.escape(MAIN.name)} --port (\d+) --fd \d+ --home (.+)$", re.DOTALL)
_PROC = Path("/proc")  # Linux; elsewhere `ps` has to tell
_POLL = 0.05  # seconds between two looks at a process or a lock


@dataclass(frozen=True, slots=True)
class Process:
    """One running server. `started` tells two processes with the same id apart."""

    pid: int
    started: str
    port: int


@dataclass(frozen=True, slots=True)
class State:
    """The state file. `ready`: it has answered once; `version` is Prefect's, empty until then."""

    pid: int
    started: str
    boot_id: str
    port: int
    api_url: str
    version: str = ""
    ready: bool = False


@dataclass(frozen=True, slots=True)
class Home:
    """The server's folder: its PREFECT_HOME, and our own files in it."""

    path: Path

    @property
    def state(self) -> Path:
        return self.path / "server.json"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    @property
    def lock(self) -> Path:
        return self.path / "server.lock"

    @property
    def database(self) -> Path:
        return self.path / "prefect.db"


def user_home(environ: Mapping[str, str]) -> Path:
    """The user's home folder, also where HOME is unset or empty (cron, containers)."""
    if home := environ.get("HOME"):
        return Path(home)
    import pwd

    with contextlib.suppress(KeyError):
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    raise ServerUnavailable("HOME is not set, and this user has no home folder: set HOME.")


def server_home(environ: Mapping[str, str]) -> Home:
    """`$COMPOZY_HOME/prefect`, absolute and without symlinks, so that one folder has one name."""
    given = environ.get("COMPOZY_HOME", "")
    base = Path(given) if given else user_home(environ) / ".compozy"
    if base.parts and base.parts[0] == "~":
        base = user_home(environ).joinpath(*base.parts[1:])
    try:
        return Home(base.resolve() / "prefect")
    except (OSError, RuntimeError) as error:  # a loop of symlinks
        raise ServerUnavailable(f"Cannot use {base} for the Prefect server: {error}.") from error


# -- state file --


def read_state(home: Home) -> State | None:
    """What the last start wrote, or None where it is missing, cut short or nonsense."""
    try:
        data = json.loads(home.state.read_text(encoding="utf-8"))
        state = State(**{field.name: data[field.name] for field in fields(State)})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return state if isinstance(state.pid, int) and isinstance(state.port, int) else None


def write_state(home: Home, state: State) -> None:
    """Replaces the state file in one step, so that no reader sees half of it."""
    part = home.state.with_suffix(".part")
    part.write_text(json.dumps(asdict(state)) + "\n", encoding="utf-8")
    part.chmod(0o600)
    part.replace(home.state)


def boot_id() -> str:
    """Changes with every boot; empty where the system does not tell."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


# -- processes --


def look(pid: int, home: Home) -> Process | None:
    """The server of `home` behind a process id; None if it is gone, a zombie, or something else."""
    return next(_servers(home, pid), None)


def running(home: Home) -> list[Process]:
    """The servers of `home`: at most one, unless something went wrong before us.

    Quick when the state file is right; otherwise every process is looked at, which also finds a
    server whose state file was lost.
    """
    state = read_state(home)
    if state is not None and state.boot_id == boot_id():
        process = look(state.pid, home)
        if process is not None and process.started == state.started:
            return [process]
    return list(_servers(home))


def end(process: Process, home: Home, *, timeout: float) -> None:
    """Stops a server: SIGTERM, then SIGKILL to its process group after `timeout` seconds."""
    for number, seconds in ((signal.SIGTERM, timeout), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + seconds
        if alive(process, home):
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGKILL and os.getpgid(process.pid) == process.pid:
                    os.killpg(process.pid, number)
                else:
                    os.kill(process.pid, number)
        while alive(process, home) and time.monotonic() < deadline:
            time.sleep(_POLL)
    if alive(process, home):
        raise ServerUnavailable(f"The Prefect server, process {process.pid}, cannot be stopped.")


def alive(process: Process, home: Home) -> bool:
    """Whether that very process still runs."""
    if look(process.pid, home) == process:
        return True
    with contextlib.suppress(OSError):
        os.waitpid(process.pid, os.WNOHANG)  # a child of this program would stay as a zombie
    return False


def stranded(process: Process, home: Home) -> bool:
    """Whether the server's folder was deleted under it: it answers, but its database is gone."""
    try:
        return not (_PROC / str(process.pid) / "cwd").samefile(home.path)
    except OSError:  # no /proc, or no folder at all
        return not home.path.exists()


def _servers(home: Home, pid: int | None = None) -> Iterator[Process]:
    """The servers of `home` among all processes, or at most the one with that id.

    Only the folder's owner runs its server: another user's process that looks like one is not to
    be trusted with our runs.
    """
    owner = home.path.stat().st_uid if home.path.exists() else os.getuid()
    table = _from_proc if (_PROC / "self" / "stat").exists() else _from_ps
    for number, uid, started, command in table(pid):
        match = _COMMAND.search(command)
        if match is not None and match[2] == str(home.path) and uid == owner:
            yield Process(number, started, int(match[1]))


def _from_proc(pid: int | None) -> Iterator[tuple[int, int, str, str]]:
    """Id, owner, start and command line of every process, or of one; Linux."""
    for entry in os.listdir(_PROC) if pid is None else [str(pid)]:
        if not entry.isdigit():
            continue
        try:
            command = (_PROC / entry / "cmdline").read_bytes().rstrip(b"\0")
            uid = (_PROC / entry).stat().st_uid
            after_name = (_PROC / entry / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        # Field 22 of proc(5): clock ticks since boot.
        yield int(entry), uid, after_name[19].decode(), os.fsdecode(command.replace(b"\0", b" "))


def _from_ps(pid: int | None) -> Iterator[tuple[int, int, str, str]]:
    """The same where there is no /proc, to the second."""
    which = ["-A"] if pid is None else ["-p", str(pid)]
    columns = ["-o", "pid=", "-o", "uid=", "-o", "lstart=", "-o", "command="]
    listed = subprocess.run(  # noqa: S603
        ["/bin/ps", "-ww", *columns, *which],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    ).stdout
    for line in listed.splitlines():
        if match := re.match(r"\s*(\d+)\s+(\d+)\s+((?:\S+\s+){4}\d{4})\s+(.*)", line):
            yield int(match[1]), int(match[2]), match[3], match[4]


# -- lock --


@contextlib.contextmanager
def locked(home: Home, *, timeout: float) -> Iterator[None]:
    """Holds the lock on starting and stopping; the kernel frees it when its holder dies."""
    deadline = time.monotonic() + timeout
    with home.lock.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ServerUnavailable(
                        f"Another program has been starting the Prefect server for {timeout:.0f} s "
                        f"(it holds {home.lock}); stop it, then try again."
                    ) from None
            time.sleep(_POLL)
        yield
