"""`cp__exec`: a program that the project allows, whose arguments a model may choose (§6.5).

It sees the folders that tools may use and, on Linux with Landlock, no other files: `ls`, `cat` and
the like read them, and a program of the project's allow-list writes there too.
"""

from __future__ import annotations

import os
import re
from typing import Any

from compozy_prefect.compiler.plan import Json
from compozy_prefect.language.permissions import VARIABLES
from compozy_prefect.runtime.native.roots import DENIED, INVALID, MISSING, Fault, Roots
from compozy_prefect.runtime.processes import command, landlock
from compozy_prefect.runtime.processes.guarded import (
    ENDED_BY,
    MEMORY,
    Fence,
    Limits,
    NotStarted,
    Program,
)
from compozy_prefect.runtime.tools import programs
from compozy_prefect.runtime.tools.surroundings import Surroundings

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
# What changes which programs are started, or what they load; the project may declare them.
_STARTS = re.compile(r"(LD|DYLD|PYTHON|PERL|RUBY|NODE|JAVA|GIT|BASH|LESS|NPM)_?.*|.*(PATH|PAGER)")
_STARTING = frozenset({"ENV", "IFS", "EDITOR", "VISUAL", "SHELL", "SHELLOPTS", "PS4", "BROWSER"})
_NO_FILES = ("echo", "sleep", "pwd")


async def execute(roots: Roots, given: dict[str, Any], around: Surroundings) -> Json:
    """Its output, cut to the limits of `runtime.native_tools.exec`. Raises Fault."""
    bounds = around.runtime.native_tools.exec
    argv = [given["command"], *given.get("args", [])]
    if any("\0" in one for one in argv):
        raise Fault(INVALID, "an argument has a zero byte")
    folder = _folder(roots, given.get("working_dir") or "")
    try:
        allowed = programs.find(argv, around.runtime, around.root)
    except programs.NotAllowed as fault:
        raise Fault("CommandNotAllowed", str(fault)) from None
    except programs.NotFound as fault:
        raise Fault(MISSING, str(fault)) from None
    if not landlock.version() and os.path.basename(allowed.path) not in _NO_FILES:
        _inside(argv[1:], folder, roots)
    asked = given.get("timeout_ms", 0) / 1000
    seconds = min(filter(None, (asked, allowed.entry.timeout, bounds.timeout)))
    program = Program(
        tuple(argv),
        path=allowed.path,
        cwd=folder,
        env=programs.environment(around.root, {**around.declared, **_variables(given)}),
        limits=Limits(around.runtime.memory_limit or MEMORY, cpu=seconds),
        fence=allowed.fence
        or Fence(
            (*landlock.PROGRAMS, allowed.path),
            (*landlock.SYSTEM, *roots.folders),
            roots.folders,
        ),
        is_offline=around.is_offline,
    )
    try:
        ended = await command.run(
            program, b"", seconds=seconds, most_out=bounds.max_stdout, most_err=bounds.max_stderr
        )
    except NotStarted as fault:
        raise Fault("Internal", f"`{argv[0]}` cannot be started: {fault}") from None
    if ended.reason in ENDED_BY:
        raise Fault("Internal", ENDED_BY[ended.reason])
    return {
        "stdout": ended.stdout.decode("utf-8", "replace"),
        "stderr": ended.stderr.decode("utf-8", "replace"),
        "exit_code": -1 if ended.reason else ended.code,
        "success": not ended.reason and ended.code == 0,
        "duration_ms": round(ended.seconds * 1000),
        "timed_out": ended.reason == "timeout",
        "stdout_truncated": ended.reason == "output",
        "stderr_truncated": ended.cut,
    }


def _folder(roots: Roots, given: str) -> str:
    place = roots.find(given or ".")
    if not os.path.isdir(place.path):
        raise Fault(INVALID, f"`{given}` is no folder")
    return place.path


def _variables(given: dict[str, Any]) -> dict[str, str]:
    for name, value in given.get("env", {}).items():
        if not _NAME.fullmatch(name) or "\0" in value:
            raise Fault(INVALID, f"`{name}` is no variable: capital letters, digits and `_`")
        if name in VARIABLES or name in _STARTING or _STARTS.fullmatch(name):
            raise Fault(DENIED, f"`{name}` cannot be set: it changes what is started or loaded")
    return dict(given.get("env", {}))


def _inside(arguments: list[str], folder: str, roots: Roots) -> None:
    """Refuses arguments that are paths out of the folders, where the kernel does not."""
    for argument in arguments:
        parts = {argument, argument.partition("=")[2], argument[2:]}
        if os.sep in argument:
            parts.add(argument[argument.index(os.sep) :])
        for part in parts:
            path = os.path.join(folder, part)
            if part and "\0" not in part and os.path.lexists(path):
                roots.find(path)
