"""The inputs of a flow run as rows: a key of one run exists once, whoever writes it.

Signals, claims and terms are such rows. What Prefect's client leaves open is which of two calls has
written a row: it repeats a request whose answer was lost, and is told that the row is there.
"""

from __future__ import annotations

from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRunInput
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

_ALIKE = 20  # rows whose keys begin alike, at most


async def add(client: PrefectClient, flow_run: UUID, key: str, value: str) -> bool:
    """Writes the row; False when another call has written one of that key."""
    sender = f"compozy-{uuid4()}"
    try:
        await client.create_flow_run_input(flow_run, key, value, sender)
    except PrefectHTTPStatusError as fault:
        if fault.response.status_code != 409:
            raise
        there = await read(client, flow_run, key)
        return there is not None and there.sender == sender
    return True


async def read(client: PrefectClient, flow_run: UUID, key: str) -> FlowRunInput | None:
    """The row with all that the server knows of it, such as when it was written."""
    found = await client.filter_flow_run_input(flow_run, key, _ALIKE, set())
    # What is asked for is a prefix, in which `_` stands for any character.
    return next((row for row in found if row.key == key), None)


async def value(client: PrefectClient, flow_run: UUID, key: str) -> str | None:
    """What the row says; None without one."""
    try:
        return await client.read_flow_run_input(flow_run, key)
    except ObjectNotFound:
        return None
    except PrefectHTTPStatusError as fault:
        if fault.response.status_code == 404:
            return None
        raise
