"""Deployed runs whose worker is killed, and those that leave their process to wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import compozy_prefect
from tests.support.chaos import groups_of
from tests.support.compozy import Compozy
from tests.support.effects import Effects
from tests.support.prefect_server import Api, until
from tests.support.worker import Worker

pytestmark = pytest.mark.timeout(900)

LONG = 240.0  # seconds for what takes a death to be found and a process to start
FOUND = 25.0  # seconds within which a death is found, as the documentation promises
FLOWS = (
    """
id: steps
tasks:
  - {id: one, tool: effect, with: {step: one}}
  - {id: two, tool: effect, with: {step: two}}
  - {id: three, tool: effect, with: {step: three}}
outputs: {last: "{{ .tasks.three.output.data.step }}"}
""",
    """
id: waits
config: {input: {type: object, properties: {limit: {type: string, default: 1h}}}}
tasks:
  - {id: before, tool: effect, with: {step: before}}
  - {id: ask, type: wait, wait_for: go, timeout: "{{ .workflow.input.limit }}", on_timeout: late}
  - id: after
    tool: effect
    with: {step: "{{ .tasks.ask.output.signal.payload.by }}"}
    final: true
  - {id: late, tool: effect, with: {step: late}}
""",
    """
id: fails
tasks:
  - {id: first, tool: effect, with: {step: first}}
  - {id: twice, tool: effect, with: {step: twice, fail: 1}, retries: 0}
""",
    """
id: pays
tasks:
  - {id: pay, tool: pay, with: {step: pay}}
  - {id: after, tool: effect, with: {step: "{{ .tasks.pay.output.by }}"}}
