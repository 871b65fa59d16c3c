"""Events that a server had when it was killed, and had not written → told again.

As `flows.engine`, this is a seam to what Prefect does not document. Its client tells events again
when it finds, with the next one, that the connection was closed. It takes for written what a server
has received, which only holds it in memory for a moment; and at its end it looks no more.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from prefect.events.clients import PrefectEventsClient

_KEPT = 300  # events, the latest, that are told again; fewer than between two checkpoints
_PATIENCE = 8.0  # seconds for a server that is starting, at the end
_AGAIN = 0.5  # seconds between two attempts


def keep_events() -> None:
    """Has Prefect's client, in this process, not rely on what a server may still lose.

    By its methods: Prefect drops the events of a client whose class it does not know.
    """
    client: Any = PrefectEventsClient
    if client.__aexit__ is _exit:
        return
    client.__aexit__ = _exit
    client._checkpoint = _keeping(client._checkpoint)
    client._force_checkpoint = _keeping(client._force_checkpoint)


_closed = PrefectEventsClient.__aexit__


async def _exit(client: Any, *error: Any) -> None:
    with suppress(Exception):  # whoever waits for the end is told of what was not taken
        async with asyncio.timeout(_PATIENCE):
            await _reach(client)
    await _closed(client, *error)


async def _reach(client: Any) -> None:
    """Tells the events of a connection that was closed to the server that is there now."""
    if not client._unconfirmed_events:
        return
    with suppress(Exception):
        if client._websocket is not None:
            await (await client._websocket.ping())
            return
    while True:
        try:
            await client._reconnect()
            return
        except OSError:
            await asyncio.sleep(_AGAIN)


def _keeping(checkpoint: Any) -> Any:
    """The checkpoint, after which the latest events are told again all the same."""

    async def kept(client: Any) -> None:
        before = client._unconfirmed_events
        await checkpoint(client)
        left = client._unconfirmed_events
        if left is not before:
            client._unconfirmed_events = before[: len(before) - len(left)][-_KEPT:] + left

    return kept
