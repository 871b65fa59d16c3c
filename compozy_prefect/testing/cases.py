"""A case, ready to be run and judged, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from compozy_prefect.compiler.plan import Json
from compozy_prefect.diagnostics import Span
from compozy_prefect.runtime.outcome import Failure, Taken
from compozy_prefect.testing.expect import Fields
from compozy_prefect.testing.match import Difference

TIMEOUT = 60.0  # seconds that a case may take

Status = Literal["passed", "failed", "error", "skipped"]


@dataclass(frozen=True, slots=True)
class ExpectedTask:
    """How a task is to end: by `state`, a status, `not run` or `skipped`, or else by `view`."""

    key: str
    span: Span
    state: str = ""
    view: Fields | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One run of a workflow, and what is expected of it.

    `file` is relative to the project, `span` where the name is written. `mocks` are those of the
    file with those of the case laid over, and `cassette` answers what they do not. `signals` are
    names and payloads; `skip` is why it is not run, if it is not. `view` is expected of
    `{status, output, error}`.
    """

    file: str
    name: str
    span: Span
    workflow: str
    input: Mapping[str, Json]
    view: Fields
    tasks: tuple[ExpectedTask, ...] = ()
    mocks: Mapping[str, Any] | None = None
    cassette: Path | None = None
    offline: bool = True
    env: Mapping[str, str] = field(default_factory=dict)
    signals: tuple[tuple[str, Json], ...] = ()
    timeout: float = TIMEOUT
    skip: str = ""

    @property
    def place(self) -> str:
        return f"{self.file}:{self.span.line}:{self.span.column}"


@dataclass(frozen=True, slots=True)
class Finished:
    """How a case ended.

    `failed`: it ran and is not as expected, or took too long; `error`: it could not be run.
    `message` says what `differences` do not, `failure` is the error of the run. `taken` are the
    ways that the run took.
    """

    case: Case
    status: Status
    seconds: float = 0.0
    message: str = ""
    differences: tuple[Difference, ...] = ()
    failure: Failure | None = None
    execution_id: str | None = None
    ui_url: str | None = None
    taken: frozenset[Taken] = frozenset()
