"""`compozy schema`: JSON Schemas with which an editor completes and checks what is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from compozy_prefect.cli import DONE
from compozy_prefect.cli.output import json_text, write_text


def schema(
    kind: str | None = None,
    /,
    *,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
) -> int:
    """Print the JSON Schema of a file, for editors.

    Parameters
    ----------
    kind
        What the file holds: project (`compozy.yaml`), workflow, task, agent, tool, and so on.
    output
        Write to this file instead of stdout.
    """
    from compozy_prefect.compiler.editor import KINDS, describe
    from compozy_prefect.compiler.editor import schema as schema_of
    from compozy_prefect.errors import UsageError
    from compozy_prefect.language.names import suggest

    if kind is None:
        if output is not None:
            raise UsageError(f"say which schema to write: {', '.join(KINDS)}")
        width = max(map(len, KINDS))
        for name in KINDS:
            print(f"{name:<{width}}  {describe(name)}")
        return DONE
    if kind not in KINDS:
        hint = suggest(kind, KINDS, what="there are", limit=len(KINDS))
        raise UsageError(f"there is no kind {kind!r}; {hint}")
    write_text(json_text(schema_of(kind)), output)
    return DONE
