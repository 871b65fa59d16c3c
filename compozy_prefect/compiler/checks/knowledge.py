"""Knowledge bases, what they are made of and who uses them, and attachments (language.md §12.1,
§12.2, §14 rows 41 and 42)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from compozy_prefect.compiler.checks.nouns import (
    is_blank,
    is_given,
    is_resolved,
    is_template,
    nouns,
    place,
)
from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.checks.servers import address, shell_variables
from compozy_prefect.diagnostics import Diagnostic, Span, error, warning
from compozy_prefect.language import misfits
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import Noun
from compozy_prefect.language.models.knowledge import (
    Attachment,
    Chunking,
    Embedder,
    KnowledgeBase,
    KnowledgeBinding,
    Source,
    VectorDb,
)
from compozy_prefect.language.models.project import Workflow
from compozy_prefect.language.models.task import BasicTask, Task
from compozy_prefect.language.names import nearest, suggest
from compozy_prefect.language.nodes import Mapping, Node, Scalar, Sequence

SIZE, OVERLAP = 800, 120
"""Of a chunk, when a knowledge base does not say."""

_KINDS = ("image", "audio", "video", "pdf", "document", "file", "url")
_SOURCES = ("url", "path", "urls", "paths")
_ONLY = {"file": "path", "url": "url"}
_MIME = re.compile(r"[\w.+-]+/[\w.+-]+")
_MIMES = {  # what a file of this type may be, for example
    "image": "image/png",
    "audio": "audio/mpeg",
    "video": "video/mp4",
    "pdf": "application/pdf",
    "document": "application/pdf",
}
_NOUNS = (Attachment, Chunking, Embedder, KnowledgeBase, KnowledgeBinding, Source, VectorDb)


def knowledge(project: Project) -> Iterator[Diagnostic]:
    found = list(nouns(project, *_NOUNS))
    embedders = {noun.id: noun for noun in found if isinstance(noun, Embedder)}
    databases = {noun.id: noun for noun in found if isinstance(noun, VectorDb)}
    for noun in found:
        match noun:
            case KnowledgeBase():
                yield from _base(noun, embedders, databases, project)
            case Embedder():
                yield from _embedder(noun)
            case VectorDb():
                yield from _database(noun)
            case Source():
                yield from _source(noun)
            case Chunking():
                yield from _chunking(noun)
            case Attachment():
                yield from _attachment(noun)
    if any(isinstance(noun, KnowledgeBinding) for noun in found):
        yield from _bindings(project)


# --- what a knowledge base is made of -------------------------------------------------------------


def _base(
    base: KnowledgeBase,
    embedders: dict[str, Embedder],
    databases: dict[str, VectorDb],
    project: Project,
) -> Iterator[Diagnostic]:
    known: Iterable[str]
    for name, kind, listed, known in (
        ("embedder", "embedder", "embedders", embedders),
        ("vector_db", "vector database", "vector_dbs", databases),
    ):
        value = getattr(base, name)
        given = name in base.node.entries and base.node.at(name).data() == value
        if given and value not in known and not _is_broken(project, listed, value):
            span = base.node.at(name).span
            yield _unknown(kind, value, span, known, f"list it under `{listed}:`")
    yield from _dimensions(base, embedders.get(base.embedder), databases.get(base.vector_db))


def _embedder(embedder: Embedder) -> Iterator[Diagnostic]:
    variable = f"{re.sub('[^A-Za-z0-9]', '_', embedder.provider).upper()}_API_KEY"
    yield from _secret(embedder.node.get("api_key"), "api_key", variable)
    yield from _sizes(embedder.node.at("config", "cache"), ("size",), least=1)


def _is_broken(project: Project, kind: str, name: str) -> bool:
    broken = set(project.loaded.broken)
    for workflow in project.loaded.workflows:
        broken |= workflow.broken
    return (kind, name) in broken or (kind, "") in broken


def _unknown(kind: str, name: str, span: Span, known: Iterable[str], add: str) -> Diagnostic:
    hint = suggest(name, known, what="there are")
    return error(
        "CZ323", f"unknown {kind}: `{name}`", span, hint or f"there is no {kind} at all; {add}"
    )


def _dimensions(
    base: KnowledgeBase, embedder: Embedder | None, database: VectorDb | None
) -> Iterator[Diagnostic]:
    if embedder is None or database is None:
        return
    made, kept = (getattr(noun.config, "dimension", None) for noun in (embedder, database))
    if made and kept and made != kept:
        yield warning(
            "CZ323",
            f"`{embedder.id}` makes vectors of {made} numbers, and `{database.id}` keeps {kept}",
            base.node.at("vector_db").span,
            "give both `config` the `dimension` of the model",
        )


def _database(database: VectorDb) -> Iterator[Diagnostic]:
    config = database.node.get("config")
    if not isinstance(config, Mapping):
        return
    dsn = config.get("dsn")
    if database.type == "pgvector" and (dsn is None or dsn.data() in (None, "")):
        # The original then takes the database of the service, which there is none of here.
        hint = 'add `dsn: "{{ .env.DATABASE_URL }}"` to its `config`'
        message = "without a `dsn` nothing says where the database is"
        yield warning("CZ323", message, place(database, "type"), hint)
    yield from _secret(dsn, "dsn", "DATABASE_URL")
    own = config.get("pgvector")
    if isinstance(own, Mapping):
        index = own.get("index")
        kind = index.get("type") if isinstance(index, Mapping) else None
        if kind is not None and kind.data() not in (None, "ivfflat", "hnsw"):
            yield misfits.not_a_choice("`index.type`", ("ivfflat", "hnsw"), kind)._replace(
                code="CZ323"
            )
        yield from _sizes(index, ("lists", "m", "ef_construction"), least=0)
        yield from _sizes(own.get("search"), ("probes", "ef_search"), least=0)
        yield from _sizes(own.get("pool"), ("min_conns", "max_conns"), least=0)


def _sizes(node: Node | None, names: tuple[str, ...], least: int) -> Iterator[Diagnostic]:
    for name in names if isinstance(node, Mapping) else ():
        one = node.entries.get(name)  # type: ignore[union-attr]
        value: Any = one.data() if one is not None else None
        if one is None or value is None or isinstance(value, str):
            continue
        if type(value) is not int or value < least:
            message = f"`{name}` must be a whole number, at least {least}"
            yield error("CZ323", message, misfits.head(one))


def _secret(node: Node | None, name: str, variable: str) -> Iterator[Diagnostic]:
    value = node.data() if node is not None else None
    if node is None or not isinstance(value, str) or is_blank(node) or is_template(value):
        return
    if found := list(shell_variables(node, "CZ323")):
        yield from found
    else:
        yield error(
            "CZ323",
            f"the `{name}` stands in the file",
            node.span,
            f"put it into `.env` and write `{{{{ .env.{variable} }}}}`",
        )


def _source(source: Source) -> Iterator[Diagnostic]:
    """§12.1: files by pattern, or pages by address."""
    if "type" not in source.node.entries or source.node.at("type").data() != source.type:
        return  # what it should have is not known, and that was reported
    page = source.type == "url"
    right, wrong = (("path", "urls"), "paths") if page else (("path", "paths"), "urls")
    what = "addresses" if page else "files"
    if is_given(source, wrong):
        hint = f"write `{right[1]}:` for several {what}"
        message = f"a source of type `{source.type}` has no `{wrong}`"
        yield error("CZ323", message, source.node.key_span(wrong), hint)
    elif not any(_is_filled(source, name) for name in right):
        hint = f"add `{right[0]}:`, or `{right[1]}:` with several {what}"
        message = f"the source names no {'address' if page else 'file'}"
        yield error("CZ323", message, place(source, "type"), hint)
    for name in right if page else ():
        node = source.node.get(name)
        for one in node.items if isinstance(node, Sequence) else (node,):
            if isinstance(one, Scalar) and isinstance(one.value, str) and one.value.strip():
                yield from address(one, one.value, "CZ323")


def _is_filled(noun: Noun, name: str) -> bool:
    node = noun.node.get(name)
    return is_given(noun, name) and not (isinstance(node, Sequence) and not node.items)


def _chunking(chunking: Chunking) -> Iterator[Diagnostic]:
    size = SIZE if chunking.size is None else chunking.size
    overlap = OVERLAP if chunking.overlap is None else chunking.overlap
    faulty = {"size", "overlap"} & chunking.node.entries.keys() - chunking.given
    if overlap >= size and not faulty:
        default = "" if chunking.overlap is not None else ", which it is if it is not given"
        yield error(
            "CZ323",
            f"pieces of {size} tokens cannot share {overlap}{default}",
            place(chunking, "overlap", "size"),
            f"`overlap` is less than `size`, such as {size // 8}",
        )


# --- who uses them --------------------------------------------------------------------------------


def _bindings(project: Project) -> Iterator[Diagnostic]:
    """§12.1: one binding a scope; the nearer one overrides, and some scope names the base."""
    own = project.loaded.project
    alone = own is not None and not isinstance(own, Workflow)
    for checked in project.workflows:
        scope = checked.scope
        outer = bool(own is not None and _id(own)) or bool(_id(scope.workflow))
        known = scope.knowledge_bases
        yield from _binding(scope.workflow, checked, known, named=outer)
        users: dict[int, list[Task]] = {}
        for task in scope.tasks:
            agent = scope.agent_of(task)
            if agent is not None:
                users.setdefault(id(agent.node), []).append(task)
            yield from _binding(task, checked, known, named=outer or bool(agent and _id(agent)))
            if isinstance(task, BasicTask) and isinstance(task.agent, Agent):
                users.setdefault(id(task.agent.node), [])
        for agent in scope.agents_used:
            tasks = users.get(id(agent.node), [])
            named = outer or all(_id(task) for task in tasks)
            yield from _binding(agent, checked, known, named=named)
    if alone and own is not None:
        listed = [*own.knowledge_bases, *project.loaded.components.get("knowledge_bases", ())]
        known = {noun.id: noun for noun in listed}
        yield from _binding(own, None, known, named=True, project=project)


def _given(noun: Noun) -> list[KnowledgeBinding]:
    given = getattr(noun, "knowledge", None)
    listed = given if isinstance(given, list) else [given]
    return [one for one in listed if isinstance(one, KnowledgeBinding)]


def _id(noun: Noun) -> str:
    return next((one.id for one in _given(noun) if one.id), "")


def _binding(
    holder: Noun,
    checked: Checked | None,
    known: dict[str, Any],
    *,
    named: bool,
    project: Project | None = None,
) -> Iterator[Diagnostic]:
    """`named`: a scope around, or one that is merged with this, names the knowledge base."""
    node = holder.node.get("knowledge")
    if node is None or not is_resolved(holder):
        return
    if isinstance(node, Sequence) and len(node.items) > 1:
        yield error(
            "CZ323",
            f"{len(node.items)} knowledge bases are bound here, and one can be",
            misfits.head(node.items[1]),
            "keep one; a task, its agent, the workflow and the project may each have their own",
        )
    for one in _given(holder):
        if not is_resolved(one):
            continue
        if one.id and not is_template(one.id):
            broken = _is_broken(project, "knowledge_bases", one.id) if project else False
            broken = broken or (
                checked is not None and checked.scope.is_broken("knowledge_bases", one.id)
            )
            if one.id not in known and not broken:
                span = one.node.at("id").span
                add = "list it under `knowledge_bases:`"
                yield _unknown("knowledge base", one.id, span, known, add)
        # A map without `id` holds settings of the service (§13 no. 74), on a project or workflow.
        elif not (named or is_given(one, "id")) and (
            isinstance(node, Sequence) or isinstance(holder, (Agent, Task))
        ):
            yield error(
                "CZ323",
                "the binding names no knowledge base, and none around it does",
                misfits.head(one.node),
                "add `id:`, the id of a knowledge base",
            )


# --- attachments ----------------------------------------------------------------------------------


def _attachment(attachment: Attachment) -> Iterator[Diagnostic]:
    node = attachment.node
    stated = node.get("type")
    if stated is None or stated.data() != attachment.type or is_template(attachment.type):
        return
    kind = attachment.type.strip().lower()
    if kind not in _KINDS:
        near = nearest(kind, _KINDS)
        listed = f"types: {', '.join(_KINDS)}"
        hint = f"did you mean `{near}`? {listed}" if near else listed
        yield error("CZ323", f"unknown type of attachment: `{attachment.type}`", stated.span, hint)
        return
    yield from _mime(attachment, kind)
    if attachment.max_pages is not None:
        span = node.key_span("max_pages")
        hint = "the whole document is sent"
        yield warning("CZ315", "this version does not act on `max_pages` here", span, hint)
    found = [name for name in _SOURCES if _is_filled(attachment, name)]
    only = _ONLY.get(kind)
    if only is not None and only not in found:
        near = f"; `{found[0]}` belongs to an image, audio, video or pdf" if found else ""
        span = node.key_span(found[0]) if found else stated.span
        yield error(
            "CZ323", f"an attachment of type `{kind}` needs `{only}`", span, f"add `{only}:`{near}"
        )
    elif not found:
        hint = "add one of `url:`, `path:`, `urls:` and `paths:`"
        yield error("CZ323", f"the {kind} comes from nowhere", stated.span, hint)
    elif len(found) > 1:
        listed = " and ".join([", ".join(f"`{n}`" for n in found[:-1]), f"`{found[-1]}`"])
        yield error(
            "CZ323",
            f"the {kind} comes from {listed}",
            node.key_span(next(name for name in found if name != (only or found[0]))),
            f"keep `{only}`" if only else "keep one of them, and make another attachment",
        )
    else:
        yield from _where(attachment)


def _mime(attachment: Attachment, kind: str) -> Iterator[Diagnostic]:
    mime = (attachment.mime or "").strip().lower()
    if not mime or is_template(mime):
        return
    span = place(attachment, "mime")
    example = _MIMES.get(kind)
    if not _MIME.fullmatch(mime):
        such = example or _MIMES["image"]
        yield error("CZ323", f"`{mime}` is no type of a file", span, f"such as `{such}`")
    elif example is not None and not _is_like(mime, example):
        hint = "a `file` is whatever its type says"
        yield error("CZ323", f"the {kind} cannot be of the type `{mime}`", span, hint)


def _is_like(mime: str, example: str) -> bool:
    family = example.partition("/")[0]
    return mime == example if family == "application" else mime.startswith(f"{family}/")


def _where(attachment: Attachment) -> Iterator[Diagnostic]:
    """What is wrong with paths and addresses that are written out."""
    folder = PurePosixPath(attachment.node.span.file).parent
    for name in ("path", "paths"):
        for node in _texts(attachment.node.get(name)):
            path = str(node.value)
            if not is_template(path) and _leaves(folder, path):
                yield error(
                    "CZ323",
                    f"`{path}` lies outside of the project's directory",
                    node.span,
                    "attachments come from the project, beside the file that names them",
                )
    for name in ("url", "urls"):
        for node in _texts(attachment.node.get(name)):
            url = str(node.value).strip()
            if url and not url.lower().startswith("data:"):
                yield from address(node, url, "CZ323")


def _texts(node: Node | None) -> Iterator[Scalar]:
    for one in node.items if isinstance(node, Sequence) else [node]:
        if isinstance(one, Scalar) and isinstance(one.value, str):
            yield one


def _leaves(folder: PurePosixPath, path: str) -> bool:
    depth = len(folder.parts)
    for part in PurePosixPath(path).parts:
        depth += -1 if part == ".." else 1
        if depth < 0 or part == "/":
            return True
    return False
