"""What outlives the process: persisted results, the hand-over of events, interruption."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow_async
from prefect.states import Pending, Scheduled

from compozy_prefect.compiler.plan import RetryPlan, ToolCall
from compozy_prefect.flows import engine, execute, lease
from compozy_prefect.flows.build import build_flow
from compozy_prefect.flows.interrupt import SAME_WISH
from compozy_prefect.flows.run import run, run_sync
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.services import Services
from tests.support.chaos import groups_of
from tests.support.plans import plan, step
from tests.support.prefect_server import Api, until

OFFLINE = Services.create(offline=True, env={})
HEADER = """
import os, sys
from compozy_prefect.compiler.plan import ToolCall
from compozy_prefect.flows.run import run_sync
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.services import Services
from tests.support.plans import plan, step
"""


Program = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def program(prefect_server: Api) -> Iterator[Program]:
    """Starts processes that use the server of the tests, and ends those that have not ended."""
    running: list[subprocess.Popen[str]] = []

    def start(body: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HEADER + textwrap.dedent(body)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
            process.communicate()


def kept_of(execution_id: str) -> dict[str, Any]:
    """What the journal of a run holds, by the path of the step that gave it."""
    files = groups_of(Path(os.environ["PREFECT_HOME"]), execution_id)
    records = [json.loads(file.read_text()) for file in files]
    for record in records:
        assert record["metadata"]["serializer"]["type"] == "json"
        assert record["metadata"]["serializer"]["object_decoder"] is None
    groups = [json.loads(record["result"]) for record in records]
    return {where: value for group in groups for where, value in group.items()}


class TestResults:
    def test_each_step_leaves_json_under_its_own_path(self, prefect_server: Api) -> None:
        of = plan(step("one", with_={"n": 1}, then="a b"), step("a b", with_={"n": 1}))
        result = run_sync(of, "flow", {}, services=OFFLINE)
        given = {"input": {"n": 1}, "output": {"n": 1}}
        assert kept_of(result.execution_id) == {"one": given, "a b": given}

    async def test_a_resumed_run_does_not_repeat_what_is_done(self, prefect_server: Api) -> None:
        calls: list[str] = []

        class Counting:
            async def complete(self, request: Any, *, on_chunk: Any = None) -> Any:
                from compozy_prefect.runtime.llm.client import ModelAnswer, Usage

                calls.append(request.step)
                return ModelAnswer(f"answer {len(calls)}", Usage(1, 2, 0.5, 1), "m")

        from compozy_prefect.compiler.plan import AgentCall

        of = plan(
            step("first", agent=AgentCall("writer", "write"), with_={"topic": 1}, then="flaky"),
            step("flaky", tool=ToolCall("flaky"), then="last"),
            step("last", with_={"first": "{{ .tasks.first }}"}),
        )
        mocks = Mocks.from_mapping(
            {"tools": {"flaky": [{"error": "boom"}, {"output": {"ok": True}}]}}
        )
        client = Counting()
        services = Services(client, mocks, offline=True)
        result = await run(of, "flow", {}, services=services)
        assert result.status == "FAILED"
        await again(of, result.execution_id, services)
        flow_run = prefect_server.flow_run(result.execution_id)
        assert flow_run["state_type"] == "COMPLETED"
        assert calls == ["first"]
        runs = prefect_server.settled(result.execution_id, 3)
        assert runs["first"]["state_name"] == "Cached"
        assert runs["flaky"]["state_name"] == "Completed"
        first = kept_of(result.execution_id)["last"]["output"]["first"]
        assert first["output"] == {"response": "answer 1"}
        assert first["input"] == {"topic": 1}

    async def test_a_cancelled_step_is_not_taken_for_a_finished_one(
        self, prefect_server: Api
    ) -> None:
        of = plan(step("slow", tool=ToolCall("slow")))
        mocks = Mocks.from_mapping(
            {"tools": {"slow": [{"output": {"n": 1}, "delay": "60s"}, {"output": {"n": 2}}]}}
        )
        services = Services.create(offline=True, mocks=mocks, env={})
        cancellation = engine.Cancellation()
        asyncio.get_running_loop().call_later(4.0, cancellation.request, "enough")
        result = await run(of, "flow", {}, services=services, cancellation=cancellation)
        assert result.status == "CANCELED"
        assert result.tasks["slow"].status == "CANCELED"
        assert "slow" not in kept_of(result.execution_id)
        await again(of, result.execution_id, services)
        assert prefect_server.flow_run(result.execution_id)["state_type"] == "COMPLETED"

    async def test_a_result_is_data_whatever_it_says(self, prefect_server: Api) -> None:
        """Prefect's decoder would import and call what `__class__` names."""
        evil = {"__class__": "os.mkdir", "data": {"path": "/tmp/compozy-evil"}}
        of = plan(step("one", with_={"x": evil}, then="two"), step("two", with_={"n": 1}))
        result = await run(of, "flow", {}, services=OFFLINE)
        assert result.tasks["one"].output == {"x": evil}
        session = await again(of, result.execution_id, OFFLINE)
        assert session.outcome is not None
        assert session.outcome.tasks["one"].output == {"x": evil}


