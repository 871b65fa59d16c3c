"""The `compozy` command as its users start it: a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.prefect_server import Api


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Compozy:
    """Runs commands against the server of the session, which it finds through COMPOZY_HOME."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.env = {
            key: value
            for key, value in os.environ.items()
            if not key.endswith("_API_KEY") and not key.startswith("PREFECT_")
        }

    def __call__(
        self,
        *arguments: str | Path,
        input: str | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 120,
    ) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "compozy_prefect", *map(str, arguments)],
            input=input,
            capture_output=True,
            text=True,
            cwd=self.cwd,
            env={**self.env, **(env or {})},
            timeout=timeout,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str | Path, env: dict[str, str] | None = None) -> Any:
        """The running process, for signals; the caller ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "compozy_prefect", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.cwd,
            env={**self.env, **(env or {})},
        )


@pytest.fixture
def compozy(prefect_server: Api, tmp_path: Path) -> Compozy:
    return Compozy(tmp_path)
