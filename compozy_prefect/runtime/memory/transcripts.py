"""The memories that an agent refers to → what was said in them, for its prompts (§4.4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from compozy_prefect.compiler.plan import MemoryPlan, MemoryUse
from compozy_prefect.expressions.functions.values import Transcript
from compozy_prefect.runtime.memory.store import Instance, Store

_NO_PART = re.compile(r"[^\w:\-@.*]", re.ASCII)


async def transcripts(
    uses: tuple[MemoryUse, ...],
    memories: Mapping[str, MemoryPlan],
    store: Store,
    project: str,
    key: Callable[[int, MemoryUse], str],
) -> dict[str, Transcript]:
    """Each conversation by the id of its memory; empty where no store of this version has it.

    `key` renders that of a use. What is no part of a key becomes `_` (§7.4).
    """
    found: dict[str, Transcript] = {}
    for index, use in enumerate(uses):
        plan, said = memories[use.memory], Transcript()
        if plan.store == "in_memory":
            name = _NO_PART.sub("_", key(index, use).strip())
            conversation = await store.read(Instance(project, plan.id, name))
            said.extend(dict(message) for message in conversation.messages)
        found[plan.id] = said
    return found
