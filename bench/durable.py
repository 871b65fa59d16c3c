"""What a whole process does not show: signals that arrive, resumed runs, large fan-outs.

Programs run in processes of their own, and print the numbers that they measure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bench.ground import COMPOZY, Ground

SIGNALS = 20
KILLED_AT = 39  # of the fifty steps of the run that is resumed, from 0

# The seconds from a signal to the start of the step that waited for it, 95th percentile. Each
# signal comes at another moment of the wait.
WAITING = """
import asyncio, random, sys, time
from pathlib import Path
import httpx, prefect
from compozy_prefect import compile_project
from compozy_prefect.flows.control import send
from compozy_prefect.flows.local import reach
plan = compile_project(sys.argv[1]).plan
reach(None)
from compozy_prefect.flows.run import run
from compozy_prefect.runtime.services import Services

class Watch:
    def __init__(self): self.started = {}; self.begun = asyncio.Event()
    def run_started(self, id, url): self.id = id
    def step_started(self, step): self.started[step.id] = time.perf_counter(); self.begun.set()
    def step_finished(self, *_): pass
    def run_finished(self, *_): pass

async def main(count):
    watch, sent, chance = Watch(), {}, random.Random(7)
    running = asyncio.create_task(
        run(plan, "waiting", {}, services=Services.create(offline=True, env={}), observer=watch))
    for number in range(count):
        while f"after-{number - 1}" not in watch.started and number or not watch.started:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5 + chance.random())
        await send(watch.id, f"go-{number}", {})
        sent[number] = time.perf_counter()
    result = await running
    assert result.status == "SUCCESS", result.error
    delays = sorted(watch.started[f"after-{n}"] - at for n, at in sent.items())
    print(delays[int(len(delays) * 0.95) - 1])
asyncio.run(main(int(sys.argv[2])))
"""

# The seconds of `resume`, without those of the imports.
RESUMING = """
import sys, time
import compozy_prefect
from compozy_prefect.flows.local import reach
reach(None)
import compozy_prefect.flows.resume, compozy_prefect.runtime.services
import compozy_prefect.runtime.llm.offline
start = time.perf_counter()
result = compozy_prefect.resume(sys.argv[1])
print(time.perf_counter() - start)
assert result.status == "SUCCESS", result.error
"""


# The seconds of a run that is replayed, without those of the imports.
REPLAYING = """
import sys, time
from compozy_prefect.flows import local
local.reach(None)
import compozy_prefect.flows.run, compozy_prefect.runtime.services, compozy_prefect.runtime.cassette
start = time.perf_counter()
result = local.run(sys.argv[1], cassette=local.cassette(None, sys.argv[2]))
print(time.perf_counter() - start)
assert result.status == "SUCCESS", result.error
"""


def asks(count: int) -> list[dict[str, Any]]:
    """So many steps that ask a model, each with the answer before it."""
    model = {"provider": "mock", "model": "m"}
    before = "{{ .tasks.ask-%d.output.response }}"
    return [
        {
            "id": f"ask-{number}",
            "prompt": f"After {number and before % (number - 1)}.",
            "model_config": model,
        }
        for number in range(count)
    ]


def replayed(ground: Ground, project: Path) -> tuple[float]:
    """Replays a run that was recorded once."""
    tape = project / "tape.jsonl"
    if not tape.exists():
        ground.output([COMPOZY, "run", project, "--record", tape], PREFECT_API_URL=ground.url)
    return (ground.numbers(REPLAYING, project, tape, api=True)[0],)


def waits(count: int) -> list[dict[str, Any]]:
    """So many waits, each with a step behind it."""
    return [
        task
        for number in range(count)
        for task in (
            {"id": f"wait-{number}", "type": "wait", "wait_for": f"go-{number}"},
            {"id": f"after-{number}", "with": {"n": number}},
        )
    ]


def signals(ground: Ground, project: Path) -> tuple[float]:
    return (ground.numbers(WAITING, project, SIGNALS, api=True)[0],)


def resumed(ground: Ground, project: Path) -> tuple[float]:
    """Kills a run at one of its last steps, and resumes it."""
    fault = f"step.begun@step_{KILLED_AT:04}=crash"
    environment = {**ground.environment, "COMPOZY_FAULT": fault, "PREFECT_API_URL": ground.url}
    command = [COMPOZY, "run", project, "--offline", "--json"]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True)
    id = next(line.split()[1] for line in killed.stderr.splitlines() if line.startswith("run "))
    if killed.returncode >= 0:
        raise RuntimeError("the run was not killed")
    return (ground.numbers(RESUMING, id, api=True)[0],)


def large(ground: Ground, small: Path, huge: Path) -> tuple[float, float, float]:
    """How many times as long ten times the items take, the peak MiB of the process, and the
    slowest answer of the server meanwhile, in seconds.
    """
    _, before = ground.compozy(small)
    slowest, over = 0.0, threading.Event()

    def ask() -> None:
        nonlocal slowest
        while not over.wait(0.25):
            start = time.perf_counter()
            ground.api("/flow_runs/count", {})
            slowest = max(slowest, time.perf_counter() - start)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        id, peak = _peak(ground, huge)
    finally:
        over.set()
        asking.join()
    return ground.run_time(id) / before, peak, slowest


def _peak(ground: Ground, project: Path) -> tuple[str, float]:
    """The execution of a `compozy run`, and the most memory that its process had, in MiB."""
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True)\n"
        "unit = 2**20 if sys.platform == 'darwin' else 2**10\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit\n"
        "import json; print(json.dumps([json.loads(done.stdout)['execution_id'], peak]))\n"
    )
    command = [sys.executable, "-c", code, COMPOZY, "run", project, "--offline", "--json"]
    id, peak = json.loads(ground.output(command))
    return id, peak
