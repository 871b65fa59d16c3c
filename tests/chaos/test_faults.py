"""A kill at every named place of six workflows (docs/failure-matrix.md).

SLOW=1 kills at every visit of every place; without it each place is met once, in the workflow that
shows it best.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from compozy_prefect.faults import POINTS
from tests.support.chaos import Chaos

# The place and the workflow in which it is met, whatever else happens there.
MET = {
    "run.created": "sequence",
    "run.recorded": "sequence",
    "run.begun": "nested",
    "run.ended": "parallel",
    "run.told": "waiting",
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
# How often a run that is not disturbed comes to each place.
VISITS = {
    "sequence": {
        **dict.fromkeys(("run.created", "run.recorded", "run.begun", "run.ended", "run.told"), 1),
        "step.begun": 5,
        "step.performed": 4,
        "step.failed": 2,
        "step.kept": 4,
        "journal.writing": 6,
        "journal.written": 6,
        "http.sent": 6,
        "memory.changed": 1,
    },
    "parallel": {
        **dict.fromkeys(("run.created", "run.recorded", "run.begun", "run.ended", "run.told"), 1),
        "step.begun": 10,
        "step.performed": 7,
        "step.kept": 7,
        "http.sent": 8,
        "journal.writing": 9,
        "journal.written": 9,
        "fan.begun": 4,
        "fan.ended": 4,
    },
    "collection": {
        **dict.fromkeys(("run.created", "run.recorded", "run.begun", "run.ended", "run.told"), 1),
        "step.begun": 9,
        "step.performed": 9,
        "step.kept": 9,
        "http.sent": 9,
        "journal.writing": 9,
        "journal.written": 9,
        "fan.begun": 2,
        "fan.ended": 2,
    },
    "nested": {
        **dict.fromkeys(("run.created", "run.recorded", "run.begun", "run.ended", "run.told"), 1),
        "step.begun": 11,
        "step.performed": 10,
        "step.kept": 10,
        "http.sent": 11,
        "journal.writing": 9,
        "journal.written": 9,
        "fan.begun": 4,
        "fan.ended": 6,
    },
    "router": {
        **dict.fromkeys(("run.created", "run.recorded", "run.begun", "run.ended", "run.told"), 1),
        "step.begun": 9,
        "step.performed": 9,
        "step.kept": 9,
        "http.sent": 8,
        "journal.writing": 20,
        "journal.written": 20,
        "fan.begun": 1,
        "fan.ended": 2,
        "route.chosen": 6,
        "route.kept": 6,
        "branch.begun": 5,
    },
    "waiting": {  # and the run that its signal starts
        **dict.fromkeys(("run.created", "run.recorded", "run.begun", "run.ended", "run.told"), 2),
        "step.begun": 6,
        "step.performed": 6,
        "step.kept": 6,
        "http.sent": 6,
        "journal.writing": 12,
        "journal.written": 12,
        "wait.paused": 3,
        "signal.taken": 2,
        "signal.kept": 2,
        "signal.sent": 1,
    },
}
SLOW = bool(os.environ.get("SLOW"))


def _every() -> list[Any]:
    return [
        pytest.param(name, f"{point}#{visit}", id=f"{name} {point}#{visit}")
        for name, visits in VISITS.items()
        for point, count in {**visits, "run.claimed": 1}.items()
        for visit in range(1, count + 1)
    ]


def test_every_place_is_met() -> None:
    met = {one.partition("@")[0].partition("#")[0] for one in MET}
    elsewhere = {"talk.called", "effect.begun", "effect.made"}  # test_killed_talks, test_effects
    assert met == set(POINTS) - elsewhere


@pytest.mark.parametrize(("place", "name"), MET.items())
def test_killed(chaos: Chaos, place: str, name: str) -> None:
    calm = chaos.undisturbed(name)
    if place == "run.claimed":
        assert chaos.disturbed(calm, "step.kept=crash", again=f"{place}=crash")
    else:
        assert chaos.disturbed(calm, f"{place}=crash"), f"{name} never comes to {place}"


@pytest.mark.parametrize("name", VISITS if SLOW else [])
def test_every_visit_is_listed(chaos: Chaos, name: str) -> None:
    calm = chaos.undisturbed(name).places
    # How many results go into one group is a matter of the moment.
    places = [place for place in {**calm, **VISITS[name]} if not place.startswith("journal.")]
    assert {place: calm[place] for place in places} == {
        place: VISITS[name].get(place, 0) for place in places
    }


@pytest.mark.parametrize(("name", "place"), _every() if SLOW else [])
def test_killed_everywhere(chaos: Chaos, name: str, place: str) -> None:
    calm = chaos.undisturbed(name)
    if place.startswith("run.claimed"):
        assert chaos.disturbed(calm, "run.begun=crash", again=f"{place}=crash")
    elif not chaos.disturbed(calm, f"{place}=crash"):
        assert place.startswith("journal."), f"{name} never comes to {place}"
        pytest.skip("this time there were fewer groups")
