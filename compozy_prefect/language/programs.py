"""The words of an allow-list of programs: what the file says of them, without a look at the disk.

A program is a path, from the project's folder unless it is absolute, or a name that the system's
`PATH` finds. What it is at the end is told by `runtime.tools.programs`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from functools import cache
from typing import Any

ALWAYS = ("ls", "pwd", "cat", "grep", "find", "head", "tail", "echo", "stat", "wc", "sleep")
"""Programs that every project may start (language.md §6.5)."""

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish", "busybox", "env"})
"""What runs a text as a program."""

_SHELL_WORDS = frozenset("|&;<>()$`*?~#")


def is_name(program: str) -> bool:
    """Whether it is looked for in `PATH`."""
    return os.sep not in program


def may_be(program: str, allowed: Iterable[str]) -> bool:
    """Whether a program can turn out to be one of those, as far as the words say.

    A name and a path may lead to the same file; two names, or two paths, only when they are equal.
    """
    wanted = os.path.normpath(program)
    for one in allowed:
        known = os.path.normpath(one)
        if known == wanted:
            return True
        alike = os.path.basename(known) == os.path.basename(wanted)
        if alike and (is_name(known) != is_name(wanted) or os.path.isabs(known)):
            return True
    return False


def fault_of(pattern: str) -> str:
    """Why a pattern is no regular expression of RE2; empty for one."""
    import re2

    try:
        _compiled(pattern)
    except re2.error as fault:
        return str(fault).removeprefix("b'").removesuffix("'")
    return ""


def fits(pattern: str, text: str) -> bool:
    """Whether a pattern fits all of a text, in a time that grows with both and no faster."""
    return _compiled(pattern).fullmatch(text.encode("utf-8", "replace")) is not None


@cache
def _compiled(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern.encode("utf-8", "replace"), options)


def argv_of(text: str) -> tuple[list[str], str]:
    """A command line as the list that it means, and the first sign in it that only a shell reads.

    The list is empty where a quote is not closed.
    """
    try:
        words = shlex.split(text)
    except ValueError:
        return [], ""
    bare = shlex.shlex(text, posix=False, punctuation_chars=True)
    bare.whitespace_split = True
    for word in bare:
        if word[:1] not in "'\"" and (found := _SHELL_WORDS.intersection(word)):
            return words, min(found, key=word.index)
    return words, ""
