"""What calls of tools cost that run in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.ground import Ground

CALLS = 2000
COSTS = """
import asyncio, statistics, sys, time
from pathlib import Path
from compozy_prefect.compiler.plan import RuntimePlan, ToolPlan
from compozy_prefect.runtime.js.call import call
from compozy_prefect.runtime.tools.surroundings import Surroundings
from compozy_prefect.runtime.processes.pool import POOLS

around, calls = Surroundings(RuntimePlan(), Path(sys.argv[1])), int(sys.argv[2])

def tool(name):
    code = "async ({ a, b }) => ({ sum: a + b })  // " + name
    return ToolPlan("t", type="javascript", execute=code)

async def once(of):
    start = time.perf_counter()
    await call(of, {"a": 1, "b": 2}, {}, around)
    return time.perf_counter() - start

async def main():
    await once(tool("first"))  # what this process reads and compiles but once
    cold = [await once(tool(str(n))) for n in range(15)]
    warm = [await once(tool("first")) for _ in range(calls)]
    start = time.perf_counter()
    await asyncio.gather(*(once(tool("first")) for _ in range(calls)))
    each = (time.perf_counter() - start) / calls
    print(statistics.median(warm) * 1e3, statistics.median(cold) * 1e3, each * 1e3)

asyncio.run(main())
"""


PROGRAMS = """
import asyncio, statistics, sys, time
from pathlib import Path
from compozy_prefect.compiler.plan import *
from compozy_prefect.runtime.tools.dispatch import call
from compozy_prefect.runtime.tools.surroundings import Surroundings

root, calls = Path(sys.argv[1]), int(sys.argv[2])
(root / "adding.py").write_text("def add(a, b): return a + b")
programs = NativePlan(exec=ExecPlan(allowlist=(CommandPlan("/bin/true"),)))
around = Surroundings(RuntimePlan(python=("adding:add",), native_tools=programs), root)
function = ToolPlan("f", type="python", config={"function": "adding:add"})
program = ToolPlan("p", type="cli", config={"command": ["/bin/true"], "stdin": None})

async def bare():
    process = await asyncio.create_subprocess_exec("/bin/true", stdout=asyncio.subprocess.PIPE)
    await process.communicate()

async def took(times, make):
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        await make()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3

async def main():
    add = lambda: call(function, {"a": 1, "b": 2}, around)
    await add()
    warm = await took(calls, add)
    print(warm, await took(30, lambda: call(program, {}, around)), await took(30, bare))

asyncio.run(main())
"""
ITEMS = 200
CODE = "async ({ n }) => ({ square: n * n })"


def programs(ground: Ground) -> tuple[float, ...]:
    """Milliseconds of a function in Python, and of a program, by us and by asyncio."""
    return ground.numbers(PROGRAMS, ground.directory, CALLS)


def collection(ground: Ground) -> tuple[Path, Path]:
    """A project that calls a tool in JavaScript for each item, and mocks that answer instead."""
    task = {"id": "square-{{ .index }}", "tool": "square", "with": {"n": "{{ .item }}"}}
    tasks: list[dict[str, Any]] = [
        {"id": "squares", "type": "collection", "items": f"1..{ITEMS}", "task": task}
    ]
    square = {"id": "square", "type": "javascript", "execute": CODE}
    project = ground.project("javascript", tasks, tools=[square])
    mocks = project / "mocks.yaml"
    mocks.write_text(json.dumps({"tools": {"square": {"output": {"square": 9}}}}))
    return project, mocks


def costs(ground: Ground) -> tuple[float, ...]:
    """Milliseconds of a call on a warm and on a new process, and of one of many at once."""
    return ground.numbers(COSTS, ground.directory, CALLS)
