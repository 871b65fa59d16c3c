"""Scripts that try to get out of the sandbox, against the real engines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from compozy_prefect.compiler.plan import RuntimePlan, ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.runtime.js.call import call
from compozy_prefect.runtime.processes.pool import POOLS
from compozy_prefect.runtime.tools.surroundings import Surroundings
from tests.support.internet import out_of_bounds
from tests.support.javascript import needs_node

CASES = Path(__file__).parents[1] / "cases" / "javascript" / "escapes.yaml"
ESCAPES = yaml.safe_load(CASES.read_text("utf-8"))
# An engine, and the key of what is said there.
DENO, NATIVE = ("deno", "says"), ("native", "native")
SECRET = "the secret that must not get out"


class Ground(NamedTuple):
    root: Path
    secret: Path
    port: int
    reached: list[Any]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    base = tmp_path_factory.mktemp("escapes")
    root, outside = base / "project", base / "outside"
    for folder in (root / "sub", root / "own", outside):
        folder.mkdir(parents=True)
    secret = outside / "secret.txt"
    secret.write_text(SECRET)
    (outside / "secret.txt.json").write_text(f'"{SECRET}"')
    (root / ".env").write_text(f"KEY={SECRET}\n")
    (root / "other.txt").write_text(SECRET)
    (root / "link").symlink_to(secret)
    (root / "folder").symlink_to(outside)
    with out_of_bounds() as (port, reached):
        yield Ground(root, secret, port, reached)
    POOLS.close()


def test_there_are_enough_of_them() -> None:
    assert len(ESCAPES) >= 40
    assert len({one["name"] for one in ESCAPES}) == len(ESCAPES)


def _cases() -> Iterator[Any]:
    for engine, key in (DENO, NATIVE):
        marks = needs_node if engine == "native" else ()
        for escape in ESCAPES:
            if key in escape:
                name = f"{engine}: {escape['name']}"
                yield pytest.param(engine, escape, escape[key], id=name, marks=marks)


@pytest.mark.parametrize(("engine", "escape", "says"), _cases())
async def test_it_does_not_get_out(
    engine: str,
    escape: dict[str, Any],
    says: str,
    ground: Ground,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ESCAPE_VARIABLE", SECRET)

    def filled(text: str) -> str:
        return text.replace("SECRET", str(ground.secret)).replace("PORT", str(ground.port))

    code = escape.get("module") or f"async function run() {{ {escape['code']} }}"
    permissions = tuple(map(filled, escape.get("permissions", ["--allow-read"])))
    printed: list[str] = []
    around = Surroundings(
        RuntimePlan("node", engine, permissions=permissions),
        ground.root,
        outside=dict(os.environ),
        printed=printed.append,
    )
    tool = ToolPlan("t", type="javascript", execute=filled(code), timeout=10.0)
    mode = ground.secret.stat().st_mode
    before = sorted(path.name for path in ground.secret.parent.iterdir())
    try:
        said = str({"value": await call(tool, {}, {}, around)})
    except ToolFailed as fault:
        said = f"{fault.message} {fault.details}"
    assert filled(says) in said
    assert SECRET not in said
    assert SECRET not in "".join(printed)
    assert not ground.reached
    assert ground.secret.read_text() == SECRET
    assert sorted(path.name for path in ground.secret.parent.iterdir()) == before
    assert ground.secret.stat().st_mode == mode
    assert not (ground.root / "new.txt").exists()
