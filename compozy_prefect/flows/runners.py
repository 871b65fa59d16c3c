"""The setting `tasks.runner` of a run → where its fan-outs run, or a sentence why they cannot.

Nothing of Prefect is imported here, so that a mistake is told before a server is started.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib.util import find_spec
from multiprocessing import current_process

from compozy_prefect.compiler.plan import Plan, RunnerPlan
from compozy_prefect.errors import UsageError
from compozy_prefect.language.config import Config, Outside

THREADS, DASK, RAY = "threads", "dask", "ray"

_PACKAGES = {DASK: ("prefect_dask", "distributed"), RAY: ("prefect_ray", "ray")}


def runner_of(plan: Plan, env: Mapping[str, str]) -> RunnerPlan:
    """The runner that the plan and the environment name, nothing in it left open.

    `env` is the `.env` of the run, or the environment with it. Raises UsageError for a value that
    cannot be, and for a runner that is not installed.
    """
    names = [field.name for field in fields(RunnerPlan)]
    # As flags: what the plan says was said by a flag or the project file.
    said = {f"tasks.runner.{name}": getattr(plan.project.runner, name) for name in names}
    flags = {key: str(value) for key, value in said.items() if value}
    config = Config(None, env, Outside.here(flags))
    for fault in config.faults(said):
        if fault.severity == "error":
            raise UsageError(fault.message + (f"; {fault.hint}" if fault.hint else ""))
    runner = RunnerPlan(**{name: config[f"tasks.runner.{name}"] for name in names})
    if runner.type == DASK and getattr(current_process(), "_inheriting", False):
        raise UsageError(
            "a worker of Dask imports the script that started it, which runs the workflow anew; "
            "call `run` under `if __name__ == '__main__':`"
        )
    missing = [name for name in _PACKAGES.get(runner.type, ()) if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the task runner is `{runner.type}`, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed; "
            f"install `compozy-prefect[{runner.type}]` here and on the workers"
        )
    return runner
