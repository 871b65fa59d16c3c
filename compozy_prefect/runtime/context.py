"""The state of a run → what its templates see (language.md §11.2, §11.3), as plain dicts.

One `RunContext` belongs to one execution. It is told of every task that ends, and makes a fresh
dict for each thing that is rendered, so that a template can change nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from compozy_prefect.compiler.plan import AgentPlan, Json, Plan, StepPlan, ToolPlan, WorkflowPlan
from compozy_prefect.runtime.outcome import RUNNING, Failure, TaskState

Context = dict[str, Any]


class RunContext:
    """What the templates of one execution see.

    `started` is a reading of `time.monotonic` at the start of the run, `env` the merge of the
    process environment, the `.env` file and the workflow's own.
    """

    def __init__(
        self,
        plan: Plan,
        workflow: WorkflowPlan,
        execution_id: str,
        input: Mapping[str, Json],
        env: Mapping[str, str],
        started: float,
    ) -> None:
        self.workflow = workflow
        self.execution_id = execution_id
        self.input = input
        self.env = env
        self._started = started
        # Known tasks stand in the map from the beginning: one that has not run reads as null.
        self._tasks: dict[str, Json] = {step.id: None for step in workflow.steps}
        self._completed: list[str] = []
        self._failed: set[str] = set()
        self._project = {
            "id": plan.project.name,
            "name": plan.project.name,
            "version": plan.project.version,
            "description": plan.project.description,
        }
        self._agents = {key: _agent(agent) for key, agent in workflow.agents.items()}
        self._tools = {key: _tool(tool) for key, tool in workflow.tools.items()}

    def record(self, state: TaskState) -> None:
        """A task ended; a second run of it replaces the first (language.md §2.3)."""
        self._tasks[state.id] = state.for_templates()
        self._completed = [name for name in self._completed if name != state.id]
        self._failed.discard(state.id)
        if state.ok:
            self._completed.append(state.id)
        else:
            self._failed.add(state.id)

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
        None, and `.input` is then the workflow's input.
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
        if given is not None:
            context["with"] = given
        return context

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
        workflow = self.workflow
        done, failed = len(self._completed), len(self._failed)
        return {
            "workflow": {
                "id": workflow.id,
                "name": workflow.name or workflow.id,
                "version": workflow.version,
                "description": workflow.description,
                "input": self.input,
                "execution_id": self.execution_id,
                "exec_id": self.execution_id,
                "status": status,
                "output": output,
                "config": {"input": workflow.input_schema, "env": dict(workflow.env)},
                "execution_time": round(time.monotonic() - self._started, 6),
                "completed_tasks": list(self._completed),
                "success_rate": done / (done + failed) if done + failed else 1.0,
            },
            "tasks": dict(self._tasks),
            "env": env,
            "trigger": {"input": self.input, "type": "manual", "name": workflow.id},
            "project": self._project,
            "agents": self._agents,
            "tools": self._tools,
        }


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
