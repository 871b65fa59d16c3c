"""What went wrong in a tool → an error that names the tool and its place in the YAML."""

from __future__ import annotations

from collections.abc import Mapping

from compozy_prefect.compiler.plan import Json, ToolPlan
from compozy_prefect.errors import ToolFailed
from compozy_prefect.runtime.tools.surroundings import Surroundings

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
) -> ToolFailed:
    """`kind` is kept in the details. `at` is a file and a line nearer to the fault."""
    place = around.place
    found: dict[str, Json] = {"tool": tool.id, "kind": kind, **(details or {})}
    where = ""
    if at is not None:
        where = f" ({at[0]}:{at[1]})"
        found |= {"file": at[0], "line": at[1]}
    elif place is not None:
        where = f" ({place[0]}:{place[1]})"
        found |= {"file": place[0], "line": place[1], "column": place[2]}
    return ToolFailed(
        f"tool `{tool.id}`: {message}{where}",
        code=_CODES.get(kind),
        details=found,
        retryable=retryable,
    )
