"""The agents of a workflow that may be called → what is told of them (language.md §6.5).

What is told is what the files say, with templates as they are written: no key of a provider, and no
value of a variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compozy_prefect.compiler.builtins import LIST_AGENTS
from compozy_prefect.compiler.plan import AgentCall, AgentPlan, Json, WorkflowPlan
from compozy_prefect.language.names import suggest
from compozy_prefect.runtime.builtins import invalid

_KNOWN = 20  # ids in a message


def told(workflow: WorkflowPlan, tool: str, given: Mapping[str, Any]) -> Json:
    """The result of `cp__list_agents` and `cp__describe_agent`. Raises RunError."""
    if tool == LIST_AGENTS:
        agents = ((id, workflow.agents[key]) for id, key in workflow.callable_agents.items())
        return {"agents": [{"agent_id": id, "actions": [*agent.actions]} for id, agent in agents]}
    agent = workflow.agents[_key(workflow, str(given["agent_id"]))]
    return {
        "agent_id": agent.id,
        "instructions": agent.instructions,
        "model": f"{agent.model.provider}:{agent.model.model}",
        "actions": [
            {
                "id": action.id,
                "prompt": action.prompt,
                "input": action.input_schema,
                "output": action.output_schema,
            }
            for action in agent.actions.values()
        ],
        "tools": [workflow.tools[key].id for key in agent.tools],
    }


def call_of(workflow: WorkflowPlan, asked: Mapping[str, Any]) -> AgentCall:
    """The agent and the action that a call means: none for one that has only a `prompt`.

    An only action is meant where there is neither. Raises RunError when there is none.
    """
    key = _key(workflow, str(asked["agent_id"]))
    agent, action = workflow.agents[key], asked.get("action_id", "")
    if action or asked.get("prompt"):
        pass
    elif len(agent.actions) == 1:
        action = next(iter(agent.actions))
    else:
        message = f"the call of agent `{agent.id}` has neither an `action_id` nor a `prompt`"
        raise invalid(f"{message}; {_actions(agent)}")
    if action and action not in agent.actions:
        raise invalid(
            f"agent `{agent.id}` has no action `{action}`; {_actions(agent, action)}",
            {"agent": agent.id, "action": action, "actions": list(agent.actions)},
        )
    return AgentCall(key, action)


def _key(workflow: WorkflowPlan, id: str) -> str:
    key = workflow.callable_agents.get(id)
    if key is None:
        known = workflow.callable_agents
        hint = suggest(id, known, what="there are", limit=_KNOWN) or "there are none"
        raise invalid(f"there is no agent `{id}`; {hint}", {"agent": id})
    return key


def _actions(agent: AgentPlan, name: str = "") -> str:
    return suggest(name, agent.actions, what="it has", limit=_KNOWN) or "it has no actions"
