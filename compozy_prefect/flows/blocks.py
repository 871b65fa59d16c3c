"""Blocks on the server → data that templates read (`compiler.blocks`), and the secrets in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import BlockDocument, BlockSchema

from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import RunError
from compozy_prefect.language.names import suggest
from compozy_prefect.runtime import templates


async def load(
    client: PrefectClient,
    wanted: Mapping[str, Mapping[str, str]],
    mocks: Mapping[str, Json],
    *,
    offline: bool,
    spans: templates.Spans,
) -> tuple[dict[str, Json], list[str]]:
    """The fields of blocks by the name of the block, and the values in them that are secret.

    `wanted` is what `compiler.blocks` finds. Those in `mocks` are not asked for. Raises RunError,
    with the place in the YAML, for one that there is not, or more than once, or without a field.
    """
    at = {name: next(iter(read.values())) for name, read in wanted.items()}
    fields: dict[str, Json] = {name: mocks[name] for name in wanted if name in mocks}
    missing = [name for name in wanted if name not in fields]
    if missing and offline:
        raise _unread(
            f"the block `{missing[0]}` is not mocked, and an offline run asks no server: put its "
            "fields under `blocks:` in the mocks file",
            at[missing[0]],
            spans,
        )
    secrets: list[str] = []
    for name in missing:
        documents = await _named(client, name)
        if not documents:
            text = (
                f"the server has no block `{name}`; `compozy blocks apply` creates those of files"
            )
            raise _unread(text, at[name], spans)
        if len(documents) > 1:
            kinds = ", ".join(sorted(f"{_kind(one)}/{name}" for one in documents))
            text = f"which block `{name}` is meant is not clear: there are {kinds}"
            raise _unread(text, at[name], spans)
        fields[name] = documents[0].data
        secrets += secrets_of(documents[0])
    for name, read in wanted.items():
        for field, place in read.items():
            if field and field not in fields[name]:
                hint = suggest(field, sorted(fields[name]), what="it has")
                raise _unread(f"the block `{name}` has no field `{field}`; {hint}", place, spans)
    return fields, secrets


async def _named(client: PrefectClient, name: str) -> list[BlockDocument]:
    # The client's own method cannot ask by name.
    answer = await client.request(
        "POST",
        "/block_documents/filter",
        json={"block_documents": {"name": {"any_": [name]}}, "include_secrets": True},
    )
    return [BlockDocument.model_validate(one) for one in answer.json()]


def _kind(document: BlockDocument) -> str:
    return document.block_type.slug if document.block_type else "?"


def _unread(message: str, at: str, spans: templates.Spans) -> RunError:
    place = templates.nearest_place(at, spans)
    if place is None:
        return RunError(message, code="BLOCK_NOT_FOUND", retryable=False)
    file, line, column = place[:3]
    return RunError(
        f"{file}:{line}:{column}: {message}",
        code="BLOCK_NOT_FOUND",
        details={"file": file, "line": line, "column": column},
        retryable=False,
    )


def secret_fields(schema: BlockSchema | None) -> tuple[tuple[str, ...], ...]:
    """The paths of the fields that Prefect keeps secret; `*` stands for every key."""
    listed = schema.fields.get("secret_fields", []) if schema is not None else []
    return tuple(tuple(str(field).split(".")) for field in listed)


def is_secret(path: tuple[str, ...], fields: Iterable[tuple[str, ...]]) -> bool:
    """Whether a path leads to, or into, a secret field."""
    return any(
        len(path) >= len(field)
        and all(want in ("*", have) for want, have in zip(field, path, strict=False))
        for field in fields
    )


def secrets_of(document: BlockDocument) -> Iterator[str]:
    """The values in a block that must not be shown."""
    fields = secret_fields(document.block_schema)

    def walk(value: Any, path: tuple[str, ...]) -> Iterator[str]:
        if isinstance(value, dict):
            for key, item in value.items():
                yield from walk(item, (*path, str(key)))
        elif isinstance(value, list):
            for item in value:
                yield from walk(item, (*path, "*"))
        elif value is not None and is_secret(path, fields):
            yield str(value)

    yield from walk(document.data, ())
