"""Ends of pipes that do not block."""

from __future__ import annotations

import os

_CHUNK = 1 << 18


def read(fd: int) -> bytes | None:
    """None when there is nothing at the moment, nothing when the other side is closed."""
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def write(fd: int, rest: memoryview) -> memoryview:
    """What is left to be written; nothing when the other side is closed."""
    try:
        return rest[os.write(fd, rest) :]
    except BlockingIOError:
        return rest
    except OSError:
        return rest[:0]
