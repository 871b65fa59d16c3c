"""A directory that `compozy compile` wrote → deployments on a Prefect server, and none left over.

Prefect's own `prefect deploy --all` makes them. What it does not do is to take away what an earlier
deploy of the same project left: deployments of workflows that are gone, and of schedules.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowFilter,
    FlowFilterId,
)
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from compozy_prefect.compiler import types
from compozy_prefect.compiler.emit import FLOWS, deployment_names
from compozy_prefect.compiler.plan import Json, Plan
from compozy_prefect.errors import RunError
from compozy_prefect.flows.claim import PAGE, TAG
from compozy_prefect.flows.connection import reached, ui_base

_LAST_LINES = 20  # of what Prefect says when it refuses to deploy


@dataclass(frozen=True, slots=True)
class Deployed:
    """One deployment. `name` is `flow/deployment`, as Prefect's commands take it."""

    name: str
    id: UUID
    workflow_id: str
    scheduled: bool
    triggers: int
    ui_url: str

    def to_json(self) -> dict[str, Json]:
        return {name: getattr(self, name) for name in self.__slots__} | {"id": str(self.id)}


@dataclass(frozen=True, slots=True)
class Deployments:
    """What there is now, and the names of what is gone. `new_pool`: it was made for this."""

    pool: str
    new_pool: bool
    made: list[Deployed]
    removed: list[str]

    def to_json(self) -> dict[str, Json]:
        return {
            "work_pool": self.pool,
            "work_pool_created": self.new_pool,
            "deployments": [one.to_json() for one in self.made],
            "removed": list(self.removed),
        }


async def deploy(plan: Plan, directory: Path, pool: str) -> Deployments:
    """Deploys what `emit` wrote of the plan into `directory`, and removes what it left before.

    A work pool that does not exist is made, for workers that run processes. Raises RunError with
    Prefect's own words when it refuses, and ServerUnavailable.
    """
    async with reached() as client:
        new_pool = await _pool(client, pool)
        _prefect_deploy(directory)
        made: list[Deployed] = []
        for name, workflow_id in deployment_names(plan).items():
            found = await client.read_deployment_by_name(name)
            workflow = plan.workflows[workflow_id]
            scheduled = bool(found.schedules)
            signals = [one for one in workflow.triggers if one.webhook is None]
            made.append(
                Deployed(
                    name,
                    found.id,
                    workflow_id,
                    scheduled,
                    0 if scheduled else len(signals),
                    f"{ui_base()}/deployments/deployment/{found.id}",
                )
            )
        removed = await _remove_others(client, plan, directory, {one.id for one in made})
    return Deployments(pool, new_pool, made, removed)


async def _pool(client: PrefectClient, name: str) -> bool:
    try:
        await client.read_work_pool(name)
    except ObjectNotFound:
        await client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        return True
    return False


def _prefect_deploy(directory: Path) -> None:
    # A process of its own: Prefect reads the module as its user would, from the working directory.
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(  # noqa: S603
        command,
        cwd=directory,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = "\n".join(done.stdout.strip().splitlines()[-_LAST_LINES:])
        raise RunError(f"`prefect deploy` in {directory} failed:\n{said}")


async def _remove_others(
    client: PrefectClient, plan: Plan, directory: Path, kept: Iterable[UUID]
) -> list[str]:
    """Removes deployments of this project that are not in `kept`, with what starts them."""
    removed: list[str] = []
    for one in await _ours(client, plan, directory):
        if one.id in kept:
            continue
        (flow,) = await client.read_flows(
            flow_filter=FlowFilter(id=FlowFilterId(any_=[one.flow_id]))
        )
        await client.delete_resource_owned_automations(f"prefect.deployment.{one.id}")
        await client.delete_deployment(one.id)
        removed.append(f"{flow.name}/{one.name}")
    return sorted(removed)


async def _ours(client: PrefectClient, plan: Plan, directory: Path) -> list[DeploymentResponse]:
    """The deployments that some deploy of this project made.

    They bear its name, and come from a module that `emit` wrote; those of a project without a name
    come from this very directory.
    """
    project = types.line(plan.project.name)
    tags = DeploymentFilterTags(all_=[tag for tag in (TAG, project) if tag])
    found: list[DeploymentResponse] = []
    while True:
        page = await client.read_deployments(
            deployment_filter=DeploymentFilter(tags=tags), limit=PAGE, offset=len(found)
        )
        found += page
        if len(page) < PAGE:
            break
    return [
        one
        for one in found
        if (one.entrypoint or "").startswith(f"{FLOWS}:")
        and (project or _comes_from(one, directory))
    ]


def _comes_from(deployment: DeploymentResponse, directory: Path) -> bool:
    arguments = [one for step in deployment.pull_steps or [] for one in step.values()]
    noted = [one["directory"] for one in arguments if isinstance(one, dict) and "directory" in one]
    return str(directory.resolve()) in noted
