"""What tools have left running."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

import pytest

MARK = "98765"
"""Seconds that the tests' processes sleep: how they are told from others."""


_BASE: list[str] = []  # the folder of this session, in which its programs run


@pytest.fixture(scope="session", autouse=True)
def sessions_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    _BASE[:] = [str(tmp_path_factory.getbasetemp())]


def mine() -> list[int]:
    """Processes that sleep for that long."""
    return of_session(lambda line: line.split() == ["sleep", MARK])


def of_session(is_meant: Callable[[str], bool]) -> list[int]:
    """Processes with such a command line that run in the folder of this session: other sessions
    may run beside it."""
    found = [pid for pid, line in _lines() if is_meant(line)]
    return [pid for pid in found if _folder(pid).startswith(_BASE[0])]


def guards() -> list[int]:
    """Guards that this process has started, and their children."""
    return [pid for pid, line in _lines() if "processes/guard.py" in line and _parent(pid)]


async def nobody_left(seconds: float = 10.0) -> None:
    """Waits for the end of all of them, and fails when it does not come."""
    deadline = time.monotonic() + seconds
    while mine() or guards():
        assert time.monotonic() < deadline, f"left: {mine()}, {guards()}"
        await asyncio.sleep(0.02)


def _lines() -> list[tuple[int, str]]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    line = file.read().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            found.append((int(name), line))
    return found


def _folder(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def _parent(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b") ")[2].split()[1]) == os.getpid()
    except OSError:
        return False
