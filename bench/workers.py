"""Workers of Dask that stand while fan-outs are sent to them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from bench.ground import BASELINE, Ground

# As many as `tasks.runner` starts on two cores, in a process of their own: it would be the parent
# of what is measured.
CLUSTER = """
import logging, sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=4, dashboard_address="127.0.0.1:0",
                      silence_logs=logging.CRITICAL) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


def can_stand() -> bool:
    return find_spec("prefect_dask") is not None


@contextmanager
def standing(ground: Ground) -> Iterator[str]:
    """The address of the scheduler."""
    script = ground.directory / "cluster.py"
    script.write_text(CLUSTER)
    process = subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ground.directory,
        env={**ground.environment, "PREFECT_API_URL": ground.url, "PYTHONPATH": _paths()},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def _paths() -> str:
    """Where workers find what the hand-written flow is in."""
    return os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(BASELINE)]))
