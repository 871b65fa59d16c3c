"""What the language could grant to tools and no tool gets: permissions, with the reason, and
variables; and the permissions that a native engine cannot keep to."""

from __future__ import annotations

import os
import re
from pathlib import Path

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
        "BUN_OPTIONS",
    }
)
"""Variables that would change what a process loads."""

_WHOLE = ("read", "write", "net", "env")  # what a native engine takes away as a whole


def unenforceable(permission: str, root: Path) -> tuple[str, str] | None:
    """Why a native engine in the project at `root` cannot keep to it, and what is right; None if it
    can. It is no permission of `REFUSED`."""
    flag, _, given = permission.strip().partition("=")
    names = [one.strip() for one in given.split(",") if one.strip()]
    other = "or take `engine: deno`"
    kind = flag.removeprefix("--deny-")
    if kind != flag:
        if kind in _WHOLE and not names:
            return None
        return "it leaves out a part of what is allowed", f"allow what is needed, {other}"
    if flag == "--allow-net" and names:
        hint = f"write `--allow-net` for every host, leave it out for none, {other}"
        return "the kernel does not tell hosts apart", hint
    if flag == "--allow-sys" and names:
        hint = f"write `--allow-sys` for all of it, {other}"
        return "the kernel tells everybody what system it is", hint
    own = os.path.realpath(root)
    paths = [os.path.realpath(root / name) for name in names or ["."]]
    around = [path for path in paths if (own + os.sep).startswith(path + os.sep)]
    # What is all files, `/`, is that with the secrets in them.
    if flag == "--allow-write" and around:
        hint = f"name folders of it, such as `--allow-write=data`, {other}"
        return "it includes the project's `.env`, which no tool may write", hint
    if flag == "--allow-read" and any(path != own for path in around):
        hint = f"write `--allow-read` for the project's folder, {other}"
        return "it includes the project's `.env`, which no tool may read", hint
    return None
