"""Tools (language.md §6)."""

from typing import Any, Literal

from compozy_prefect.language.models.base import Data, Noun, Seconds, Selector, Variables, field

BUILTIN_TOOLS = (
    "cp__read_file",
    "cp__write_file",
    "cp__delete_file",
    "cp__list_files",
    "cp__list_dir",
    "cp__grep",
    "cp__exec",
    "cp__fetch",
    "cp__list_agents",
    "cp__describe_agent",
    "cp__call_agent",
    "cp__call_agents",
    "cp__call_task",
    "cp__call_tasks",
    "cp__call_workflow",
    "cp__call_workflows",
)


Effect = Literal["read", "write", "idempotent"]


class Tool(Noun):
    """Something that acts: an HTTP API, a program, a piece of code."""

    resource: str | None = field(None, "`tool`, in autoloaded files.")
    id: str = field(
        ...,
        "Letters, digits and `_ / . -`.",
        min_length=1,
        pattern=r"[A-Za-z0-9_/.\-]+",
        hint="letters, digits and `_ / . -` only",
    )
    name: str | None = field(None, "Ignored.")
    version: str | None = field(None, "Ignored.")
    description: str | None = field(None, "Shown to the model.")
    type: Literal["http", "javascript", "cli", "python"] | None = field(
        None, "Who runs it; an export of the entrypoint if not given."
    )
    execute: str | None = field(None, "JavaScript, for `type: javascript`.")
    config: dict[str, Any] = field({}, "Connection or settings.")
    input: Data = field(None, "Schema of its input.")
    output: Data = field(None, "Schema of its result.")
    with_: dict[str, Any] = field({}, "Defaults under the arguments of a call.", key="with")
    env: Variables = field({}, "Environment of the process.")
    timeout: Seconds | None = field(None, "Of one call; 60 seconds if not given.", gt=0)
    effect: Effect | None = field(
        None,
        "What an interrupted call means: `read` is called again, `idempotent` too, with its key, "
        "and after `write` a person decides.",
    )


ToolReference = str | Selector | Tool
