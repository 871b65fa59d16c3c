"""Ids: present, and unique where they must be (language.md §14, rows 2 to 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.diagnostics import Diagnostic, Span, error
from compozy_prefect.language.models.base import Noun
from compozy_prefect.language.models.model import Model
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping


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
        yield from _unique("task", noun.tasks)
    holders: list[Noun] = [workflow.noun for workflow in loaded.workflows]
    if all(holder is not loaded.project for holder in holders):
        holders.append(loaded.project)
    for holder in holders:
        for kind in ("agents", "tools", "schemas"):
            yield from _unique(kind.removesuffix("s"), getattr(holder, kind))
        yield from _one_default(getattr(holder, "models"))  # noqa: B009 - as below
        for agent in getattr(holder, "agents"):  # noqa: B009 - the holder is any noun
            yield from _unique("action", agent.actions)


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
        name = noun.id  # type: ignore[attr-defined]
        if "{{" in name:
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
        f"two {kind}s have the id `{name}`",
        span,
        f"the other one is at {first.file}:{first.line}; ids must differ",
    )


def _id_span(noun: Noun) -> Span:
    node = noun.node.get("id") or noun.node.get("name")
    return node.span if node is not None else _first_key(noun.node)


def _first_key(node: Mapping) -> Span:
    return next(iter(node.keys.values())).span if node.keys else node.span
