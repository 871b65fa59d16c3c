"""Workflows of basic steps, run against a real Prefect server."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from compozy_prefect.compiler.compile import compile_project
from compozy_prefect.compiler.plan import (
    ActionPlan,
    AgentCall,
    CollectionPlan,
    FanPlan,
    Plan,
    RetryPlan,
    StepPlan,
    ToolCall,
    ToolPlan,
    Transition,
)
from compozy_prefect.errors import InputInvalid, ServerUnavailable, UsageError
from compozy_prefect.flows.run import RunResult, run, run_sync
from compozy_prefect.runtime.mocks import Mocks
from compozy_prefect.runtime.outcome import Failure
from compozy_prefect.runtime.services import Services
from tests.support.plans import agent, plan, step
from tests.support.prefect_server import Api

TOPIC = {
    "type": "object",
    "required": ["topic"],
    "properties": {
        "topic": {"type": "string", "minLength": 2},
        "tone": {"type": "string", "default": "plain"},
    },
}
FAST = RetryPlan(attempts=3, initial=0.01, maximum=0.02)


def started(
    of: Plan, input: dict[str, Any] | None = None, mocks: Any = None, **options: Any
) -> RunResult:
    services = Services.create(
        offline=options.pop("offline", True),
        mocks=Mocks.from_mapping(mocks) if mocks is not None else None,
        env=options.pop("env", {}),
        client=options.pop("client", None),
    )
    return run_sync(of, "flow", input or {}, services=services, **options)


def tool(id: str, name: str, **fields: Any) -> StepPlan:
    return step(id, tool=ToolCall(name), **fields)


WRITE = step(
    "write",
    agent=AgentCall("writer", "write"),
    with_={"topic": "{{ .workflow.input.topic }}"},
    outputs={"text": "{{ .output.response }}", "of": "{{ .with.topic }}"},
)


class TestHappyPath:
    def test_an_agent_answers_offline(self, prefect_server: Api) -> None:
        result = started(
            plan(WRITE, input_schema=TOPIC, outputs={"text": "{{ .tasks.write.output.text }}"}),
            {"topic": "cats"},
        )
        assert result.status == "SUCCESS"
        text = "Offline answer of writer.write to: Write about cats."
        assert result.output == {"text": text}
        assert result.to_json() == {
            "execution_id": result.execution_id,
            "workflow_id": "flow",
            "status": "SUCCESS",
            "input": {"topic": "cats", "tone": "plain"},
            "output": {"text": text},
            "error": None,
            "tasks": {
                "write": {
                    "status": "SUCCESS",
                    "type": "basic",
                    "output": {"text": text, "of": "cats"},
                    "error": None,
                    "parent": None,
                }
            },
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "cost_usd": 0.0},
            "duration_seconds": round(result.duration_seconds, 3),
            "ui_url": prefect_server.url.removesuffix("/api")
            + f"/runs/flow-run/{result.execution_id}",
        }

    def test_what_the_server_knows_of_it(self, prefect_server: Api) -> None:
        of = plan(WRITE, input_schema=TOPIC)
        result = started(of, {"topic": "cats"})
        flow_run = prefect_server.flow_run(result.execution_id)
        assert flow_run["state_type"] == "COMPLETED"
        assert flow_run["name"] == "flow topic=cats tone=plain"
        assert flow_run["flow_version"] == of.hash
        assert flow_run["parameters"] == {"topic": "cats"}
        runs = prefect_server.settled(result.execution_id, 1)
        assert runs["write"]["state_name"] == "Completed"
        assert runs["write"]["run_count"] == 1
        artifacts = prefect_server.artifacts(result.execution_id)
        assert artifacts.keys() == {"flow-output", "flow-usage"}
        assert '"of": "cats"' in artifacts["flow-output"]["data"]
        assert json.loads(artifacts["flow-usage"]["data"])[0]["task"] == "write"

    def test_the_plan_and_the_progress_show(self, prefect_server: Api) -> None:
        item = step("i-{{ .index }}", path="each/i", tool=ToolCall("slow"))
        each = step(
            "each",
            type="collection",
            fan=FanPlan("wait_all", 2),
            collection=CollectionPlan("{{ until 6 }}", single=True),
            steps=(item,),
        )
        mocks = Mocks.from_mapping({"tools": {"slow": {"output": {}, "delay": "1s"}}})
        result = run_sync(
            plan(each), "flow", {}, services=Services.create(offline=True, mocks=mocks, env={})
        )
        assert result.status == "SUCCESS"
        artifacts = prefect_server.artifacts(result.execution_id)
        picture, progress = artifacts["flow-plan"], artifacts["each-progress"]
        kind, _, data = picture["data"].partition("base64,")
        assert (picture["type"], kind) == ("image", "data:image/svg+xml;")
        assert b"each" in base64.b64decode(data)
        assert (progress["type"], progress["data"]) == ("progress", 100)

    def test_steps_follow_their_edges_and_read_each_other(self, prefect_server: Api) -> None:
        result = started(
            plan(
                step(
                    "one",
                    with_={"n": 1},
                    on_success=Transition("three", {"extra": "{{ .with.n }}"}),
                ),
                step("two", with_={"never": True}),
                step("three", with_={"n": "{{ .tasks.one.output.n }}", "two": "{{ .tasks.two }}"}),
            )
        )
        assert list(result.tasks) == ["one", "three"]
        assert result.output == {
            "one": {"output": {"n": 1}},
            "three": {"output": {"n": 1, "two": None, "extra": 1}},
        }
        runs = prefect_server.settled(result.execution_id, 2)
        assert runs["three"]["task_inputs"]["after"] == [
            {"input_type": "task_run", "id": runs["one"]["id"]}
        ]

    def test_the_context_of_workflow_outputs(self, prefect_server: Api) -> None:
        result = started(
            plan(
                step("one", with_={"n": 1}),
                name="Flow",
                version="2",
                outputs={
                    "id": "{{ .workflow.execution_id }}",
                    "done": "{{ .workflow.completed_tasks }}",
                    "rate": "{{ .workflow.success_rate }}",
                    "time": "{{ .workflow.execution_time }}",
                    "status": "{{ .status }}",
                    "last": "{{ .output }}",
                    "project": "{{ .project.name }} {{ .project.version }}",
                    "name": "{{ .workflow.name }} {{ .workflow.version }}",
                },
            )
        )
        assert result.status == "SUCCESS", result.error
        time = result.output.pop("time")
        assert 0 < time < 30
        assert result.output == {
            "id": result.execution_id,
            "done": ["one"],
            "rate": 1.0,
            "status": "SUCCESS",
            "last": {"n": 1},
            "project": "demo 1.0",
            "name": "Flow 2",
        }

    def test_keys_that_the_schema_does_not_list_arrive(self, prefect_server: Api) -> None:
        of = plan(step("one", with_={"all": "{{ .workflow.input }}"}), input_schema=TOPIC)
        result = started(of, {"topic": "cats", "more": [1]})
        assert result.tasks["one"].output == {
            "all": {"topic": "cats", "tone": "plain", "more": [1]}
        }
        stored = prefect_server.flow_run(result.execution_id)["parameters"]
        assert stored == {"topic": "cats", "more": [1]}

    def test_an_observer_sees_it_and_may_fail(self, prefect_server: Api) -> None:
        seen: list[Any] = []

        class Watcher:
            def run_started(self, execution_id: str, ui_url: str) -> None:
                seen.append(("started", execution_id in ui_url))
                raise RuntimeError("an observer's own trouble")

            def step_started(self, step: StepPlan) -> None:
                seen.append(step.id)

            def step_finished(
                self, step: StepPlan, status: str, seconds: float, error: Failure | None
            ) -> None:
                seen.append((step.id, status, seconds >= 0, error))

            def run_finished(self, result: RunResult) -> None:
                seen.append(result.status)

        started(plan(step("one", with_={"n": 1})), observer=Watcher())
        assert seen == [("started", True), "one", ("one", "SUCCESS", True, None), "SUCCESS"]

    def test_two_runs_in_one_loop(self, prefect_server: Api) -> None:
        services = Services.create(offline=True, env={})
        of = plan(
            *(step(f"s{i}", then=f"s{i + 1}" if i < 9 else "", with_={"n": i}) for i in range(10))
        )

        async def both() -> list[RunResult]:
            return await asyncio.gather(
                *(run(of, "flow", {"n": n}, services=services) for n in range(2))
            )

        results = asyncio.run(both())
        assert [result.status for result in results] == ["SUCCESS", "SUCCESS"]
        assert [result.input for result in results] == [{"n": 0}, {"n": 1}]
        for result in results:
            prefect_server.settled(result.execution_id, 10)


class TestMocks:
    def test_agents_and_tools(self, prefect_server: Api) -> None:
        of = plan(
            step("write", agent=AgentCall("writer", "write"), then="look"),
            tool("look", "lookup", with_={"id": 1}, outputs={"name": "{{ .output.name }}"}),
        )
        mocks = {
            "agents": {"writer": {"*": {"output": "words"}}},
            "tools": {"lookup": [{"when": {"id": 1}, "output": {"name": "Ada"}}]},
        }
        result = started(of, mocks=mocks, offline=False)
        assert result.output == {
            "write": {"output": {"response": "words"}},
            "look": {"output": {"name": "Ada"}},
        }

    def test_a_flaky_tool_is_retried(self, prefect_server: Api) -> None:
        of = plan(tool("flaky", "flaky", retry=FAST))
        mocks = {
            "tools": {"flaky": [{"error": "boom"}, {"error": "boom"}, {"output": {"ok": True}}]}
        }
        result = started(of, mocks=mocks)
        assert result.status == "SUCCESS"
        assert prefect_server.settled(result.execution_id, 1)["flaky"]["run_count"] == 3

    def test_retries_run_out(self, prefect_server: Api) -> None:
        result = started(
            plan(tool("flaky", "flaky", retry=FAST)), mocks={"tools": {"flaky": {"error": "boom"}}}
        )
        assert (result.status, result.error and result.error.code) == (
            "FAILED",
            "TOOL_EXECUTION_ERROR",
        )
        flaky = prefect_server.settled(result.execution_id, 1)["flaky"]
        assert (flaky["state_name"], flaky["run_count"]) == ("Failed", 3)
        assert "boom" in flaky["state"]["message"]

    @pytest.mark.parametrize("listed", ["ToolFailed", "TOOL_EXECUTION_ERROR"])
    def test_some_errors_are_not_worth_a_retry(self, prefect_server: Api, listed: str) -> None:
        retry = RetryPlan(attempts=3, initial=0.01, non_retryable=(listed,))
        result = started(
            plan(tool("flaky", "flaky", retry=retry)), mocks={"tools": {"flaky": {"error": "boom"}}}
        )
        assert prefect_server.settled(result.execution_id, 1)["flaky"]["run_count"] == 1

    def test_an_action_may_be_a_template(self, prefect_server: Api) -> None:
        write = step("write", agent=AgentCall("writer", "{{ .workflow.input.what }}"))
        good = started(plan(write), {"what": "write"})
        assert good.status == "SUCCESS"
        bad = started(plan(write), {"what": "sing"})
        assert bad.error is not None
        assert bad.error.code == "ACTION_NOT_FOUND"
        assert "no action `sing`; its actions: `write`" in bad.error.message

    def test_defaults_lie_under_the_with_of_the_step(self, prefect_server: Api) -> None:
        action = ActionPlan(
            "write",
            "{{ .input.a }}-{{ .with.b }}-{{ .input.c.x }}-{{ .input.c.y }}-{{ .input.d }}",
            with_={"a": "action", "b": "action", "c": {"x": 1, "y": 1}},
            input_schema={"type": "object", "properties": {"d": {"default": "schema"}}},
        )
        writer = agent(actions={"write": action}, with_={"a": "agent", "b": "agent"})
        write = step(
            "write", agent=AgentCall("writer", "write"), with_={"b": "step", "c": {"y": 2}}
        )
        result = started(plan(write, agents={"writer": writer}))
        assert result.tasks["write"].output["response"].endswith("action-step-1-2-schema")
        assert result.tasks["write"].input == {"b": "step", "c": {"y": 2}}


class TestFailures:
    def test_without_a_handler_later_steps_do_not_run(self, prefect_server: Api) -> None:
        of = plan(
            step("one", with_={"n": 1}, then="flaky"),
            tool("flaky", "flaky", then="two"),
            step("two"),
        )
        result = started(of, mocks={"tools": {"flaky": {"error": "boom"}}})
        assert result.status == "FAILED"
        assert list(result.tasks) == ["one", "flaky"]
        assert result.error is not None
        assert result.error.to_json() == {
            "message": "task `flaky` failed: boom",
            "code": "TOOL_EXECUTION_ERROR",
            "details": {"task": "flaky", "tool": "flaky"},
        }
        assert result.tasks["flaky"].status == "FAILED"
        assert result.output == {"one": {"output": {"n": 1}}, "flaky": {"output": None}}
        flow_run = prefect_server.flow_run(result.execution_id)
        assert flow_run["state_type"] == "FAILED"
        assert flow_run["state"]["message"] == "task `flaky` failed: boom"
        logs = "\n".join(prefect_server.logs(result.execution_id))
        assert "Traceback" not in logs

    def test_a_handler_runs_and_the_workflow_has_failed(self, prefect_server: Api) -> None:
        of = plan(
            tool("flaky", "flaky", on_error=Transition("handle", {"why": "{{ .workflow.id }}"})),
            step("handle", with_={"error": "{{ .tasks.flaky.error.message }}"}, then="after"),
            step("after", with_={"handled": "{{ .tasks.flaky.handled }}"}),
            outputs={
                "message": "{{ .tasks.handle.output.error }}",
                "rate": "{{ .workflow.success_rate }}",
                "status": "{{ .status }}",
            },
        )
        result = started(of, mocks={"tools": {"flaky": {"error": "boom"}}})
        assert result.status == "FAILED"
        assert result.output["message"] == "boom"
        assert result.output["status"] == "FAILED"
        assert result.output["rate"] == pytest.approx(2 / 3)
        assert result.tasks["handle"].output == {"error": "boom", "why": "flow"}
        assert result.tasks["flaky"].handled
        assert result.tasks["after"].output == {"handled": True}

    def test_a_step_times_out(self, prefect_server: Api) -> None:
        of = plan(tool("slow", "slow", timeout=0.2))
        result = started(of, mocks={"tools": {"slow": {"output": 1, "delay": "30s"}}})
        assert result.tasks["slow"].status == "TIMED_OUT"
        assert result.status == "FAILED"
        assert result.error is not None
        assert result.error.code == "TIMEOUT"
        assert "took longer than 0.2 s" in result.error.message
        assert result.duration_seconds < 20
        slow = prefect_server.settled(result.execution_id, 1)["slow"]
        assert slow["state_name"] == "TimedOut"
        assert "took longer than 0.2 s" in slow["state"]["message"]

    def test_a_condition_that_does_not_hold_skips(self, prefect_server: Api) -> None:
        of = plan(
            tool("flaky", "flaky", condition="{{ .workflow.input.go }}", then="two"),
            step("two", condition="tasks.flaky.output.skipped", with_={"n": 2}),
        )
        result = started(of, {"go": False}, mocks={"tools": {"flaky": {"error": "boom"}}})
        assert result.status == "SUCCESS"
        assert result.tasks["flaky"].output == {"skipped": True}
        assert result.tasks["two"].output == {"n": 2}

    def test_a_step_sleeps_once(self, prefect_server: Api) -> None:
        of = plan(tool("flaky", "flaky", sleep=0.4, timeout=0.3, retry=FAST))
        result = started(of, mocks={"tools": {"flaky": [{"error": "boom"}, {"output": {}}]}})
        assert result.status == "SUCCESS"
        assert 0.4 < result.tasks["flaky"].seconds < 0.8

    def test_the_input_of_a_step_is_checked_and_not_retried(self, prefect_server: Api) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}, "m": {"default": 5}}}
        good = started(plan(step("one", with_={"n": 1}, input_schema=schema)))
        assert good.tasks["one"].output == {"n": 1, "m": 5}
        bad = started(plan(step("one", with_={"n": "x"}, input_schema=schema, retry=FAST)))
        assert bad.error is not None
        assert bad.error.code == "INPUT_VALIDATION_ERROR"
        assert "at `n`: expected integer" in bad.error.message
        assert bad.tasks["one"].input == {"n": "x"}
        assert prefect_server.settled(bad.execution_id, 1)["one"]["run_count"] == 1

    def test_the_output_of_a_step_is_checked_before_its_outputs(self, prefect_server: Api) -> None:
        schema = {"type": "object", "required": ["name"]}
        of = plan(tool("look", "lookup", output_schema=schema, outputs={"x": "{{ .output.name }}"}))
        good = started(of, mocks={"tools": {"lookup": {"output": {"name": "Ada"}}}})
        assert good.tasks["look"].output == {"x": "Ada"}
        bad = started(of, mocks={"tools": {"lookup": {"output": {}}}})
        assert bad.error is not None
        assert bad.error.code == "OUTPUT_VALIDATION_ERROR"

    def test_a_template_says_where_it_stands(self, prefect_server: Api) -> None:
        spans = {
            "/workflows/flow/steps/0": ("workflows/flow.yaml", 3, 5, 9, 1),
            "/workflows/flow/steps/0/with/a/1": ("workflows/flow.yaml", 7, 12, 7, 40),
        }
        of = plan(
            step("one", with_={"a": [1, "{{ .workflow.input.user.name.first }}"]}, retry=FAST),
            spans=spans,
        )
        result = started(of, {"user": {}})
        assert result.error is not None
        assert "workflows/flow.yaml:7:12: " in result.error.message
        assert ".workflow.input.user.name" in result.error.message
        assert result.error.details["line"] == 7
        assert result.error.code.startswith("CZ4")
        assert prefect_server.settled(result.execution_id, 1)["one"]["run_count"] == 1

    def test_other_failures_have_the_place_of_the_step(self, prefect_server: Api) -> None:
        spans = {"/workflows/flow/steps/0": ("workflows/flow.yaml", 3, 5, 9, 1)}
        of = plan(tool("flaky", "flaky"), spans=spans)
        result = started(of, mocks={"tools": {"flaky": {"error": "boom"}}})
        assert result.error is not None
        assert result.error.details["file"] == "workflows/flow.yaml"
        assert result.error.details["line"] == 3

    def test_outputs_that_cannot_be_rendered_fail_the_workflow(self, prefect_server: Api) -> None:
        of = plan(step("one", with_={"n": 1}), outputs={"x": "{{ .tasks.one.output.n.deep.down }}"})
        result = started(of)
        assert result.status == "FAILED"
        assert result.output == {"one": {"output": {"n": 1}}}
        assert result.error is not None
        assert result.error.code.startswith("CZ4")
        assert prefect_server.flow_run(result.execution_id)["state_type"] == "FAILED"

    def test_validate_schema(self, prefect_server: Api) -> None:
        schemas = {"pos": {"type": "integer", "minimum": 1}}
        one = step(
            "one", with_={"v": "{{ .workflow.input.v | validateSchema('pos') }}"}, retry=FAST
        )
        assert started(plan(one, schemas=schemas), {"v": [1, 2]}).output == {
            "one": {"output": {"v": [1, 2]}}
        }
        bad = started(plan(one, schemas=schemas), {"v": [1, -2]})
        assert bad.status == "FAILED"
        assert bad.error is not None
        assert "-2" in bad.error.message

    def test_a_tool_that_nothing_answers(self, prefect_server: Api) -> None:
        result = started(plan(tool("look", "lookup", retry=FAST)))
        assert result.error is not None
        assert result.error.code == "TOOL_NOT_FOUND"
        assert prefect_server.settled(result.execution_id, 1)["look"]["run_count"] == 1

    def test_what_nobody_foresaw_is_a_failure_too(self, prefect_server: Api) -> None:
        class Broken:
            async def complete(self, request: Any, *, on_chunk: Any = None) -> Any:
                raise KeyError("gone")

        of = plan(step("write", agent=AgentCall("writer", "write")))
        result = started(of, client=Broken())
        assert result.status == "FAILED"
        assert result.error is not None
        assert "KeyError: 'gone'" in result.error.message
        assert "in complete" in "\n".join(prefect_server.logs(result.execution_id))

    def test_a_missing_key_fails_only_the_step_that_needs_it(self, prefect_server: Api) -> None:
        write = step("write", agent=AgentCall("writer", "write"), retry=FAST)
        of = plan(step("one", with_={"n": 1}, then="write"), write)
        result = started(of, offline=False)
        assert result.tasks["one"].ok
        assert result.error is not None
        assert result.error.code == "MISSING_CONFIGURATION"
        assert "OPENAI_API_KEY" in result.error.message


class TestBeforeTheRun:
    def test_input_that_breaks_the_schema_starts_no_run(self, prefect_server: Api) -> None:
        before = prefect_server.post("/flow_runs/count", {})
        with pytest.raises(InputInvalid, match="at `topic`"):
            started(plan(WRITE, input_schema=TOPIC), {"topic": "x"})
        assert prefect_server.post("/flow_runs/count", {}) == before

    def test_an_unknown_workflow(self) -> None:
        with pytest.raises(UsageError, match="it has: `flow`"):
            run_sync(plan(WRITE), "other", {}, services=Services.create(offline=True, env={}))

    def test_input_that_is_no_json(self) -> None:
        with pytest.raises(InputInvalid, match=r"the input is no JSON: the value at \.x is nan"):
            started(plan(step("one")), {"x": float("nan")})

    def test_input_larger_than_prefect_stores(self, prefect_server: Api) -> None:
        with pytest.raises(UsageError, match="512 KiB"):
            started(plan(step("one")), {"text": "x" * 600_000})

    def test_a_server_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with (
            temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
            pytest.raises(ServerUnavailable, match=r"http://127\.0\.0\.1:9/api does not answer"),
        ):
            started(plan(step("one")))


class TestSecrets:
    CANARY = "sk-canary-2f9c61d0aa41"

    def test_keys_reach_nothing_that_is_kept(self, prefect_server: Api, tmp_path: Path) -> None:
        class Leaky:
            async def complete(self, request: Any, *, on_chunk: Any = None) -> Any:
                from compozy_prefect.errors import ModelFailed

                assert request.api_key is None or request.api_key == TestSecrets.CANARY
                raise ModelFailed(f"401: the key {TestSecrets.CANARY} is wrong")

        of = plan(
            step("echo", with_={"key": "{{ .env.OPENAI_API_KEY }}"}, then="write"),
            step("write", agent=AgentCall("writer", "write"), with_={"topic": "x"}, retry=FAST),
        )
        result = started(of, client=Leaky(), offline=False, env={"OPENAI_API_KEY": self.CANARY})
        assert result.status == "FAILED"
        assert self.CANARY not in json.dumps(result.to_json())
        runs = prefect_server.settled(result.execution_id, 2)
        kept = [
            runs,
            prefect_server.flow_run(result.execution_id),
            prefect_server.logs(result.execution_id),
            prefect_server.artifacts(result.execution_id),
        ]
        assert self.CANARY not in json.dumps(kept)
        assert "[REDACTED]" in json.dumps(kept)
        home = Path(__import__("os").environ["PREFECT_HOME"])
        for file in home.rglob("*"):
            if file.is_file():
                assert self.CANARY.encode() not in file.read_bytes(), file


def test_tool_ids_and_step_ids_of_any_shape(prefect_server: Api) -> None:
    ids = ["..", "a b/c", "ü{x}", "%2E", "." * 300, "x" * 400]
    steps = [
        step(id, then=ids[n + 1] if n + 1 < len(ids) else "", with_={"n": n})
        for n, id in enumerate(ids)
    ]
    result = started(plan(*steps, tools={"t": ToolPlan("t")}))
    assert {id: state.output for id, state in result.tasks.items()} == {
        id: {"n": n} for n, id in enumerate(ids)
    }


FAILS = """
name: p
tools: [{id: t, type: http, config: {base_url: "http://localhost:1"}}]
tasks:
  - {id: one, with: {n: 1}}
  - {id: two, tool: t}
