"""A tool in JavaScript or TypeScript and its input → what its function gives (§6.3, §6.4).

The engine is Deno, also for projects that say `bun` or `node`: it is the one that keeps to the
permissions which they declare. With `engine: native` it is the one they say, within bounds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

from compozy_prefect.compiler.plan import Json, RuntimePlan, ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.language.permissions import LEAST_MEMORY, REFUSED
from compozy_prefect.runtime.js import code, engine, native
from compozy_prefect.runtime.js.engine import Launch
from compozy_prefect.runtime.js.permissions import Permissions, Refused, needed
from compozy_prefect.runtime.processes.pool import POOLS
from compozy_prefect.runtime.processes.worker import CallFailed
from compozy_prefect.runtime.tools.failures import failed
from compozy_prefect.runtime.tools.surroundings import Surroundings

TYPES = ("javascript", "runtime")

_FRAME = re.compile(r"\(?((?:file://)?/[^\s()]+?):(\d+):(\d+)\)?$", re.MULTILINE)
_MOST_STACK = 4000
_DENIED = re.compile(r"\b(?:EACCES|EPERM|EXDEV)\b")
_LINKED = "os error 13"
_RUNNERS = (engine.RUNNER.parent.as_uri(), str(engine.RUNNER.parent))
_NO_JSON = "the result is no JSON"  # of a function that has done what it does


def needs_network(runtime: RuntimePlan) -> bool:
    """Whether tools may use it, as far as they were granted anything."""
    try:
        return _permissions(runtime.permissions, Path("/")).net
    except Refused:
        return False


async def call(tool: ToolPlan, input: Json, config: Json, around: Surroundings) -> Json:
    """Any JSON. Raises ToolFailed, which names the tool, its place, and a permission it lacked."""
    try:
        launch = _launch(tool, around)
        pool = POOLS.of(launch)
        process = await pool.take()
        try:
            return await process.call(launch.module.name, input, config, tool.timeout or None)
        finally:
            pool.give(process)
            if process.printed:
                around.printed(process.printed.decode("utf-8", "replace"))
    except Refused as fault:
        raise failed(tool, around, str(fault), kind="permission", retryable=False) from None
    except code.Missing as fault:
        raise failed(tool, around, str(fault), kind="start", retryable=False) from None
    except CallFailed as fault:
        raise _explained(tool, around, launch.module, fault) from None
    except ValueError as fault:
        message = f"the input is no JSON: {fault}"
        raise failed(tool, around, message, kind="stdin", retryable=False) from None


def _launch(tool: ToolPlan, around: Surroundings) -> Launch | native.Launch:
    runtime, root = around.runtime, around.root
    memory = max(runtime.memory_limit or engine.MEMORY, LEAST_MEMORY)
    name = "" if tool.type == "javascript" else tool.id
    if runtime.engine == "native":
        module = _module(name, tool.execute, runtime.entrypoint, root)
        return native.launch(runtime, root, module, memory, around.outside, around.declared)
    granted = _permissions(runtime.permissions, root)
    variables = granted.variables(around.outside, around.declared)
    return _launch_of(
        name,
        tool.execute,
        runtime.entrypoint,
        granted,
        root,
        tuple(sorted(variables.items())),
        memory,
    )


@lru_cache(maxsize=256)
def _launch_of(
    name: str,
    execute: str,
    entrypoint: str,
    granted: Permissions,
    root: Path,
    variables: tuple[tuple[str, str], ...],
    memory: int,
) -> Launch:
    """One object for equal calls, by which their pool is found. Files are read once a process."""
    module = _module(name, execute, entrypoint, root)
    names = [name for name, _ in variables]
    return Launch(
        engine=program(),
        folder=str(code.engine_folder()),
        root=os.path.realpath(root),
        module=module,
        flags=tuple(granted.flags(root, module.files, names)),
        read=(*granted.read, *module.files),
        write=granted.write,
        variables=variables,
        memory=memory,
    )


_permissions = lru_cache(maxsize=64)(Permissions.of)
_module = lru_cache(maxsize=256)(code.module_of)


@cache
def program() -> str:
    """The path of Deno, from the wheel of that name. Raises Missing."""
    try:
        import deno

        return str(deno.find_deno_bin())
    except (ImportError, FileNotFoundError) as fault:
        why = f"there is no Deno to run it: {fault}; install the package `deno`"
        raise code.Missing(why) from None


def _explained(
    tool: ToolPlan, around: Surroundings, module: code.Module, fault: CallFailed
) -> ToolFailed:
    details: dict[str, Json] = {}
    message = fault.message
    if fault.kind == "timeout":
        details["timeout_seconds"] = tool.timeout
    if fault.kind != "thrown":
        again = fault.kind in ("timeout", "exit")
        return failed(tool, around, message, kind=fault.kind, details=details, retryable=again)
    if fault.name == "MissingExport":
        message = f"`{module.shown}` does not export `{tool.id}`; it exports: {message}"
        return failed(tool, around, message, kind="start", retryable=False)
    permission = needed(fault.message)
    is_denied = permission is not None
    if permission is not None:
        details["permission"] = permission
        message = f"{message.partition(', run again with')[0]}: {_way_to(permission)}"
        if _is_missing(permission, around.root):
            message += "; but there is no such file"
    elif around.runtime.engine == "native" and _DENIED.search(message):
        message += ", which `runtime.permissions`, or the system, does not allow"
        is_denied = True
    elif _LINKED in message:
        message += "; a link that leads out of what `runtime.permissions` allows is not followed"
    if fault.stack:
        details["stack"] = _own(fault.stack, module, around)
    if fault.name:
        details["type"] = fault.name
    at = _line(fault.stack, module, around)
    return failed(
        tool,
        around,
        message,
        kind="permission" if is_denied else "thrown",
        details=details,
        at=at,
        retryable=not is_denied,
        is_known=not fault.message.startswith(_NO_JSON),
    )


def _own(stack: str, module: code.Module, around: Surroundings) -> str:
    """The part of a stack that is about the tool, with paths as the project has them."""
    lines = [line for line in stack.splitlines() if not any(map(line.__contains__, _RUNNERS))]
    shown = "\n".join(lines)
    root = Path(os.path.realpath(around.root))
    for place, instead in ((Path(module.path), module.shown or "execute"), (root, "")):
        for written in (place.as_uri(), str(place)):  # as engines do, or one of them
            shown = shown.replace(written if instead else written + os.sep, instead)
    return shown[:_MOST_STACK]


def _is_missing(permission: str, root: Path) -> bool:
    """Whether it is for a file of the project that is not there, such as a module."""
    flag, _, name = permission.partition("=")
    path = os.path.join(os.path.realpath(root), name)
    inside = os.path.normpath(path).startswith(os.path.realpath(root) + os.sep)
    return flag == "--allow-read" and inside and not os.path.lexists(path)


def _way_to(permission: str) -> str:
    flag = permission.partition("=")[0]
    if flag in REFUSED:
        return f"it would need `{flag}`, which no tool gets: {REFUSED[flag]}"
    return f"it would need `{permission}` in `runtime.permissions`"


def _line(stack: str, module: code.Module, around: Surroundings) -> tuple[str, int] | None:
    """The file of the project, and the line in it, where the code of the tool failed."""
    for found, line, _ in _FRAME.findall(stack):
        url = found if found.startswith("file:") else Path(found).as_uri()
        if url == Path(module.path).as_uri() and not module.shown:
            place = around.place
            return (place[0], place[1] + int(line) - 1) if place is not None else None
        prefix = Path(os.path.realpath(around.root)).as_uri() + "/"
        if url.startswith(prefix) and "/node_modules/" not in url:
            return url.removeprefix(prefix), int(line)
    return None


def notice(runtime: RuntimePlan, tools: Iterable[ToolPlan]) -> str | None:
    """What is to be said of the engine before a run; None for nothing."""
    if (
        runtime.engine == "native"
        or runtime.type == "deno"
        or not any(tool.type in TYPES for tool in tools)
    ):
        return None
    return (
        f"tools run on Deno, since `{runtime.type}` does not keep to `runtime.permissions`; "
        "`runtime: {type: deno}` says so, and `engine: native` runs them on it, with less to allow"
    )
