"""A path or a pattern of an attachment → the files of the project that it names (§12.2).

Nothing outside of the project's directory is read, whatever `..`, an absolute path or a symbolic
link says. A path that comes out of a template may name no hidden file: those hold keys.
"""

from __future__ import annotations

import glob
from pathlib import Path, PurePosixPath

from compozy_prefect.errors import RunError

MOST = 100  # files of one pattern


def find(root: Path, folder: str, path: str, *, is_pattern: bool, is_written: bool) -> list[Path]:
    """The files, resolved and in order. `folder` is that of the file which names them.

    `is_written`: no template has a part in the path. Raises RunError.
    """
    if not path.strip() or "\0" in path:
        raise failed("its path is empty")
    root = root.resolve()
    base = root / folder
    names = _matches(base, path) if is_pattern and glob.has_magic(path) else [path]
    if not names:
        raise failed(f"no file fits `{path}` in {base}")
    if len(names) > MOST:
        raise failed(f"`{path}` fits {len(names)} files; {MOST} is the most")
    return [_inside(root, base, name, is_written) for name in names]


def read(path: Path, largest: int) -> bytes:
    """The bytes of a file, `largest` at most. Raises RunError."""
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except OSError as fault:
        raise failed(f"{path} cannot be read: {(fault.strerror or str(fault)).lower()}") from None
    if len(data) > largest:
        raise failed(f"{path} has more than {largest:,} bytes")
    return data


def failed(message: str, *, retryable: bool = False) -> RunError:
    return RunError(f"attachment: {message}", code="ATTACHMENT_FAILED", retryable=retryable)


def _matches(base: Path, pattern: str) -> list[str]:
    parts = PurePosixPath(pattern).parts
    if parts[0] == "/" or ".." in parts:
        raise failed(f"`{pattern}` leads out of {base}")
    found = glob.iglob(pattern, root_dir=base, recursive=True)
    return sorted(name for name in found if (base / name).is_file())


def _inside(root: Path, base: Path, name: str, is_written: bool) -> Path:
    try:
        path = (base / name).resolve()
    except (OSError, RuntimeError, ValueError):  # a link to itself
        raise failed(f"`{name}` is no file") from None
    if not path.is_relative_to(root):
        raise failed(f"`{name}` lies outside of the project's directory")
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    if hidden and not is_written:
        raise failed(f"`{name}` comes out of a template and names a hidden file")
    if not path.is_file():
        raise failed(f"there is no file `{name}` in {base}")
    return path
