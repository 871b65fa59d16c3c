"""The setting of the task runner: from the plan, from the environment, or refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.plan import RunnerPlan, loads
from compozy_prefect.errors import ProjectInvalid, UsageError
from compozy_prefect.flows import runners
from compozy_prefect.flows.runners import runner_of

TASKS = "tasks: [{id: a, with: {v: 1}}]\n"
THERE = "config: {tasks: {runner: {type: dask, address: 'tcp://there:1'}}}\n"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the packages were: what they are is for the tests of fan-outs."""
    monkeypatch.setattr(runners, "find_spec", lambda name: object())


def of(folder: Path, settings: str, flags: dict[str, str] | None = None) -> RunnerPlan:
    (folder / "compozy.yaml").write_text(f"name: p\n{settings}{TASKS}", "utf-8")
    plan = compile_project(folder, flags=flags).plan
    assert loads(plan.dumps()) == plan
    return runner_of(plan, {})


def test_threads_unless_something_is_said(tmp_path: Path) -> None:
    assert of(tmp_path, "") == RunnerPlan("threads", "", 0)


def test_the_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOZY_TASK_RUNNER", "ray")
    monkeypatch.setenv("COMPOZY_TASK_RUNNER_WORKERS", "3")
    assert of(tmp_path, "") == RunnerPlan("ray", "", 3)
    assert of(tmp_path, THERE) == RunnerPlan("dask", "tcp://there:1", 3)
    monkeypatch.setenv("COMPOZY_CONFIG_PRECEDENCE", "env-first")
    monkeypatch.setenv("COMPOZY_TASK_RUNNER", "threads")
    assert of(tmp_path, THERE) == RunnerPlan("threads", "tcp://there:1", 3)


def test_a_plan_has_what_files_and_flags_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPOZY_TASK_RUNNER", "ray")
    (tmp_path / "compozy.yaml").write_text(f"name: p\n{TASKS}", "utf-8")
    plain = compile_project(tmp_path).plan
    assert plain.project.runner == RunnerPlan()
    assert "runner" not in plain.dumps()
    flagged = compile_project(tmp_path, flags={"tasks.runner.type": "dask"}).plan
    assert flagged.project.runner == RunnerPlan("dask")


def test_the_environment_of_the_run_comes_from_its_files_too(tmp_path: Path) -> None:
    (tmp_path / "compozy.yaml").write_text(f"name: p\n{TASKS}", "utf-8")
    plan = compile_project(tmp_path).plan
    assert runner_of(plan, {"COMPOZY_TASK_RUNNER": "dask"}).type == "dask"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("COMPOZY_TASK_RUNNER", "dusk", "did you mean `dask`"),
        ("COMPOZY_TASK_RUNNER_ADDRESS", "somewhere over", "tcp://scheduler:8786"),
        ("COMPOZY_TASK_RUNNER_WORKERS", "many", "COMPOZY_TASK_RUNNER_WORKERS"),
    ],
)
def test_a_wrong_value(
    name: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "compozy.yaml").write_text(f"name: p\n{TASKS}", "utf-8")
    plan = compile_project(tmp_path).plan
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said):
        runner_of(plan, {})
    with pytest.raises(ProjectInvalid):
        compile_project(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{type: dask, address: 'ray://head:1'}", "is the address of a Ray cluster"),
        ("{type: ray, address: 'tcp://head:1'}", "is the address of a Dask cluster"),
        ("{type: dusk}", "dusk"),
        ("{workers: -1}", "-1"),
    ],
)
def test_a_file_that_does_not_fit(settings: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ProjectInvalid) as caught:
        of(tmp_path, f"config: {{tasks: {{runner: {settings}}}}}\n")
    assert message in str(caught.value)


def test_workers_beside_an_address_do_nothing(tmp_path: Path) -> None:
    text = "config: {tasks: {runner: {type: dask, address: 'tcp://a:1', workers: 2}}}\n"
    (tmp_path / "compozy.yaml").write_text(f"name: p\n{text}{TASKS}", "utf-8")
    (warning,) = compile_project(tmp_path).warnings
    assert (warning.code, warning.severity) == ("CZ325", "warning")


def test_what_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"install `compozy-prefect\[dask\]` here and on the work"):
        of(tmp_path, THERE)


def test_a_script_that_a_worker_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Starting:
        _inheriting = True

    monkeypatch.setattr(runners, "current_process", Starting)
    with pytest.raises(UsageError, match="under `if __name__ == '__main__':`"):
        of(tmp_path, THERE)
