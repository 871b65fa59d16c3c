"""The engine of the system, `node` or `bun`, for projects that ask for it (`engine: native`, §1.2).

It keeps to no permissions itself: the kernel does, around it and all that it starts. What the
kernel cannot tell apart is refused, and so is everything where it has no such fence.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from compozy_prefect.compiler.plan import Json, RuntimePlan
from compozy_prefect.language.permissions import SECRET_FILE, VARIABLES, unenforceable
from compozy_prefect.runtime.js.code import Missing, Module
from compozy_prefect.runtime.js.engine import is_out_of_memory
from compozy_prefect.runtime.js.permissions import Permissions, Refused
from compozy_prefect.runtime.processes import guarded, landlock
from compozy_prefect.runtime.processes.guarded import Fence, Limits, NotStarted, Program
from compozy_prefect.runtime.processes.worker import CallFailed, Worker
from compozy_prefect.runtime.tools.programs import path_of, without_secrets

RUNNER = Path(__file__).with_name("native.mjs")
LEAST_LANDLOCK = 3  # before, files could be cut short that may not be written
_LEAST = {"node": (20, 19), "bun": (1, 1)}  # from here on Node sees by itself what is a module
_TYPESCRIPT = (".ts", ".mts", ".cts", ".tsx")
_FLAGS = {
    "node": (
        "--disable-warning=MODULE_TYPELESS_PACKAGE_JSON",
        "--disable-warning=ExperimentalWarning",
        "--max-old-space-size={heap}",
    ),
    "bun": ("--no-install",),
}
# The engine of Bun looks there for its stack.
_OWN = {"node": (), "bun": ("/proc/self/maps",)}
_ASK = "console.log(JSON.stringify([process.execPath, process.versions]))"
_ALL = os.sep


class Engine(NamedTuple):
    """`name` is `node` or `bun`; `path` has no links."""

    name: str
    path: str
    version: tuple[int, ...]

    @property
    def shown(self) -> str:
        return f"the `{self.name}` of `PATH`, {'.'.join(map(str, self.version))}"

    @property
    def takes_typescript(self) -> bool:
        if self.name == "bun":
            return True
        return (22, 18) <= self.version < (23,) or self.version >= (23, 6)


@dataclass(frozen=True, slots=True)
class Launch:
    """How a process is started; calls with equal ones share it.

    `fence` is None for all files. The kernel's rules are for the files that are there at the start:
    `inodes` tell when others have taken their place.
    """

    engine: Engine
    root: str
    module: Module
    fence: Fence | None
    inodes: tuple[int, ...]
    has_network: bool
    memory: int
    variables: tuple[tuple[str, str], ...] = field(repr=False)

    def start(self) -> Worker:
        """A new process. Blocks for some milliseconds. Raises CallFailed."""
        flags = (flag.format(heap=self.memory >> 20) for flag in _FLAGS[self.engine.name])
        program = Program(
            (self.engine.path, *flags, str(RUNNER)),
            cwd=self.root,
            env=dict(self.variables),
            limits=Limits(self.memory),
            fence=self.fence,
            is_offline=not self.has_network,
            is_narrow=self.fence is not None or not self.has_network,
        )
        try:
            process = guarded.start(program)
        except NotStarted as fault:
            raise CallFailed("start", f"{self.engine.shown}, does not start: {fault}") from None
        head: dict[str, Json] = {"entry": Path(self.module.path).as_uri()}
        return Worker(process, self.memory, head, _explain)


def launch(
    runtime: RuntimePlan,
    root: Path,
    module: Module,
    memory: int,
    outside: Mapping[str, str],
    declared: Mapping[str, str],
) -> Launch:
    """Raises Refused and Missing."""
    granted = permissions(runtime.permissions, root)
    engine = _engine(runtime.type, tuple(path_of(root)))
    check(engine, module)
    real = os.path.realpath(root)
    variables = granted.variables(outside, declared)
    read, listed = _readable(granted.read, real)
    return Launch(
        engine,
        real,
        module,
        _fence(engine, module, granted, (read, listed), real),
        tuple(os.stat(path).st_ino for path in (*read, *granted.write) if os.path.exists(path)),
        granted.net,
        memory,
        tuple(sorted((n, value) for n, value in variables.items() if n not in VARIABLES)),
    )


@lru_cache(maxsize=64)
def permissions(written: tuple[str, ...], root: Path) -> Permissions:
    """Those that can be kept to. Raises Refused."""
    granted = Permissions.of(written, root)
    for text in written:
        refusal = unenforceable(text, root)
        if refusal is not None:
            raise Refused(f"`engine: native` cannot keep to `{text}`: {refusal[0]}; {refusal[1]}")
    denied = granted.others
    return replace(
        granted,
        read=() if "--deny-read" in denied else granted.read,
        write=() if "--deny-write" in denied else granted.write,
        env=() if "--deny-env" in denied else granted.env,
        net=granted.net and "--deny-net" not in denied,
    )


@lru_cache(maxsize=8)
def _engine(name: str, folders: tuple[str, ...]) -> Engine:
    if name not in _LEAST:
        raise Missing("`engine: native` is for `type: node` and `type: bun`")
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        raise Missing(f"there is no `{name}` in `PATH`; install it, or take `engine: deno`")
    try:
        # What is called `node` may be a script that looks for it.
        said = subprocess.run(  # noqa: S603 - a program that the project asks for
            [path, "-e", _ASK],
            capture_output=True,
            check=True,
            env={"PATH": os.pathsep.join(folders), "HOME": os.path.expanduser("~")},
            cwd=_ALL,
            stdin=subprocess.DEVNULL,
            timeout=20,
        )
        real, versions = json.loads(said.stdout)
        version = tuple(map(int, versions[name].partition("-")[0].split(".")))
    except (OSError, ValueError, KeyError, subprocess.SubprocessError) as fault:
        raise Missing(f"`{path}` does not say what it is: {fault}") from None
    engine = Engine(name, os.path.realpath(real), version)
    if version < _LEAST[name]:
        least = ".".join(map(str, _LEAST[name]))
        raise Missing(f"{engine.shown}, is too old: it takes {least}, or `engine: deno`")
    return engine


def check(engine: Engine, module: Module) -> None:
    """Whether it runs the files of a module. Raises Missing."""
    if engine.takes_typescript:
        return
    for file in module.files:
        if file.endswith(_TYPESCRIPT):
            what = f"`{os.path.basename(file)}`" if module.shown else "its code"
            raise Missing(
                f"{what} is TypeScript, which {engine.shown}, does not run: it takes Node 22.18 or "
                "23.6, Bun, JavaScript, or `engine: deno`"
            )


def _readable(granted: Iterable[str], root: str) -> tuple[list[str], list[str]]:
    """Paths to read, and folders whose names are seen, without files that hold secrets."""
    read: list[str] = []
    listed: list[str] = []
    for path in granted:
        if path != _ALL and os.path.isdir(path):
            found, seen = without_secrets([path])
            read += found
            listed += seen
        elif os.path.dirname(path) != root or not SECRET_FILE.fullmatch(os.path.basename(path)):
            read.append(path)
    return read, listed


def _fence(
    engine: Engine,
    module: Module,
    granted: Permissions,
    readable: tuple[Sequence[str], Sequence[str]],
    root: str,
) -> Fence | None:
    """None for all files. Raises Refused."""
    if _ALL in granted.read and _ALL in granted.write:
        return None
    if landlock.version() < LEAST_LANDLOCK:
        raise Refused(
            "`engine: native` cannot keep to `runtime.permissions` here: it takes Landlock, of "
            "Linux 6.2 and newer, to keep to files; take `engine: deno`, or allow all files with "
            "`--allow-read=/` and `--allow-write=/`"
        )
    for path in granted.write:
        if not os.path.exists(path):
            raise Refused(
                f"`engine: native` cannot keep to `--allow-write={path}`: there is no such file; "
                "make it, or name a folder that is there"
            )
    read, listed = readable
    own = (
        *landlock.SYSTEM,
        *_OWN[engine.name],
        os.path.join(os.path.dirname(os.path.dirname(engine.path)), "lib"),
        str(RUNNER.parent),
        os.path.join(root, "node_modules"),
        *module.files,
        *module.described(root),
    )
    if engine.name == "bun":  # it finds a module among the names of its folder
        listed = [*listed, root, *(os.path.dirname(file) for file in module.files)]
    return Fence((engine.path,), (*own, *read), granted.write, tuple(listed))


def _explain(code: int | None, said: str, is_first: bool) -> CallFailed | None:
    return CallFailed("memory") if is_out_of_memory(code, said) else None
