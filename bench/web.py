"""What a call of an HTTP tool costs beside a bare request of httpx, on connections that are open.

The server stands on loopback in a process of its own and writes one answer. Ours is the whole call:
the input checked, the host looked at, the answer read to a bound and parsed.
"""

from __future__ import annotations

import subprocess
import sys

from bench.ground import HERE, Ground

CALLS = 1000  # of each, in turn
SERVER = """
import asyncio, sys

class Answers(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.got = transport, b""

    def data_received(self, data):
        self.got += data
        while b"\\r\\n\\r\\n" in self.got:
            head, _, self.got = self.got.partition(b"\\r\\n\\r\\n")
            self.transport.write(ANSWER)

BODY = b'{"id": 7, "name": "Ada", "tags": ["a", "b", "c"]}'
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
ANSWER = HEAD % len(BODY) + BODY

async def main():
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
COSTS = """
import asyncio, statistics, sys, time
import httpx
from compozy_prefect.compiler.plan import ToolPlan
from compozy_prefect.runtime.tools.dispatch import call

url, calls = "http://127.0.0.1:" + sys.argv[1], int(sys.argv[2])
schema = {"type": "object", "properties": {"endpoint": {"type": "string"}}}
tool = ToolPlan("api", type="http", config={"base_url": url}, input_schema=schema)

async def main():
    bare = httpx.AsyncClient()

    async def ours():
        answer = await call(tool, {"endpoint": "people/7", "query": {"full": "yes"}})
        return answer["data"]["name"]

    async def theirs():
        answer = await bare.get(url + "/people/7", params={"full": "yes"})
        answer.raise_for_status()
        return answer.json()["name"]

    spent = {ours: [], theirs: []}
    for turn in range(calls + 50):
        for one in (ours, theirs) if turn % 2 else (theirs, ours):
            start = time.perf_counter()
            assert await one() == "Ada"
            if turn >= 50:  # those before open connections and fill caches
                spent[one].append(time.perf_counter() - start)
    own, their = (statistics.median(spent[one]) * 1e3 for one in (ours, theirs))
    # Of two calls side by side, since the machine is not as busy all the time.
    more = statistics.median(a - b for a, b in zip(*spent.values(), strict=True)) * 1e3
    rates = []
    for one in (ours, theirs):
        gate = asyncio.Semaphore(50)

        async def gated():
            async with gate:
                await one()

        start = time.perf_counter()
        await asyncio.gather(*(gated() for _ in range(calls)))
        rates.append((time.perf_counter() - start) / calls * 1e3)
    print(more, own, their, *rates)

asyncio.run(main())
"""


def costs(ground: Ground) -> tuple[float, ...]:
    """Milliseconds: ours on top of httpx's; ours and httpx's; each of those, 50 at a time."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=HERE.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        return ground.numbers(COSTS, server.stdout.readline().strip(), CALLS)
    finally:
        server.kill()
        server.communicate()
