"""A built-in tool for files, programs or the web and its input → its result (language.md §6.5)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from compozy_prefect.compiler.plan import Json, ToolPlan
from compozy_prefect.language.discovery import PROJECT_FILES
from compozy_prefect.runtime.native import files, listing
from compozy_prefect.runtime.native.fetch import fetch
from compozy_prefect.runtime.native.programs import execute
from compozy_prefect.runtime.native.roots import DENIED, Fault, Roots, failure
from compozy_prefect.runtime.tools import programs
from compozy_prefect.runtime.tools.surroundings import Surroundings

_FILES: dict[str, Callable[[Roots, dict[str, Any]], Json]] = {
    "cp__read_file": files.read_file,
    "cp__write_file": files.write_file,
    "cp__delete_file": files.delete_file,
}
_LISTINGS: dict[str, Callable[[Roots, dict[str, Any], float], Json]] = {
    "cp__list_files": listing.list_files,
    "cp__list_dir": listing.list_dir,
    "cp__grep": listing.grep,
}


async def call(
    tool: ToolPlan, input: dict[str, Any], config: dict[str, Any], around: Surroundings
) -> Json:
    """Raises ToolFailed with one of the codes of §6.5."""
    try:
        if not around.runtime.native_tools.enabled:
            raise Fault(DENIED, "built-in tools are switched off, by `runtime.native_tools`")
        if tool.id == "cp__fetch":
            return await fetch(input, around)
        roots = Roots(programs.roots(around.runtime, around.root), _code(around))
        if tool.id == "cp__exec":
            return await execute(roots, input, around)
        work = _FILES.get(tool.id)
        if work is not None:
            # It writes all or nothing, and is not broken off in the middle.
            return await asyncio.to_thread(work, roots, input)
        until = time.monotonic() + tool.timeout
        return await asyncio.to_thread(partial(_LISTINGS[tool.id], roots, input, until))
    except Fault as fault:
        raise failure(tool.id, fault) from None


def _code(around: Surroundings) -> frozenset[str]:
    """The files of the project that say what is executed, or are: who writes them may do all."""
    runtime = around.runtime
    names = [*PROJECT_FILES, runtime.entrypoint or PROJECT_FILES[0]]
    names += [one.path for one in runtime.native_tools.exec.allowlist if os.sep in one.path]
    for function in runtime.python:
        module = function.partition(":")[0].replace(".", os.sep)
        names += [f"{module}.py", f"{module}{os.sep}__init__.py"]
    return frozenset(os.path.realpath(os.path.join(around.root, name)) for name in names)
