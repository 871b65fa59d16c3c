"""A tool → the module that has its function, and the files that this loads (§6.3, §6.4).

Inline code becomes a module in a folder of this process, next to a link to the project's
`node_modules`. Modules of the project are loaded where they are.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from compozy_prefect.language import exports
from compozy_prefect.language.discovery import within
from compozy_prefect.language.javascript import PATH, Code, Fault, Reader, Unread

_EXTENSIONS = ("", ".ts", ".js", ".mjs", ".mts", ".cjs", ".cts", ".tsx", ".jsx")
_IMPORTED = re.compile(r"""(?:\bfrom|\bimport|\brequire)\s*\(?\s*["'](\.{1,2}/[^"'\n]*)["']""")
_MOST_FILES = 2000
_DECLARED = re.compile(r"^(?:async\s+)?function\s+([\w$]+)", re.MULTILINE)


class Missing(Exception):
    """Code that is not there; the text is a sentence."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module. `name` is that of the function in it, empty for its only one.

    `files` are what loading it reads, links resolved; `shown` is its path as people know it.
    """

    path: str
    name: str
    files: tuple[str, ...]
    shown: str = ""

    def described(self, root: str) -> list[str]:
        """The `package.json` of the project and its folders, which say what kind its files are."""
        folders = {root}
        for file in self.files:
            folder = os.path.dirname(file)
            while folder.startswith(root + os.sep):
                folders.add(folder)
                folder = os.path.dirname(folder)
        return [os.path.join(folder, "package.json") for folder in sorted(folders)]


def module_of(name: str, execute: str, entrypoint: str, root: Path) -> Module:
    """The module of a tool: inline code, without a `name`, or an export. Raises Missing."""
    text = execute.strip()
    if PATH.fullmatch(text):
        path = _inside(root, text, "the file of its code")
        code = path.read_text("utf-8", "replace")
        if "export" in code:
            return Module(str(path), "", _closure(path, root), text)
        return _inline(code, root)
    if not name:
        return _inline(execute, root)
    if not entrypoint:
        raise Missing(
            "it has no `type`, and the project has no `runtime.entrypoint` whose export it could be"
        )
    path = _inside(root, entrypoint, "the entrypoint")
    return Module(str(path), name, _closure(path, root), entrypoint)


def _inside(root: Path, path: str, what: str) -> Path:
    real = within(root, path.strip())
    if real is None or not os.path.isfile(real):
        raise Missing(f"{what}, `{path.strip()}`, is not in the project's folder")
    return Path(real)


@cache
def _inline(code: str, root: Path) -> Module:
    digest = hashlib.sha256(f"{root}\0{code}".encode()).hexdigest()[:16]
    folder = _folder() / digest
    folder.mkdir(exist_ok=True)
    text, extension = as_module(code)
    file = folder / f"tool.{extension}"
    file.write_text(text, "utf-8")
    packages, link = root / "node_modules", folder / "node_modules"
    if packages.is_dir() and not link.is_symlink():
        link.symlink_to(packages.resolve())
    return Module(str(file), "", (str(file),))


def as_module(code: str) -> tuple[str, str]:
    """Code of one function, whatever its name, as the default export, and `js` or `ts`.

    Its lines stay where they are.
    """
    try:
        read = Reader().read(code)
    except (Fault, Unread):
        return _guessed(code), "ts"
    extension = "ts" if read.is_typescript else "js"
    known = exports.functions(read)
    if known.defaults or not known.all:
        return code, extension
    name, node = known.all[0]
    if name:
        return f"{code}\nexport default {name};\n", extension
    return _exported(read, read.place(node)[0]), extension


def _exported(read: Code, start: int) -> str:
    text = read.raw.decode("utf-8", "replace")
    line = text.rfind("\n", 0, start) + 1
    before = text[line:start].rstrip()
    # Brackets around a function begin in front of it.
    start -= len(text[line:start]) - len(before.rstrip("(").rstrip()) if before else 0
    return f"{text[:start]}export default {text[start:]}"


def _guessed(code: str) -> str:
    """For what is too long to be read."""
    if re.search(r"^export\s+default\b", code, re.MULTILINE):
        return code
    declared = _DECLARED.search(code)
    return f"{code}\nexport default {declared[1]};\n" if declared else f"export default {code}"


def _closure(path: Path, root: Path) -> tuple[str, ...]:
    """A module and those of the project that it, or one of these, names in an import.

    What `node_modules` has is loaded without a permission, and what is data needs one.
    """
    found, open_ = {str(path): None}, [path]
    while open_ and len(found) < _MOST_FILES:
        file = open_.pop()
        for name in _IMPORTED.findall(file.read_text("utf-8", "replace")):
            for candidate in _candidates(file.parent / name):
                real = within(root, str(candidate))
                if real is None or real in found or not real.endswith(_EXTENSIONS[1:]):
                    continue
                if os.path.isfile(real):
                    found[real] = None
                    open_.append(Path(real))
    return tuple(found)


def _candidates(path: Path) -> list[Path]:
    named = [path.with_name(path.name + extension) for extension in _EXTENSIONS]
    return [*named, *(path / f"index{extension}" for extension in _EXTENSIONS[1:])]


@cache
def engine_folder() -> Path:
    """Where the engine keeps what it has compiled. Tools cannot write there: the file in the place
    of a folder takes from them the storages that the engine grants to everybody."""
    folder = _folder() / "engine"
    folder.mkdir()
    (folder / "location_data").touch()
    return folder


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="compozy-js-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder.resolve()


def _forget() -> None:
    for one in (_folder, _inline, engine_folder):
        one.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
