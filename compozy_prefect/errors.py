"""The exceptions of compozy-prefect, one tree.

A user's mistake in a file is a `Diagnostic`, collected and never raised past its pass; what is
raised is below. Anything else that escapes is a bug and keeps its traceback.

    CompozyError
    ├── ProjectInvalid        the project has errors; carries the diagnostics
    ├── UsageError            the command or the call was used wrongly (exit code 2)
    ├── TemplateError         a template or condition cannot be parsed or evaluated
    ├── ServerUnavailable     no Prefect server could be reached or started
    └── RunError              something failed while a workflow ran; has a code and details
        ├── InputInvalid      data broke the schema of the workflow's or the task's input
        ├── OutputInvalid     an agent's, tool's or task's result broke its schema
        ├── MissingKey        a provider's key is not set
        ├── ModelFailed       a provider refused, failed or timed out
        ├── BudgetExceeded    a bound of a talk with a model, or of what it may cost, is reached
        ├── ServerFailed      an MCP server is not what the project has, and no agent is to go on
        ├── NotRecorded       a cassette that is replayed does not hold the call
        └── ToolFailed        a tool failed, or cannot run here
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compozy_prefect.diagnostics import Diagnostic, SourceText


class CompozyError(Exception):
    """Base of everything that this package raises on purpose."""


class ProjectInvalid(CompozyError):
    """The project has at least one error.

    `diagnostics` holds errors and warnings in file order; `sources` the text of the files they
    point into, by the name their spans use.
    """

    def __init__(
        self, diagnostics: Sequence[Diagnostic], sources: Mapping[str, SourceText] | None = None
    ) -> None:
        self.diagnostics = tuple(diagnostics)
        self.sources = dict(sources or {})
        errors = [d for d in self.diagnostics if d.severity == "error"]
        first = f": {errors[0]}" if errors else ""
        super().__init__(f"the project has {len(errors)} error(s){first}")


class UsageError(CompozyError):
    """The command line or the Python API was called wrongly."""


class TemplateError(CompozyError):
    """A template or condition that cannot be parsed or evaluated.

    `start` and `end` are offsets in characters into `template`, end exclusive. `code` is the
    diagnostic code (`CZ4xx`).
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        template: str = "",
        start: int = 0,
        end: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.template = template
        self.start = start
        self.end = start if end is None else end
        self.hint = hint

    @property
    def span(self) -> tuple[int, int]:
        """Offsets of the offending text in the template, end exclusive."""
        return (self.start, self.end)


class ServerUnavailable(CompozyError):
    """No Prefect server could be reached or started; the message says why and what to do."""


class RunError(CompozyError):
    """Something failed while a workflow ran.

    `code` is stable (language.md §14, end); `details` is JSON and never holds a secret.
    `retryable` says whether another attempt could succeed.
    """

    code = "RUN_ERROR"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
        retryable: bool | None = None,
        is_known: bool = True,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.is_known = is_known
        self.details: dict[str, Any] = dict(details or {})
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable


class InputInvalid(RunError):
    code = "INPUT_VALIDATION_ERROR"
    retryable = False


class OutputInvalid(RunError):
    code = "OUTPUT_VALIDATION_ERROR"
    retryable = False


class MissingKey(RunError):
    code = "MISSING_CONFIGURATION"
    retryable = False


class ModelFailed(RunError):
    """A model gave no answer. `attempts` in the details: how often its provider was asked."""

    code = "LLM_GENERATION_ERROR"


class BudgetExceeded(RunError):
    code = "BUDGET_EXCEEDED"
    retryable = False


class ServerFailed(RunError):
    code = "MCP_CONNECTION_ERROR"
    retryable = False


class NotRecorded(RunError):
    code = "NOT_RECORDED"
    retryable = False


# None of them is a failure of what was called: nobody is to go on after it.
FATAL = (NotRecorded, BudgetExceeded, ServerFailed)


class ToolFailed(RunError):
    code = "TOOL_EXECUTION_ERROR"
