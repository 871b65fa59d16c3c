"""Flows made from plans: their parameters, and how a run that we did not start goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect import Flow, flow

from compozy_prefect.compiler.emit import flow_names
from compozy_prefect.compiler.plan import (
    AgentCall,
    Plan,
    ProjectPlan,
    ToolCall,
    WorkflowPlan,
    loads,
)
from compozy_prefect.errors import UsageError
from compozy_prefect.flows.build import build_flow, flow_options, run_name
from compozy_prefect.flows.execute import WorkflowFailed, execute
from tests.support.plans import plan, step
from tests.support.prefect_server import Api

SCHEMA = {
    "type": "object",
    "required": ["topic"],
    "properties": {
        "topic": {"type": "string", "description": "What about."},
        "times": {"type": "integer", "default": 2, "minimum": 1},
        "note": {"type": "string"},
    },
}
ECHO = step("echo", with_={"input": "{{ .workflow.input }}"})


def of(**fields: Any) -> Plan:
    return plan(ECHO, **fields)


class TestFlows:
    def test_identity(self) -> None:
        made = of(description="It echoes.")
        built = build_flow(made, "flow")
        assert (built.name, built.version, built.description) == ("flow", made.hash, "It echoes.")
        assert built.isasync
        assert not built.should_validate_parameters

    def test_parameters_come_from_the_schema(self) -> None:
        shown = build_flow(of(input_schema=SCHEMA), "flow").parameters
        assert shown.required == ["topic"]
        assert list(shown.properties) == ["topic", "times", "note"]
        assert shown.properties["topic"]["description"] == "What about."
        assert shown.properties["times"]["default"] == 2
        assert shown.properties["times"]["minimum"] == 1

    @pytest.mark.parametrize(
        "schema", [None, {"type": "object", "properties": {"not-a-name": {"type": "string"}}}]
    )
    def test_a_single_parameter_otherwise(self, schema: Any) -> None:
        shown = build_flow(of(input_schema=schema), "flow").parameters
        assert list(shown.properties) == ["input"]

    def test_an_emitted_flow_has_the_same_parameters(self) -> None:
        made = of(input_schema=SCHEMA)
        assert emitted(made).parameters.properties.keys() == {"topic", "times", "note"}
        assert emitted(made).version == build_flow(made, "flow").version

    def test_an_unknown_workflow(self) -> None:
        with pytest.raises(UsageError, match="it has: `flow`"):
            build_flow(of(), "other")

    @pytest.mark.parametrize(
        ("given", "name"),
        [
            ({}, "flow"),
            ({"name": "Ada", "n": 3}, "flow name=Ada n=3"),
            ({"api_key": "sk-1234567890123456", "name": "Ada"}, "flow name=Ada"),
            ({"text": "sk-1234567890123456"}, "flow text=[REDACTED]"),
            ({"text": "a\nb\x00{c}"}, "flow text=a b {c}"),
            ({"list": [1], "none": None}, "flow"),
            ({"text": "x" * 100}, "flow text=" + "x" * 30 + "…"),
        ],
    )
    def test_names_of_runs(self, given: Any, name: str) -> None:
        assert run_name("flow", given) == name


def emitted(made: Plan) -> Flow[..., Any]:
    """A literal flow, as `compozy compile` writes it."""
    PLAN = loads(made.dumps())

    @flow(name="flow", **flow_options(PLAN, "flow"))
    async def literal(topic: str, times: int = 2, note: str | None = None) -> Any:
        return await execute(PLAN, "flow", {"topic": topic, "times": times, "note": note})

    return literal


class TestRunsThatWeDidNotStart:
    """So a worker runs them: there is no session, and the environment configures the services."""

    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COMPOZY_OFFLINE", "1")

    @pytest.mark.parametrize("make", [emitted, lambda made: build_flow(made, "flow")])
    async def test_absent_parameters_are_absent(self, prefect_server: Api, make: Any) -> None:
        output = await make(of(input_schema=SCHEMA))(topic="cats")
        assert output == {"echo": {"output": {"input": {"topic": "cats", "times": 2}}}}

    async def test_the_run_is_named(self, prefect_server: Api) -> None:
        state = await build_flow(of(input_schema=SCHEMA), "flow")(topic="cats", return_state=True)
        flow_run = prefect_server.flow_run(str(state.state_details.flow_run_id))
        assert flow_run["name"] == "flow topic=cats times=2"

    async def test_the_input_is_checked_in_the_flow(self, prefect_server: Api) -> None:
        built = build_flow(of(input_schema=SCHEMA), "flow")
        state = await built(topic="cats", times=0, return_state=True)
        assert state.is_failed()
        assert state.message.startswith(
            "the input of workflow `flow` breaks its schema: at `times`"
        )
        assert prefect_server.task_runs(str(state.state_details.flow_run_id)) == {}

    async def test_a_failure_raises_for_the_caller(self, prefect_server: Api) -> None:
        built = build_flow(plan(step("look", tool=ToolCall("lookup"))), "flow")
        with pytest.raises(WorkflowFailed, match="task `look` failed: tool `lookup`") as caught:
            await built()
        assert caught.value.code == "TOOL_NOT_FOUND"

    async def test_a_block_reference_in_the_input_is_data(self, prefect_server: Api) -> None:
        reference = {"$ref": {"block_document_id": "00000000-0000-0000-0000-000000000000"}}
        output = await build_flow(of(), "flow")(input={"x": reference})
        assert output == {"echo": {"output": {"input": {"x": reference}}}}

    async def test_mocks_and_dotenv(
        self, prefect_server: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mocks.yaml").write_text("agents: {writer: {write: {output: mocked}}}")
        (tmp_path / ".env").write_text("WHO=Ada\nHOME_TOWN='London'\n")
        monkeypatch.setenv("COMPOZY_MOCKS", str(tmp_path / "mocks.yaml"))
        monkeypatch.setenv("WHO", "nobody")
        made = plan(
            step("write", agent=AgentCall("writer", "write"), then="env"),
            step("env", with_={"who": "{{ .env.WHO }} of {{ .env.HOME_TOWN }} {{ .env.OWN }}"}),
            env={"OWN": "and {{ .env.WHO }}"},
        )

        @flow(name="flow", **flow_options(made, "flow"))
        async def literal() -> Any:
            return await execute(made, "flow", {}, env_dir=tmp_path)

        assert await literal() == {
            "write": {"output": {"response": "mocked"}},
            "env": {"output": {"who": "Ada of London and Ada"}},
        }

    async def test_execute_belongs_into_a_flow(self) -> None:
        with pytest.raises(UsageError, match="inside a flow run"):
            await execute(of(), "flow", {})


def test_an_id_that_prefect_refuses_as_a_name():
    workflow = WorkflowPlan("a/b & <c> 100%", start="x", steps=(step("x"),))
    plan_ = Plan(ProjectPlan("p"), {workflow.id: workflow})
    assert build_flow(plan_, workflow.id).name == flow_names(plan_)[workflow.id]
