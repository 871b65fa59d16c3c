"""Kills at random moments of a workflow of sixty steps; SLOW=1 makes 200 of them.

A seed fixes the moments: SEED=n repeats those of a run that failed, as far as a machine repeats.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.support.chaos import Begun, Chaos

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))
KILLS = 200 if os.environ.get("SLOW") else 4
STEPS = 60


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_moment(chaos: Chaos, number: int) -> None:
    calm = chaos.undisturbed("long")
    assert sum(calm.rows.values()) >= STEPS
    # Spread over the run, and at random in each part; before that it only compiles.
    part = random.Random(SEED + number).uniform(number, number + 1) / KILLS
    moment = calm.seconds * (0.05 + 0.95 * part)
    print(f"SEED={SEED} number {number}: killed after {moment:.3f} s")

    def kill(begun: Begun) -> None:
        deadline = time.monotonic() + moment
        while begun.command.poll() is None and time.monotonic() < deadline:
            if id := begun.command.execution:
                chaos.signal(id)
            time.sleep(0.01)
        begun.command.kill()

    chaos.disturbed(calm, "", disturb=kill)
