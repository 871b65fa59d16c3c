"""A `memory` task of a run → its operation on a conversation, made once (language.md §3.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compozy_prefect import faults
from compozy_prefect.compiler.plan import Json
from compozy_prefect.flows.attempts import Instance
from compozy_prefect.runtime import templates
from compozy_prefect.runtime.memory.operations import Operation
from compozy_prefect.runtime.scope import Opened

if TYPE_CHECKING:
    from compozy_prefect.flows.walk import Walk


async def remember(walk: Walk, instance: Instance, opened: Opened) -> Json:
    """The raw output of the step. What an earlier process kept of it is not done again."""
    step, scope, journal = instance.step, walk.scope, walk.runner.journal
    kept = journal.get(instance.where)
    if kept is not None:
        return kept
    call = step.memory
    assert call is not None
    memory = scope.workflow.memories[call.memory]
    seen = scope.context.for_step(step, env=opened.env, given=opened.given)
    key = templates.render_text(
        call.key, seen, opened.environment, scope.at(step, "key_template"), scope.spans
    )
    payload = templates.render(
        call.payload, seen, opened.environment, scope.at(step, "payload"), scope.spans
    )
    operation = Operation(
        call,
        memory,
        scope.services.store(memory),
        str(seen["project"]["name"]),
        opened.environment.now,
        f"{scope.context.execution_id}/{instance.where}",
    )
    await scope.permit()
    out = walk.run.redactor.json(await operation.perform(key.strip(), payload))
    await faults.point("memory.changed", instance.where)
    await journal.keep(instance.where, out)
    return out
