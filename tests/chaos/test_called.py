"""Called workflows, killed and cancelled: nothing that they have kept is done again."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.chaos import OPEN, Chaos
from tests.support.prefect_server import until


@pytest.mark.parametrize("place", ["step.begun@two", "step.kept@two", "step.failed@again"])
def test_no_effect_is_repeated(chaos: Chaos, place: str) -> None:
    calm = chaos.undisturbed("calls")
    assert chaos.disturbed(calm, f"{place}=crash")
    assert Counter(chaos.effects.log) == calm.effects


def test_cancelling_ends_what_was_called(chaos: Chaos) -> None:
    chaos.begin()
    chaos.effects.hold("c2")
    begun = chaos.run("calls")
    try:
        chaos.effects.until("c1", "c2")
        id = begun.id(chaos)
        state = {"type": "CANCELLING", "name": "Cancelling"}
        chaos.server.post(f"/flow_runs/{id}/set_state", {"state": state})
        assert chaos.ended(begun) == 130
    finally:
        chaos.effects.release()
    runs, rows = until(
        lambda: chaos.tree(id),
        lambda seen: not {one["state_type"] for part in seen for one in part} & OPEN,
    )
    assert [one["state_type"] for one in runs] == ["CANCELLED", "CANCELLED"]
    assert {"one", "two", "call"} <= {row["name"] for row in rows}
