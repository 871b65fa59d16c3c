"""What starts a workflow by itself → what its deployments in `prefect.yaml` hold for it.

A signal is an automation on the event that `flows.signals` emits, a schedule one of Prefect's
(language.md §2.7, §2.8). Webhooks need a server of ours, and have no entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast
from urllib.parse import quote

from compozy_prefect.compiler import types
from compozy_prefect.compiler.plan import Json, WorkflowPlan
from compozy_prefect.compiler.schedules import (
    DeploymentSchedule,
    OverlapPolicy,
    deployment_schedule,
)
from compozy_prefect.language.cron import parse_cron, parse_instant

# The label of a signal's event that names the project whose deployments it starts. Without it the
# event only tells: the process that sent it has started who listens, or nobody may be started.
STARTS = "compozy.starts"
_PAYLOAD = "event.payload.payload"


def signal_event(name: str) -> str:
    """The Prefect event of a signal, which also is the id of its resource.

    What an automation would take for a pattern, or `prefect deploy` for a placeholder, is
    percent-encoded.
    """
    return f"compozy.signal.{quoted(name)}"


def quoted(name: str) -> str:
    return quote(name, safe="/:", errors="backslashreplace")


def triggers(workflow: WorkflowPlan, project: str) -> Iterator[dict[str, Json]]:
    """The items of `triggers` in the deployment of a workflow, one a signal that starts it."""
    for trigger in workflow.triggers:
        if trigger.webhook is not None:
            continue
        event = signal_event(trigger.name)
        yield {
            "name": f"{quoted(workflow.id)} on {quoted(trigger.name)}",
            "expect": [event],
            # The resource too: Prefect takes an expected event for the beginning of one.
            "match": {"prefect.resource.id": event, STARTS: quoted(project)},
            "parameters": _parameters(workflow),
        }


def _parameters(workflow: WorkflowPlan) -> dict[str, Json]:
    """The payload of the event as parameters, with the types it has.

    Prefect fails a run that has a parameter its flow does not declare; where the schema allows
    such keys without listing them, they are left out.
    """
    declared = types.parameters(workflow.input_schema)
    if types.single(workflow.input_schema):
        return {declared[0].name: _json(_PAYLOAD)}
    # Identifiers all: nothing in them ends a string of Jinja.
    names = ", ".join(f"'{item.name}'" for item in declared)
    return _json(f"dict({_PAYLOAD}.items() | selectattr(0, 'in', [{names}]))")


def _json(expression: str) -> dict[str, Json]:
    """A template that gives data, where one alone would give text."""
    template = f"{{{{ {expression} | tojson }}}}"
    return {
        "__prefect_kind": "json",
        "value": {"__prefect_kind": "jinja", "template": template},
    }


def schedule(workflow: WorkflowPlan) -> DeploymentSchedule | None:
    """The schedule of a workflow whose plan has been checked, with its input as parameters."""
    plan = workflow.schedule
    if plan is None:
        return None
    declared = types.parameters(workflow.input_schema)
    if types.single(workflow.input_schema):
        given = {declared[0].name: plan.input} if plan.input else {}
    else:
        given = {item.name: plan.input[item.name] for item in declared if item.name in plan.input}
    return deployment_schedule(
        parse_cron(plan.cron),
        plan.timezone.strip() or "UTC",
        plan.enabled,
        plan.jitter,
        cast(OverlapPolicy, plan.overlap_policy),
        parse_instant(plan.start_at) if plan.start_at else None,
        parse_instant(plan.end_at) if plan.end_at else None,
        given,
    )
