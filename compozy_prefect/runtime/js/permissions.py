"""`runtime.permissions` and the project's folder → what the engine is told (language.md §1.2).

The flags are Deno's, narrowed: without paths, `--allow-read` and `--allow-write` mean the project's
folder. What would lead out of the sandbox has no flag here, and files with secrets are never read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from compozy_prefect.language.permissions import REFUSED, SECRET_FILE

_REFUSAL = re.compile(r"Requires (\w+) access(?: to (?:\"(.*?)\"|(<.*?>)))?, run again with")
_PATHS = ("read", "write")


class Refused(Exception):
    """A permission that no tool gets; the text is a sentence."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """What tools of a project may do. `read` and `write` are real paths.

    `env` are names, `PREFIX_*` for several; `others` are flags as they are given to the engine.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    any_env: bool = False
    net: bool = False
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, written: Iterable[str], root: Path) -> Permissions:
        """Raises Refused."""
        paths: dict[str, list[str]] = {kind: [] for kind in _PATHS}
        env: list[str] = []
        others: list[str] = []
        any_env = net = False
        for text in written:
            flag, _, names = text.strip().partition("=")
            if flag in REFUSED:
                raise Refused(f"`{flag}` is refused: {REFUSED[flag]}")
            kind = flag.removeprefix("--allow-")
            if kind in paths:
                paths[kind] += _real(root, _split(names) or ["."])
            elif flag in ("--deny-read", "--deny-write"):
                real = _real(root, _split(names))
                others.append(_flag(flag, real) if real else flag)
            elif kind == "env":
                env += _split(names)
                any_env = any_env or not names
            else:
                net = net or kind == "net"
                others.append(text.strip())
        return cls(
            tuple(dict.fromkeys(paths["read"])),
            tuple(dict.fromkeys(paths["write"])),
            tuple(dict.fromkeys(env)),
            any_env,
            net,
            tuple(others),
        )

    def variables(self, outside: Mapping[str, str], declared: Mapping[str, str]) -> dict[str, str]:
        """The environment of the process: what the files declare, and what is granted by name."""
        granted = {n: value for n, value in outside.items() if self._grants(n)} if self.env else {}
        # The engine's own variables are settings of the sandbox.
        return {n: v for n, v in {**granted, **declared}.items() if not n.startswith("DENO_")}

    def _grants(self, name: str) -> bool:
        return any(
            name.startswith(one[:-1]) if one.endswith("*") else name == one for one in self.env
        )

    def flags(self, root: Path, code: Iterable[str], declared: Iterable[str]) -> list[str]:
        """The engine's flags. `code` are the files that it loads, `declared` names of variables."""
        out = [_flag("--allow-read", [*self.read, *code])]
        hidden = list(_secrets(root))
        if hidden:
            out.append(_flag("--deny-read", hidden))
            out.append(_flag("--deny-write", hidden))
        if self.write:
            out.append(_flag("--allow-write", self.write))
        names = sorted({*self.env, *declared})
        if self.any_env:
            out.append("--allow-env")
        elif names:
            out.append("--allow-env=" + ",".join(names))
        return [*out, *self.others]


def needed(message: str) -> str | None:
    """The permission whose lack an error of the engine reports; None if it is about another."""
    found = _REFUSAL.search(message)
    if found is None:
        return None
    kind, what = found[1], found[2]
    return f"--allow-{kind}={what}" if what else f"--allow-{kind}"


def _split(names: str) -> list[str]:
    return [one.strip() for one in names.split(",") if one.strip()]


def _real(root: Path, paths: Iterable[str]) -> list[str]:
    return [os.path.realpath(root / path) for path in paths]


def _flag(name: str, paths: Iterable[str]) -> str:
    # A comma in a path is written twice.
    return f"{name}=" + ",".join(dict.fromkeys(path.replace(",", ",,") for path in paths))


def _secrets(root: Path) -> Iterator[str]:
    """The files that the variables come from: who may read them has all of them."""
    with os.scandir(root) as found:
        for entry in sorted(found, key=lambda one: one.name):
            if SECRET_FILE.fullmatch(entry.name):
                yield os.path.join(os.path.realpath(root), entry.name)
