"""A `compozy run` in a process of its own, which a test may kill, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.compozy import Compozy
from tests.support.effects import Effects
from tests.support.prefect_server import Api, until

OPEN = ("RUNNING", "PENDING", "SCHEDULED", "PAUSED")


class Started:
    """A `compozy run` or `resume` in a process of its own."""

    def __init__(self, compozy: Compozy, *arguments: str) -> None:
        self.process: subprocess.Popen[str] = compozy.start(*arguments, "--json")
        assert self.process.stderr is not None
        self.id = ""
        for line in self.process.stderr:
            if line.startswith("run "):
                self.id = line.split()[1]
                return
        pytest.fail(f"it did not start: {self.process.communicate()}")

    def kill(self) -> str:
        self.process.kill()
        self.process.communicate()
        return self.id

    def ended(self) -> Any:
        out, err = self.process.communicate(timeout=90)
        assert self.process.returncode == 0, err
        return json.loads(out)


@pytest.fixture
def start(compozy: Compozy) -> Iterator[Callable[..., Started]]:
    begun: list[Started] = []

    def start(*arguments: str) -> Started:
        begun.append(Started(compozy, *arguments))
        return begun[-1]

    yield start
    for one in begun:
        with contextlib.suppress(ProcessLookupError, ValueError):
            one.kill()


def project(folder: Path, effects: Effects, tasks: str) -> None:
    text = f"name: demo\ntools: [{effects.tool}]\n{tasks}"
    (folder / "compozy.yaml").write_text(text, "utf-8")


def rows(server: Api, id: str) -> list[Any]:
    """The task runs of an execution and of its branches."""
    inner = server.post("/flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [id]}}})
    ids = [id, *(one["id"] for one in inner)]
    found = server.post("/task_runs/filter", {"flow_runs": {"id": {"any_": ids}}, "limit": 200})
    return list(found)


def nothing_is_open(server: Api, id: str, steps: Iterable[str] = ()) -> list[Any]:
    """The task runs when all have ended: those of the steps of these names, once each, and others.

    What a process told last may come to the server after the end of the run.
    """
    wanted = Counter(list(steps))  # a mapping has names for keys

    def whole(found: list[Any]) -> bool:
        seen = Counter(r["name"] for r in found if "/" in r["task_key"] and r["name"] in wanted)
        return bool(found) and seen == wanted and not [r for r in found if r["state_type"] in OPEN]

    return until(lambda: rows(server, id), whole)
