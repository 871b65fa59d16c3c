"""The compiler in one call: a path → diagnostics, or a compiled project."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from compozy_prefect.compiler.checks import check as run_checks
from compozy_prefect.compiler.checks.locks import unlocked
from compozy_prefect.compiler.checks.project import Project, project_of
from compozy_prefect.compiler.checks.settings import inert
from compozy_prefect.diagnostics import (
    Diagnostic,
    SourceText,
    has_errors,
    in_file_order,
)
from compozy_prefect.errors import ProjectInvalid, UsageError
from compozy_prefect.language.config import Outside
from compozy_prefect.language.load import load
from compozy_prefect.language.names import suggest

if TYPE_CHECKING:
    from prefect import Flow

    from compozy_prefect.compiler.lower import Lowered
    from compozy_prefect.compiler.plan import Plan


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Nearly all that a compilation makes is alive at its end: looking for garbage takes a third
    of its time, more in large projects, and finds next to none."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class CheckedProject(NamedTuple):
    """A project with all that was found in it, in file order."""

    project: Project
    diagnostics: tuple[Diagnostic, ...]

    @property
    def sources(self) -> Mapping[str, SourceText]:
        lock, sources = self.project.lock.source, self.project.loaded.sources
        return sources if lock is None else {**sources, lock.name: lock}


@dataclass(frozen=True)
class CompiledProject:
    """A project without errors, as a plan.

    `env` is its `.env` file together with the keys that stood in its files; it is no part of the
    plan. `warnings` are the diagnostics that refuse nothing.
    """

    root: Path
    lowered: Lowered
    env: Mapping[str, str] = field(repr=False)
    warnings: tuple[Diagnostic, ...]
    sources: Mapping[str, SourceText] = field(repr=False)
    # All that mocks may name, also what no task uses: agents with their actions, and tools.
    agents: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)
    tools: frozenset[str] = field(default_factory=frozenset, repr=False)
    # MCP servers, and those whose tools are only known when they run.
    every_server: frozenset[str] = frozenset()
    servers: frozenset[str] = frozenset()

    @property
    def plan(self) -> Plan:
        return self.lowered.plan

    @property
    def known(self) -> tuple[Mapping[str, frozenset[str]], *tuple[frozenset[str], ...]]:
        """What mocks may name, as `Mocks.unknown` takes it."""
        return self.agents, self.tools, self.servers, self.every_server

    @cached_property
    def workflows(self) -> tuple[str, ...]:
        return tuple(self.plan.workflows)

    def only_workflow(self, workflow_id: str | None = None) -> str:
        """The id that was asked for, or that of the only workflow.

        Raises UsageError, which lists the workflows, when there is no such one or no only one.
        """
        if workflow_id is None and len(self.workflows) == 1:
            return self.workflows[0]
        listed = ", ".join(self.workflows)
        if workflow_id is None:
            count = len(self.workflows)
            raise UsageError(f"the project has {count} workflows, so name one: {listed}")
        if workflow_id not in self.plan.workflows:
            hint = suggest(workflow_id, self.workflows, what="there are")
            raise UsageError(f"there is no workflow `{workflow_id}`; {hint}")
        return workflow_id

    def flow(self, workflow_id: str | None = None) -> Flow[..., Any]:
        """The Prefect flow of a workflow; the id may be left out when there is only one."""
        from compozy_prefect.flows.build import build_flow

        return build_flow(self.plan, self.only_workflow(workflow_id))


def check(
    path: Path | str,
    *,
    env_file: Path | None = None,
    strict: bool = False,
    flags: Mapping[str, str] | None = None,
) -> CheckedProject:
    """Reads a project and finds what is wrong with it. Raises UsageError without such a path.

    `strict` also reports settings that do nothing here, and MCP servers without a lock. `flags`
    gives settings by their key, as text, before all that the project and the environment say.
    """
    with _collector_paused():
        loaded = load(Path(path), env_file=env_file, outside=Outside.here(flags))
        project = project_of(loaded)
        found = [*loaded.diagnostics, *run_checks(project)]
        if strict:
            found += [*inert(project), *unlocked(project)]
    return CheckedProject(project, tuple(in_file_order(found)))


def compile_project(
    path: Path | str,
    *,
    env_file: Path | None = None,
    strict: bool = False,
    flags: Mapping[str, str] | None = None,
) -> CompiledProject:
    """The project at `path`, a directory or a YAML file, compiled; `flags` as for `check`.

    Raises ProjectInvalid when it has errors (under `strict`, also when it has warnings), and
    UsageError when there is no such path.
    """
    return compiled(check(path, env_file=env_file, strict=strict, flags=flags), strict=strict)


def compiled(checked: CheckedProject, *, strict: bool = False) -> CompiledProject:
    """A project that was read and checked, compiled. Raises ProjectInvalid as `compile_project`."""
    if has_errors(checked.diagnostics, strict=strict):
        raise ProjectInvalid(checked.diagnostics, checked.sources)
    # Imported late: `validate` needs no plan, and is measured in milliseconds.
    from compozy_prefect.compiler.lower import lower

    with _collector_paused():
        lowered = lower(checked.project)
    loaded = checked.project.loaded
    agents, tools = _answering(checked.project, lowered.plan)
    return CompiledProject(
        root=loaded.root,
        lowered=lowered,
        env={**loaded.env, **lowered.secrets},
        warnings=checked.diagnostics,
        sources=checked.sources,
        every_server=frozenset(id for one in checked.project.workflows for id in one.scope.mcps),
        servers=_servers(lowered.plan),
        agents=agents,
        tools=tools,
    )


def _servers(plan: Plan) -> frozenset[str]:
    servers = (one for workflow in plan.workflows.values() for one in workflow.mcps.values())
    return frozenset(one.id for one in servers if not one.is_locked)


def _answering(project: Project, plan: Plan) -> tuple[dict[str, frozenset[str]], frozenset[str]]:
    """The agents with their actions and the tools: of the scopes, and those a task writes out."""
    agents: dict[str, set[str]] = {}
    tools: set[str] = set()
    for one in project.workflows:
        tools |= one.scope.tools.keys()
        for agent_id, agent in one.scope.agents.items():
            agents.setdefault(agent_id, set()).update(a.id for a in agent.actions if a.id)
    for workflow in plan.workflows.values():
        tools |= workflow.tools.keys()
        for server in workflow.mcps.values():
            for tool in server.tools:
                tools |= {tool.name.lower(), f"{server.id}/{tool.name.lower()}"}
        for planned in workflow.agents.values():
            agents.setdefault(planned.id, set()).update(planned.actions)
    return {name: frozenset(actions) for name, actions in agents.items()}, frozenset(tools)