async def again(of: Any, execution_id: str, services: Services) -> execute.Session:
    """Claims the flow run and runs it once more (prefect-recipes.md §2)."""
    session = execute.Session(services)
    token = execute.SESSION.set(session)
    try:
        async with get_client() as client:
            id = UUID(execution_id)
            await client.set_flow_run_state(id, Scheduled(name="Resuming"), force=True)
            await client.set_flow_run_state(id, Pending())
            session.term = await lease.begin(client, id)
            flow_run = await client.read_flow_run(id)
            flow = build_flow(of, "flow")
            await run_flow_async(flow, flow_run=flow_run, parameters={}, return_type="state")
    finally:
        execute.SESSION.reset(token)
        await engine.hand_over()
    return session


class TestHandOver:
    def test_a_process_that_ends_at_once_loses_nothing(
        self, prefect_server: Api, program: Program
    ) -> None:
        process = program(
            """
            steps = [
                step(f"s{i}", then=f"s{i + 1}" if i < 49 else "", with_={"n": i}) for i in range(50)
            ]
            result = run_sync(plan(*steps), "flow", {}, services=Services.create(offline=True))
            print(result.execution_id, flush=True)
            os._exit(0)
            """
        )
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        id = out.split()[-1]
        runs = prefect_server.settled(id, 50)
        assert {run["state_name"] for run in runs.values()} == {"Completed"}
        assert prefect_server.flow_run(id)["state_type"] == "COMPLETED"
        until(
            lambda: prefect_server.logs(id),
            lambda lines: any("Finished in state Completed()" in line for line in lines),
        )


