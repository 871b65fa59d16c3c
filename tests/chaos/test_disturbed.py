"""Errors and delays at named places: a true state, a sentence, and a run that goes on."""

from __future__ import annotations

import pytest

from tests.support.chaos import OPEN, Chaos
from tests.support.prefect_server import until

ERRORS = {
    "run.begun": "collection",
    "run.ended": "collection",
    "step.begun@each/i2": "collection",
    "step.performed@line/sb": "collection",
    "step.kept": "collection",
    "journal.writing#2": "collection",
    "fan.begun@all": "parallel",
    "fan.ended@all": "parallel",
    "route.kept@pick": "router",
    "branch.begun@pick": "router",
    "signal.taken": "waiting",
    "signal.sent": "waiting",
}
DELAYS = {"journal.writing#2": "collection", "signal.taken": "waiting", "fan.ended@all": "parallel"}


@pytest.mark.parametrize(("place", "name"), ERRORS.items())
def test_an_error(chaos: Chaos, place: str, name: str) -> None:
    calm = chaos.undisturbed(name)
    chaos.effects.clear()
    begun = chaos.run(name, f"{place}=error")
    assert chaos.ended(begun) == 1, begun.command.err()
    result, said = begun.command.json, begun.command.err()
    assert result["status"] == "FAILED"
    assert "injected at " + place.partition("@")[0].partition("#")[0] in result["error"]["message"]
    assert "Traceback" not in said
    assert "\n" not in result["error"]["message"]
    state = chaos.server.flow_run(result["execution_id"])["state"]
    assert state["type"] == "FAILED"
    assert "injected at" in state["message"]
    until(
        lambda: [
            row["name"] for row in chaos.tree(begun.id(chaos))[1] if row["state_type"] in OPEN
        ],
        lambda left: not left,
        seconds=30,
    )
    assert chaos.resumed(calm, begun)


@pytest.mark.parametrize(("place", "name"), DELAYS.items())
def test_a_delay(chaos: Chaos, place: str, name: str) -> None:
    calm = chaos.undisturbed(name)
    chaos.effects.clear()
    begun = chaos.run(name, f"{place}=delay:0.7")
    assert chaos.ended(begun) == 0, begun.command.err()
    chaos.same(calm, begun.id(chaos), begun.command.json, calm.effects.copy(), calm.kept)
    assert sorted(chaos.effects.log) == sorted(calm.effects.elements())
