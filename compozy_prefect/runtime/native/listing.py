"""`cp__list_files`, `cp__list_dir` and `cp__grep` (language.md §6.5).

No link is followed on the way down, and files with secrets are not read.
"""

from __future__ import annotations

import os
import re
import stat
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from compozy_prefect.compiler.natives import PAGE
from compozy_prefect.compiler.plan import Json
from compozy_prefect.language.permissions import SECRET_FILE
from compozy_prefect.runtime.native.roots import (
    INVALID,
    Fault,
    Place,
    Roots,
    is_file,
    opened,
    time_of,
    told,
)

MOST = 20_000  # entries of one listing
_DEEPEST = 64
_LONGEST_LINE = 500  # characters of a line that are shown


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a folder; `path` counts from the folder that is listed."""

    name: str
    path: str
    kind: str  # `file`, `dir` or `link`
    found: os.stat_result


def list_files(roots: Roots, given: dict[str, Any], until: float) -> Json:
    """Raises Fault."""
    exclude = given.get("exclude") or []
    out = [pattern(one) for one in ([exclude] if isinstance(exclude, str) else exclude)]
    place = roots.find(given["dir"])
    files = [
        entry.path
        for entry in _entries(place, bool(given.get("recursive")), until)
        if entry.kind == "file" and not any(_fits(one, entry.path) for one in out)
    ]
    return {"files": sorted(files)}


def list_dir(roots: Roots, given: dict[str, Any], until: float) -> Json:
    """A page begins behind the entry that is its token. Raises Fault."""
    wanted = pattern(given["pattern"]) if given.get("pattern") else None
    kinds = {"link"}
    kinds |= {"file"} if given.get("include_files", True) else set()
    kinds |= {"dir"} if given.get("include_dirs", True) else set()
    place = roots.find(given["path"])
    entries = {
        entry.path: entry
        for entry in _entries(place, bool(given.get("recursive")), until)
        if entry.kind in kinds and (wanted is None or _fits(wanted, entry.path))
    }
    names = sorted(entries)
    token, size = given.get("page_token") or "", given.get("page_size", PAGE)
    start = bisect_right(names, token) if token else 0
    page = names[start : start + size]
    return {
        "entries": [_shown(entries[name]) for name in page],
        "next_page_token": page[-1] if start + size < len(names) else "",
    }


def grep(roots: Roots, given: dict[str, Any], until: float) -> Json:
    """Lines in which a pattern is found, once each. Raises Fault."""
    search = _re2(given["pattern"], ignore_case=bool(given.get("ignore_case"))).search
    most, left = given.get("max_results", 1000), given.get("max_files_visited", 10_000)
    largest = given.get("max_file_bytes", 1 << 20)
    matches: list[Json] = []
    for file in _searched(roots.find(given["path"]), bool(given.get("recursive")), until):
        left -= 1
        if left < 0:
            break
        for number, line in enumerate(_lines(file, largest), 1):
            if time.monotonic() > until:
                raise Fault("DeadlineExceeded", "it took too long")
            found = search(line)
            if found is not None:
                text = line.decode("utf-8", "replace")
                column = len(line[: found.start()].decode("utf-8", "replace")) + 1
                shown = {"file": file.shown, "line": number, "column": column}
                matches.append({**shown, "text": text[:_LONGEST_LINE]})
                if len(matches) >= most:
                    return {"matches": matches}
    return {"matches": matches}


def _searched(place: Place, recursive: bool, until: float) -> Iterator[Place]:
    """The files to look into, named as `path` names what they are in."""
    with opened(place) as fd:
        alone = is_file(os.fstat(fd))
    if alone:
        yield place
        return
    entries = (one for one in _entries(place, recursive, until) if one.kind == "file")
    for entry in sorted(entries, key=lambda one: one.path):
        if not SECRET_FILE.fullmatch(entry.name):
            folders = entry.path.split("/")[:-1]
            parts = (*place.parts, *folders, entry.name)
            base = "" if place.shown in (".", "./") else place.shown.rstrip("/") + "/"
            yield Place(place.root, parts, base + entry.path)


def _lines(place: Place, largest: int) -> list[bytes]:
    """Those of a text file that is not too large; nothing of another."""
    try:
        with opened(place) as fd:
            found = os.fstat(fd)
            if not is_file(found) or found.st_size > largest:
                return []
            with open(fd, "rb", closefd=False) as file:
                raw = file.read(largest + 1)
    except Fault:
        return []  # it is gone by now, or may not be read
    return [] if b"\0" in raw[:8192] else raw.splitlines()


def _entries(place: Place, recursive: bool, until: float) -> Iterator[Entry]:
    """What is in a folder, and in those in it. Raises Fault."""
    count = 0
    with opened(place, os.O_RDONLY | os.O_DIRECTORY) as fd:
        for entry in _beneath(fd, "", place, _DEEPEST if recursive else 0):
            count += 1
            if count > MOST:
                message = f"`{place.shown}` has more than {MOST:,} entries: take a part of it"
                raise Fault(INVALID, message)
            if time.monotonic() > until:
                raise Fault("DeadlineExceeded", "it took too long")
            yield entry


def _beneath(fd: int, base: str, place: Place, depth: int) -> Iterator[Entry]:
    for entry in _scanned(base, fd, place):
        yield entry
        if depth and entry.kind == "dir":
            below = _below(entry.name, fd)
            if below >= 0:
                try:
                    yield from _beneath(below, f"{entry.path}/", place, depth - 1)
                finally:
                    os.close(below)


def _scanned(base: str, fd: int, place: Place) -> Iterator[Entry]:
    try:
        names = sorted(os.listdir(fd))
    except OSError as fault:
        raise told(fault, place.shown) from None
    for name in names:
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError:
            continue  # it is gone by now
        kind = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}
        if stat.S_IFMT(found.st_mode) in kind:
            yield Entry(name, base + _text(name), kind[stat.S_IFMT(found.st_mode)], found)


def _below(name: str, fd: int) -> int:
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, dir_fd=fd)
    except OSError:
        return -1  # it is gone by now, or may not be read


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")


def _shown(entry: Entry) -> Json:
    return {
        "name": _text(entry.name),
        "path": entry.path,
        "type": entry.kind,
        "size": entry.found.st_size,
        "modified": time_of(entry.found),
    }


def pattern(glob: str) -> Any:
    """`*` and `?` stay in a folder, `**` does not; a pattern without `/` is of names."""
    out, at = "", 0
    while at < len(glob):
        for sign, meaning in (("**/", "(?:[^/]+/)*"), ("**", ".*"), ("*", "[^/]*"), ("?", "[^/]")):
            if glob.startswith(sign, at):
                out, at = out + meaning, at + len(sign)
                break
        else:
            out, at = out + re.escape(glob[at]), at + 1
    return _re2(out if "/" in glob else f"(?:.*/)?{out}")


def _fits(one: Any, path: str) -> bool:
    return one.fullmatch(path.encode()) is not None


def _re2(text: str, *, ignore_case: bool = False) -> Any:
    """A pattern of bytes that takes no longer than it is long (as those of templates)."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    options.case_sensitive = not ignore_case
    try:
        return re2.compile(text.encode("utf-8", "replace"), options)
    except re2.error as fault:
        reason = str(fault).removeprefix("b'").removesuffix("'")
        raise Fault(INVALID, f"`{text}` is no pattern: {reason}") from None
