"""Tools in JavaScript, called as a project would have them called, on either engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.plan import RuntimePlan, ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.runtime.js.call import call
from compozy_prefect.runtime.js.native import LEAST_LANDLOCK
from compozy_prefect.runtime.processes import landlock, watchdog
from compozy_prefect.runtime.processes.pool import POOLS
from compozy_prefect.runtime.tools.surroundings import Surroundings

Run = Callable[..., Any]

HAS_FENCE = landlock.version() >= LEAST_LANDLOCK
HAS_NODE = shutil.which("node") is not None and HAS_FENCE
needs_fence = pytest.mark.skipif(not HAS_FENCE, reason="the kernel has no fence for it")
needs_node = pytest.mark.skipif(not HAS_NODE, reason="there is no Node, or no fence for it")


def runner(folder: Path, type: str, engine: str, entrypoint: str) -> Run:
    """Runs inline code, or the export `t` of the entrypoint when it is `entry`."""
    usual = type, entrypoint

    async def run(
        code: str = "",
        input: Any = None,
        *,
        entry: str = "",
        type: str = usual[0],
        entrypoint: str = usual[1],
        permissions: tuple[str, ...] = ("--allow-read",),
        memory: int = 0,
        seconds: float = 20.0,
        config: Any = None,
        **around: Any,
    ) -> Any:
        if entry:
            (folder / entrypoint).write_text(entry)
        runtime = RuntimePlan(type, engine, entrypoint, permissions, memory_limit=memory << 20)
        kind = "runtime" if entry else "javascript"
        tool = ToolPlan("t", type=kind, execute=code, timeout=seconds)
        return await call(tool, input or {}, config, Surroundings(runtime, folder, **around))

    return run


async def failure(awaitable: Any) -> ToolFailed:
    with pytest.raises(ToolFailed) as raised:
        await awaitable
    return raised.value


async def goes_wrong(run: Run, code: str, kind: str, words: str) -> None:
    """Asserts that it does so, and what is said of it."""
    seconds = 0.5 if kind == "timeout" else 20.0
    fault = await failure(run(code, seconds=seconds))
    assert fault.details["kind"] == kind
    assert words in fault.message
    assert fault.code == ("TOOL_TIMEOUT" if kind == "timeout" else "TOOL_EXECUTION_ERROR")


@pytest.fixture(scope="module")
def no_engine_left() -> Iterator[None]:
    yield
    pids = [worker.pid for worker in POOLS.watchdog.all]
    POOLS.close()
    assert not [pid for pid in pids if watchdog.memory(pid)]
