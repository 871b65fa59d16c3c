"""Process groups that must not outlive this process, whatever ends it.

A server whose stdin is closed should end by itself, and one that hangs does not. So one small
process waits for the end of this one, by a pipe that closes with it, and then ends the groups that
it was told of. It is started with the first server, and is in a session of its own: what ends this
process by a signal to its group does not reach it.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

_CODE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


class Guard:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()

    def add(self, group: int) -> None:
        """Some milliseconds for the first one. Raises OSError when no process can be started."""
        with self._lock:
            self._groups.add(group)
            if self._process is None or self._process.poll() is not None:
                self._start()
            else:
                self._tell(f"+{group}\n")

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-I", "-S", "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            bufsize=0,
            start_new_session=True,
        )
        self._tell("".join(f"+{group}\n" for group in self._groups))

    def end(self, group: int) -> None:
        """Ends what is left of a group; without effect when nothing is."""
        kill(group)
        with self._lock:
            self._groups.discard(group)
            if self._process is not None:
                self._tell(f"-{group}\n")

    def _tell(self, text: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(text.encode())

    def close(self) -> None:
        """At the end of this process: ends all groups."""
        for group in [*self._groups]:
            self.end(group)
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def forget(self) -> None:
        """In a child that was forked: all of it is the parent's."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()  # else it would not see the end of the parent
        self.__init__()  # type: ignore[misc]


def kill(group: int, number: int = signal.SIGKILL) -> None:
    with suppress(OSError):
        os.killpg(group, number)


GUARD = Guard()
atexit.register(GUARD.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=GUARD.forget)
