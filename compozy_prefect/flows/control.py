"""What somebody outside asks of an execution: a signal, a pause, or its end.

The id of an execution comes in; what became of the wish goes out, for a sentence about it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Cancelling, Running

from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import UsageError
from compozy_prefect.flows.connection import reached
from compozy_prefect.flows.executions import Executions
from compozy_prefect.flows.resume import known
from compozy_prefect.flows.signals import deliver
from compozy_prefect.flows.wait import HELD, awaited, is_held
from compozy_prefect.flows.watch import WATCH_EVERY

CANCEL_SECONDS = 15.0  # how long a live run may take to end, before we stop looking
_LOOK_EVERY = 0.2
_MARGIN = 0.3


@dataclass(frozen=True, slots=True)
class Delivered:
    """A signal that an execution has. `number` counts those of its name, from 1.

    `awaited`: a step waits for it now. `alive`: whether the process of the run lives; None when
    the run was not started here, and nobody can tell.
    """

    execution_id: str
    number: int
    awaited: bool
    alive: bool | None


async def send(id: str, name: str, payload: Json) -> Delivered:
    """Gives a signal to an execution. Raises UsageError when it is over, or there is none."""
    async with reached() as client:
        flow_run = await known(client, id)
        number = await deliver(client, flow_run.id, name, payload)
    return Delivered(id, number, awaited(flow_run.state) == name, alive(id))


async def cancel(id: str) -> FlowRun:
    """Ends an execution; the flow run as it is then.

    A live one is asked to, and has some seconds; one whose process is gone is Cancelled at once.
    Raises UsageError when it is over, or there is none.
    """
    executions = Executions.here()
    async with reached() as client:
        flow_run = await known(client, id)
        if flow_run.state is not None and flow_run.state.is_final():
            raise UsageError(f"execution {id} is over: {flow_run.state.name}")
        if alive(id) is False:
            with executions.lease(id):  # nobody resumes it meanwhile
                state: State[Any] = Cancelled(message="cancelled on request")
                await client.set_flow_run_state(flow_run.id, state, force=True)
            return await client.read_flow_run(flow_run.id)
        await client.set_flow_run_state(flow_run.id, Cancelling(), force=alive(id) is True)
        return await _ended(client, flow_run.id)


async def pause(id: str) -> None:
    """Lets a live execution begin no further step. Raises UsageError when there is none to begin.

    One that waits for a signal is left alone: its state is the form in the UI.
    """
    async with reached() as client:
        flow_run = await known(client, id)
        state = flow_run.state
        if state is not None and state.is_final():
            raise UsageError(f"execution {id} is over: {state.name}")
        if Executions.here().holder(id) is None:
            raise UsageError(
                f"no process of this machine runs execution {id}, so that there is nothing to hold"
            )
        if is_held(state):
            raise UsageError(f"execution {id} is paused already")
        if signal := awaited(state):
            raise UsageError(f"execution {id} waits for the signal `{signal}`, and runs no step")
        held: State[Any] = State(
            type=StateType.PAUSED, name=HELD, message="held before its next step"
        )
        await client.set_flow_run_state(flow_run.id, held, force=True)
        await asyncio.sleep(WATCH_EVERY + _MARGIN)  # the run looks now and then, and has by now


async def release(id: str) -> bool:
    """Lets a live execution that `pause` holds go on; False when it is not held."""
    async with reached() as client:
        flow_run = await known(client, id)
        if not is_held(flow_run.state):
            return False
        state: State[Any] = Running(message="goes on")
        await client.set_flow_run_state(flow_run.id, state, force=True)
        return True


def alive(id: str) -> bool | None:
    """Whether a process carries the execution; None when it was not started here."""
    executions = Executions.here()
    if executions.holder(id) is not None:
        return True
    return None if executions.find(id) is None else False


async def _ended(client: PrefectClient, id: UUID) -> FlowRun:
    """The flow run when it has ended, or when the time for that is up."""
    deadline = time.monotonic() + CANCEL_SECONDS
    while True:
        flow_run = await client.read_flow_run(id)
        over = flow_run.state is not None and flow_run.state.is_final()
        if over or time.monotonic() > deadline or flow_run.deployment_id is not None:
            return flow_run
        await asyncio.sleep(_LOOK_EVERY)
