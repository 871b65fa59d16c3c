"""A value that a task hands to an action which reads one of nearly that name instead (§4.3).

The action need not have a schema: what its prompt and the instructions read of `.input` says what
it wants. Nothing is said of a value that any template of the workflow names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from compozy_prefect.compiler.places import Place, places
from compozy_prefect.compiler.scope import Scope, action_of
from compozy_prefect.compiler.tree import Step
from compozy_prefect.diagnostics import Diagnostic, warning
from compozy_prefect.errors import TemplateError
from compozy_prefect.expressions import parse
from compozy_prefect.language.models.task import BasicTask
from compozy_prefect.language.names import nearest
from compozy_prefect.language.nodes import Mapping


def unread(step: Step, scope: Scope) -> Iterator[Diagnostic]:
    task, own = step.task, step.task.node.get("with")
    agent = scope.agent_of(task)
    if not isinstance(task, BasicTask) or agent is None or not isinstance(own, Mapping):
        return
    action = action_of(agent, task.action or "")
    if action is None or not own.entries:
        return
    schema = scope.schema(action.input)
    listed = schema.get("properties") if isinstance(schema, dict) else None
    if isinstance(schema, dict) and not isinstance(listed, dict):
        return  # which may list its properties elsewhere
    known = listed or {}
    prompts = [
        place
        for place in places(scope)
        if place.owner is agent.node
        and place.sees == "prompt"
        and (place.pointer[2:3] != ("actions",) or place.pointer[3] == action.id)
    ]
    wanted = [name for name in _read(prompts) if name not in own.entries and name not in known]
    for name in own.entries if wanted else ():
        near = nearest(name, wanted)
        if near is not None and name not in known and not _is_named(name, scope):
            yield warning(
                "CZ509",
                f"the action `{action.id}` does not read `{name}`",
                own.key_span(name),
                f"did you mean `{near}`?",
            )


def _read(prompts: list[Place]) -> dict[str, None]:
    """What prompts read of `.input`; nothing if one of them reads all of it."""
    found: dict[str, None] = {}
    for place in prompts:
        with suppress(TemplateError):
            for read in parse(str(place.node.value)).reads:
                if read.segments[0] in ("input", "with"):
                    if not isinstance(name := (*read.segments, None)[1], str):
                        return {}
                    found[name] = None
    return found


def _is_named(name: str, scope: Scope) -> bool:
    """Whether any template of the workflow says the name."""
    word = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")
    return any(word.search(str(place.node.value)) for place in places(scope))
