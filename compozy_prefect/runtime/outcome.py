"""What comes out of steps and runs: states, failures, usage, and the plain JSON they are made of.

A step ends as a `TaskState`, a run as an `Outcome`. Both are values: later templates, the result
of `compozy run --json`, the artifacts and the Prefect states are all read from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import OutputInvalid, RunError, TemplateError
from compozy_prefect.runtime.llm.client import Usage

SUCCESS, FAILED, TIMED_OUT, CANCELED = "SUCCESS", "FAILED", "TIMED_OUT", "CANCELED"
RUNNING = "RUNNING"

SKIPPED: dict[str, Json] = {"skipped": True}  # the output of a task whose condition is false

TIMEOUT_CODE = "TIMEOUT"
CANCELED_CODE = "CANCELED"
_MAX_DEPTH = 200  # containers in containers; beyond it, JSON readers elsewhere give up


@dataclass(frozen=True, slots=True)
class Failure:
    """The error of a step or a run (language.md §14, end). `details` is JSON."""

    message: str
    code: str
    details: dict[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        return {"message": self.message, "code": self.code, "details": self.details}

    @property
    def placed_message(self) -> str:
        """The message with the place in the files: `no such person (compozy.yaml:12:5)`."""
        file, line = self.details.get("file"), self.details.get("line")
        if not file or f"{file}:{line}" in self.message:
            return self.message
        return f"{self.message} ({file}:{line}:{self.details.get('column', 1)})"

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that an exception stands for; an unforeseen one keeps its type's name."""
        if isinstance(error, RunError):
            return cls(error.message, error.code, dict(error.details))
        if isinstance(error, TemplateError):
            return cls(error.message, error.code, {"expression": error.template})
        if isinstance(error, TimeoutError):
            return cls(str(error) or "the time is up", TIMEOUT_CODE)
        name = type(error).__name__
        return cls(f"{name}: {error}" if str(error) else name, RunError.code, {"type": name})


@dataclass(frozen=True, slots=True)
class TaskState:
    """How one task of the YAML ended.

    `parent` is the key of its container. `handled` says that the task failed and its
    `on_error.next` took over; the workflow is FAILED all the same (language.md §2.3).
    `attempts` counts those of this process. `route` is the key that a router chose.
    """

    id: str
    type: str
    status: str
    input: Json = None
    output: Json = None
    error: Failure | None = None
    parent: str | None = None
    handled: bool = False
    usage: Usage | None = None
    seconds: float = 0.0
    attempts: int = 1
    route: str = ""
    # Of a container: how its steps ended, and its output as templates see it (`runtime.views`).
    children: Mapping[str, TaskState] = field(default_factory=dict)
    view: Any = None

    @property
    def ok(self) -> bool:
        return self.status == SUCCESS

    @property
    def skipped(self) -> bool:
        """Whether its condition said no: then not even its `with` was rendered."""
        return self.ok and self.input is None and self.output == SKIPPED

    def for_templates(self) -> dict[str, Json]:
        """The entry of `.tasks` (language.md §11.3)."""
        return {
            "id": self.id,
            "status": self.status,
            "input": self.input,
            "output": self.output if self.view is None else self.view,
            "error": self.error and self.error.to_json(),
            "children": {id: state.for_templates() for id, state in self.children.items()},
            "handled": self.handled,
        }

    def to_json(self) -> dict[str, Json]:
        """The entry of `tasks` in `compozy run --json`."""
        return {
            "status": self.status,
            "type": self.type,
            "output": self.output,
            "error": self.error and self.error.to_json(),
            "parent": self.parent,
        }


class Taken(NamedTuple):
    """A way that a run took at a step of the plan, which `path` names in its workflow.

    `what` is `run` or `skipped`, `on_success`, `on_error` or `on_timeout` for an edge that was
    followed, and `route` for one of a router, whose key `route` is.
    """

    workflow: str
    path: str
    what: str
    route: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `input` has the defaults; `tasks` are those that ran, in order."""

    status: str
    input: Json
    output: Json = None
    error: Failure | None = None
    tasks: dict[str, TaskState] = field(default_factory=dict)

    @property
    def usage(self) -> Usage:
        total = Usage()
        for state in self.tasks.values():
            if state.usage is not None:
                total = total + state.usage
        return total


def plain(value: Any) -> Json:
    """`value` as JSON: datetimes become RFC 3339 text, tuples lists, numbers int or float.

    Raises OutputInvalid for what JSON cannot hold, naming where it stands.
    """
    return _plain(value, "", 0)


def _plain(value: Any, at: str, depth: int) -> Json:
    if value is None or value.__class__ in (str, bool, int):
        if value.__class__ is str and not value.isascii():
            _utf8(value, at)
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise OutputInvalid(f"{_where(at)} is {value}, which JSON cannot hold")
        return float(value)
    if depth > _MAX_DEPTH:
        raise OutputInvalid(f"{_where(at)} is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, f"{at}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{at}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, str):  # of a subclass, such as an enumeration
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, date):
        return value.isoformat()
    raise OutputInvalid(f"{_where(at)} is a {type(value).__name__}, which JSON cannot hold")


def _utf8(text: str, at: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        half = f"\\u{ord(text[fault.start]):04x}"
        raise OutputInvalid(
            f"{_where(at)} holds {half}, one half of a pair, which is no character"
        ) from None


def same_json(a: Json, b: Json) -> bool:
    """Equality of JSON values: 1 is 1.0, but true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    return bool(a == b)


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(key)


def _where(at: str) -> str:
    return f"the value at {at}" if at else "the value"


def rfc3339(moment: datetime) -> str:
    """A datetime as RFC 3339 text in UTC, ending in `Z`; a naive one is taken as UTC."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat().replace("+00:00", "Z")
