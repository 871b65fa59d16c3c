"""What a call of a model costs beside litellm's own and beside a bare request.

The model is a server on loopback in a process of its own, so that the CPU is the caller's alone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.ground import HERE, Ground

CALLS = 100  # of each caller, one at a time and then fifty at a time
SERVER = """
import sys
from tests.support.model_server import ModelServer, Reply
with ModelServer([Reply("A short answer.")]) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""
# Milliseconds of CPU for one call: ours, litellm over HTTP as we have it, litellm as it comes, and
# httpx; one at a time, and the same four fifty at a time. The callers take turns.
COSTS = """
import asyncio, os, sys, time
import httpx
from compozy_prefect.compiler.plan import ModelPlan
from compozy_prefect.runtime.llm import engine
from compozy_prefect.runtime.llm.client import ModelRequest
from compozy_prefect.runtime.llm.providers import LiteLLMClient

url, calls = sys.argv[1], int(sys.argv[2])
OVER_HTTP = "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER"
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi " * 100}]

async def main():
    litellm = await engine.litellm()
    client, bare = LiteLLMClient(), httpx.AsyncClient(base_url=url + "/")
    model = ModelPlan("openai", "gpt-4o", api_url=url, params={"temperature": 0.5})
    asked = ModelRequest("a", "b", "s", model, "sk-000000000000", tuple(messages), {})

    async def ours():
        return (await client.complete(asked)).text

    async def theirs():
        answer = await litellm.acompletion(
            "openai/gpt-4o", messages, api_base=url, api_key="sk-000000000000", temperature=0.5
        )
        return answer.choices[0].message.content

    async def request():
        body = {"model": "gpt-4o", "messages": messages, "temperature": 0.5}
        answer = await bare.post("chat/completions", json=body, headers={"authorization": "x"})
        return answer.json()["choices"][0]["message"]["content"]

    callers = ((ours, "True"), (theirs, "True"), (theirs, "False"), (request, "True"))
    for at_once in (1, 50):
        gate = asyncio.Semaphore(at_once)

        async def one(caller):
            async with gate:
                assert await caller() == "A short answer."

        spent = [0.0] * len(callers)
        for turn in range(6):  # the first is not counted
            for index, (caller, over_http) in enumerate(callers):
                os.environ[OVER_HTTP] = over_http
                start = time.process_time()
                await asyncio.gather(*(one(caller) for _ in range(calls // 5)))
                spent[index] += (time.process_time() - start) * (turn > 0)
        print(*(seconds / calls * 1000 for seconds in spent))

asyncio.run(main())
"""


def costs(ground: Ground) -> tuple[float, ...]:
    """Our part of a call, alone and of fifty; then the whole: ours, litellm's, httpx's."""
    with _server() as url:
        alone_and_many = ground.numbers(COSTS, url, str(CALLS))
    alone, many = alone_and_many[:4], alone_and_many[4:]
    ours, over_http, as_it_comes, httpx = alone
    return ours - over_http, many[0] - many[1], ours, as_it_comes, httpx


@contextmanager
def _server() -> Iterator[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE.parent,
    )
    assert child.stdout is not None
    try:
        yield child.stdout.readline().strip()
    finally:
        child.communicate("", timeout=30)
