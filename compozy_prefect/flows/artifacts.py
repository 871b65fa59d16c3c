"""A run → artifacts in the Prefect UI.

They show its plan, how far its collections are, its output, and the tokens of each call of a model.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import UUID
from weakref import WeakKeyDictionary

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging import get_run_logger

from compozy_prefect.compiler.plan import Json, Plan
from compozy_prefect.runtime.outcome import Outcome

PATIENCE = 12.0  # seconds; a server that is started again needs about five
_TOLD_EVERY = 2.0  # seconds between two words on progress, and before the first
_MOST_DRAWN = 200  # steps; a picture of more says nothing
_LARGEST = 200_000  # characters of output shown; the run's result holds all of it
_UNANSWERED = (TimeoutError, httpx.TransportError)


async def picture(client: PrefectClient, flow_run: FlowRun, plan: Plan, workflow_id: str) -> None:
    """Shows the plan of a run that has more than one step, drawn as `compozy graph` does."""
    if not 1 < len(plan.workflows[workflow_id].all_steps) <= _MOST_DRAWN:
        return
    from compozy_prefect.compiler.graph import graph
    from compozy_prefect.compiler.graph_svg import svg

    drawn = base64.b64encode(svg(graph(plan, workflow_id)).encode()).decode()
    await _create(
        client,
        flow_run,
        [
            ArtifactCreate(
                key=key(workflow_id, "plan"),
                type="image",
                description=f"Plan of workflow {workflow_id}",
                data=f"data:image/svg+xml;base64,{drawn}",
            )
        ],
    )


async def publish(
    client: PrefectClient,
    flow_run: FlowRun,
    workflow_id: str,
    outcome: Outcome,
    spent: list[dict[str, Json]],
) -> bool:
    """Shows the outcome, and the rows of what models have taken.

    False when the server does not answer, or not in time.
    """
    items = [_output(workflow_id, outcome), _usage(workflow_id, outcome, spent)]
    return await _create(client, flow_run, [item for item in items if item])


@asynccontextmanager
async def progress(
    client: PrefectClient, flow_run: UUID, task: str, done: Callable[[], float]
) -> AsyncIterator[None]:
    """Shows how much of a task is done, between 0 and 1, while it takes longer than a moment."""

    async def tell() -> None:
        await asyncio.sleep(_TOLD_EVERY)
        with suppress(httpx.HTTPError, PrefectHTTPStatusError):
            made = await client.create_artifact(
                ArtifactCreate(
                    key=key(task, "progress"),
                    type="progress",
                    description=f"Progress of {task}",
                    data=100 * done(),
                    flow_run_id=flow_run,
                )
            )
            try:
                while True:
                    await asyncio.sleep(_TOLD_EVERY)
                    await client.update_artifact(made.id, ArtifactUpdate(data=100 * done()))
            except asyncio.CancelledError:
                last = client.update_artifact(made.id, ArtifactUpdate(data=100 * done()))
                with suppress(TimeoutError):
                    await asyncio.wait_for(last, _TOLD_EVERY)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait([telling])


async def _create(client: PrefectClient, flow_run: FlowRun, items: list[ArtifactCreate]) -> bool:
    """Creates artifacts, all at once. What the server refuses is logged and left out.

    False when the server does not answer, or takes longer than anybody would wait for this.
    """
    made = [item.model_copy(update={"flow_run_id": flow_run.id}) for item in items]
    turns = _TURNS.setdefault(client, _Turns())
    creating = (turns.create(client, item) for item in made)
    answers = await asyncio.gather(*creating, return_exceptions=True)
    for item, answer in zip(made, answers, strict=True):
        if isinstance(answer, (httpx.HTTPError, PrefectHTTPStatusError)):
            get_run_logger().warning(
                "Artifact '%s' was not created: %s", item.key, _first_line(answer)
            )
        elif isinstance(answer, TimeoutError):
            get_run_logger().warning(
                "Artifact '%s' was not created: no answer in %g s", item.key, PATIENCE
            )
        elif isinstance(answer, BaseException):
            raise answer
    return not any(isinstance(answer, _UNANSWERED) for answer in answers)


class _Turns:
    """Creates one artifact of a key at a time.

    The server holds the row of the key, and a connection to its database, until the artifact is
    there: with a dozen runs of a workflow that end at once nobody else is answered for seconds.
    """

    def __init__(self) -> None:
        self._turns: defaultdict[str | None, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._unanswered = 0

    async def create(self, client: PrefectClient, item: ArtifactCreate) -> None:
        """Raises TimeoutError after `PATIENCE`, or as soon as somebody before it in the row has."""
        before = self._unanswered
        async with self._turns[item.key]:
            if self._unanswered > before:
                raise TimeoutError
            try:
                await asyncio.wait_for(client.create_artifact(item), PATIENCE)
            except _UNANSWERED:
                self._unanswered += 1
                raise


_TURNS: WeakKeyDictionary[PrefectClient, _Turns] = WeakKeyDictionary()


def key(*parts: str) -> str:
    """An artifact key of lower-case letters, digits and dashes, all that Prefect allows."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def _output(workflow_id: str, outcome: Outcome) -> ArtifactCreate:
    lines = [f"**{workflow_id}**: {outcome.status}"]
    if outcome.error is not None:
        lines += ["", *(f"> {line}" for line in outcome.error.message.splitlines())]
    text = json.dumps(outcome.output, indent=2, ensure_ascii=False)
    if len(text) > _LARGEST:
        text = text[:_LARGEST] + "\n…"
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text) or [""]))
    lines += ["", f"{fence}json", text, fence]
    return ArtifactCreate(
        key=key(workflow_id, "output"),
        type="markdown",
        description=f"Output of workflow {workflow_id}",
        data="\n".join(lines),
    )


def _usage(
    workflow_id: str, outcome: Outcome, spent: list[dict[str, Json]]
) -> ArtifactCreate | None:
    if not spent:
        return None
    rows = list(spent)
    if len(rows) > 1:
        usage = outcome.usage
        total = {"task": "total", "call": "", "model": ""}
        rows.append({**total, **usage.to_json(), "calls": usage.calls})
    return ArtifactCreate(
        key=key(workflow_id, "usage"),
        type="table",
        description=f"Tokens used by workflow {workflow_id}",
        data=json.dumps(rows),
    )


def _first_line(error: Exception) -> str:
    lines: Sequence[str] = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
