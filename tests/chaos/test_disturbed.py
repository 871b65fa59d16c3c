"""Errors and delays at named places: a true state, a sentence, and a run that goes on."""

from __future__ import annotations

import os

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
FEW = ("run.ended", "step.performed@line/sb", "journal.writing#2", "branch.begun@pick")


def _chosen(places: dict[str, str], few: tuple[str, ...]) -> list[tuple[str, str]]:
    """SLOW=1 goes through all of them."""
    return [one for one in places.items() if os.environ.get("SLOW") or one[0] in few]


@pytest.mark.parametrize(("place", "name"), _chosen(ERRORS, FEW))
def test_an_error(chaos: Chaos, place: str, name: str) -> None:
    calm = chaos.undisturbed(name)
    chaos.begin()
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


@pytest.mark.parametrize(("place", "name"), _chosen(DELAYS, ("journal.writing#2",)))
def test_a_delay(chaos: Chaos, place: str, name: str) -> None:
    calm = chaos.undisturbed(name)
    chaos.begin()
    begun = chaos.run(name, f"{place}=delay:0.7")
    assert chaos.ended(begun) == 0, begun.command.err()
    chaos.gives(calm, begun)
    chaos.did(calm, begun.id(chaos), calm.effects.copy(), calm.kept)
    assert sorted(chaos.effects.log) == sorted(calm.effects.elements())


def test_a_child_that_fails(chaos: Chaos) -> None:
    chaos.begin()
    begun = chaos.run("child")
    assert chaos.ended(begun) == 1, begun.command.err()
    error = begun.command.json["error"]
    assert error["message"].startswith("task `each` failed: task `i2` failed: tool `effect`: POST ")
    state = chaos.server.flow_run(begun.id(chaos))["state"]
    assert (state["type"], state["message"]) == ("FAILED", error["message"])
    again = chaos.resume(begun.id(chaos))
    assert chaos.ended(again) == 0, again.command.err()
    assert again.command.json["output"] == {"steps": ["i1", "i2", "i3"]}
    assert sorted(chaos.effects.log) == ["i1", "i2", "i2", "i3", "last"]
    assert {len(keys) for keys in chaos.effects.keys.values()} == {1}
