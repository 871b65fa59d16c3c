"""A kill, an error or a delay at every named place of six workflows (docs/failure-matrix.md).

SLOW=1 goes through every place of every workflow, at several visits; without it each place is met
once, in the workflow that shows it best.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from compozy_prefect.faults import POINTS
from tests.support.chaos import Chaos

WORKFLOWS = ("sequence", "parallel", "collection", "nested", "router", "waiting")
# The place and the workflow in which it is met, whatever else happens there.
MET = {
    "run.created": "sequence",
    "run.recorded": "sequence",
    "run.begun": "nested",
    "run.ended": "parallel",
    "run.claimed": "sequence",
    "step.begun@outer/fan/deep/d2": "nested",
    "step.performed@flaky": "sequence",
    "step.failed@bad": "sequence",
    "step.kept@mend": "sequence",
    "journal.writing#3": "collection",
    "journal.written#2": "nested",
    "fan.begun@race": "parallel",
    "fan.ended@best": "parallel",
    "route.chosen#2": "router",
    "route.kept@pick": "router",
    "branch.begun@pick": "router",
    "call.created": "calls",
    "call.created#2": "calls",
    "step.kept@one#2": "calls",
    "step.performed@two": "calls",
    "run.ended#3": "calls",
    "step.performed@call": "calls",
    "step.failed@again": "calls",
    "wait.paused": "waiting",
    "signal.taken#2": "waiting",
    "signal.kept": "waiting",
    "signal.sent": "waiting",
    "memory.changed": "sequence",
    "http.sent#2": "parallel",
}
VISITS = (1, 3)
SLOW = bool(os.environ.get("SLOW"))


def _every() -> list[Any]:
    return [
        pytest.param(name, f"{point}#{visit}", id=f"{name} {point}#{visit}")
        for name in WORKFLOWS
        for point in POINTS
        for visit in (VISITS if not point.startswith("run.") else (1,))
    ]


def test_every_place_is_met() -> None:
    met = {one.partition("@")[0].partition("#")[0] for one in MET}
    assert met == set(POINTS) - {"talk.called"}  # see test_talks.py


@pytest.mark.parametrize(("place", "name"), MET.items())
def test_killed(chaos: Chaos, place: str, name: str) -> None:
    calm = chaos.undisturbed(name)
    if place == "run.claimed":
        assert chaos.disturbed(calm, "step.kept=crash", again=f"{place}=crash")
    else:
        assert chaos.disturbed(calm, f"{place}=crash"), f"{name} never comes to {place}"


@pytest.mark.parametrize(("name", "place"), _every() if SLOW else [])
def test_killed_everywhere(chaos: Chaos, name: str, place: str) -> None:
    calm = chaos.undisturbed(name)
    if place.startswith("run.claimed"):
        assert chaos.disturbed(calm, "run.begun=crash", again=f"{place}=crash")
    elif not chaos.disturbed(calm, f"{place}=crash"):
        pytest.skip(f"{name} never comes to {place}")
