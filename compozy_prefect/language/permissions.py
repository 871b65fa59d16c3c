"""Permissions of tools that the language has and no tool gets, with the reason."""

from __future__ import annotations

_PROCESSES = "a process that a tool starts has no permissions to keep to"
_EVERYTHING = "it takes every bound away"

REFUSED: dict[str, str] = {
    "--allow-run": _PROCESSES,
    "--allow-ffi": "native code that a tool loads has no permissions to keep to",
    "--allow-import": "code of tools comes from the project, and none is fetched when it runs",
    "--allow-all": _EVERYTHING,
    "-A": _EVERYTHING,
}
