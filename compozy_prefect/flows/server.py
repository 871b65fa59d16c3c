"""The Prefect server that runs use: the user's, or a standing one of our own.

The environment and `$COMPOZY_HOME` come in; a `Server` goes out. An API URL that the user has set
wins and nothing is started. Otherwise one background server on SQLite serves every run of this
user, outlives the CLI, and is replaced without asking when it died or hangs (design.md,
decision 9). Only the standard library is imported, so that the CLI can have the server start while
it imports Prefect.

    configured()  the user's own        ensure()  the user's, or ours, started when needed
    status()      ours, if it answers   stop()    ends ours
    apply(server) points Prefect, in this process and its children, at it
    worker_command(pool)  starts a worker for it

Linux and macOS.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from compozy_prefect.errors import CompozyError, ServerUnavailable, UsageError
from compozy_prefect.flows import server_settings
from compozy_prefect.flows.server_launch import (
    HOST,
    PROBE_SECONDS,
    ROOM,
    ROOM_FIRST,
    START_SECONDS,
    answers,
    check_room,
    launch,
    remember,
)
from compozy_prefect.flows.server_state import (
    Home,
    Process,
    State,
    alive,
    end,
    locked,
    read_state,
    running,
    server_home,
    stranded,
)

HUNG_SECONDS = 20.0  # silence after which a server that has answered before is replaced
STOP_SECONDS = 15.0

_MANAGED = "COMPOZY_PREFECT_SERVER"  # set by `apply`: PREFECT_API_URL is ours, not the user's


@dataclass(frozen=True, slots=True)
class Server:
    """A Prefect server. `managed`: ours, with its process id; else the user's, without."""

    api_url: str
    ui_url: str
    pid: int | None
    managed: bool


Notify = Callable[[str], None]


def configured() -> Server | None:
    """The server whose API URL the user has set, reachable or not; None if none is set.

    Raises `ServerUnavailable` when a file that Prefect reads its settings from cannot be read.
    """
    url = server_settings.api_url(os.environ, ignore=os.environ.get(_MANAGED))
    if url is None:
        return None
    return Server(url, server_settings.ui_url(url, os.environ), pid=None, managed=False)


def status() -> Server | None:
    """Our server, if it runs and answers. Changes nothing."""
    home = server_home(os.environ)
    for process in running(home):
        if not stranded(process, home) and answers(process.port):
            return _server(process)
    return None


def healthy(server: Server, *, timeout: float = PROBE_SECONDS) -> bool:
    """Whether `server` answers within `timeout` seconds.

    For the user's server any answer counts that is not a failure: it may want a key, and only
    Prefect's client knows the user's keys and certificates.
    """
    if server.managed:
        return answers(urlsplit(server.api_url).port or 0, timeout)
    import ssl
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"{server.api_url.rstrip('/')}/health", timeout=timeout):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, ValueError):
        return False


def ensure(*, port: int | None = None, notify: Notify | None = None) -> Server:
    """The user's server if one is set, else ours, started when needed.

    `port` (or COMPOZY_PREFECT_PORT) fixes the port of a server that is started; `notify` receives
    one line of progress at a time. Raises `ServerUnavailable` with a sentence for the user.
    """
    return configured() or start(port=port, notify=notify)


def start(*, port: int | None = None, notify: Notify | None = None) -> Server:
    """Our server: the one that runs, or else a new one. Programs that start at once share it."""
    tell = notify or (lambda line: None)
    wanted = _fixed_port(port)
    home = server_home(os.environ)
    with _sentences(home):
        server = status() or _start(home, wanted, tell)
    if wanted and urlsplit(server.api_url).port != wanted:
        tell(
            f"the local Prefect server already runs at {server.ui_url}; to move it to port "
            f"{wanted}, stop it first: compozy prefect stop"
        )
    return server


