"""A command and the project's allow-list → the program that is started, or why not (§6.5).

An entry and a command are the same when they are the same name in the same folder, after the links
of the folder are followed. A link in the last place counts as what it is called and not as where it
leads: one name of a program with many, such as `busybox`, does not allow its others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from compozy_prefect.compiler.plan import CommandPlan, RuntimePlan
from compozy_prefect.language import programs
from compozy_prefect.language.discovery import within
from compozy_prefect.language.names import suggest
from compozy_prefect.language.permissions import SECRET_FILE, VARIABLES
from compozy_prefect.runtime.processes.guarded import Fence

_PATH = "/usr/local/bin:/usr/bin:/bin"
_UNSAFE = {"find": re.compile(r"-(exec|execdir|ok|okdir|delete|fls|fprint|fprint0|fprintf)")}


class NotAllowed(Exception):
    """A program that may not be started, or not with these arguments; the text is a sentence."""


class NotFound(Exception):
    """A program that is not there; the text is a sentence."""


class Allowed(NamedTuple):
    """The path of a program, its entry in the list, and the files it may read if not all."""

    path: str
    entry: CommandPlan
    fence: Fence | None = None


def find(command: Sequence[str], runtime: RuntimePlan, root: Path) -> Allowed:
    """What a command starts. Raises NotAllowed and NotFound."""
    name = command[0]
    entries = [*runtime.native_tools.exec.allowlist, *map(CommandPlan, programs.ALWAYS)]
    if not programs.may_be(name, (entry.path for entry in entries)):
        raise NotAllowed(_refusal(name, [entry.path for entry in entries]))
    folders = path_of(root)
    found = _file(name, folders, root)
    if found is None:
        if name not in [entry.path for entry in entries]:
            raise NotAllowed(_refusal(name, [entry.path for entry in entries]))
        where = "in the system's `PATH`" if programs.is_name(name) else "there"
        raise NotFound(f"there is no program `{name}` {where}")
    own = len(runtime.native_tools.exec.allowlist)
    for index, entry in enumerate(entries):
        if _file(entry.path, folders, root) == found:
            _check(command[1:], entry)
            if index < own:
                return Allowed(found, entry)
            _harmless(command[1:], entry.path)
            read, listed = without_secrets(roots(runtime, root))
            return Allowed(found, entry, Fence((found,), tuple(read), listed=tuple(listed)))
    raise NotAllowed(_refusal(name, [entry.path for entry in entries]))


def environment(root: Path, declared: Mapping[str, str]) -> dict[str, str]:
    """Variables of a program: the `PATH` of the system, and what the files declare."""
    own = {name: value for name, value in declared.items() if name not in VARIABLES}
    return {"PATH": ":".join(path_of(root)), "LANG": "C.UTF-8", **own}


def path_of(root: Path) -> list[str]:
    """The folders of `PATH`, without those in the project, where tools may write."""
    return _folders(os.environ.get("PATH") or _PATH, root)


@lru_cache(maxsize=16)
def _folders(given: str, root: Path) -> list[str]:
    folders = given.split(os.pathsep)
    return [one for one in folders if os.path.isabs(one) and within(root, one) is None]


def _file(program: str, folders: list[str], root: Path) -> str | None:
    """The path of a program: its folder without links, its own name as it is."""
    if programs.is_name(program):
        found = next(filter(None, (_runs(os.path.join(one, program)) for one in folders)), None)
    elif os.path.isabs(program):
        found = _runs(program)
    else:
        real = within(root, program)
        found = None if real is None else _runs(os.path.join(os.path.realpath(root), program))
    return found


def _runs(path: str) -> str | None:
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        return None
    folder, name = os.path.split(os.path.normpath(path))
    return os.path.join(os.path.realpath(folder), name)


def _check(arguments: Sequence[str], entry: CommandPlan) -> None:
    name, count = entry.path, len(arguments)
    if 0 <= entry.max_args < count:
        raise NotAllowed(f"`{name}` has {count} arguments, and may have {entry.max_args}")
    known = {one.index for one in entry.arguments}
    for one in entry.arguments:
        what = f"argument {one.index + 1} of `{name}`" + (f", `{one.name}`," if one.name else "")
        if one.index >= count:
            if not one.optional:
                raise NotAllowed(f"{what} is missing")
        elif one.enum and arguments[one.index] not in one.enum:
            value = arguments[one.index]
            raise NotAllowed(f"{what} is `{value}`; it may be {', '.join(one.enum)}")
        elif one.pattern and not programs.fits(one.pattern, arguments[one.index]):
            value = arguments[one.index]
            raise NotAllowed(f"{what} is `{value}`, which does not fit `{one.pattern}`")
    more = [at for at in range(count) if at not in known]
    if known and more and not entry.additional:
        raise NotAllowed(f"`{name}` may not be called with `{arguments[more[0]]}`")


def _harmless(arguments: Sequence[str], name: str) -> None:
    unsafe = _UNSAFE.get(name)
    for argument in arguments:
        if unsafe is not None and unsafe.fullmatch(argument):
            raise NotAllowed(f"`{name}` may not be called with `{argument}`")


def roots(runtime: RuntimePlan, root: Path) -> tuple[str, ...]:
    """The real paths of the folders that built-in tools may use, and `ls`, `cat` and the like."""
    given = runtime.native_tools.roots
    return tuple(dict.fromkeys(os.path.realpath(os.path.join(root, one)) for one in given))


def without_secrets(folders: Sequence[str]) -> tuple[list[str], list[str]]:
    """What to open of some folders, without the files in them that hold secrets; and those of the
    folders of which only the names may then be seen."""
    read: list[str] = []
    listed: list[str] = []
    for folder in folders:
        with os.scandir(folder) as found:
            # A link would open what it leads to; what is beneath the folders is open without.
            entries = [entry.name for entry in found if not entry.is_symlink()]
        hidden = [name for name in entries if SECRET_FILE.fullmatch(name)]
        if hidden:
            listed.append(folder)
            read += [os.path.join(folder, name) for name in entries if name not in hidden]
        else:
            read.append(folder)
    return read, listed


def _refusal(name: str, known: list[str]) -> str:
    hint = suggest(name, known, what="they are", limit=20)
    return (
        f"`{name}` is not one of the programs that the project allows; {hint}; "
        f"to allow it: `runtime: {{native_tools: {{exec: {{allowlist: [{name}]}}}}}}`"
    )
