"""The state of a run → what its templates see (language.md §11.2, §11.3), as plain data.

One `RunContext` belongs to one list of steps: the workflow's, or that of one container or item. It
is told of every step that ends. Templates cannot change what they are given, so that maps that have
not changed are shared between them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from compozy_prefect.compiler.plan import (
    AgentPlan,
    Json,
    Plan,
    RuntimePlan,
    StepPlan,
    ToolPlan,
    WorkflowPlan,
)
from compozy_prefect.runtime.outcome import RUNNING, Failure, TaskState
from compozy_prefect.runtime.wire import from_wire, to_wire

Context = dict[str, Any]


class _Run:
    """What all contexts of an execution share."""

    def __init__(
        self,
        plan: Plan,
        workflow: WorkflowPlan,
        execution_id: str,
        input: Mapping[str, Json],
        blocks: Mapping[str, Json],
    ) -> None:
        self.workflow = workflow
        self.runtime = plan.project.runtime
        self.blocks = blocks
        self.execution_id = execution_id
        self.input = input
        self.completed: list[str] = []
        self.failed: set[str] = set()
        # Known tasks stand in the map from the beginning: one that has not run reads as null.
        # Below, children by their own ids, which templates anywhere may name (§11.3).
        self.known: dict[str, Json] = {step.id: None for step in workflow.all_steps.values()}
        self.project = {
            "id": plan.project.name,
            "name": plan.project.name,
            "version": plan.project.version,
            "description": plan.project.description,
        }
        self.agents = {key: _agent(agent) for key, agent in workflow.agents.items()}
        self.tools = {key: _tool(tool) for key, tool in workflow.tools.items()}
        # Never an address or a variable, which may be secret.
        self.mcps = {
            key: {"id": server.id, "transport": server.transport}
            for key, server in workflow.mcps.items()
        }


class RunContext:
    """What the templates of one list of steps see.

    `started` is a reading of `time.monotonic` at the start of the run, `env` the merge of the
    process environment, the `.env` file and the workflow's own, `blocks` the fields of those of
    Prefect's blocks that the templates read, by name.
    """

    def __init__(
        self,
        plan: Plan,
        workflow: WorkflowPlan,
        execution_id: str,
        input: Mapping[str, Json],
        env: Mapping[str, str],
        started: float,
        blocks: Mapping[str, Json] | None = None,
    ) -> None:
        self._run = _Run(plan, workflow, execution_id, input, blocks or {})
        self.env = env
        self._started = started
        self._outer: RunContext | None = None
        self._own: dict[str, Json] = {}
        self._version = 0
        self._seen: tuple[tuple[int, ...], dict[str, Json]] = ((), {})
        # What the container around brings: `.item`, `.parent`, `.signal` and so on.
        self.brought: dict[str, Any] = {}
        self.input: Mapping[str, Json] = input
        self.with_: Mapping[str, Json] | None = None
        # What lies below the `with` of each step: the one of a collection (§3.4).
        self.under: Mapping[str, Json] = {}

    @property
    def workflow(self) -> WorkflowPlan:
        return self._run.workflow

    @property
    def runtime(self) -> RuntimePlan:
        return self._run.runtime

    @property
    def execution_id(self) -> str:
        return self._run.execution_id

    def inside(
        self,
        given: Mapping[str, Json],
        brought: Mapping[str, Any],
        env: Mapping[str, str] | None = None,
        under: Mapping[str, Json] | None = None,
    ) -> RunContext:
        """The context of the steps in a container, whose rendered `with` is `given` (§11.2).

        `brought` are the variables that it brings, `under` what lies below the steps' `with`.
        """
        made = RunContext.__new__(RunContext)
        made._run = self._run
        made.env = self.env if env is None else env
        made._started = self._started
        made._outer = self
        made._own, made._version, made._seen = {}, 0, ((), {})
        made.brought = {**self.brought, **brought}
        made.input = made.with_ = given
        made.under = under or {}
        return made

    def to_json(self) -> dict[str, Json]:
        """All that templates see here, for `from_json` in another process."""
        run = self._run
        seen = {id: task for id, task in self.tasks().items() if task is not None}
        return {
            "execution_id": run.execution_id,
            "run_input": run.input,
            "blocks": run.blocks,
            "completed": run.completed,
            "failed": sorted(run.failed),
            "tasks": to_wire(seen),
            "env": self.env,
            "seconds": time.monotonic() - self._started,
            "brought": self.brought,
            "input": self.input,
            "with": self.with_,
            "under": self.under,
        }

    @classmethod
    def from_json(cls, plan: Plan, workflow: WorkflowPlan, data: Mapping[str, Json]) -> RunContext:
        started = time.monotonic() - data["seconds"]
        made = cls(
            plan,
            workflow,
            data["execution_id"],
            data["run_input"],
            data["env"],
            started,
            data["blocks"],
        )
        made._run.completed, made._run.failed = data["completed"], set(data["failed"])
        made._own = from_wire(data["tasks"])
        made.brought, made.under = data["brought"], data["under"]
        made.input, made.with_ = data["input"], data["with"]
        return made

    def record(self, state: TaskState, alias: str = "") -> None:
        """A step ended; a second run of it replaces the first (language.md §2.3).

        `alias` is the id that the steps beside it know it by, where its own has been rendered.
        """
        self._own[state.id] = self._own[alias or state.id] = state.for_templates()
        self._version += 1
        run = self._run
        if self._outer is None:
            run.completed = [name for name in run.completed if name != state.id]
            run.failed.discard(state.id)
            if state.ok:
                run.completed.append(state.id)
            else:
                run.failed.add(state.id)
        for child in _descendants(state):
            run.known[child.id] = child.for_templates()

    def tasks(self) -> dict[str, Json]:
        """`.tasks`: the nearest list first, then outwards, then any step of that id (§11.3)."""
        chain: list[RunContext] = [self]
        while chain[-1]._outer is not None:
            chain.append(chain[-1]._outer)
        if len(chain) > 1 and not self._own:
            return chain[1].tasks()
        versions = tuple(one._version for one in chain)
        if self._seen[0] != versions or not self._seen[1]:
            merged = dict(self._run.known)
            for one in reversed(chain):
                merged.update(one._own)
            self._seen = (versions, merged)
        return self._seen[1]

    def for_step(
        self,
        step: StepPlan,
        *,
        env: Mapping[str, str] | None = None,
        action: str | None = None,
        given: Mapping[str, Json] | None = None,
    ) -> Context:
        """For the fields of a task.

        `given` is its rendered `with`; while that itself is rendered, and in `condition`, it is
        None, and `.input` is then that of the container around, or else the workflow's.
        """
        merged = self.env if env is None else env
        task = {
            "id": step.id,
            "type": step.type,
            "action": action if action is not None else (step.agent.action if step.agent else ""),
            "with": step.with_ if given is None else given,
            "env": dict(step.env),
        }
        context = self._common(merged)
        context |= {"input": self.input if given is None else given, "task": task, "current": task}
        if given is None:
            given = self.with_
        if given is not None:
            context["with"] = given
        return context

    def for_prompt(
        self,
        step: StepPlan,
        *,
        env: Mapping[str, str],
        action: str,
        given: Mapping[str, Json],
        memory: Mapping[str, Json],
    ) -> Context:
        """For a prompt and instructions: `.memory` has the transcripts of the agent (§4.4)."""
        seen = self.for_step(step, env=env, action=action, given=given)
        return seen | {"memory": memory, "mcps": self._run.mcps}

    def for_outputs(
        self,
        step: StepPlan,
        output: Json,
        *,
        env: Mapping[str, str],
        action: str | None,
        given: Mapping[str, Json],
    ) -> Context:
        """For the `outputs` of a task: `.output` is its raw output, `.with` its rendered `with`."""
        return self.for_step(step, env=env, action=action, given=given) | {"output": output}

    def for_workflow_outputs(self, status: str, last: Json, error: Failure | None) -> Context:
        """For the `outputs` of the workflow: `.output` is the output of the last task that ran."""
        context = self._common(self.env, status=status, output=last)
        return context | {
            "input": self.input,
            "output": last,
            "status": status,
            "error": error and error.to_json(),
            "workflow_id": self.workflow.id,
            "workflow_exec_id": self.execution_id,
            "config": context["workflow"]["config"],
        }

    def for_workflow(self) -> Context:
        """For the workflow's own fields, such as its `env`."""
        return self._common(self.env) | {"input": self.input}

    def _common(
        self, env: Mapping[str, str], status: str = RUNNING, output: Json = None
    ) -> Context:
        run, workflow = self._run, self._run.workflow
        done, failed = len(run.completed), len(run.failed)
        return {
            "workflow": {
                "id": workflow.id,
                "name": workflow.name or workflow.id,
                "version": workflow.version,
                "description": workflow.description,
                "input": run.input,
                "execution_id": run.execution_id,
                "exec_id": run.execution_id,
                "status": status,
                "output": output,
                "config": {"input": workflow.input_schema, "env": dict(workflow.env)},
                "execution_time": round(time.monotonic() - self._started, 6),
                "completed_tasks": list(run.completed),
                "success_rate": done / (done + failed) if done + failed else 1.0,
            },
            "tasks": self.tasks(),
            "env": env,
            "blocks": run.blocks,
            "trigger": {"input": run.input, "type": "manual", "name": workflow.id},
            "project": run.project,
            "agents": run.agents,
            "tools": run.tools,
            **self.brought,
        }


def _descendants(state: TaskState) -> Iterable[TaskState]:
    for child in state.children.values():
        yield child
        yield from _descendants(child)


def _agent(agent: AgentPlan) -> dict[str, Json]:
    """What templates may know of an agent: never the key of its provider."""
    return {
        "id": agent.id,
        "instructions": agent.instructions,
        "config": {
            "provider": agent.model.provider,
            "model": agent.model.model,
            "params": agent.model.params,
        },
        "actions": sorted(agent.actions),
        "with": agent.with_,
    }


def _tool(tool: ToolPlan) -> dict[str, Json]:
    """What templates may know of a tool: its `config`, unrendered, so that no header leaks."""
    return {
        "id": tool.id,
        "type": tool.type,
        "description": tool.description,
        "config": tool.config,
        "with": tool.with_,
    }
