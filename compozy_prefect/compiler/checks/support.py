"""What the language has and this version does not act on yet, so that nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator

from compozy_prefect.compiler.checks.project import Project
from compozy_prefect.diagnostics import Diagnostic, warning
from compozy_prefect.language.models.agent import Agent
from compozy_prefect.language.models.base import Noun

_AGENT = ("tools", "mcps", "memory", "knowledge", "attachments")
_ACTION = ("attachments",)
_TASK = ("attachments", "knowledge")
_WORKFLOW = ("triggers", "schedule", "mcps", "knowledge_bases", "knowledge")
_PROJECT = ("autoload", "memories", "mcps", "embedders", "vector_dbs", "knowledge_bases")


def support(project: Project) -> Iterator[Diagnostic]:
    if project.loaded.project is not None:
        yield from _unused(project.loaded.project, _PROJECT)
    for checked in project.workflows:
        workflow = checked.scope.workflow
        yield from _unused(workflow, _WORKFLOW)
        agents: dict[int, Agent] = {id(agent): agent for agent in workflow.agents}
        for task in workflow.tasks:
            yield from _unused(task, _TASK)
            agent = checked.scope.agent_of(task)
            if agent is not None:
                agents[id(agent)] = agent
        for agent in agents.values():
            yield from _unused(agent, _AGENT)
            for action in agent.actions:
                yield from _unused(action, _ACTION)


def _unused(noun: Noun, names: tuple[str, ...]) -> Iterator[Diagnostic]:
    for name in names:
        value = getattr(noun, name, None)
        if not value or (name == "autoload" and not value.get("enabled")):
            continue
        yield warning(
            "CZ315",
            f"this version does not act on `{name}` here",
            noun.node.key_span(name),
            "it is checked and kept, and the workflow runs as if it were not there",
        )
