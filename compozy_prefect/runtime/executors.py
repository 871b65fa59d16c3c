"""What does the work of a step: an agent or a tool → its raw result (language.md §3.2, §4, §6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from compozy_prefect.compiler.plan import AgentCall, Json, StepPlan, ToolPlan, pointer
from compozy_prefect.errors import RunError
from compozy_prefect.expressions import Environment
from compozy_prefect.runtime import agents, prompts, templates
from compozy_prefect.runtime.budgets import Meter, Spend
from compozy_prefect.runtime.calling import Calling
from compozy_prefect.runtime.calls import Calls, Watch, once
from compozy_prefect.runtime.llm.client import ToolOffer
from compozy_prefect.runtime.mcp import asking, offering
from compozy_prefect.runtime.scope import Opened, Scope
from compozy_prefect.runtime.tools import cli, dispatch
from compozy_prefect.runtime.tools.effects import Effects
from compozy_prefect.runtime.tools.surroundings import Surroundings


class Question(NamedTuple):
    """What an agent is asked, and what of that it is offered by servers."""

    asked: prompts.Asked
    servers: offering.Servers
    offered: dict[str, offering.Offered]


@dataclass(frozen=True, slots=True)
class Executors:
    """The executors of one attempt, at the place `where` of the run.

    `inside` names the call that the talk of a called agent is a part of.
    """

    scope: Scope
    step: StepPlan
    opened: Opened
    where: str
    meter: Meter
    calls: Calls
    watch: Watch
    effects: Effects
    inside: str = ""

    @property
    def key(self) -> str:
        """What names the calls, also when they are made again."""
        key = f"{self.scope.context.execution_id}/{self.where}"
        return f"{key}/{self.inside}" if self.inside else key

    def place(self, call: str) -> str:
        """The key of a call among all of the step, with those of the agents that it calls."""
        return "/".join(filter(None, (self.inside, call)))

    async def ask(self, call: AgentCall) -> tuple[str, agents.AgentAnswer]:
        """The id of an agent's action and its answer (language.md §4.3, §4.5)."""
        question = await self.question(call)
        return question.asked.request.action, await self.answer(question)

    async def answer(self, question: Question) -> agents.AgentAnswer:
        scope, (asked, servers, offered) = self.scope, question

        async def use(name: str, arguments: dict[str, Json], key: str, spend: Spend) -> Json:
            if name in offered:
                return await self._serve(servers, offered[name], arguments, key)
            tool, env = scope.workflow.tools[name], asked.env
            return await self._use(tool, arguments, env, asked.environment, key, spend)

        return await agents.answer(
            asked.request,
            scope.services.client,
            use=use,
            calls=self.calls,
            watch=self.watch,
            meter=self.meter,
            permit=scope.permit,
        )

    async def asked(self, call: AgentCall) -> prompts.Asked:
        """What an agent is asked, rendered, with all that it is offered."""
        return (await self.question(call)).asked

    async def question(self, call: AgentCall, words: str = "") -> Question:
        """The same, with the servers of its tools; `words` as of `prompts.asked`."""
        asked = await prompts.asked(self.scope, self.step, call, self.opened, self._method, words)
        servers = self._servers(call, asked.request.action, asked.env, asked.environment)
        offered = await servers.offered(self.calls)
        if not offered:
            return Question(asked, servers, offered)
        tools = (
            ToolOffer(name, one.tool.description, one.tool.input_schema)
            for name, one in offered.items()
        )
        request = replace(asked.request, tools=(*asked.request.tools, *tools))
        return Question(replace(asked, request=request), servers, offered)

    def _servers(
        self, call: AgentCall, action: str, env: Mapping[str, str], environment: Environment
    ) -> offering.Servers:
        scope = self.scope
        seen = scope.context.for_step(self.step, env=env, given=self.opened.given)
        agent, around = scope.workflow.agents[call.agent], partial(self._around_server, env, "")
        return offering.Servers(scope, agent, action, seen, env, environment, around)

    async def use(self, tool: ToolPlan) -> Json:
        """The result of the step's tool, called with the `with` of the step."""
        opened = self.opened
        return await self._use(tool, opened.given, opened.env, opened.environment)

    async def _method(
        self, call: prompts.MethodCall, env: Mapping[str, str], environment: Environment
    ) -> Json:
        """The result of a call of a prompt, `.<root>.<id>.<method>(…)` (language.md §6.2).

        It is kept: a talk that goes on is asked the same, and nothing is called twice for it.
        """
        if call.root == "tools":
            kind, name = "tool", call.id
            made = partial(self._called, call, env, environment)
        else:
            what = asking.wanted(call.id, call.method, call.args)
            kind, name = what.kind, f"{call.id}/{what.name}"
            made = partial(self._read, call.id, what, env, environment)
        key = f"prompt/{call.key}"
        return await once(self.calls, self.watch, key, kind, name, call.args, made)

    async def _read(
        self,
        server: str,
        what: asking.Wanted,
        env: Mapping[str, str],
        environment: Environment,
    ) -> Json:
        """What an MCP server gives for `.mcps.<id>.<method>(…)` (language.md §8)."""
        if server not in self.scope.workflow.mcps:
            raise _unknown("MCP server", server, self.scope.workflow.mcps, "MCP_SERVER_NOT_FOUND")
        assert self.step.agent is not None
        servers = self._servers(self.step.agent, "", env, environment)
        return await asking.read(servers, server, what)

    async def _called(
        self, call: prompts.MethodCall, env: Mapping[str, str], environment: Environment
    ) -> Json:
        """The result of `.tools.<id>.<method>(…)` (language.md §6.2)."""
        tool = self.scope.workflow.tools.get(call.id)
        if tool is None:
            raise _unknown("tool", call.id, self.scope.workflow.tools, "TOOL_NOT_FOUND")
        tool, input = dispatch.method_call(tool, call.method, call.args)
        result = await self._use(tool, input, env, environment, f"{call.id}.{call.key}")
        has_data = tool.type in ("http", "cli") and isinstance(result, dict)
        return result.get("data") if has_data else result

    async def _use(
        self,
        tool: ToolPlan,
        input: dict[str, Json],
        env: Mapping[str, str],
        environment: Environment,
        call: str = "",
        spend: Spend = lambda _: None,
    ) -> Json:
        """A tool's result; the tool checks its own schemas (language.md §6.1).

        `call` is the key of a call that a model makes.
        """
        scope = self.scope
        at = pointer("workflows", scope.workflow.id, "tools", tool.id)
        seen = scope.context.for_step(self.step, env=env, given=self.opened.given)
        env, environment = scope.layer(tool.env, seen, environment, at + "/env", env)
        seen["env"] = env
        defaults = templates.render(tool.with_, seen, environment, at + "/with", scope.spans)

        made = replace(tool, with_=defaults, env=dict(env))

        def config() -> dict[str, Any]:
            place = at + "/config"
            if tool.type == "cli":  # its arguments come from the input of the call
                seen["input"] = seen["with"] = dispatch.filled(made, input)
                return cli.rendered(tool.config, seen, environment, place, scope.spans)
            return dict(templates.render(tool.config, seen, environment, place, scope.spans))

        await scope.permit()
        return await dispatch.call(
            made,
            input,
            self._around(tool, env, f"{self.key}/{call}" if call else self.key),
            config=config,
            builtin=partial(self._builtin, tool.id, call, spend),
            mocks=scope.services.mocks,
            offline=scope.services.offline,
            cassette=scope.services.cassette,
            once=partial(self.effects.once, made, self.place(call) or tool.id, input),
        )

    async def _serve(
        self,
        servers: offering.Servers,
        offered: offering.Offered,
        input: dict[str, Json],
        call: str,
    ) -> Json:
        """The result of a tool of an MCP server (language.md §8)."""
        scope = self.scope

        def config() -> dict[str, Any]:
            return {"connection": servers.connection(offered.server), "name": offered.name}

        await scope.permit()
        return await dispatch.call(
            offered.tool,
            input,
            self._around_server(servers.env, f"{self.key}/{call}", offered.server, offered.tool.id),
            config=config,
            mocks=scope.services.mocks,
            offline=scope.services.offline,
            cassette=scope.services.cassette,
            once=partial(self.effects.once, offered.tool, self.place(call), input),
        )

    def _around_server(
        self, env: Mapping[str, str], key: str, server: str, called: str
    ) -> Surroundings:
        at = pointer("workflows", self.scope.workflow.id, "mcps", server)
        return Surroundings(
            root=self.scope.services.root,
            outside=env,
            place=self.scope.spans.get(at),
            printed=partial(self.watch.printed, called),
            key=key,
        )

    def _around(self, tool: ToolPlan, env: Mapping[str, str], key: str) -> Surroundings:
        """What a tool runs in. Of `env` it sees what the files declare (§6.3)."""
        scope, step = self.scope, self.step
        declared = tool.env.keys() | step.env.keys() | scope.workflow.env.keys()
        if step.agent is not None:
            declared |= scope.workflow.agents[step.agent.agent].env.keys()
        at = pointer("workflows", scope.workflow.id, "tools", tool.id)
        parts = ("/execute", "/config/command", "/config/function")
        place = next(filter(None, (scope.spans.get(at + part) for part in parts)), None)
        return Surroundings(
            runtime=scope.context.runtime,
            root=scope.services.root,
            outside=env,
            declared={name: env[name] for name in declared if name in env},
            place=place or scope.spans.get(at),
            printed=partial(self.watch.printed, tool.id),
            key=key,
            # What an agent calls is not: it hears of a failure.
            is_repeated=step.retry.given and key == self.key and not self.inside,
        )

    async def _builtin(self, tool: str, call: str, spend: Spend, given: dict[str, Any]) -> Json:
        """The result of a built-in tool that the run itself answers (language.md §6.5)."""
        return await Calling(self, call, spend).result(tool, given)


def _unknown(what: str, name: str, known: Iterable[str], code: str) -> RunError:
    there_are = ", ".join(sorted(known)) or "none"
    message = f"there is no {what} `{name}`; there are: {there_are}"
    return RunError(message, code=code, retryable=False)
