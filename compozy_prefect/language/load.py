"""A path → the project as typed nouns, with every diagnostic on the way.

The three arrows of the language in one call: files → source → references → nouns. Nothing of the
project is executed, no process is started and no socket is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from compozy_prefect.diagnostics import Diagnostic, SourceText
from compozy_prefect.language.config import Config, Outside
from compozy_prefect.language.discovery import Discovery, Document, discover
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import Noun
from compozy_prefect.language.models.knowledge import Embedder, KnowledgeBase, VectorDb
from compozy_prefect.language.models.mcp import Mcp
from compozy_prefect.language.models.memory import Memory
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.models.project import NamedSchema, Project, SingleFile, Workflow
from compozy_prefect.language.models.tool import Tool
from compozy_prefect.language.nodes import Mapping
from compozy_prefect.language.references import Scopes, resolve
from compozy_prefect.language.typed import LISTS, Typed, typed


class LoadedWorkflow(NamedTuple):
    """A workflow and the file it stands in. `broken` holds (list, id) of what is left out."""

    file: str
    noun: Workflow
    broken: frozenset[tuple[str, str]]


class Loaded(NamedTuple):
    """A project as read.

    `components` are the nouns that autoload found, by the list they would stand in.

    `project` is None when its file is no YAML map. `config` has its settings. `env` is its `.env`
    file, `sources` the text of every file that a span points into.
    """

    root: Path
    file: str
    project: Project | None
    config: Config
    workflows: tuple[LoadedWorkflow, ...]
    broken: frozenset[tuple[str, str]]
    components: dict[str, list[Noun]]
    env: dict[str, str]
    sources: dict[str, SourceText]
    diagnostics: tuple[Diagnostic, ...]


def load(path: Path, *, env_file: Path | None = None, outside: Outside | None = None) -> Loaded:
    """Reads the project at `path`: a directory or a YAML file.

    `outside` is what settings may come from beside the files, the environment of this process
    unless given. Raises UsageError when there is no such path; everything else is in
    `diagnostics`.
    """
    found = discover(path, env_file=env_file)
    diagnostics = list(found.diagnostics)
    workflows: list[LoadedWorkflow] = []
    project: Typed[Project] | None = None
    if found.project is not None:
        kind = SingleFile if found.project.is_workflow else Project
        project = typed(_resolved(found.project, found, diagnostics), kind)
        diagnostics += project.diagnostics
    for document in found.workflows:
        if document is found.project and project is not None:
            made: Typed[Any] = project
        else:
            made = typed(_resolved(document, found, diagnostics), Workflow)
            diagnostics += made.diagnostics
        assert made.noun is not None
        workflows.append(LoadedWorkflow(document.name, made.noun, frozenset(made.broken)))
    noun = project.noun if project else None
    config = Config(noun, found.env, outside or Outside.here())
    diagnostics += config.faults()
    components = _components(found, broken := set(project.broken if project else ()), diagnostics)
    return Loaded(
        root=found.root,
        file=found.project.name if found.project else "",
        project=noun,
        config=config,
        workflows=tuple(workflows),
        broken=frozenset(broken),
        components=components,
        env=found.env,
        sources=found.sources,
        diagnostics=tuple(diagnostics),
    )


def _components(
    found: Discovery, broken: set[tuple[str, str]], diagnostics: list[Diagnostic]
) -> dict[str, list[Noun]]:
    """What autoload found, by the list that it would stand in (§10.6)."""
    out: dict[str, list[Noun]] = {}
    for component in found.components:
        kind = _KINDS.get(component.kind)
        if kind is not None:
            document = Document(component.document, component.path, component.root, False)
            made = typed(_resolved(document, found, diagnostics), kind)
            diagnostics += made.diagnostics
            broken |= made.broken
            if made.noun is not None:
                out.setdefault(LISTS[kind], []).append(made.noun)
    return out


_KINDS: dict[str, type[Noun]] = {
    "agent": Agent,
    "embedder": Embedder,
    "knowledge_base": KnowledgeBase,
    "mcp": Mcp,
    "memory": Memory,
    "model": Model,
    "schema": NamedSchema,
    "tool": Tool,
    "vectordb": VectorDb,
}


def _resolved(document: Document, found: Discovery, diagnostics: list[Diagnostic]) -> Mapping:
    """The document without its directives; those that cannot be resolved stay as they are."""
    assert found.project is not None
    scopes = Scopes(local=document.root, global_=found.project.root, registry=found.registry)
    root, faults = resolve(document.root, scopes=scopes)
    diagnostics += faults
    return root if isinstance(root, Mapping) else document.root
