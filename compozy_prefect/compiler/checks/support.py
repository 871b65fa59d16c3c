"""What the language has and this version does not act on yet, so that nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.nouns import place
from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.compiler.scope import Scope, memory_references
from compozy_prefect.diagnostics import Diagnostic, warning
from compozy_prefect.language.models.base import Noun
from compozy_prefect.language.models.memory import MemoryReferences
from compozy_prefect.language.models.project import Project as ProjectNoun
from compozy_prefect.language.models.task import BasicTask, MemoryTask, Task
from compozy_prefect.language.nodes import Mapping

_AGENT = ("knowledge",)
_TASK = ("attachments", "knowledge", "tools", "mcps", "memory")
_ASKING = ("knowledge", "tools", "mcps", "memory")  # of a task with an agent
_PROMPTED = ("knowledge",)  # of a task that only asks
_WORKFLOW = ("knowledge_bases", "knowledge")
_TRIGGER = ("webhook",)
_PROJECT = ("embedders", "vector_dbs", "knowledge_bases")


def support(project: Project) -> Iterator[Diagnostic]:
    if project.loaded.project is not None:
        yield from _unused(project.loaded.project, _PROJECT)
    for checked in project.workflows:
        workflow = checked.scope.workflow
        yield from _unused(workflow, _WORKFLOW)
        for trigger in workflow.triggers:
            yield from _unused(trigger, _TRIGGER)
        for task in checked.scope.tasks:
            yield from _unused(task, _inert(task))
            if _inert(task) is _PROMPTED and isinstance(task, BasicTask):
                yield from _talks(task, task.memory, checked.scope)
            if isinstance(task, MemoryTask):
                yield from _store(task, checked.scope)
        for agent in checked.scope.agents_used:
            yield from _unused(agent, _AGENT)
            yield from _talks(agent, agent.memory, checked.scope)


def _inert(task: Task) -> tuple[str, ...]:
    if not isinstance(task, BasicTask) or task.tool is not None:
        return _TASK
    if task.agent is not None or task.action:
        return _ASKING
    return _PROMPTED if task.prompt else _TASK


def _store(task: MemoryTask, scope: Scope) -> Iterator[Diagnostic]:
    memory = scope.memories.get(task.memory_ref)
    if memory is not None and not (memory.persistence and memory.persistence.type == "in_memory"):
        yield warning(
            "CZ308",
            f"memory `{task.memory_ref}` is kept in a store that this version does not have",
            place(task, "memory_ref", "id"),
            "the task is checked and planned, and fails when it is run; "
            "`persistence: {type: in_memory}` runs",
        )


def _talks(noun: Noun, given: MemoryReferences | None, scope: Scope) -> Iterator[Diagnostic]:
    """Conversations of an agent are read by its templates, where this version has them."""
    if not given:
        return
    span = noun.node.key_span("memory")
    declared = [scope.memories.get(one.id) for one in memory_references(given)]
    if all(one and one.persistence and one.persistence.type == "in_memory" for one in declared):
        message = "this version does not continue the conversations of `memory`"
        hint = "templates read them as `.memory.<id>`; `memory` tasks write them"
        yield warning("CZ315", message, span, hint)
    else:
        message = "this version does not act on `memory` here"
        hint = "`.memory.<id>` is empty; one with `persistence: {type: in_memory}` can be read"
        yield warning("CZ315", message, span, hint)


def _unused(noun: Noun, names: tuple[str, ...]) -> Iterator[Diagnostic]:
    for name in names:
        if getattr(noun, name, None) and not _is_settings(noun, name):
            yield warning(
                "CZ315",
                f"this version does not act on `{name}` here",
                noun.node.key_span(name),
                "it is checked and kept, and the workflow runs as if it were not there",
            )


def _is_settings(noun: Noun, name: str) -> bool:
    """`knowledge` without an `id` is settings, reported like others (§13 no. 74)."""
    node = noun.node.get(name)
    is_map = isinstance(node, Mapping) and "id" not in node.entries
    return name == "knowledge" and is_map and isinstance(noun, ProjectNoun)
