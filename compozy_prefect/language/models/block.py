"""A block of Prefect, as a file under `blocks/`."""

from typing import Any

from compozy_prefect.language.models.base import Noun, field


class BlockFile(Noun):
    """A block document that the server is to have. Secrets come from the environment."""

    called = "a block"

    type: str = field(..., "The slug of a block type.", min_length=1, example="secret")
    name: str = field(
        ...,
        "Unique among the blocks of its type.",
        pattern=r"[a-z0-9]+(-[a-z0-9]+)*",
        hint="lower-case letters, digits and single dashes between them",
        example="openai-api-key",
    )
    data: dict[str, Any] = field(
        ..., "The fields of the block; templates see `.env`.", example={"value": "{{ .env.KEY }}"}
    )