def stop(*, timeout: float = STOP_SECONDS) -> bool:
    """Ends our server, also one that hangs or is half started; True if there was one.

    SIGTERM first, SIGKILL to its process group after `timeout` seconds. Runs that use it lose it.
    """
    home = server_home(os.environ)
    if not home.path.is_dir():
        return False
    with _sentences(home):
        # Before taking the lock: a start that hangs holds it, and gives it up when its child ends.
        found = _end_all(home, timeout)
        with locked(home, timeout=START_SECONDS):
            found |= _end_all(home, timeout)
            home.state.unlink(missing_ok=True)
    return found


def apply(server: Server) -> None:
    """Points Prefect at `server`, in this process and those it starts; before prefect is imported.

    For our server the Prefect home is ours too, so that results lie beside the database; the
    user's profile, if there is one, keeps its other settings.
    """
    if server.managed:
        if "PREFECT_PROFILES_PATH" not in os.environ:
            profiles = server_settings.profiles_path(os.environ)
            if profiles.is_file():
                os.environ["PREFECT_PROFILES_PATH"] = str(profiles.absolute())
        home = server_home(os.environ).path
        os.environ["COMPOZY_HOME"] = str(home.parent)  # absolute: children may run elsewhere
        os.environ["PREFECT_HOME"] = str(home)
        os.environ[_MANAGED] = server.api_url
    else:
        os.environ.pop(_MANAGED, None)
    os.environ["PREFECT_API_URL"] = server.api_url


def worker_command(pool: str) -> str:
    """How somebody starts a worker for the server that this process uses, with a shell."""
    url = os.environ.get(_MANAGED)
    where = f"PREFECT_API_URL={url} " if url else ""
    return f"{where}prefect worker start --pool {shlex.quote(pool)}"


# -- starting --


def _start(home: Home, wanted: int | None, tell: Notify) -> Server:
    home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.path.chmod(0o700)  # inputs and outputs of runs are in there, whatever the umask
    with locked(home, timeout=START_SECONDS + HUNG_SECONDS):
        before = read_state(home)
        for process in running(home):
            if _wait_for_old(process, before, home, tell):
                remember(process, home)
                return _server(process)
            tell("the local Prefect server hangs or lost its folder; starting it again…")
            end(process, home, timeout=STOP_SECONDS)
        first = not home.database.exists()
        check_room(home, ROOM_FIRST if first else ROOM)
        which = "a local Prefect server (first use)" if first else "the local Prefect server"
        tell(f"starting {which}…")
        process = launch(home, wanted, before.port if before else 0)
    tell(f"the local Prefect server is at http://{HOST}:{process.port}")
    return _server(process)


def _wait_for_old(process: Process, before: State | None, home: Home, tell: Notify) -> bool:
    """Whether a server that we found comes to answer.

    It may be busy, or still starting because the program that started it was killed.
    """
    if stranded(process, home):
        return False
    if answers(process.port):
        return True
    starting = before is not None and before.pid == process.pid and not before.ready
    tell("waiting for the local Prefect server, which runs but does not answer…")
    deadline = time.monotonic() + (START_SECONDS if starting else HUNG_SECONDS)
    while time.monotonic() < deadline and alive(process, home):
        if answers(process.port):
            return True
        time.sleep(0.05)
    return False


def _fixed_port(port: int | None) -> int | None:
    text = os.environ.get("COMPOZY_PREFECT_PORT", "") if port is None else str(port)
    if not text.strip():
        return None
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 0 < number < 65536:
        raise UsageError(f"The Prefect server's port must be from 1 to 65535, not {text!r}.")
    return number


def _server(process: Process) -> Server:
    ui = f"http://{HOST}:{process.port}"
    return Server(f"{ui}/api", ui, pid=process.pid, managed=True)


@contextlib.contextmanager
def _sentences(home: Home) -> Iterator[None]:
    """Turns what the system refuses into a sentence that names the folder and a way out."""
    try:
        yield
    except CompozyError:
        raise
    except OSError as error:
        raise ServerUnavailable(
            f"The local Prefect server cannot use {error.filename or home.path} "
            f"({error.strerror or error}): set COMPOZY_HOME to a folder you can write."
        ) from error


def _end_all(home: Home, timeout: float) -> bool:
    processes = running(home)
    for process in processes:
        end(process, home, timeout=timeout)
    return bool(processes)
