"""A path that somebody gives → an open file or folder beneath the folders that tools may use.

Links are followed as long as they lead to a place beneath them. Then the way is gone folder by
folder from the top, and no link is followed any more: what was exchanged for one in the meantime is
an error and no way out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import ToolFailed
from compozy_prefect.language.permissions import SECRET_FILE

INVALID, DENIED, MISSING = "InvalidArgument", "PermissionDenied", "FileNotFound"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST = 4096  # characters of a path


class Fault(Exception):
    """Why a built-in tool does nothing: a code of §6.5, and a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Place(NamedTuple):
    """Something beneath a folder: the names on the way. Without any it is the folder itself."""

    root: str
    parts: tuple[str, ...]
    shown: str

    @property
    def path(self) -> str:
        return os.path.join(self.root, *self.parts)


@dataclass(frozen=True, slots=True)
class Roots:
    """The folders that tools may use, as real paths; relative paths count from the first.

    `code` are files in them that are executed, and that tools do not change.
    """

    folders: tuple[str, ...]
    code: frozenset[str] = frozenset()

    def find(self, given: str, *, link: bool = False) -> Place:
        """Where a path leads; with `link` the link itself, if it is one. Raises Fault."""
        if "\0" in given or len(given) > _LONGEST:
            raise Fault(INVALID, "a path has no zero byte, and at most 4096 characters")
        whole = os.path.normpath(os.path.join(self.folders[0], given))
        # Dots after a link do not lead to where the link is.
        unresolved = os.path.join(self.folders[0], given)
        try:
            if link and os.path.basename(unresolved.rstrip(os.sep)) not in ("", ".", ".."):
                folder, name = os.path.split(unresolved.rstrip(os.sep))
                real = os.path.join(os.path.realpath(folder), name)
            else:
                real = os.path.realpath(unresolved)
        except (OSError, ValueError):
            raise Fault(INVALID, f"`{given}` is no path") from None
        for root in self.folders:
            if real == root or real.startswith(root.rstrip(os.sep) + os.sep):
                parts = tuple(part for part in real[len(root) :].split(os.sep) if part)
                if any(SECRET_FILE.fullmatch(part) for part in parts):
                    raise Fault(DENIED, f"`{given}` holds secrets, and no tool reads it")
                return Place(root, parts, given)
        why = "is a link that leads out" if whole != real and self._has(whole) else "is outside"
        known = ", ".join(f"`{root}`" for root in self.folders)
        raise Fault(DENIED, f"`{given}` {why} of the folders that tools may use: {known}")

    def to_change(self, given: str, *, link: bool = False) -> Place:
        """The same for what is to be written or deleted. Raises Fault."""
        place = self.find(given, link=link)
        beneath = place.path.rstrip(os.sep) + os.sep
        if any(one == place.path or one.startswith(beneath) for one in self.code):
            raise Fault(DENIED, f"`{given}` is code of the project, which tools do not change")
        return place

    def _has(self, path: str) -> bool:
        return any(path.startswith(root.rstrip(os.sep) + os.sep) for root in self.folders)


@contextmanager
def folder_of(place: Place, *, make: bool = False) -> Iterator[tuple[int, str]]:
    """The open folder that something is in, and its name there. Raises Fault.

    With `make` the folders on the way are made. The folder of a root is itself, with the name `.`.
    """
    *way, name = place.parts or (".",)
    try:
        fd = os.open(place.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as fault:
        raise told(fault, place.root) from None
    try:
        for part in way:
            try:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=fd)
                below = os.open(part, _FOLDER, dir_fd=fd)
            except OSError as fault:
                raise told(fault, place.shown) from None
            os.close(fd)
            fd = below
        yield fd, name
    finally:
        os.close(fd)


@contextmanager
def opened(place: Place, flags: int = os.O_RDONLY, mode: int = 0o666) -> Iterator[int]:
    """An open file or folder. Raises Fault."""
    with folder_of(place) as (folder, name):
        try:
            # A pipe would wait for its other end.
            more = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            fd = os.open(name, flags | more, mode, dir_fd=folder)
        except OSError as fault:
            raise told(fault, place.shown) from None
    try:
        yield fd
    finally:
        os.close(fd)


def is_file(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode)


def metadata(place: Place, found: os.stat_result) -> dict[str, Json]:
    return {
        "path": "/".join(place.parts) or ".",
        "size": found.st_size,
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
        "modified": time_of(found),
    }


def time_of(found: os.stat_result) -> str:
    return datetime.fromtimestamp(int(found.st_mtime), UTC).isoformat().replace("+00:00", "Z")


def told(fault: OSError, shown: str) -> Fault:
    """What the system says, as one of the codes of §6.5."""
    if isinstance(fault, FileNotFoundError):
        return Fault(MISSING, f"there is no file or folder `{shown}`")
    if isinstance(fault, PermissionError):
        return Fault(DENIED, f"`{shown}` may not be used: {(fault.strerror or '').lower()}")
    if isinstance(fault, NotADirectoryError):
        return Fault(INVALID, f"`{shown}` is beneath something that is no folder")
    if isinstance(fault, IsADirectoryError):
        return Fault(INVALID, f"`{shown}` is a folder")
    return Fault("Internal", f"`{shown}`: {(fault.strerror or str(fault)).lower()}")


def failure(tool: str, fault: Fault) -> ToolFailed:
    return ToolFailed(
        f"tool `{tool}`: {fault.message}",
        code=fault.code,
        details={"tool": tool},
        retryable=fault.code in ("Internal", "DeadlineExceeded"),
    )
