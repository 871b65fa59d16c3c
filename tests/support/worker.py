"""A process worker of Prefect that can be killed with all it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


class Worker:
    """`prefect worker start` on a pool, from when it is made."""

    def __init__(self, pool: str, env: dict[str, str], log: Path) -> None:
        self._log = log.open("a")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "--no-prompt", "worker", "start", "--pool", pool],
            cwd=log.parent,
            env=env | {"PREFECT_WORKER_QUERY_SECONDS": "1"},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def processes(self) -> list[int]:
        """The ids of its own process and of all below it."""
        parents: dict[int, int] = {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                text = Path(f"/proc/{entry}/stat").read_text("utf-8", "replace")
                parents[int(entry)] = int(text.rpartition(")")[2].split()[1])
        found = [self._process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def runs(self) -> list[int]:
        """The ids of the processes of flow runs."""
        found = []
        for pid in self.processes():
            with suppress(OSError):
                if b"prefect.engine" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def kill(self) -> None:
        """Ends it and what it has started at once, as when the machine loses its power."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=20)
            if self._process.poll() is None:
                self.kill()
