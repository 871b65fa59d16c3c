"""A Dask cluster of two worker processes for a test session."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.prefect_server import Api

WORKERS = 2


class DaskCluster:
    """`env` has a run use it."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.address = str(cluster.scheduler_address)
        self.env = {
            "COMPOZY_TASK_RUNNER": "dask",
            "COMPOZY_TASK_RUNNER_ADDRESS": self.address,
        }

    @property
    def pids(self) -> list[int]:
        """The processes of the workers."""
        return [nanny.pid for nanny in self._cluster.workers.values() if nanny.pid]

    def kill_one(self) -> None:
        """Kills a worker, which its nanny starts again."""
        os.kill(self.pids[0], signal.SIGKILL)


@pytest.fixture(scope="session")
def dask_cluster(prefect_server: Api) -> Iterator[DaskCluster]:
    """The workers start after the server, so that they log as little as the tests do."""
    distributed = pytest.importorskip("distributed")
    pytest.importorskip("prefect_dask")
    with distributed.LocalCluster(
        n_workers=WORKERS, threads_per_worker=4, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield DaskCluster(cluster)


def batches_of(api: Api, execution: str) -> list[str]:
    """The keys that announce the journals of batches, the oldest first."""
    body = {"prefix": "compozy-batch-", "limit": 200, "exclude_keys": []}
    return [row["key"] for row in api.post(f"/flow_runs/{execution}/input/filter", body)]
