"""A path → the project that is tested, and its test files.

A test file is a `*.test.yaml` in the project's directory, at any depth, but not in what is hidden,
in `node_modules`, or in a directory that is a project of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from compozy_prefect.errors import UsageError
from compozy_prefect.language.autoload import MAX_ENTRIES, TESTS
from compozy_prefect.language.discovery import PROJECT_FILES


class Tests(NamedTuple):
    """`project` is what the compiler takes, `root` its directory; `files` are sorted."""

    project: Path
    root: Path
    files: tuple[Path, ...]

    def name(self, file: Path) -> str:
        """How spans name a file: relative to the project, with forward slashes."""
        return os.path.relpath(file, self.root).replace(os.sep, "/")


def find(path: Path) -> Tests:
    """The tests at `path`: a project, a directory in one, a project file or a test file.

    Raises UsageError when there are none, or no project.
    """
    if not os.path.lexists(path):
        raise UsageError(f"there is no file or directory {path}")
    if path.is_dir():
        root = _root_of(path)
        files = tuple(sorted(_below(path, root)))
        if not files:
            raise UsageError(
                f"there are no test files in {path}; one is called like `hello.test.yaml`"
            )
        return Tests(root, root, files)
    if path.name.endswith(TESTS):
        root = _root_of(path.parent)
        return Tests(root, root, (path,))
    root = path.parent
    files = tuple(sorted(_below(root, root)))
    if not files:
        raise UsageError(
            f"there are no test files beside {path}; one is called like `hello.test.yaml`"
        )
    return Tests(path, root, files)


def _root_of(directory: Path) -> Path:
    """The nearest directory around, or this one, that has a project file."""
    if _is_project(directory):
        return directory
    for above in Path(os.path.abspath(directory)).parents:
        if _is_project(above):
            return above
    raise UsageError(f"there is no {PROJECT_FILES[0]} in {directory}, nor in a directory above it")


def _is_project(directory: Path) -> bool:
    return any((directory / name).is_file() for name in PROJECT_FILES)


def _below(top: Path, root: Path) -> Iterator[Path]:
    left = MAX_ENTRIES
    for directory, folders, files in os.walk(top):
        here = Path(directory)
        if here != root and here != top and _is_project(here):
            folders.clear()
            continue
        folders[:] = [name for name in folders if name[0] != "." and name != "node_modules"]
        left -= len(folders) + len(files)
        if left < 0:
            raise UsageError(
                f"{top} has more than {MAX_ENTRIES:,} files; name the directory of the tests"
            )
        yield from (here / name for name in files if name.endswith(TESTS) and name[0] != ".")
