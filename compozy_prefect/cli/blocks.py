"""`compozy blocks apply`: Prefect's blocks as files."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from compozy_prefect.cli import DONE, FAILED
from compozy_prefect.cli.app import SETTINGS
from compozy_prefect.cli.output import note, print_json

Flag = Annotated[bool, Parameter(negative="")]


def apply(path: Path = Path("."), /, *, check: Flag = False, json: Flag = False) -> int:
    """Create and update Prefect's blocks until they are what the files say.

    Secrets come from the environment and the project's `.env`, as `{{ .env.NAME }}`.

    Parameters
    ----------
    path
        A project, its `blocks/`, or one file.
    check
        Change nothing; exit with 1 when something would be.
    json
        Print what is done with each block as a list of objects.
    """
    from compozy_prefect.flows import local

    root = path if path.is_dir() else path.parent
    root = root.parent if root.resolve().name == "blocks" else root
    env = {**os.environ, **local.dotenv(SETTINGS.env_file or root / ".env")}
    local.reach(note)

    from compozy_prefect.flows import block_files
    from compozy_prefect.flows.connection import reached

    files = block_files.files_of(path)

    async def work() -> list[block_files.Applied]:
        async with reached() as client:
            return await block_files.apply(client, files, env, check=check)

    done = asyncio.run(work())
    if json:
        print_json([one.to_json() for one in done])
    else:
        for one in done:
            word = f"would be {one.action}" if check and one.action != "unchanged" else one.action
            print(f"{one.type}/{one.name} {word}  ({one.file})")
    changed = any(one.action != block_files.UNCHANGED for one in done)
    return FAILED if check and changed else DONE
