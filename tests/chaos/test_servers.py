"""The Prefect server killed and started again under running executions, or gone for ten seconds.

The server is one of the test's own, with a home of its own. SLOW=1 has 50 runs.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.flows.server_state import server_home
from tests.support.chaos import Begun, Calm, Chaos, comparable, kept_of
from tests.support.effects import Effects
from tests.support.prefect_server import Api, until
from tests.support.zygote import Zygote

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
SLOW = bool(os.environ.get("SLOW"))
RUNS, AT_ONCE = (50, 5) if SLOW else (3, 3)
GONE = 10.0  # seconds
SECONDS = 150.0  # in which a run must have ended, the minute included in which requests are retried


class Standing:
    """A server that can be killed, and comes back on the same port with the same database."""

    def __init__(self, home: Path) -> None:
        names = ("PREFECT_API_URL", "PREFECT_HOME", "COMPOZY_PREFECT_SERVER")
        kept = {key: value for key, value in os.environ.items() if key not in names}
        self.env = kept | {"COMPOZY_HOME": str(home)}
        self.home = server_home(self.env).path
        self.start()

    def start(self) -> None:
        self.told = json.loads(self._prefect("start", "--json"))

    def kill(self) -> None:
        os.kill(self.told["pid"], signal.SIGKILL)

    def stop(self) -> None:
        self._prefect("stop")

    def _prefect(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "compozy_prefect", "prefect", *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=170)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    server = Standing(tmp_path_factory.mktemp("standing"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def apart(standing: Standing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    """Runs on that server; their effects take a moment, so that something is always under way."""
    folder, effects = tmp_path_factory.mktemp("apart"), Effects()
    gone = ("PREFECT_API_URL", "PREFECT_HOME", "COMPOZY_PREFECT_SERVER")
    with Zygote(folder, standing.env, without=gone) as zygote:
        yield Chaos(zygote, Api(standing.told["api_url"]), effects, folder, standing.home)
    effects.close()


def ended(chaos: Chaos, begun: Begun) -> Any:
    """The result, of the run or of the run resumed; a run that fails does so with a sentence."""
    code = begun.command.wait(SECONDS)
    for _ in range(3):
        assert "Traceback" not in begun.command.err()
        if code == 0:
            return begun.command.json
        id = begun.id(chaos)
        if not id:
            begun = chaos.run("slow")  # refused before it was there
        else:
            begun = chaos.resume(id)
        code = begun.command.wait(SECONDS)
    raise AssertionError(begun.command.err())


def closed(chaos: Chaos, calm: Calm, id: str) -> None:
    """Nothing of the run is open, and no step has two rows; what the server lost may have none."""
    rows = chaos.settled(id, lambda rows: not rows - calm.rows)
    print(f"{id}: the server has lost {dict(calm.rows - rows)}")
    assert chaos.server.flow_run(id)["state_type"] == "COMPLETED"


@pytest.mark.parametrize("number", range(RUNS // AT_ONCE))
def test_killed_and_started_again(apart: Chaos, standing: Standing, number: int) -> None:
    print(f"SEED={SEED} number {number}")
    calm = apart.undisturbed("slow")
    apart.begin()
    begun = [apart.run("slow") for _ in range(AT_ONCE)]
    apart.effects.until(*["p1"] * AT_ONCE)
    time.sleep(random.Random(SEED + number).uniform(0, calm.seconds))
    standing.kill()
    standing.start()
    results = [ended(apart, one) for one in begun]
    assert [comparable(one) for one in results] == [calm.result] * AT_ONCE
    for step, keys in apart.effects.keys.items():
        assert len(keys) == AT_ONCE * calm.keys[step], step
    for one in results:
        closed(apart, calm, one["execution_id"])


def test_killed_when_the_last_step_has_ended(apart: Chaos, standing: Standing) -> None:
    calm = apart.undisturbed("slow")
    apart.begin()
    begun = apart.run("slow", "run.ended=delay:8")
    apart.effects.until("p2")
    # The row was told, and the server writes what it has heard once a second.
    until(lambda: "p2" in kept_of(apart.home, begun.id(apart)), bool)
    time.sleep(0.2)
    standing.kill()
    standing.start()
    assert comparable(ended(apart, begun)) == calm.result
    # As it was told, not as one whose end is lost.
    assert apart.settled(begun.id(apart), lambda rows: rows == calm.rows) == calm.rows
    assert {row["state_type"] for row in apart.tree(begun.id(apart))[1]} == {"COMPLETED"}


@pytest.mark.skipif(not SLOW, reason="SLOW=1 waits for it")
def test_gone_for_ten_seconds(apart: Chaos, standing: Standing) -> None:
    calm = apart.undisturbed("slow")
    apart.begin()
    begun = apart.run("slow")
    apart.effects.until("p1")
    standing.kill()
    time.sleep(GONE)
    standing.start()
    result = ended(apart, begun)
    assert comparable(result) == calm.result
    closed(apart, calm, result["execution_id"])
