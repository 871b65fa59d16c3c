"""What went wrong in a tool → an error that names the tool and its place in the YAML."""

from __future__ import annotations

from collections.abc import Mapping

from compozy_prefect.compiler.plan import Json, ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.runtime.tools.surroundings import Surroundings

# After these nothing has happened, or the tool has told how it ended.
_KNOWN = frozenset({"permission", "refused", "start", "stdin", "thrown"})
_CODES = {"timeout": "TOOL_TIMEOUT", "start": "TOOL_NOT_FOUND", "refused": "TOOL_NOT_ALLOWED"}


def failed(
    tool: ToolPlan,
    around: Surroundings,
    message: str,
    *,
    kind: str,
    details: Mapping[str, Json] | None = None,
    at: tuple[str, int] | None = None,
    retryable: bool = True,
    is_known: bool | None = None,
) -> ToolFailed:
    """`kind` is kept in the details. `at` is a file and a line nearer to the fault.

    `is_known`: it has not begun, or has told that it failed; by default as the kind says.
    """
    where, place = placed(around, at)
    return ToolFailed(
        f"tool `{tool.id}`: {message}{where}",
        code=_CODES.get(kind),
        details={"tool": tool.id, "kind": kind, **(details or {}), **place},
        retryable=retryable,
        is_known=kind in _KNOWN if is_known is None else is_known,
    )


def placed(around: Surroundings, at: tuple[str, int] | None = None) -> tuple[str, dict[str, Json]]:
    """` (compozy.yaml:12)`, and the same as details; nothing where no place is known."""
    if at is not None:
        return f" ({at[0]}:{at[1]})", {"file": at[0], "line": at[1]}
    if around.place is None:
        return "", {}
    file, line, column = around.place[:3]
    return f" ({file}:{line})", {"file": file, "line": line, "column": column}
