"""Executions at once in one process, beside as many runs of a hand-written flow."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.ground import BASELINE, Ground

AT_ONCE = 25

# As many a second as end, after one that is not counted: what is imported late, and the flow.
OURS = """
import asyncio, json, sys, time
from compozy_prefect import compile_project
from compozy_prefect.flows.local import reach
project = compile_project(sys.argv[1])
reach(None)
from compozy_prefect.flows.run import run
from compozy_prefect.runtime.services import Services

async def main(count, input):
    async def one():
        services = Services.create(offline=True, env={})
        return await run(project.plan, project.only_workflow(), input, services=services)
    await one()
    start = time.perf_counter()
    results = await asyncio.gather(*(one() for _ in range(count)))
    print(count / (time.perf_counter() - start))
    assert all(result.status == "SUCCESS" for result in results), results

asyncio.run(main(int(sys.argv[2]), json.loads(sys.argv[3])))
"""


def ours(ground: Ground, project: Path, **input: Any) -> tuple[float, ...]:
    return ground.numbers(OURS, project, AT_ONCE, json.dumps(input), api=True)


def theirs(ground: Ground, flow: str) -> tuple[float, ...]:
    command = [sys.executable, BASELINE / "at_once.py", flow, AT_ONCE]
    return (float(ground.output(command, PREFECT_API_URL=ground.url)),)
