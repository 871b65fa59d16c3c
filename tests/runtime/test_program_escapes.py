"""Programs that try to reach what they may not, or to outlive their call."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from compozy_prefect.compiler.plan import (
    ArgumentPlan,
    CommandPlan,
    ExecPlan,
    NativePlan,
    RuntimePlan,
    ToolPlan,
)
from compozy_prefect.errors import ToolFailed
from compozy_prefect.expressions import Environment
from compozy_prefect.runtime.tools import cli, dispatch
from compozy_prefect.runtime.tools.surroundings import Surroundings
from tests.support.internet import out_of_bounds
from tests.support.processes import nobody_left

CASES = Path(__file__).parents[1] / "cases" / "programs" / "escapes.yaml"
ESCAPES = yaml.safe_load(CASES.read_text("utf-8"))
SECRET = "the secret that must not get out"
ALLOWED = (
    CommandPlan("./run.sh"),
    CommandPlan("./run.py"),
    CommandPlan(
        "tool",
        max_args=2,
        arguments=(
            ArgumentPlan(0, pattern="[a-z]+"),
            ArgumentPlan(1, enum=("fast",), optional=True),
        ),
    ),
)


class Ground(NamedTuple):
    root: Path
    outside: Path
    port: int
    reached: list[Any]

    def filled(self, value: Any) -> Any:
        if isinstance(value, str):
            for name, text in (
                ("SECRET", str(self.outside / "secret.txt")),
                ("OUTSIDE", str(self.outside)),
                ("PORT", str(self.port)),
                ("PID", str(os.getpid())),
            ):
                value = value.replace(name, text)
        elif isinstance(value, list):
            return [self.filled(one) for one in value]
        elif isinstance(value, dict):
            return {key: self.filled(one) for key, one in value.items()}
        return value


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    root, outside = tmp_path / "project", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    (root / "a.txt").write_text("a\n")
    (root / "link").symlink_to(outside)
    (root / "link.txt").symlink_to(outside / "secret.txt")
    (root / "cat").symlink_to("/bin/cat")
    (outside / "ls").symlink_to("/bin/sh")
    programs = tmp_path / "programs"
    programs.mkdir()
    for path in (outside / "cat", outside / "run.sh", programs / "tool"):
        path.write_text("#!/bin/sh\necho started\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("ESCAPE_VARIABLE", SECRET)
    with out_of_bounds() as (port, reached):
        yield Ground(root, outside, port, reached)


def test_there_are_enough_of_them() -> None:
    assert len(ESCAPES) >= 40
    assert len({one["name"] for one in ESCAPES}) == len(ESCAPES)


@pytest.mark.parametrize("escape", ESCAPES, ids=[one["name"] for one in ESCAPES])
async def test_it_does_not_get_out(escape: dict[str, Any], ground: Ground) -> None:
    command = ground.filled(escape.get("command"))
    for kind, name, first in (
        ("script", "run.sh", "#!/bin/sh"),
        ("python", "run.py", "#!/usr/bin/env python3"),
    ):
        if kind in escape:
            (ground.root / name).write_text(f"{first}\n{ground.filled(escape[kind])}\n")
            (ground.root / name).chmod(0o755)
            command = [f"./{name}"]
    config = {"command": command}
    given = ground.filled(escape.get("input", {}))
    runtime = RuntimePlan(
        memory_limit=escape.get("memory", 0) << 20,
        native_tools=NativePlan(exec=ExecPlan(allowlist=ALLOWED)),
    )
    seconds = 1.0 if "within 1 s" in escape["says"] else escape.get("seconds", 10.0)
    tool = ToolPlan("t", type="cli", config=config, timeout=seconds)
    around = Surroundings(runtime, ground.root, outside=dict(os.environ))
    before = sorted(path.name for path in ground.outside.iterdir())
    try:
        rendered = cli.rendered(config, {"input": given}, Environment(), "", {})
        result = await dispatch.call(
            tool,
            given,
            around,
            config=lambda: rendered,
            offline=escape.get("offline", False),
        )
        said, kind = str(result), ""
    except ToolFailed as fault:
        said, kind = f"{fault.message} {fault.details}", fault.details["kind"]
    assert ground.filled(escape["says"]) in said
    assert kind in escape.get("reason", [kind])
    assert escape.get("not", SECRET) not in said
    assert SECRET not in said
    assert not ground.reached
    assert (ground.outside / "secret.txt").read_text() == SECRET
    assert sorted(path.name for path in ground.outside.iterdir()) == before
    assert (ground.root / "a.txt").exists()
    await nobody_left()
