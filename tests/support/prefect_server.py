"""A real Prefect server for a test session, and what it knows of a run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from compozy_prefect.flows import server
from tests.support.postgres import Missing, Postgres

_T = TypeVar("_T")
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}


class Api:
    """The REST API of the server, for looking from outside."""

    def __init__(self, url: str) -> None:
        self.url = url
        # It waits a minute for SQLite itself, where a machine has too much to do.
        self._client = httpx.Client(base_url=url, timeout=150)

    def get(self, path: str) -> Any:
        return self._client.get(path).raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        return self._client.post(path, json=body).raise_for_status().json()

    def patiently(self, method: str, path: str, body: Any, seconds: float = 20.0) -> httpx.Response:
        """The answer to a request that is made again while SQLite is locked (503)."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self._client.request(method, path, json=body)
            if answer.status_code < 500 or time.monotonic() > deadline:
                return answer
            time.sleep(0.1)

    def flow_run(self, id: str) -> Any:
        return self.get(f"/flow_runs/{id}")

    def task_runs(self, id: str) -> dict[str, Any]:
        """The task runs of a flow run by their names."""
        found = self.post("/task_runs/filter", {"flow_runs": {"id": {"any_": [id]}}})
        return {item["name"]: item for item in found}

    def settled(self, id: str, count: int) -> dict[str, Any]:
        """The task runs, once there are `count` of them and all have ended."""
        return until(
            lambda: self.task_runs(id),
            lambda runs: (
                len(runs) == count
                and all(
                    run["state_type"] in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
                    and run["state"]  # written a moment after the run itself
                    for run in runs.values()
                )
            ),
        )

    def logs(self, id: str) -> list[str]:
        body = {"logs": {"flow_run_id": {"any_": [id]}}, "limit": 200}
        return [item["message"] for item in self.post("/logs/filter", body)]

    def artifacts(self, id: str) -> dict[str, Any]:
        body = {"artifacts": {"flow_run_id": {"any_": [id]}}}
        found = self.post("/artifacts/filter", body)
        return {item["key"]: item for item in found if item["key"]}  # without Prefect's own


def until(look: Callable[[], _T], fits: Callable[[_T], bool], seconds: float = 90.0) -> _T:
    """What `look` gives, as soon as it fits; fails when it does not in time.

    The time is that of a machine that does many other things besides.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if fits(seen):
            return seen
        if time.monotonic() > deadline:
            pytest.fail(f"not in {seconds} s: {seen}")
        time.sleep(0.1)


@contextmanager
def served(home: Path, **environment: str) -> Iterator[Api]:
    """Our own server in a home of its own; Prefect in this process points at it meanwhile."""
    before = dict(os.environ)
    os.environ |= _QUIET | {"COMPOZY_HOME": str(home)} | environment
    os.environ.pop("PREFECT_API_URL", None)
    started = server.start()
    server.apply(started)
    _refresh()
    try:
        yield Api(started.api_url)
    finally:
        server.stop()
        os.environ.clear()
        os.environ.update(before)
        _refresh()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server on SQLite."""
    with served(tmp_path_factory.mktemp("compozy-home")) as api:
        yield api


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL, or the test is skipped, and says why."""
    try:
        started = Postgres()
    except Missing as missing:
        pytest.skip(str(missing))
    with started:
        yield started


@pytest.fixture(scope="module")
def postgres_server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server on a database of PostgreSQL, for the tests of a file.

    Prefect points at that of the session again when they are over.
    """
    url = postgres.database()
    home = tmp_path_factory.mktemp("compozy-postgres")
    with served(home, PREFECT_API_DATABASE_CONNECTION_URL=url) as api:
        yield api


def _refresh() -> None:
    """Has Prefect, imported by the tests long before, read its settings again."""
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()
