"""`cp__read_file`, `cp__write_file` and `cp__delete_file` (language.md §6.5)."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from contextlib import suppress
from typing import Any

from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime.native.roots import (
    DENIED,
    INVALID,
    Fault,
    Roots,
    folder_of,
    is_file,
    metadata,
    opened,
    told,
)

LARGEST = 10 << 20  # bytes of a file that is read or written
_PERMISSIONS = 0o777


def read_file(roots: Roots, given: dict[str, Any]) -> Json:
    """Raises Fault."""
    place = roots.find(given["path"])
    with opened(place) as fd:
        found = os.fstat(fd)
        if not is_file(found):
            raise Fault(INVALID, f"`{place.shown}` is no file")
        if found.st_size > LARGEST:
            raise Fault(INVALID, f"`{place.shown}` is larger than {LARGEST >> 20} MiB")
        with open(fd, "rb", closefd=False) as file:
            raw = file.read(LARGEST + 1)
    try:
        content = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault(INVALID, f"`{place.shown}` is no text in UTF-8") from None
    return {"content": content, "metadata": metadata(place, found)}


def write_file(roots: Roots, given: dict[str, Any]) -> Json:
    """The file is there as a whole, or as it was before. Raises Fault."""
    place = roots.to_change(given["path"])
    content = given["content"].encode("utf-8", "replace")
    mode = _mode(given.get("mode"))
    if len(content) > LARGEST:
        raise Fault(INVALID, f"the content is larger than {LARGEST >> 20} MiB")
    if not place.parts:
        raise Fault(INVALID, f"`{place.shown}` is a folder")
    with folder_of(place, make=True) as (folder, name):
        try:
            before = _before(folder, name)
            if before is not None and not is_file(before):
                raise Fault(INVALID, f"`{place.shown}` is no file")
            if given.get("append"):
                found = _append(folder, name, content, mode)
            else:
                if mode is None and before is not None:
                    mode = stat.S_IMODE(before.st_mode) & _PERMISSIONS
                found = _replace(folder, name, content, mode)
        except OSError as fault:
            raise told(fault, place.shown) from None
    return {"success": True, "metadata": metadata(place, found)}


def delete_file(roots: Roots, given: dict[str, Any]) -> Json:
    """Raises Fault. A link is deleted, and not what it leads to."""
    place = roots.to_change(given["path"], link=True)
    if not place.parts:
        raise Fault(DENIED, f"`{place.shown}` is a folder that tools may use, and stays")
    try:
        with folder_of(place) as (folder, name):
            found = _before(folder, name)
            if found is None:
                return {"success": False}
            if not stat.S_ISDIR(found.st_mode):
                os.unlink(name, dir_fd=folder)
            elif given.get("recursive"):
                shutil.rmtree(name, dir_fd=folder)
            else:
                os.rmdir(name, dir_fd=folder)
    except Fault as fault:
        if fault.code == "FileNotFound":
            return {"success": False}
        raise
    except OSError as problem:
        if isinstance(problem, FileNotFoundError):
            return {"success": False}
        if os.path.isdir(place.path) and not given.get("recursive"):
            message = f"`{place.shown}` is a folder with something in it: `recursive` deletes that"
            raise Fault(INVALID, message) from None
        raise told(problem, place.shown) from None
    return {"success": True}


def _before(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _append(folder: int, name: str, content: bytes, mode: int | None) -> os.stat_result:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, 0o666 if mode is None else mode, dir_fd=folder)
    with open(fd, "ab") as file:
        file.write(content)
        file.flush()
        if mode is not None:
            os.fchmod(fd, mode)
        return os.fstat(fd)


def _replace(folder: int, name: str, content: bytes, mode: int | None) -> os.stat_result:
    """Under another name first, so that nobody sees a half."""
    beside = f".{name[:200]}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(beside, flags, 0o666, dir_fd=folder)
    try:
        with open(fd, "wb") as file:
            file.write(content)
            file.flush()
            if mode is not None:
                os.fchmod(fd, mode)
            os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
            return os.fstat(fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=folder)
        raise


def _mode(given: Json) -> int | None:
    """Permissions as they are written, in octal digits: `0644`, or 644."""
    if given is None or given == "":
        return None
    try:
        mode = int(str(given).removeprefix("0o"), 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= _PERMISSIONS:
        raise Fault(INVALID, f"`mode` is octal digits, from 0000 to 0777, and not `{given}`")
    return mode