class TestInterruption:
    SLOW = """
    class Watcher:
        def run_started(self, execution_id, ui_url): print(execution_id, flush=True)
        def step_started(self, step): print("step", step.id, flush=True)
        def step_finished(self, step, status, seconds, error): pass
        def run_finished(self, result): pass

    mocks = Mocks.from_mapping({"tools": {"slow": {"output": {}, "delay": "60s"},
                                          "flaky": {"error": "boom"}}})
    services = Services.create(offline=True, mocks=mocks)
    from compozy_prefect.compiler.plan import RetryPlan
    patient = RetryPlan(attempts=3, initial=60)
    of = plan(step("one", with_={"n": 1}, then="two"), step("two", tool=ToolCall(TOOL),
              retry=patient, then="three"), step("three"))
    result = run_sync(of, "flow", {}, services=services, observer=Watcher())
    print("status", result.status, result.tasks["two"].status, flush=True)
    """

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("tool", ["slow", "flaky"], ids=["in a step", "between attempts"])
    def test_it_shows_as_cancelled(
        self, prefect_server: Api, program: Program, number: signal.Signals, tool: str
    ) -> None:
        process = program(f"TOOL = {tool!r}\n" + textwrap.dedent(self.SLOW))
        assert process.stdout is not None
        id = process.stdout.readline().strip()
        wait_for_line(process, "step two")
        if tool == "flaky":
            until(
                lambda: prefect_server.task_runs(id).get("two", {}),
                lambda run: run.get("state_name") == "AwaitingRetry",
            )
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert "status CANCELED CANCELED" in out
        assert "Traceback" not in err
        flow_run = prefect_server.flow_run(id)
        assert (flow_run["state_name"], flow_run["state"]["message"]) == (
            "Cancelled",
            "interrupted",
        )
        runs = prefect_server.settled(id, 2)
        assert runs["one"]["state_name"] == "Completed"
        assert runs["two"]["state_name"] == "Cancelled"
        # A service of the server cancels what a cancelled run has left, and may be there first.
        assert runs["two"]["state"]["message"] in (
            "interrupted",
            "The parent flow run was cancelled.",
        )

    def test_the_second_one_ends_the_process(self, program: Program) -> None:
        process = program(
            "TOOL = 'slow'\n"
            + textwrap.dedent(
                """
                import asyncio
                async def stubborn(*args, **kwargs):
                    while True:
                        try: await asyncio.sleep(60)
                        except asyncio.CancelledError: print("no", flush=True)
                from compozy_prefect.runtime.tools import dispatch
                dispatch.call = stubborn
                """
            )
            + textwrap.dedent(self.SLOW)
        )
        wait_for_line(process, "step two")
        process.send_signal(signal.SIGINT)
        wait_for_line(process, "no")
        process.send_signal(signal.SIGINT)  # at once: the same wish, passed on by a parent
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(SAME_WISH)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "may go on to show the run as running" in err

    def test_sigterm_before_the_body_of_the_flow(
        self, prefect_server: Api, program: Program
    ) -> None:
        """Prefect's own handler would raise from within the event loop."""
        process = program(
            "TOOL = 'slow'\n"
            + textwrap.dedent(
                """
                import asyncio, os, signal
                from prefect.flow_engine import AsyncFlowRunEngine
                begin = AsyncFlowRunEngine.begin_run
                async def interrupted(self):
                    os.kill(os.getpid(), signal.SIGTERM)
                    await asyncio.sleep(0)
                    return await begin(self)
                AsyncFlowRunEngine.begin_run = interrupted
                """
            )
            + textwrap.dedent(self.SLOW).replace(', result.tasks["two"].status', "")
        )
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        id, *rest = out.splitlines()
        assert rest == ["status CANCELED"]
        assert prefect_server.flow_run(id)["state_name"] == "Cancelled"

    async def test_a_run_cancelled_on_the_server_ends(self, prefect_server: Api) -> None:
        seen: dict[str, str] = {}

        class Watcher:
            def run_started(self, execution_id: str, ui_url: str) -> None:
                seen["id"] = execution_id

            def step_started(self, step: Any) -> None:
                state = {"type": "CANCELLING", "name": "Cancelling"}
                prefect_server.post(f"/flow_runs/{seen['id']}/set_state", {"state": state})

        mocks = Mocks.from_mapping({"tools": {"slow": {"output": {}, "delay": "60s"}}})
        result = await run(
            plan(step("slow", tool=ToolCall("slow"), retry=RetryPlan(attempts=1))),
            "flow",
            {},
            services=Services.create(offline=True, mocks=mocks, env={}),
            observer=Watcher(),  # type: ignore[arg-type]
        )
        assert result.status == "CANCELED"
        assert result.duration_seconds < 20
        flow_run = prefect_server.flow_run(result.execution_id)
        assert flow_run["state_name"] == "Cancelled"
        runs = prefect_server.settled(result.execution_id, 1)
        assert runs["slow"]["state_name"] == "Cancelled"


def wait_for_line(process: subprocess.Popen[str], wanted: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == wanted:
            return
    pytest.fail(f"no line {wanted!r}: {process.communicate()[1]}")


class Proxy:
    """Stands between a run and the server, until it is closed."""

    def __init__(self, url: str) -> None:
        self._target = (urlsplit(url).hostname, urlsplit(url).port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/api"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in [self._listening, *self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def test_a_server_that_goes_away_is_a_sentence(
    prefect_server: Api, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(prefect_server.url)
    monkeypatch.setenv("PREFECT_API_URL", proxy.url)
    process = program(
        """
        class Watcher:
            def step_started(self, step): print("step", step.id, flush=True)

        mocks = Mocks.from_mapping({"tools": {"slow": {"output": {}, "delay": "1s"}}})
        services = Services.create(offline=True, mocks=mocks)
        of = plan(step("slow", tool=ToolCall("slow"), then="two"), step("two"))
        result = run_sync(of, "flow", {}, services=services, observer=Watcher())
        error = result.error
        print(result.status, list(result.tasks), error.code, error.message, flush=True)
        """
    )
    wait_for_line(process, "step slow")
    proxy.close()
    out, err = process.communicate(timeout=90)
    assert f"the Prefect server at {proxy.url} does not answer" in out
    assert "FAILED ['slow', 'two'] SERVER_UNAVAILABLE" in out
    assert "Traceback" not in out + err