"""


def test_what_prefect_shows_of_a_failure_names_the_line(
    prefect_server: Api, tmp_path: Path
) -> None:
    (tmp_path / "compozy.yaml").write_text(FAILS, "utf-8")
    compiled = compile_project(tmp_path)
    mocks = Mocks.from_mapping({"tools": {"t": {"error": "boom"}}})
    services = Services.create(offline=True, mocks=mocks, env={})
    result = run_sync(compiled.plan, compiled.only_workflow(), {}, services=services)
    assert result.error is not None
    assert result.error.message == "task `two` failed: boom", "the place has fields of its own"
    assert (result.error.details["file"], result.error.details["line"]) == ("compozy.yaml", 6)
    flow_run = prefect_server.flow_run(result.execution_id)
    row = prefect_server.settled(result.execution_id, 2)["two"]
    assert flow_run["state"]["message"].startswith("task `two` failed: boom (compozy.yaml:6:")
    assert row["state"]["message"].startswith("boom (compozy.yaml:6:")
    assert "boom (compozy.yaml:6:" in "\n".join(prefect_server.logs(result.execution_id))


def test_a_place_is_not_said_twice() -> None:
    place = {"file": "a.yaml", "line": 3, "column": 7}
    assert Failure("no", "X", place).placed_message == "no (a.yaml:3:7)"
    assert Failure("no (a.yaml:3)", "X", place).placed_message == "no (a.yaml:3)"
    assert Failure("no", "X").placed_message == "no"


def test_a_call_of_a_tool_tells_its_sizes(prefect_server: Api) -> None:
    of = plan(
        tool("small", "get", then="large"),
        tool("large", "get", with_={"n": 5000}),
        tools={"get": ToolPlan("get", type="javascript", execute="({ n }) => 'x'.repeat(n || 1)")},
    )
    result = started(of)
    assert result.status == "SUCCESS"
    rows = prefect_server.settled(result.execution_id, 2)
    assert rows["small"]["state"]["message"] == "tool get: 2 B in, 14 B out"
    assert rows["large"]["state"]["message"] == "tool get: 11 B in, 5.01 kB out"
