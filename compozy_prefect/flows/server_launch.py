"""A folder and a port come in; a Prefect server process that answers goes out.

Or an error with a sentence, and then no process is left. The server runs `server_main.py` in a
session of its own, in its own folder, with an environment without the user's keys, on a socket
that is bound and listening before it starts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace

from compozy_prefect.errors import ServerUnavailable
from compozy_prefect.flows.server_state import (
    MAIN,
    Home,
    Process,
    State,
    boot_id,
    end,
    look,
    user_home,
    write_state,
)

HOST = "127.0.0.1"
START_SECONDS = 90.0  # the first start migrates an empty database: 20 s on two slow cores
PROBE_SECONDS = 5.0  # a busy server on a busy machine may take seconds; a dead one refuses at once
LINGER_SECONDS = 1.0  # a killed process is gone from the table before its sockets are

# A full disk is better told before than found in a half-migrated database. The first start writes
# the database (5 MB) and a copy of the UI (17 MB).
ROOM_FIRST = 32 << 20
ROOM = 4 << 20

# What a server needs of the user's environment. API keys and tokens are not among it.
_KEPT = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "VIRTUAL_ENV"),
    *("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
)
_KEPT_PREFIXES = ("LC_", "PREFECT_")
# What belongs to the user's client, or would move the API from where we look for it.
# PREFECT__* are Prefect's messages to its own children, such as "you are an ephemeral server".
_DROPPED = (
    *("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"),
    *("PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "PREFECT_SERVER_API_BASE_PATH"),
)
_DROPPED_PREFIXES = ("PREFECT__",)
# Defaults of ours; the user's own PREFECT_* variables win. Without the batch sizes a server takes
# in 25-40 task runs a second, with them a thousand in 2.5 s (prefect-facts.md §3a).
_SETTINGS = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def launch(home: Home, wanted: int | None, last: int) -> Process:
    """Starts a server process and waits until it answers; leaves nothing behind if it does not."""
    with contextlib.suppress(FileNotFoundError):
        home.log.replace(home.log.with_suffix(".log.1"))
    with _listener(wanted, last) as listener, home.log.open("ab") as log:
        home.log.chmod(0o600)
        port: int = listener.getsockname()[1]
        child = subprocess.Popen(  # noqa: S603
            [
                sys.executable,
                "-P",  # the folder of server_main.py is no place to import from
                str(MAIN),
                *("--port", str(port)),
                *("--fd", str(listener.fileno())),
                *("--home", str(home.path)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home.path,  # not the user's: a .env or prefect.toml there would be read
            env=environment(os.environ, home, port),
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C and the end of the terminal do not reach it
        )
    process = Process(child.pid, "", port)
    try:
        process = _identify(child, home)
        remember(process, home, ready=False)
        _wait_for_new(child, port, home)
        remember(process, home)
    except BaseException:
        end(process, home, timeout=5.0)
        child.kill()  # does nothing to a child that ended
        child.wait(timeout=10)
        with contextlib.suppress(OSError):
            home.state.unlink(missing_ok=True)
        raise
    child.returncode = 0  # it is on its own now: no warning that a child is still running
    return process


def _identify(child: subprocess.Popen[bytes], home: Home) -> Process:
    """The child as the process table shows it; its command line comes a moment after the exec."""
    deadline = time.monotonic() + 5
    while child.poll() is None and time.monotonic() < deadline:
        if (process := look(child.pid, home)) is not None:
            return process
        time.sleep(0.005)
    raise ServerUnavailable(f"The local Prefect server did not start{_last_words(home)}")


def _wait_for_new(child: subprocess.Popen[bytes], port: int, home: Home) -> None:
    deadline = time.monotonic() + START_SECONDS
    # The socket listens already, so a request waits in its queue and is answered the moment the
    # server is up, or refused the moment it dies.
    while not answers(port):
        if (code := child.poll()) is not None:
            check_room(home, ROOM)  # on a full disk the log has nothing to say
            how = f"stopped by signal {-code}" if code < 0 else f"exit status {code}"
            raise ServerUnavailable(
                f"The local Prefect server did not start ({how}){_last_words(home)}"
            )
        if time.monotonic() > deadline:
            raise ServerUnavailable(
                f"The local Prefect server did not start within {START_SECONDS:.0f} s"
                f"{_last_words(home)}"
            )
        time.sleep(0.05)


def _listener(wanted: int | None, last: int) -> socket.socket:
    """A listening socket on the port the user wants, else the one used last, else a free one.

    Keeping the last port lets runs that outlived a server find the next one where it was.
    """
    for port in (wanted,) if wanted else (last, 0):
        try:
            return _listen(port)
        except (OSError, OverflowError) as error:
            if port == wanted:
                reason = getattr(error, "strerror", None) or str(error)
                raise ServerUnavailable(
                    f"The local Prefect server cannot have port {port} ({reason}): stop the "
                    "program that uses it, set COMPOZY_PREFECT_PORT to another port, or unset it "
                    "to have a free one chosen."
                ) from error
    raise ServerUnavailable(f"No port is free on {HOST} for the local Prefect server.")


def _listen(port: int) -> socket.socket:
    """Binds and listens at once: from here on the port is nobody else's."""
    deadline = time.monotonic() + LINGER_SECONDS
    while True:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, port))
            listener.listen(2048)
            return listener
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def environment(user: Mapping[str, str], home: Home, port: int) -> dict[str, str]:
    """The server's environment: what it needs of the user's, and our settings."""
    kept = {
        name: value
        for name, value in user.items()
        if (name in _KEPT or name.upper().startswith(_KEPT_PREFIXES))
        and name.upper() not in _DROPPED
        and not name.upper().startswith(_DROPPED_PREFIXES)
    }
    return {
        **_SETTINGS,
        "PREFECT_UI_STATIC_DIRECTORY": str(home.path / "ui"),  # not in site-packages
        **kept,
        "HOME": str(user_home(user)),
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(home.path),
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
    }