""",
)


class Site:
    """A deployed project, a worker, and a supervisor that says what it does."""

    def __init__(self, api: Api, compozy: Compozy, root: Path) -> None:
        self.api, self._compozy, self.root = api, compozy, root
        self._env = compozy.env | {"PREFECT_API_URL": api.url}
        self.worker = self.new_worker()
        self.did: list[dict[str, Any]] = []
        self._supervisors: list[subprocess.Popen[str]] = []

    def new_worker(self, suspend_after: float = 2, **more: str) -> Worker:
        env = self._env | {"COMPOZY_SUSPEND_AFTER": str(suspend_after), **more}
        self.worker = Worker("compozy", env, self.root / "worker.log")
        return self.worker

    @property
    def ui(self) -> str:
        return self.api.url.removesuffix("/api")

    def journal(self, id: str) -> list[bytes]:
        """What the files of the journal of a run hold."""
        return [file.read_bytes() for file in groups_of(Path(os.environ["PREFECT_HOME"]), id)]

    def supervise(self) -> None:
        process = self._compozy.start("supervise", "--json")
        self._supervisors.append(process)
        assert "looking after" in next(iter(process.stderr))

        def read() -> None:
            self.did.extend(json.loads(line) for line in process.stdout)

        threading.Thread(target=read, daemon=True).start()

    def start(self, workflow: str, **parameters: Any) -> str:
        id = self.api.get(f"/deployments/name/{workflow}/{workflow}")["id"]
        made = self.api.post(f"/deployments/{id}/create_flow_run", {"parameters": parameters})
        return str(made["id"])

    def state(self, id: str, fits: Callable[[str], bool]) -> str:
        """The name of the state of a run, once it fits."""

        def look() -> str:
            return str(self.api.flow_run(id)["state_name"])

        try:
            return until(look, fits, LONG)
        except BaseException:
            print((self.root / "worker.log").read_text()[-6000:], self.did)
            print(self.api.get(f"/flow_run_states/?flow_run_id={id}"))
            raise

    def completed(self, id: str) -> None:
        over = {"Completed", "Failed", "Cancelled"}
        assert self.state(id, lambda name: name in over) == "Completed"

    def actions(self, id: str) -> list[str]:
        return [one["action"] for one in self.did if one["execution_id"] == id]

    def close(self) -> None:
        for process in self._supervisors:
            process.kill()
            process.wait()
        self.worker.stop()


@pytest.fixture
def site(prefect_server: Api, compozy: Compozy, effects: Effects, tmp_path: Path) -> Iterator[Site]:
    listed = "".join(f"  - {{source: ./{number}.yaml}}\n" for number in range(len(FLOWS)))
    pay = effects.tool.replace("id: effect,", "id: pay, effect: write,")
    (tmp_path / "compozy.yaml").write_text(
        f"name: supervised\nworkflows:\n{listed}tools:\n  - {effects.tool}\n  - {pay}\n"
    )
    for number, text in enumerate(FLOWS):
        (tmp_path / f"{number}.yaml").write_text(text)
    said = compozy("deploy", tmp_path)
    assert said.code == 0, said.err
    site = Site(prefect_server, compozy, tmp_path)
    yield site
    site.close()


def test_a_run_whose_worker_was_killed_is_finished_by_another(site: Site, effects: Effects) -> None:
    site.supervise()
    site.supervise()  # of two, one acts
    effects.hold("two")
    id = site.start("steps")
    until(lambda: effects.log, lambda log: "two" in log, LONG)
    time.sleep(1)
    site.worker.kill()
    killed = time.monotonic()
    effects.release()
    assert site.api.flow_run(id)["state_name"] == "Running"  # as Prefect leaves it
    until(lambda: site.actions(id), lambda did: did == ["revived"], FOUND)
    print(f"found after {time.monotonic() - killed:.1f} s")
    site.new_worker()
    site.completed(id)
    # What was completed was not done again; what the kill interrupted was.
    assert effects.log == ["one", "two", "two", "three"]
    assert site.actions(id) == ["revived"]
    rows = site.api.settled(id, 3)
    assert {row["state_name"] for row in rows.values()} <= {"Completed", "Cached"}


def test_a_run_whose_process_was_killed_under_a_living_worker(site: Site, effects: Effects) -> None:
    site.supervise()
    effects.hold("two")
    id = site.start("steps")
    until(lambda: effects.log, lambda log: "two" in log, LONG)
    (pid,) = site.worker.runs()
    os.kill(pid, signal.SIGKILL)
    effects.release()
    site.completed(id)
    assert effects.log == ["one", "two", "two", "three"]
    assert site.actions(id) == ["revived"]


def test_a_process_that_was_only_slow_begins_nothing_more(site: Site, effects: Effects) -> None:
    site.supervise()
    effects.hold("two")
    id = site.start("steps")
    until(lambda: effects.log, lambda log: "two" in log, LONG)
    (slow,) = site.worker.runs()
    os.kill(slow, signal.SIGSTOP)
    until(lambda: effects.log.count("two"), lambda count: count == 2, LONG)
    effects.release()  # both get the answer that they wait for; one is stopped
    site.completed(id)
    before = site.journal(id)
    os.kill(slow, signal.SIGCONT)
    until(site.worker.runs, lambda pids: not pids, LONG)
    assert effects.log == ["one", "two", "two", "three"]
    assert site.actions(id) == ["revived"]
    assert site.journal(id) == before
    assert site.api.flow_run(id)["state_name"] == "Completed"


def test_a_run_that_is_started_twice_is_run_once(site: Site, effects: Effects) -> None:
    effects.hold("two")
    id = site.start("steps")
    until(lambda: effects.log, lambda log: "two" in log, LONG)
    first = site.worker.runs()
    # What a worker does that takes a process for dead which is not, and then somebody who retries.
    for state in ({"type": "CRASHED"}, {"type": "SCHEDULED", "name": "AwaitingRetry"}):
        site.api.post(f"/flow_runs/{id}/set_state", {"state": state, "force": True})
    until(site.worker.runs, lambda pids: pids and not set(pids) & set(first), LONG)
    effects.release()
    site.completed(id)
    assert effects.log == ["one", "two", "two", "three"]


def test_resume_has_a_worker_take_a_run_that_stands_still(
    site: Site, compozy: Compozy, effects: Effects
) -> None:
    effects.hold("two")
    id = site.start("steps")
    until(lambda: effects.log, lambda log: "two" in log, LONG)
    refused = compozy("resume", id)
    assert (refused.code, refused.out) == (2, "")
    assert f"execution {id} is running, in a process of a worker" in refused.err
    site.worker.kill()
    effects.release()
    said = compozy("resume", id, "--json")
    assert said.code == 0, said.err
    assert said.json == {"execution_id": id, "ui_url": f"{site.ui}/runs/flow-run/{id}"}
    assert f"execution {id} is scheduled again" in said.err
    assert "prefect worker start --pool compozy" in said.err or "`compozy` takes it" in said.err
    again = compozy("resume", id)
    assert (again.code, "is scheduled already" in again.err) == (0, True), again.err
    refused = compozy("resume", id, "--offline")
    assert (refused.code, "COMPOZY_OFFLINE" in refused.err) == (2, True), refused.err
    site.new_worker()
    site.completed(id)
    assert effects.log == ["one", "two", "two", "three"]
    over = compozy("resume", id)
    assert (over.code, "is over: it succeeded" in over.err) == (2, True)


def test_resume_runs_on_what_failed_and_wakes_what_waits(
    site: Site, compozy: Compozy, effects: Effects
) -> None:
    failing, waiting = site.start("fails"), site.start("waits")
    site.state(failing, lambda name: name == "Failed")
    site.state(waiting, lambda name: name == "Suspended")
    found = compozy_prefect.resume(failing)
    assert (found.status, found.pool) == ("PENDING", "compozy")
    assert found.workers >= 1  # those that were killed count for a while
    assert found.to_json() == {
        "execution_id": failing,
        "ui_url": f"{site.ui}/runs/flow-run/{failing}",
    }
    site.completed(failing)
    assert sorted(effects.log) == ["before", "first", "twice", "twice"]
    assert compozy("resume", waiting).code == 0
    site.state(waiting, lambda name: name not in ("Suspended", "Resuming", "Pending"))
    assert compozy("signal", waiting, "go", "-d", '{"by": "Ada"}').code == 0
    site.completed(waiting)
    assert sorted(effects.log) == ["Ada", "before", "first", "twice", "twice"]


def test_a_machine_without_the_results_does_nothing_again(site: Site, effects: Effects) -> None:
    site.supervise()
    effects.hold("two")
    id = site.start("steps")
    until(lambda: effects.log, lambda log: "two" in log, LONG)
    until(lambda: site.api.flow_run(id)["labels"], lambda seen: "compozy.kept" in seen)
    site.worker.kill()
    effects.release()
    site.new_worker(PREFECT_LOCAL_STORAGE_PATH=str(site.root / "elsewhere"))
    site.state(id, lambda name: name == "Failed")
    assert (
        "a result storage that this machine does not have"
        in (site.api.flow_run(id)["state"]["message"])
    )
    assert effects.log == ["one", "two"]


def test_a_long_wait_frees_the_process_and_a_signal_brings_it_back(
    site: Site, compozy: Compozy, effects: Effects
) -> None:
    id = site.start("waits")
    site.state(id, lambda name: name == "Suspended")
    until(site.worker.runs, lambda pids: not pids)
    sent = time.monotonic()
    assert compozy("signal", id, "go", "-d", '{"by": "Ada"}').code == 0
    until(lambda: effects.log, lambda log: "Ada" in log, LONG)
    print(f"next step {time.monotonic() - sent:.1f} s after the signal")
    site.completed(id)
    assert effects.log == ["before", "Ada"]


def test_the_button_brings_a_suspended_run_back(site: Site, effects: Effects) -> None:
    id = site.start("waits")
    site.state(id, lambda name: name == "Suspended")
    sent = time.monotonic()
    answer = site.api.post(f"/flow_runs/{id}/resume", {"run_input": {"by": "Bob"}})
    assert answer["status"] == "ACCEPT"
    until(lambda: effects.log, lambda log: "Bob" in log, LONG)
    print(f"next step {time.monotonic() - sent:.1f} s after the button")
    site.completed(id)
    assert effects.log == ["before", "Bob"]


def test_a_call_in_doubt_frees_the_process_and_its_decision_brings_it_back(
    site: Site, effects: Effects
) -> None:
    site.supervise()
    effects.hold("pay")
    id = site.start("pays")
    until(lambda: effects.log, lambda log: log == ["pay"], LONG)
    site.worker.kill()
    effects.release()
    until(lambda: site.actions(id), lambda did: did == ["revived"], LONG)
    site.new_worker()
    site.state(id, lambda name: name == "Suspended")
    until(site.worker.runs, lambda pids: not pids)
    form = {"decision": "done", "output": {"by": "Eve"}}
    answer = site.api.post(f"/flow_runs/{id}/resume", {"run_input": form})
    assert answer["status"] == "ACCEPT"
    site.completed(id)
    assert effects.log == ["pay", "Eve"]


def test_a_row_from_anywhere_and_the_end_of_the_time_bring_it_back(
    site: Site, effects: Effects
) -> None:
    first, second = site.start("waits"), site.start("waits", limit="20s")
    for id in (first, second):
        site.state(id, lambda name: name == "Suspended")
    site.supervise()
    key = "signal-go-1-response"
    site.api._client.post(
        f"/flow_runs/{first}/input", json={"key": key, "value": '{"by": "Eve"}'}
    ).raise_for_status()
    site.completed(first)
    # A wait that nobody answered fails the run, whatever runs after it.
    site.state(second, lambda name: name == "Failed")
    assert sorted(effects.log) == ["Eve", "before", "before", "late"]
    assert site.actions(first) == site.actions(second) == ["woken"]


def test_a_run_that_died_while_it_waited_goes_on_with_its_signal(
    site: Site, compozy: Compozy, effects: Effects
) -> None:
    site.worker.stop()
    site.new_worker(suspend_after=0)  # never
    site.supervise()
    id = site.start("waits")
    site.state(id, lambda name: name == "Paused")
    until(
        lambda: site.api.flow_run(id)["labels"], lambda seen: "go" in seen.get("compozy.waits", "")
    )
    site.worker.kill()
    site.state(id, lambda name: name == "Suspended")
    site.new_worker()
    assert compozy("signal", id, "go", "-d", '{"by": "Kim"}').code == 0
    site.completed(id)
    assert effects.log == ["before", "Kim"]
