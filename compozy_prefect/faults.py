"""Named places in a run at which a test can make the process die, wait or fail once.

    COMPOZY_FAULT=NAME[@SUBJECT][#N]=crash | error | delay:SECONDS

`SUBJECT` is the path of a step (any, if there is none), and `N` the visit that counts (the first).
`docs/failure-matrix.md` says what is promised for each place. Without the variable a place costs
one comparison.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal

# What has happened at each place, and what has not.
POINTS = {
    "run.created": "Prefect has the flow run; how to resume it is not written down",
    "run.recorded": "how to resume the run is written down; nothing has run",
    "run.begun": "the flow run is Running; no step has begun",
    "run.ended": "every step has ended; Prefect has not been told how the run did",
    "run.told": "Prefect has been told how the run did; nobody here has",
    "run.claimed": "a resumed run is ours; nothing of it has been read",
    "step.begun": "a step has begun; no attempt has been made",
    "step.performed": "an attempt has had its effect; nothing of it is kept",
    "step.failed": "an attempt has failed; the next one has not begun",
    "step.kept": "the result of a step is kept; Prefect has not been told",
    "journal.writing": "a group of results is about to be written",
    "journal.written": "a group of results is written; the steps do not know",
    "fan.begun": "the items of a fan-out are known; none has begun",
    "fan.ended": "the steps of a fan-out have ended; what it gives is not made",
    "route.chosen": "a router has chosen; that is not kept",
    "route.kept": "the choice of a router is kept; its branch has not begun",
    "branch.begun": "the flow run of a branch is Running; that is not kept",
    "talk.called": "a call of an agent, of its model or a tool, is kept; the talk has not gone on",
    "call.created": "a called workflow has a flow run; it has not begun",
    "wait.paused": "a run waits, Paused",
    "signal.taken": "a signal has been read; that is not kept",
    "signal.kept": "a signal is kept; the wait has not looked at it",
    "signal.sent": "a signal has been sent; that is not kept",
    "memory.changed": "a conversation has been read or changed; that is not kept",
    "effect.begun": "that a call of `effect: write` begins is kept; it has not been made",
    "effect.made": "a call of `effect: write` has been made; nothing of it is kept",
    "http.sent": "an HTTP request has been answered; the answer has not been read",
}

_FORM = re.compile(
    r"(?P<name>[a-z.]+)(?:@(?P<subject>.+?))?(?:#(?P<visit>\d+))?"
    r"=(?P<kind>crash|error|delay:(?P<seconds>[\d.]+))"
)


class InjectedFault(Exception):
    """The error that a test has asked for."""


class _Armed:
    def __init__(self, text: str) -> None:
        match = _FORM.fullmatch(text)
        if match is None or match["name"] not in POINTS:
            known = ", ".join(POINTS)
            raise ValueError(f"COMPOZY_FAULT is no fault: {text!r}; the places are {known}")
        self.name, self.subject = match["name"], match["subject"]
        self.left = int(match["visit"] or 1)
        self.kind, self.seconds = match["kind"].partition(":")[0], float(match["seconds"] or 0)

    def meets(self, name: str, subject: str) -> bool:
        if name != self.name or self.subject not in (None, subject):
            return False
        self.left -= 1
        return self.left == 0

    def strike(self) -> float:
        """The seconds to wait, if it does not end here."""
        if self.kind == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "error":
            raise InjectedFault(f"injected at {self.name}")
        return self.seconds


_armed = _Armed(os.environ["COMPOZY_FAULT"]) if os.environ.get("COMPOZY_FAULT") else None


async def point(name: str, subject: str = "") -> None:
    """A place that the run has come to; `subject` is the path of the step."""
    if _armed is not None and _armed.meets(name, subject):
        await asyncio.sleep(_armed.strike())
