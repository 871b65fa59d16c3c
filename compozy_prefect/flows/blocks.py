"""Files that say what blocks there should be → block documents on the server, and back as data.

    type: secret                            # the slug of a block type
    name: openai-api-key
    data: {value: "{{ .env.OPENAI_API_KEY }}"}

One file a block, under `blocks/`. A secret never stands in it: it comes from the environment when
the block is applied. What is compared, changed or read here is never printed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate, BlockDocumentUpdate
from prefect.client.schemas.objects import BlockDocument, BlockSchema
from prefect.exceptions import ObjectNotFound
from prefect.utilities.dispatch import get_registry_for_type

from compozy_prefect.compiler.plan import Json
from compozy_prefect.diagnostics import Diagnostic, SourceText, error, has_errors, in_file_order
from compozy_prefect.errors import ProjectInvalid, RunError, TemplateError, UsageError
from compozy_prefect.expressions import Environment, parse
from compozy_prefect.language.names import suggest
from compozy_prefect.language.nodes import Mapping as Map
from compozy_prefect.language.nodes import Node, Scalar, Sequence
from compozy_prefect.language.source import parse as parse_yaml
from compozy_prefect.runtime import schemas, templates

CREATED, UPDATED, UNCHANGED = "created", "updated", "unchanged"
_KEYS = ("type", "name", "data")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # as Prefect has it
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


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A file that has the right form; `data` still has its templates."""

    file: str
    type: str
    name: str
    node: Map
    data: Map


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
        if one.type not in types and not (check or await _registered(client, one.type)):
            hint = suggest(one.type, sorted(types), what="there are", limit=12)
            text = f"there is no block type `{one.type}` on the server"
            found.append(error("CZ301", text, one.node.at("type").span, hint))
    todo: list[tuple[_Wanted, BlockSchema, dict[str, Any]]] = []
    for one in wanted:
        with suppress(ObjectNotFound):
            schema = kept.get(one.type) or await _schema(client, one.type)
            kept[one.type] = schema
            data, wrong = _rendered(one, schema, env)
            found += wrong
            todo.append((one, schema, data))
    if has_errors(found):
        shown = {name: _masked(source, found) for name, source in sources.items()}
        raise ProjectInvalid(tuple(in_file_order(found)), shown)
    return [
        Applied(one.file, one.type, one.name, await _apply(client, one, schema, data, check))
        for one, schema, data in todo
    ]


async def _apply(
    client: PrefectClient, one: _Wanted, schema: BlockSchema, data: dict[str, Any], check: bool
) -> str:
    try:
        now = await client.read_block_document_by_name(one.name, one.type, include_secrets=True)
    except ObjectNotFound:
        if not check:
            made = BlockDocumentCreate(
                name=one.name,
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


# --- reading --------------------------------------------------------------------------------------


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


# --- files ----------------------------------------------------------------------------------------


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
        wrong = list(_misfits(node))
        found += wrong
        if not wrong:
            kind, name = str(_text(node, "type")), str(_text(node, "name"))
            data = node.entries["data"]
            assert isinstance(data, Map)
            if (kind, name) in places:
                text = f"the block {kind}/{name} stands in {places[kind, name]} too"
                found.append(error("CZ306", text, node.at("name").span))
            places[kind, name] = str(file)
            wanted.append(_Wanted(str(file), kind, name, node, data))
    return wanted, found, sources


def _misfits(node: Map) -> Iterator[Diagnostic]:
    for key in node.entries:
        if key not in _KEYS:
            hint = suggest(key, _KEYS, what="there are")
            yield error("CZ303", f"unknown key `{key}`", node.entries[key].span, hint)
    for key in _KEYS:
        if key not in node.entries:
            text = f"a block has a `{key}`, and this one has none"
            yield error("CZ302", text, node.span)
        elif key == "data":
            if not isinstance(node.entries[key], Map):
                yield error("CZ301", "`data` must be a map", node.entries[key].span)
        elif not _text(node, key):
            yield error("CZ301", f"`{key}` must be a text", node.entries[key].span)
    name = _text(node, "name")
    if name and not _NAME.fullmatch(name):
        hint = "lower-case letters, digits and single dashes between them"
        yield error("CZ301", f"`{name}` is no name of a block", node.entries["name"].span, hint)


def _text(node: Map, key: str) -> str | None:
    found = node.entries.get(key)
    return found.value if isinstance(found, Scalar) and isinstance(found.value, str) else None


def _rendered(
    one: _Wanted, schema: BlockSchema, env: Mapping[str, str]
) -> tuple[dict[str, Any], list[Diagnostic]]:
    """The data of a block, and what is wrong with it: also a secret that stands in the file."""
    found: list[Diagnostic] = []
    secret = secret_fields(schema)

    def value(node: Node, path: tuple[str, ...]) -> Any:
        if isinstance(node, Map):
            return {key: value(item, (*path, key)) for key, item in node.entries.items()}
        if isinstance(node, Sequence):
            return [value(item, (*path, "*")) for item in node.items]
        assert isinstance(node, Scalar)
        text = node.value
        is_template = isinstance(text, str) and "{{" in text
        if is_secret(path, secret) and text is not None and not is_template:
            variable = re.sub(r"\W+", "_", one.name).upper()
            hint = f"put it into the environment and write `{{{{ .env.{variable} }}}}`"
            found.append(error("CZ501", "a secret stands in the file", node.span, hint))
            return ""
        return _render(node, str(text), env, found) if is_template else text

    data = {key: value(node, (key,)) for key, node in one.data.entries.items()}
    if not found:
        fields = {key: item for key, item in schema.fields.items() if key != "secret_fields"}
        for broken in schemas.violations({} if secret and not data else data, fields):
            # What it says of a value may hold the value.
            said = broken if not secret else broken.partition(":")[0]
            text = f"the data does not fit the block type `{one.type}`: {said}"
            found.append(error("CZ301", text, one.data.span))
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


# --- secrets --------------------------------------------------------------------------------------


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
