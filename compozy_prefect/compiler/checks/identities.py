"""Ids: present, and unique where they must be (language.md §14, rows 2 to 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compozy_prefect.compiler.checks.project import Checked, Project
from compozy_prefect.compiler.scope import mcp_id
from compozy_prefect.diagnostics import Diagnostic, Span, error
from compozy_prefect.language.models.base import Noun
from compozy_prefect.language.models.mcp import Mcp
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping

_KINDS = {
    "agents": "agent",
    "tools": "tool",
    "schemas": "schema",
    "mcps": "MCP server",
    "memories": "memory",
    "embedders": "embedder",
    "vector_dbs": "vector database",
    "knowledge_bases": "knowledge base",
}


def identities(project: Project) -> Iterator[Diagnostic]:
    loaded = project.loaded
    if loaded.project is None:
        return
    if not loaded.workflows and not any(d.severity == "error" for d in loaded.diagnostics):
        yield _no_workflow(loaded.project)
    seen: dict[str, Span] = {}
    for workflow in loaded.workflows:
        noun = workflow.noun
        span = _id_span(noun)
        if not noun.key:
            yield error(
                "CZ302", "a workflow needs an `id` or a `name`", _first_key(noun.node), None
            )
        elif noun.key in seen:
            yield _duplicate("workflow", noun.key, span, seen[noun.key])
        else:
            seen[noun.key] = span
    for checked in project.workflows:
        yield from _tasks(checked)
    holders: list[Noun] = [workflow.noun for workflow in loaded.workflows]
    if all(holder is not loaded.project for holder in holders):
        holders.append(loaded.project)
    for holder in holders:
        for kind, word in _KINDS.items():
            yield from _unique(word, getattr(holder, kind, ()))
        yield from _one_default(getattr(holder, "models"))  # noqa: B009 - as below
        for agent in getattr(holder, "agents"):  # noqa: B009 - the holder is any noun
            yield from _unique("action", agent.actions)


def _tasks(checked: Checked) -> Iterator[Diagnostic]:
    """Ids differ within each list, and a task is not inside itself (§14 rows 5, 16)."""
    yield from _unique("task", [step.task for step in checked.tree.steps])
    for step in checked.tree.all:
        yield from _unique("task", [one.task for one in step.steps if one.role != "processor"])
        for above in step.ancestors:
            if above.id == step.id and "{{" not in step.id:
                yield error(
                    "CZ306",
                    f"the task `{step.id}` stands inside a task with the same id",
                    _id_span(step.task),
                    "ids on the way to a task must differ",
                )
                break


def _no_workflow(project: Noun) -> Diagnostic:
    near = nearest("tasks", project.node.entries) or nearest("workflows", project.node.entries)
    span = project.node.key_span(near) if near else _first_key(project.node)
    return error(
        "CZ302",
        "the project has no workflow: neither `tasks` nor `workflows`",
        span,
        f"`{near}` looks like it" if near else "add `tasks:`, or list files under `workflows:`",
    )


def _unique(kind: str, nouns: Iterable[Noun]) -> Iterator[Diagnostic]:
    seen: dict[str, Span] = {}
    for noun in nouns:
        # A server may leave its id to its address.
        name = mcp_id(noun) if isinstance(noun, Mcp) else noun.id  # type: ignore[attr-defined]
        if name is None or "{{" in name:
            continue  # known only when it runs
        span = _id_span(noun)
        if name in seen:
            yield _duplicate(kind, name, span, seen[name])
        else:
            seen[name] = span


def _one_default(models: Iterable[Model]) -> Iterator[Diagnostic]:
    defaults = [model for model in models if model.default]
    for other in defaults[1:]:
        span = defaults[0].node.at("default").span
        yield error(
            "CZ306",
            "two models are the default",
            other.node.at("default").span,
            f"the other one is at {span.file}:{span.line}; keep one of them",
        )


def _duplicate(kind: str, name: str, span: Span, first: Span) -> Diagnostic:
    return error(
        "CZ306",
        f"two {_plural(kind)} have the id `{name}`",
        span,
        f"the other one is at {first.file}:{first.line}; ids must differ",
    )


def _plural(word: str) -> str:
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def _id_span(noun: Noun) -> Span:
    node = noun.node.get("id") or noun.node.get("name")
    return node.span if node is not None else _first_key(noun.node)


def _first_key(node: Mapping) -> Span:
    return next(iter(node.keys.values())).span if node.keys else node.span
