"""Files that say what blocks there should be → block documents on the server.

    type: secret                            # the slug of a block type
    name: openai-api-key
    data: {value: "{{ .env.OPENAI_API_KEY }}"}

One file a block, under `blocks/`. A secret never stands in it: it comes from the environment when
the block is applied. What is compared or changed here is never printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate, BlockDocumentUpdate
from prefect.client.schemas.objects import BlockSchema
from prefect.exceptions import ObjectNotFound
from prefect.utilities.dispatch import get_registry_for_type

from compozy_prefect.compiler.plan import Json
from compozy_prefect.diagnostics import Diagnostic, SourceText, error, has_errors, in_file_order
from compozy_prefect.errors import ProjectInvalid, TemplateError, UsageError
from compozy_prefect.expressions import Environment, parse
from compozy_prefect.flows.blocks import is_secret, secret_fields
from compozy_prefect.language.models.block import BlockFile
from compozy_prefect.language.names import suggest
from compozy_prefect.language.nodes import Mapping as Map
from compozy_prefect.language.nodes import Node, Scalar, Sequence
from compozy_prefect.language.source import parse as parse_yaml
from compozy_prefect.language.typed import typed
from compozy_prefect.runtime import schemas

CREATED, UPDATED, UNCHANGED = "created", "updated", "unchanged"
_ENDINGS = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Applied:
    """A block, and what became of it: created, updated or unchanged."""

    file: str
    type: str
    name: str
    action: str

    def to_json(self) -> dict[str, Json]:
        return {name: getattr(self, name) for name in self.__slots__}


class _Wanted(NamedTuple):
    """A file that has the right form; the data of the block still have their templates."""

    file: str
    block: BlockFile


def files_of(path: Path) -> list[Path]:
    """The files at a path: itself, or those in the directory, or in `blocks/` of the project.

    Raises UsageError when there is none.
    """
    folder = path / "blocks" if (path / "blocks").is_dir() else path
    if folder.is_dir():
        found = sorted(file for file in folder.iterdir() if file.suffix in _ENDINGS)
        if found and (folder != path or not (path / "compozy.yaml").exists()):
            return found
        raise UsageError(f"there are no blocks in {path}: one YAML file each, under `blocks/`")
    if not path.is_file():
        raise UsageError(f"there is no {path}")
    return [path]


async def apply(
    client: PrefectClient, files: Iterable[Path], env: Mapping[str, str], *, check: bool = False
) -> list[Applied]:
    """Creates and updates blocks until the server has what the files say; with `check`, says only.

    Raises ProjectInvalid for what is wrong with the files, before anything is changed.
    """
    wanted, found, sources = _read(files)
    types = {item.slug: item for item in await client.read_block_types()}
    kept: dict[str, BlockSchema] = {}
    for one in wanted:
        if one.block.type not in types and not (check or await _registered(client, one.block.type)):
            hint = suggest(one.block.type, sorted(types), what="there are", limit=12)
            text = f"there is no block type `{one.block.type}` on the server"
            found.append(error("CZ301", text, one.block.node.at("type").span, hint))
    todo: list[tuple[_Wanted, BlockSchema, dict[str, Any]]] = []
    for one in wanted:
        with suppress(ObjectNotFound):
            schema = kept.get(one.block.type) or await _schema(client, one.block.type)
            kept[one.block.type] = schema
            data, wrong = _rendered(one, schema, env)
            found += wrong
            todo.append((one, schema, data))
    if has_errors(found):
        shown = {name: _masked(source, found) for name, source in sources.items()}
        raise ProjectInvalid(tuple(in_file_order(found)), shown)
    return [
        Applied(
            one.file, one.block.type, one.block.name, await _apply(client, one, schema, data, check)
        )
        for one, schema, data in todo
    ]


async def _apply(
    client: PrefectClient, one: _Wanted, schema: BlockSchema, data: dict[str, Any], check: bool
) -> str:
    try:
        now = await client.read_block_document_by_name(
            one.block.name, one.block.type, include_secrets=True
        )
    except ObjectNotFound:
        if not check:
            made = BlockDocumentCreate(
                name=one.block.name,
                data=data,
                block_schema_id=schema.id,
                block_type_id=UUID(str(schema.block_type_id)),
            )
            await client.create_block_document(made)
        return CREATED
    if now.data == data:
        return UNCHANGED
    if not check:
        change = BlockDocumentUpdate(
            block_schema_id=schema.id, data=data, merge_existing_data=False
        )
        await client.update_block_document(now.id, change)
    return UPDATED


async def _schema(client: PrefectClient, slug: str) -> BlockSchema:
    kind = await client.read_block_type_by_slug(slug)
    schema = await client.get_most_recent_block_schema_for_block_type(kind.id)
    if schema is None:
        raise ObjectNotFound(ValueError(slug))
    return schema


async def _registered(client: PrefectClient, slug: str) -> bool:
    """Registers a block type that is installed here, and that the server does not know yet."""
    from prefect.plugins import load_prefect_collections

    load_prefect_collections()
    kind = (get_registry_for_type(Block) or {}).get(slug)
    if kind is None:
        return False
    await kind.register_type_and_schema(client)
    return True


def _read(
    files: Iterable[Path],
) -> tuple[list[_Wanted], list[Diagnostic], dict[str, SourceText]]:
    wanted: list[_Wanted] = []
    found: list[Diagnostic] = []
    sources: dict[str, SourceText] = {}
    places: dict[tuple[str, str], str] = {}
    for file in files:
        try:
            raw = file.read_bytes()
        except OSError as fault:
            raise UsageError(f"{file} cannot be read: {fault.strerror or fault}") from None
        node, wrong, source = parse_yaml(raw, str(file))
        sources[source.name] = source
        found += wrong
        if not isinstance(node, Map):
            continue
        read = typed(node, BlockFile)
        # Also what is only a warning elsewhere: an unknown key would not reach the server.
        found += [one._replace(severity="error") for one in read.diagnostics]
        if read.noun is None or read.diagnostics:
            continue
        kind, name = read.noun.type, read.noun.name
        if (kind, name) in places:
            text = f"the block {kind}/{name} stands in {places[kind, name]} too"
            found.append(error("CZ306", text, node.at("name").span))
        places[kind, name] = str(file)
        wanted.append(_Wanted(str(file), read.noun))
    return wanted, found, sources


def _rendered(
    one: _Wanted, schema: BlockSchema, env: Mapping[str, str]
) -> tuple[dict[str, Any], list[Diagnostic]]:
    """The data of a block, and what is wrong with it: also a secret that stands in the file."""
    found: list[Diagnostic] = []
    secret, node = secret_fields(schema), one.block.node.entries["data"]
    assert isinstance(node, Map)

    def value(node: Node, path: tuple[str, ...]) -> Any:
        if isinstance(node, Map):
            return {key: value(item, (*path, key)) for key, item in node.entries.items()}
        if isinstance(node, Sequence):
            return [value(item, (*path, "*")) for item in node.items]
        assert isinstance(node, Scalar)
        text = node.value
        is_template = isinstance(text, str) and "{{" in text
        if is_secret(path, secret) and text is not None and not is_template:
            variable = re.sub(r"\W+", "_", one.block.name).upper()
            hint = f"put it into the environment and write `{{{{ .env.{variable} }}}}`"
            found.append(error("CZ501", "a secret stands in the file", node.span, hint))
            return ""
        return _render(node, str(text), env, found) if is_template else text

    data = {key: value(item, (key,)) for key, item in node.entries.items()}
    if not found:
        fields = {key: item for key, item in schema.fields.items() if key != "secret_fields"}
        for broken in schemas.violations({} if secret and not data else data, fields):
            # What it says of a value may hold the value.
            said = broken if not secret else broken.partition(":")[0]
            text = f"the data does not fit the block type `{one.block.type}`: {said}"
            found.append(error("CZ301", text, node.span))
    return data, found


def _render(node: Scalar, text: str, env: Mapping[str, str], found: list[Diagnostic]) -> Any:
    try:
        template = parse(text)
        for read in template.reads:
            name = str(read.segments[1]) if len(read.segments) > 1 else ""
            if read.segments[0] != "env":
                message = "a block sees `.env` alone"
                found.append(error("CZ402", message, node.span_of(read.start, read.end)))
            elif not read.guarded and not env.get(name):
                message = f"the environment has no `{name}`"
                hint = "set it, or put it into the `.env` of the project"
                span = node.span_of(read.start, read.end)
                found.append(error("CZ302", message, span, hint))
        return "" if found else template.data({"env": env}, Environment(env=env))
    except TemplateError as fault:
        span = node.span_of(fault.start, fault.end)
        found.append(error(fault.code, fault.message, span, fault.hint))
        return ""


def _masked(source: SourceText, found: Iterable[Diagnostic]) -> SourceText:
    """The text as it is shown around a diagnostic, without the secrets that stand in it."""
    lines = list(source.lines)
    for one in found:
        span = one.span
        if one.code == "CZ501" and span is not None and span.file == source.name:
            for number in range(span.line, span.end_line + 1):
                line = lines[number - 1]
                start = span.column - 1 if number == span.line else 0
                end = span.end_column - 1 if number == span.end_line else len(line)
                lines[number - 1] = line[:start] + "*" * (end - start) + line[end:]
    return replace(source, text="\n".join(lines))
