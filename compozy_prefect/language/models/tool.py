"""Tools (language.md §6)."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from compozy_prefect.language.models.base import Data, Noun, Seconds, Selector, Variables, form


class Tool(Noun):
    """Something that acts: an HTTP API, a piece of JavaScript, an export of the entrypoint."""

    resource: str | None = Field(None, description="`tool`, in autoloaded files.")
    id: str = Field(
        min_length=1,
        pattern=r"^[A-Za-z0-9_/.\-]+$",
        description="Letters, digits and `_ / . -`.",
    )
    name: str | None = Field(None, description="Ignored.")
    description: str | None = Field(None, description="Shown to the model.")
    type: Literal["http", "javascript", "cli"] | None = Field(
        None, description="Who runs it; an export of the entrypoint if not given."
    )
    execute: str | None = Field(None, description="JavaScript, for `type: javascript`.")
    config: dict[str, Any] = Field(default_factory=dict, description="Connection or settings.")
    input: Data = Field(None, description="Schema of its input.")
    output: Data = Field(None, description="Schema of its result.")
    with_: dict[str, Any] = Field(default_factory=dict, alias="with", description="Defaults.")
    env: Variables = Field(default_factory=dict, description="Environment of the process.")
    timeout: Seconds | None = Field(None, description="60 seconds if not given.")


ToolReference = Annotated[
    Annotated[str, Tag("name")]
    | Annotated[Selector, Tag("selector")]
    | Annotated[Tool, Tag("inline")],
    Discriminator(form),
]
