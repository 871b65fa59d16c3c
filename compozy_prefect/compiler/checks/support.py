"""What the language has and this version does not act on yet, so that nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.diagnostics import Diagnostic, warning
from compozy_prefect.language.models.base import Noun

_AGENT = ("tools", "mcps", "memory", "knowledge", "attachments")
_ACTION = ("attachments",)
_TASK = ("attachments", "knowledge", "tools", "mcps", "memory")
_WORKFLOW = ("triggers", "schedule", "mcps", "knowledge_bases", "knowledge")
_PROJECT = ("memories", "mcps", "embedders", "vector_dbs", "knowledge_bases")
_TYPES = frozenset(
    {"parallel", "collection", "composite", "router", "aggregate", "wait", "signal", "memory"}
)


def support(project: Project) -> Iterator[Diagnostic]:
    if project.loaded.project is not None:
        yield from _unused(project.loaded.project, _PROJECT)
    for checked in project.workflows:
        workflow = checked.scope.workflow
        yield from _unused(workflow, _WORKFLOW)
        for task in checked.scope.tasks:
            yield from _unused(task, _TASK)
            if task.type in _TYPES:
                stated = task.node.entries.get("type")
                yield warning(
                    "CZ308",
                    f"tasks of type `{task.type}` are checked and planned, and not run yet",
                    stated.span
                    if stated is not None and stated.data()
                    else task.node.at("id").span,
                    "it runs `basic` tasks; the other types are on their way",
                )
        for agent in checked.scope.agents_used:
            yield from _unused(agent, _AGENT)
            for action in agent.actions:
                yield from _unused(action, _ACTION)


def _unused(noun: Noun, names: tuple[str, ...]) -> Iterator[Diagnostic]:
    for name in names:
        if getattr(noun, name, None):
            yield warning(
                "CZ315",
                f"this version does not act on `{name}` here",
                noun.node.key_span(name),
                "it is checked and kept, and the workflow runs as if it were not there",
            )
