"""Signals that come early, late, twice and at once, from our API and Prefect's: none lost, none
taken twice. SLOW=1 sends 500, with the process killed in between.
"""

from __future__ import annotations

import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest

import compozy_prefect
from tests.support.chaos import Chaos, kept_of

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
SLOW = bool(os.environ.get("SLOW"))
RUNS, SIGNALS = (10, 50) if SLOW else (1, 24)
EARLY, AT_ONCE = 1 / 4, 6


def ours(chaos: Chaos, id: str, payload: Any) -> int:
    compozy_prefect.signal(id, "go", payload)
    return 1


def prefects(chaos: Chaos, id: str, payload: Any) -> int:
    """What the Resume button does, pressed twice; how many of them Prefect took.

    It takes the second one when the run is Paused again by then, for another wait.
    """
    body, taken = {"run_input": payload}, 0
    try:
        for _ in range(2):
            answer = chaos.server.patiently("POST", f"/flow_runs/{id}/resume", body)
            taken += answer.status_code < 300 and answer.json().get("status") == "ACCEPT"
    except httpx.TransportError:
        # SQLite lets one write at a time, and who waited may have been let in all the same.
        return arrived(chaos, id).count(payload)
    return taken


def arrived(chaos: Chaos, id: str) -> list[Any]:
    wanted = {"prefix": "signal-go-", "limit": 200, "exclude_keys": []}
    for _ in range(5):  # a busy server also drops connections
        with suppress(httpx.TransportError):
            found = chaos.server.post(f"/flow_runs/{id}/input/filter", wanted)
            break
        time.sleep(1)
    return [json.loads(one["value"]) for one in found if one["key"].endswith("-response")]


@pytest.mark.parametrize("number", range(RUNS))
def test_none_is_lost_and_none_taken_twice(chaos: Chaos, number: int) -> None:
    print(f"SEED={SEED} number {number}")
    one_run(chaos, random.Random(SEED + number), kill=SLOW)


def one_run(chaos: Chaos, chance: random.Random, *, kill: bool) -> None:
    chaos.signals, before = {}, chaos.signals
    try:
        begun = chaos.run("many", "run.begun=delay:1", input={"count": SIGNALS})
        while not begun.command.execution:
            assert begun.command.poll() is None, begun.command.err()
            time.sleep(0.01)
        id = begun.id(chaos)
        early = int(SIGNALS * EARLY)
        sent = list(range(early))
        for n in sent:
            assert ours(chaos, id, {"n": n})
        command, n = begun.command, early
        with ThreadPoolExecutor(AT_ONCE) as pool:
            # The last ones are one at a time, as each may be two.
            while (left := SIGNALS - len(sent)) > 0:
                some = range(n, n + (AT_ONCE if left > AT_ONCE + 1 else 1))
                n += len(some)
                ways = [ours] * len(some)
                if left > 1:
                    ways[chance.randrange(len(some))] = chance.choice([ours, prefects])
                taken = pool.map(lambda way, n: way(chaos, id, {"n": n}), ways, some)
                sent += [n for n, times in zip(some, taken, strict=True) for _ in range(times)]
                if kill and chance.random() < 0.1:
                    command.kill()
                    command = chaos.resume(id).command
                time.sleep(chance.choice([0, 0.1, 0.4]))
        begun.command = command
        assert chaos.ended(begun) == 0, f"{command.err()}; {len(kept_of(chaos.home, id))} kept"
        assert sorted(one["n"] for one in arrived(chaos, id)) == sorted(sent)
        payloads = command.json["output"]["payloads"]
        assert sorted(one["n"] for one in payloads) == sorted(sent)
    finally:
        chaos.signals = before
