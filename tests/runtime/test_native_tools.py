"""The built-in tools for files and programs: what they give, and that nothing leads out."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from compozy_prefect.compiler.builtins import BUILTINS
from compozy_prefect.compiler.natives import NATIVES
from compozy_prefect.compiler.plan import CommandPlan, ExecPlan, NativePlan, RuntimePlan
from compozy_prefect.errors import RunError, ToolFailed
from compozy_prefect.language.models.tool import BUILTIN_TOOLS
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.native import files, listing
from compozy_prefect.runtime.native.roots import Fault, Roots
from compozy_prefect.runtime.processes import landlock
from compozy_prefect.runtime.tools import dispatch
from compozy_prefect.runtime.tools.surroundings import Surroundings
from tests.support.processes import nobody_left

CALLS = yaml.safe_load(
    (Path(__file__).parents[1] / "cases" / "native" / "calls.yaml").read_text("utf-8")
)
SECRET = "the secret that must not get out"


class Ground(NamedTuple):
    root: Path
    outside: Path
    more: Path

    @property
    def around(self) -> Surroundings:
        run = ExecPlan(allowlist=(CommandPlan("./run.sh"),))
        native = NativePlan(roots=(".", str(self.more)), exec=run)
        runtime = RuntimePlan(native_tools=native, python=("lib.own:*",), entrypoint="tools.ts")
        return Surroundings(runtime, self.root)

    def filled(self, value: Any) -> Any:
        if isinstance(value, str):
            for name, path in (
                ("ROOT", self.root),
                ("OUTSIDE", self.outside),
                ("MORE", self.more),
            ):
                value = value.replace(name, str(path))
        elif isinstance(value, list):
            return [self.filled(one) for one in value]
        elif isinstance(value, dict):
            return {key: self.filled(one) for key, one in value.items()}
        return value


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    root, outside, more = (tmp_path / name for name in ("root", "outside", "more"))
    for folder in (root / "sub" / "deep", root / "lib", outside, more, tmp_path / "root-other"):
        folder.mkdir(parents=True)
    for path, text in (
        (root / "a.txt", "one\ntwo\nthree\n"),
        (root / "aaa.txt", "a" * 100_000 + "b\n"),
        (root / "sub" / "b.md", "# b\n"),
        (root / "sub" / "deep" / "c.log", "ä ccc\n"),
        (root / "sub" / ".env.local", "KEY=value\n"),
        (root / ".env", f"KEY={SECRET}\n"),
        (root / "compozy.yaml", "name: p\n"),
        (root / "tools.ts", ""),
        (root / "lib" / "own.py", ""),
        (root / "run.sh", '#!/bin/sh\neval "$1"\n'),
        (root / "large.txt", "x" * ((10 << 20) + 1)),
        (outside / "secret.txt", SECRET),
        (tmp_path / "root-other" / "x", SECRET),
        (more / "m.txt", "m"),
    ):
        path.write_text(text, "utf-8")
        path.chmod(0o644)
    (root / "run.sh").chmod(0o755)
    (root / "bytes.bin").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(root / "pipe")
    for name, target in (
        ("link.txt", "a.txt"),
        ("out.txt", outside / "secret.txt"),
        ("out", outside),
        ("to-env", ".env"),
        ("dangling", outside / "new.txt"),
    ):
        (root / name).symlink_to(target)
    yield Ground(root, outside, more)
    assert (outside / "secret.txt").read_text() == SECRET
    assert [path.name for path in outside.iterdir()] == ["secret.txt"]


def partly(got: Any, wanted: Any) -> Any:
    """What of `got` stands in `wanted`."""
    if isinstance(got, dict) and isinstance(wanted, dict):
        return {key: partly(got[key], wanted[key]) for key in wanted if key in got}
    return got


def test_there_are_enough_of_them() -> None:
    assert len(CALLS) >= 100
    assert len({one["name"] for one in CALLS}) == len(CALLS)


@pytest.mark.parametrize("case", CALLS, ids=[one["name"] for one in CALLS])
async def test_call(case: dict[str, Any], ground: Ground) -> None:
    tool = BUILTINS[f"cp__{case['tool']}"]
    given = ground.filled(case["input"])
    if "code" in case:
        with pytest.raises(RunError) as raised:
            await dispatch.call(tool, given, ground.around)
        said = f"{raised.value.code}: {raised.value.message}"
        assert raised.value.code == case["code"], said
        assert case["says"] in said
        assert SECRET not in said
        assert not raised.value.retryable
    else:
        async with asyncio.timeout(20):
            result = await dispatch.call(tool, given, ground.around)
        wanted = ground.filled(case["gives"])
        assert partly(result, wanted) == wanted, result
        assert SECRET not in str(result)
        if "names" in case:
            assert [entry["path"] for entry in result["entries"]] == case["names"]
        if case["tool"] == "exec":
            await nobody_left()
    for name, text in case.get("then", {}).items():
        assert (ground.root / name).read_text("utf-8") == text
    for name in case.get("gone", ()):
        assert not os.path.lexists(ground.root / name)


def test_those_that_are_described_are_of_the_language() -> None:
    assert NATIVES.keys() <= set(BUILTIN_TOOLS)
    assert BUILTINS.keys() <= set(BUILTIN_TOOLS)


async def test_they_can_be_switched_off(ground: Ground) -> None:
    around = Surroundings(RuntimePlan(native_tools=NativePlan(enabled=False)), ground.root)
    with pytest.raises(ToolFailed, match="switched off") as raised:
        await dispatch.call(NATIVES["cp__read_file"], {"path": "a.txt"}, around)
    assert raised.value.code == "PermissionDenied"


async def test_a_mock_answers_instead(ground: Ground) -> None:
    answers = Mocks.from_mapping(
        {"tools": {"cp__read_file": {"output": {"content": "mock", "metadata": {}}}}}
    )
    tool = NATIVES["cp__read_file"]
    result = await dispatch.call(tool, {"path": "a.txt"}, ground.around, mocks=answers)
    assert result["content"] == "mock"


async def test_without_landlock_arguments_out_of_the_folders_are_refused(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    secret = str(ground.outside / "secret.txt")
    for args in (
        [secret],
        ["../outside/secret.txt"],
        ["out.txt"],
        ["out/secret.txt"],
        [f"--file={secret}"],
        [f"-f{secret}"],
        [".env"],
    ):
        with pytest.raises(ToolFailed) as raised:
            await dispatch.call(
                NATIVES["cp__exec"], {"command": "cat", "args": args}, ground.around
            )
        assert raised.value.code == "PermissionDenied"
    given = {"command": "cat", "args": ["a.txt"]}
    assert (await dispatch.call(NATIVES["cp__exec"], given, ground.around))["success"]


def test_a_folder_that_becomes_a_link_leads_nowhere(ground: Ground) -> None:
    """Between the look at a path and its use somebody may exchange a part of it."""
    roots = Roots((str(ground.root),))
    folder, aside = ground.root / "swap", ground.root / "aside"
    folder.mkdir()
    (folder / "secret.txt").write_text("inside")
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            try:
                folder.rename(aside)
                folder.symlink_to(ground.outside)
                folder.unlink()
                aside.rename(folder)
            except OSError:  # `swap` was made by writing into it
                while aside.exists():
                    shutil.rmtree(folder, ignore_errors=True)
                    with suppress(OSError):
                        aside.rename(folder)

    other = threading.Thread(target=exchange)
    other.start()
    seen = set()
    try:
        for _ in range(3000):
            with suppress(Fault):
                result = files.read_file(roots, {"path": "swap/secret.txt"})
                seen.add(result["content"])
            with suppress(Fault):
                files.write_file(roots, {"path": "swap/new.txt", "content": "x"})
    finally:
        stop.set()
        other.join()
    assert seen == {"inside"}


def test_a_tree_is_bounded(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = Roots((str(ground.root),))
    deep = ground.root / "deep"
    for _ in range(80):
        deep = deep / "d"
    deep.mkdir(parents=True)
    found = listing.list_dir(roots, {"path": "deep", "recursive": True}, float("inf"))
    assert len(found["entries"]) < 80
    monkeypatch.setattr(listing, "MOST", 3)
    with pytest.raises(Fault, match="more than 3 entries"):
        listing.list_files(roots, {"dir": ".", "recursive": True}, float("inf"))
    monkeypatch.undo()
    with pytest.raises(Fault) as raised:
        listing.grep(roots, {"pattern": "x", "path": ".", "recursive": True}, 0.0)
    assert raised.value.code == "DeadlineExceeded"


def test_descriptors_are_closed(ground: Ground) -> None:
    roots = Roots((str(ground.root),))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        files.read_file(roots, {"path": "sub/b.md"})
        listing.grep(
            roots, {"pattern": "o", "path": ".", "recursive": True, "max_results": 1}, float("inf")
        )
        for path in ("sub", "no/such", "a.txt/x"):
            with pytest.raises(Fault):
                files.read_file(roots, {"path": path})
    assert len(os.listdir("/proc/self/fd")) == before