def check_room(home: Home, need: int) -> None:
    """Raises if less than `need` bytes are free where `home` is."""
    free = shutil.disk_usage(home.path).free
    if free < need:
        raise ServerUnavailable(
            f"The disk that holds {home.path} is full ({free >> 10} KiB free), so the local "
            "Prefect server cannot start: make room, or set COMPOZY_HOME to a folder on another "
            "disk."
        )


def remember(process: Process, home: Home, *, ready: bool = True) -> None:
    """Writes the state file. Prefect's version is asked of the server itself."""
    state = State(
        process.pid, process.started, boot_id(), process.port, f"http://{HOST}:{process.port}/api"
    )
    if ready:
        _, body = _get(process.port, "/api/admin/version")
        version = body.decode(errors="replace").strip().strip('"')
        state = replace(state, version=version, ready=True)
    write_state(home, state)


def answers(port: int, timeout: float | None = None) -> bool:
    """Whether a Prefect server answers on our port. `look` has told that the port is ours."""
    return _get(port, "/api/health", timeout) == (200, b"true")


def _get(port: int, path: str, timeout: float | None = None) -> tuple[int, bytes]:
    """Status and body of a GET on loopback, proxies or not; (0, b"") without an answer."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(HOST, port, timeout=timeout or PROBE_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(4096)
    except (OSError, HTTPException):
        return 0, b""
    finally:
        connection.close()


def _last_words(home: Home) -> str:
    """The end of the server's log as the end of a sentence, without the frames of tracebacks."""
    where = f" Its log is {home.log}."
    try:
        lines = home.log.read_text(encoding="utf-8", errors="replace").splitlines()[-400:]
    except OSError:
        return "." + where
    noise = (
        "Traceback ",
        "The above exception",
        "During handling",
        "(Background on this error",
        "[",
    )
    words = [line.strip()[:300] for line in lines if line.strip() and not line[0].isspace()]
    told = [line for line in words if not line.startswith(noise)][-3:]
    return (": " + " / ".join(told) + "." if told else ".") + where
