"""Clocks that stand still while a person is asked."""

from __future__ import annotations

import asyncio

from compozy_prefect.runtime.clocks import Clocks


async def test_all_clocks_stand_still_until_the_last_question_is_answered() -> None:
    clocks, now = Clocks(), asyncio.get_running_loop().time
    async with asyncio.timeout(100) as outer, asyncio.timeout(50) as inner:
        with clocks.running(outer), clocks.running(inner):
            with clocks.still():
                with clocks.still():
                    assert (outer.when(), inner.when()) == (None, None)
                assert (outer.when(), inner.when()) == (None, None)
            ends = outer.when(), inner.when()
            assert ends[0] is not None
            assert ends[1] is not None
            assert ends[0] - now() > 90 > ends[1] - now() > 40


async def test_a_clock_without_an_end_has_none_afterwards() -> None:
    clocks = Clocks()
    async with asyncio.timeout(None) as clock:
        with clocks.running(clock), clocks.still():
            pass
        assert clock.when() is None


async def test_what_has_ended_meanwhile_is_left_alone() -> None:
    clocks = Clocks()
    with clocks.still():
        async with asyncio.timeout(1) as clock:
            with clocks.running(clock):
                pass
    assert not clock.expired()
