"""What whoever begins a flow run of ours gives to it, and what comes back."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime

from compozy_prefect.flows import lease
from compozy_prefect.flows.cluster import Cluster
from compozy_prefect.flows.engine import Cancellation
from compozy_prefect.flows.observer import Observer
from compozy_prefect.flows.pace import Pace
from compozy_prefect.flows.signals import Start
from compozy_prefect.runtime.budgets import Budgets
from compozy_prefect.runtime.outcome import Outcome, Taken
from compozy_prefect.runtime.scope import Permit, at_once
from compozy_prefect.runtime.services import Services


@dataclass
class Session:
    """What a flow run gets, and its `outcome`.

    `start` starts another workflow of the plan, for the signals that it sends. `claimed` is when
    this process took over a run that another one had begun. `pace` is that at which the server
    hears of the run, also after its end; the flow run sets it where it is not given. `term` is the
    term in which this process has the run (`flows.lease`), and `permit` returns while it lasts.
    `cluster` runs its fan-outs, and is closed at its end.

    A workflow that another one calls (`flows.nested`) begins with the step `first`, stands `depth`
    calls deep, spends of the `budgets` of the run, and begins no step while one of the `gates`
    around it is not set. `taken` are the ways that the steps take, also of workflows that it calls
    and of those that its signals start.

    A run that a worker started has no session, and configures itself from the environment.
    """

    services: Services
    observer: Observer | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    outcome: Outcome | None = None
    start: Start | None = None
    pace: Pace | None = None
    cluster: Cluster | None = None
    claimed: datetime | None = None
    term: int = lease.FIRST
    permit: Permit = at_once
    first: str = ""
    depth: int = 0
    gates: tuple[asyncio.Event, ...] = ()
    budgets: Budgets | None = None
    taken: set[Taken] = field(default_factory=set)


SESSION: ContextVar[Session | None] = ContextVar("compozy_session", default=None)
