"""What a call of a tool in JavaScript costs: on a process that runs, on a new one, and at once."""

from __future__ import annotations

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


def costs(ground: Ground) -> tuple[float, ...]:
    """Milliseconds of a call on a warm and on a new process, and of one of many at once."""
    return ground.numbers(COSTS, ground.directory, CALLS)
