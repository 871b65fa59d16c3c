"""What the language could grant to tools and no tool gets: permissions, with the reason, and
variables."""

from __future__ import annotations

import re

_PROCESSES = "a process that a tool starts has no permissions to keep to"
_EVERYTHING = "it takes every bound away"

LEAST_MEMORY = 128 << 20  # bytes that a tool gets; the engine itself takes a half
REFUSED: dict[str, str] = {
    "--allow-run": _PROCESSES,
    "--allow-ffi": "native code that a tool loads has no permissions to keep to",
    "--allow-import": "code of tools comes from the project, and none is fetched when it runs",
    "--allow-all": _EVERYTHING,
    "-A": _EVERYTHING,
}

SECRET_FILE = re.compile(r"\.env(\.(?!example$|sample$|template$|dist$).+)?")
"""Names of files that variables come from: who may read them has all of them."""

VARIABLES = frozenset(
    {
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "DYLD_INSERT_LIBRARIES",
        "DYLD_LIBRARY_PATH",
        "NODE_OPTIONS",
        "BUN_CONFIG_PROFILE",
    }
)
"""Variables that would change what a process loads."""
