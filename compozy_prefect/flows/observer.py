"""Someone who watches a run as it happens: the progress line of the CLI, a test, a log.

Called synchronously from the run's event loop; an observer that raises is ignored, because
watching must never change what is watched.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from compozy_prefect.compiler.plan import StepPlan
from compozy_prefect.runtime.outcome import Failure

if TYPE_CHECKING:
    from compozy_prefect.flows.run import RunResult

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """`seconds` is the time a step took, all its attempts included; `status` as in design.md.

    One with a true attribute `streams` also has a method `step_said(step, text)`, which gets the
    pieces of a model's answer as they come; None takes back what the call has said so far. One
    with a method `run_waits(signal, why)` hears which signal a paused run waits for, and of a
    question what it is about.
    """

    def run_started(self, execution_id: str, ui_url: str) -> None: ...

    def step_started(self, step: StepPlan) -> None: ...

    def step_finished(
        self, step: StepPlan, status: str, seconds: float, error: Failure | None
    ) -> None: ...

    def run_finished(self, result: RunResult) -> None: ...


class Watched:
    """An observer that may be absent and may fail."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer
        self.streams = bool(getattr(observer, "streams", False))

    def waits(self, signal: str, why: str) -> None:
        if hasattr(self._observer, "run_waits"):
            self.tell("run_waits", signal, why)

    def tell(self, event: str, *values: object) -> None:
        """Calls the method `event` of the observer, and swallows what it raises."""
        if self._observer is None:
            return
        try:
            getattr(self._observer, event)(*values)
        except Exception:
            _log.warning("the observer failed in %s", event, exc_info=True)
