"""What a call of a tool of an MCP server costs on top of the SDK's own, over stdio.

The server is one of the SDK, in a process of its own. Ours and the bare client have a session each
with a server each, and take turns, so that what else the machine does is the same for both.
"""

from __future__ import annotations

from bench.ground import HERE, Ground

SERVER = HERE.parent / "tests" / "support" / "mcp_servers" / "good.py"
CALLS = 1000  # one at a time, and as many 20 at a time
COSTS = """
import asyncio, os, statistics, sys, time
from pathlib import Path
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from compozy_prefect.compiler.plan import McpPlan, ToolPlan
from compozy_prefect.runtime.mcp import sessions
from compozy_prefect.runtime.mcp.connection import connection
from compozy_prefect.runtime.tools import dispatch
from compozy_prefect.runtime.tools.surroundings import Surroundings

server, calls, ROUND = sys.argv[1], int(sys.argv[2]), 40
schema = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}
tool = ToolPlan("add", type="mcp", input_schema=schema, timeout=30.0)
plan = McpPlan("good", "stdio", command=sys.executable, args=(server,))

def config():
    made = connection(plan, lambda text, where: text, os.environ, {}, Path.cwd())
    return {"connection": made, "name": "add"}

async def main():
    target = StdioServerParameters(command=sys.executable, args=[server])
    async with sessions.held(), Client(target, mode="legacy", cache=None) as client:
        async def ours():
            given = {"a": 1, "b": 2}
            assert await dispatch.call(tool, given, Surroundings(), config=config) == {"value": 3}

        async def theirs():
            answer = await client.call_tool("add", {"a": 1, "b": 2})
            assert answer.content[0].text == "3"

        async def each(at_once):
            cpu, took = {ours: [], theirs: []}, {ours: [], theirs: []}
            for _ in range(calls // ROUND):
                for call in cpu:
                    start, before = time.perf_counter(), time.process_time()
                    for _ in range(ROUND // at_once):
                        await asyncio.gather(*(call() for _ in range(at_once)))
                    cpu[call].append((time.process_time() - before) / ROUND * 1e3)
                    took[call].append((time.perf_counter() - start) / ROUND * 1e3)
            middle = statistics.median
            # Rounds of both follow each other: what slows one of them slows the other.
            more = middle(mine - bare for mine, bare in zip(took[ours], took[theirs]))
            costs = middle(cpu[ours]) - middle(cpu[theirs])
            return costs, more, middle(took[ours]), middle(took[theirs])

        for call in (ours, theirs):
            for _ in range(50):
                await call()
        one, more, whole, bare = await each(1)
        many, *_ = await each(20)
    print(one, many, more, whole, bare)

asyncio.run(main())
"""


def costs(ground: Ground) -> tuple[float, ...]:
    """Milliseconds on top of the SDK's: CPU, one and 20 at a time, the clock; and both calls."""
    return ground.numbers(COSTS, SERVER, CALLS)
