"""`compozy deploy` and `compozy supervise`: flows on a server, and what looks after their runs."""

from __future__ import annotations

import asyncio
import json as json_
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from compozy_prefect.cli import DONE
from compozy_prefect.cli.app import SETTINGS
from compozy_prefect.cli.output import note, print_diagnostics, print_json
from compozy_prefect.compiler.emit import POOL

if TYPE_CHECKING:
    from compozy_prefect.flows.deployments import Deployments

_LEAST_PATIENCE = 10.0  # seconds: two signs of life
_OWN = Path(".compozy")  # in the project: a folder that no command reads YAML from


def deploy(
    path: Path = Path("."),
    /,
    *,
    pool: str = POOL,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Compile a project and deploy its workflows, as they are now.

    Schedules and triggers become Prefect's. What an earlier deploy of the project left, and it no
    longer has, is removed. Workers run the flows from the directory that is written.

    Parameters
    ----------
    path
        A project directory or a YAML file.
    pool
        The work pool; one for processes is made when there is none of that name.
    output
        The directory to write; `.compozy/deploy` in the project if not given.
    json
        Print the deployments as an object.
    """
    from compozy_prefect.compiler import emit
    from compozy_prefect.compiler.compile import compile_project
    from compozy_prefect.flows import local

    project = compile_project(path, env_file=SETTINGS.env_file)
    print_diagnostics(project.warnings, project.sources)
    directory = project.root / _OWN / "deploy" if output is None else output
    emit.write(emit.emit(project.plan, pool=pool), directory)
    if output is None:
        (project.root / _OWN / ".gitignore").write_text("*\n", "utf-8")
    _link_env(SETTINGS.env_file or project.root / ".env", directory)
    local.reach(note)

    from compozy_prefect.flows import deployments, server

    note(f"wrote {directory}; deploying it…")
    made = asyncio.run(deployments.deploy(project.plan, directory, pool))
    if json:
        print_json(made.to_json())
    else:
        print(_text(made))
    note(f"a worker runs them: {server.worker_command(pool)}")
    return DONE


def supervise(
    *,
    patience: float | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Look after deployed runs, until it is stopped.

    Prefect shows a run whose process, worker or machine has died as Running for ever. This has it
    go on from where it stood, in another process of a worker; a death is found within 25 s. It also
    wakes runs that left their process to wait. Let one run for each server; of several, one acts.

    Parameters
    ----------
    patience
        Seconds without a sign of life after which a process is dead; 20 if not given.
    json
        Print what it does as lines of JSON.
    """
    from compozy_prefect.errors import UsageError
    from compozy_prefect.flows import local

    if patience is not None and patience < _LEAST_PATIENCE:
        raise UsageError(f"--patience is {patience:g}; it must be {_LEAST_PATIENCE:g} or more")
    local.reach(note)

    from compozy_prefect.flows.connection import reached
    from compozy_prefect.flows.supervise import Supervisor
    from compozy_prefect.flows.worker import PATIENCE

    async def watch() -> None:
        async with reached() as client:
            note(f"looking after the deployed runs of {client.api_url}")
            async for did in Supervisor(client, patience or PATIENCE).watch():
                if json:
                    print(json_.dumps(did.to_json()), flush=True)
                else:
                    print(f"{did.execution_id} {did.action}: {did.reason}", flush=True)

    asyncio.run(watch())
    return DONE


def _link_env(file: Path, directory: Path) -> None:
    """Flows read the `.env` beside their module: a link, so that no secret is written twice."""
    link = directory / ".env"
    if file.is_file() and not os.path.lexists(link):
        with suppress(OSError):  # without links the environment of the worker has to do
            link.symlink_to(file.resolve())


def _text(made: Deployments) -> str:
    lines: list[str] = []
    for one in made.made:
        how = " on schedule" if one.scheduled else ""
        if one.triggers:
            how = f" on {one.triggers} signal{'s' if one.triggers > 1 else ''}"
        lines += [f"{one.name}{how}", f"  {one.ui_url}"]
    lines += [f"removed {name}" for name in made.removed]
    if made.new_pool:
        lines.append(f"made the work pool {made.pool}")
    return "\n".join(lines)
