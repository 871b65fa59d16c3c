"""A mocks file → answers that stand in for agents, tools and servers, and for nothing else.

    agents: {<agent id>: {<action id or "*">: <answers>}}
    tools:  {<tool id>: <answers>}
    mcps:   {<server id>: {resources: {<uri>: <answers>}, prompts: {<name>: <answers>}}}
    blocks: {<name of a block>: {<field>: <value>}}
    <answers>: {output | error, delay?, when?}, or a list of those

A list answers call by call and its last entry repeats; an entry with `when` answers, each time,
the calls whose input has the listed fields; that of a prompt is what it is filled in with, as text,
and a resource has none. What is mocked passes the same validation, mapping
and retries as a real answer: only the call itself is replaced.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from compozy_prefect.compiler.plan import Json
from compozy_prefect.errors import ModelFailed, ToolFailed, UsageError
from compozy_prefect.language.data import read_data
from compozy_prefect.language.names import nearest
from compozy_prefect.runtime.llm.client import (
    Listener,
    ModelAnswer,
    ModelClient,
    ModelRequest,
    Usage,
    tell,
)
from compozy_prefect.runtime.outcome import same_json
from compozy_prefect.runtime.schemas import shown

ANY = "*"
Keys = tuple[str | int, ...]
"""Where something stands in the mocks: keys and positions."""

_ROOTS = ("agents", "tools", "mcps", "blocks")
_SERVER = ("resources", "prompts")
_KEYS = ("output", "error", "delay", "when")


class MocksInvalid(UsageError):
    """Mocks of another shape. `path` is where, and `said` what is wrong there."""

    def __init__(self, source: str, path: Keys, said: str) -> None:
        at = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path)
        where = f"`{at[1:]}`" if path else "the file"
        super().__init__(f"{source}: {where} {said}")
        self.path, self.said = path, said


class Stranger(NamedTuple):
    """What is mocked, at `path`, and what the project does not have."""

    path: Keys
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One entry: `error` fails the call, otherwise `output` answers it. `delay` is in seconds."""

    output: Json = None
    error: str | None = None
    delay: float = 0.0
    when: dict[str, Json] | None = None

    def matches(self, given: Mapping[str, Json]) -> bool:
        return self.when is not None and all(
            name in given and same_json(given[name], value) for name, value in self.when.items()
        )

    async def given(
        self,
        what: str,
        seconds: float,
        details: dict[str, Json],
        *,
        late: str = "TOOL_TIMEOUT",
        failed: str = ToolFailed.code,
    ) -> Json:
        """What `what` gives, in so many seconds, 0 for any number.

        Raises ToolFailed: the entry's error, with the code `failed`, or that it came too late.
        """
        try:
            async with asyncio.timeout(seconds or None):
                await asyncio.sleep(self.delay)
        except TimeoutError:
            raise ToolFailed(
                f"{what} did not answer within {seconds:g} s",
                code=late,
                details={**details, "timeout_seconds": seconds},
            ) from None
        if self.error is not None:
            raise ToolFailed(self.error, code=failed, details=details)
        return self.output


class _Answers:
    """The entries for one action, tool, resource or prompt, and how far their list has come."""

    def __init__(self, entries: Iterable[Answer]) -> None:
        self.entries = tuple(entries)
        self._in_turn = tuple(entry for entry in self.entries if entry.when is None)
        self._calls = 0
        # One lock a list: calls come from the threads of a mapped task as well as from one loop.
        self._lock = threading.Lock()

    @property
    def count(self) -> bool:
        """Whether what they answer depends on the calls before."""
        return len(self._in_turn) > 1

    def next(self, given: Mapping[str, Json]) -> Answer | None:
        for entry in self.entries:
            if entry.matches(given):
                return entry
        if not self._in_turn:
            return None
        with self._lock:
            entry = self._in_turn[min(self._calls, len(self._in_turn) - 1)]
            self._calls += 1
        return entry


class Mocks:
    """The answers of one mocks file. The counters of its lists live as long as this object.

    `data` is what the file holds: a resumed run is answered by it again.
    """

    def __init__(
        self,
        agents: Mapping[str, Mapping[str, _Answers]],
        tools: Mapping[str, _Answers],
        data: Json = None,
        blocks: Mapping[str, Json] | None = None,
        servers: Mapping[str, Mapping[tuple[str, str], _Answers]] | None = None,
    ) -> None:
        self._agents = agents
        self._tools = tools
        self._servers = servers or {}  # by `resources` or `prompts`, and the name there
        self.blocks = blocks or {}
        self.data = data

    @classmethod
    def from_file(cls, path: str | Path) -> Mocks:
        """Raises UsageError when the file cannot be read or has another shape."""
        return cls.from_mapping(read_data(Path(path)), source=str(path))

    @classmethod
    def from_mapping(cls, data: Any, source: str = "mocks") -> Mocks:
        """Raises MocksInvalid, which names `source`, the key and what would be right."""
        if data is None:
            data = {}
        root = _mapping(data, source, ())
        _known(root, _ROOTS, source, ())
        agents: dict[str, dict[str, _Answers]] = {}
        for agent, actions in _part(root, "agents", source).items():
            at: Keys = ("agents", agent)
            listed = _mapping(actions, source, at, 'action ids (or "*") and their answers')
            agents[agent] = {
                action: _answers(answers, source, (*at, action))
                for action, answers in listed.items()
            }
        tools = {
            tool: _answers(answers, source, ("tools", tool))
            for tool, answers in _part(root, "tools", source).items()
        }
        servers = {
            server: dict(_server(given, source, ("mcps", server)))
            for server, given in _part(root, "mcps", source).items()
        }
        blocks: dict[str, Json] = {}
        for block, fields in _part(root, "blocks", source).items():
            at = ("blocks", block)
            blocks[block] = _mapping(fields, source, at, "the fields of the block")
            _json(fields, source, at)
        return cls(agents, tools, root, blocks, servers)

    def has_agent(self, agent: str, action: str) -> bool:
        actions = self._agents.get(agent, {})
        return action in actions or ANY in actions

    def has_tool(self, tool: str) -> bool:
        return tool in self._tools

    def counted(self) -> set[str]:
        """What is answered call by call, as `agents.x`, `tools.x` and `mcps.x`."""
        agents = {
            f"agents.{id}"
            for id, actions in self._agents.items()
            if any(answers.count for answers in actions.values())
        }
        servers = {
            f"mcps.{id}"
            for id, given in self._servers.items()
            if any(answers.count for answers in given.values())
        }
        tools = {f"tools.{id}" for id, answers in self._tools.items() if answers.count}
        return agents | tools | servers

    def for_agent(self, agent: str, action: str, given: Mapping[str, Json]) -> Answer | None:
        """The next answer of the action, None when the mocks do not name it.

        Raises ModelFailed when they name it and no entry fits the input.
        """
        actions = self._agents.get(agent, {})
        answers = actions.get(action, actions.get(ANY))
        if answers is None:
            return None
        found = answers.next(given)
        if found is None:
            raise ModelFailed(_unmatched(f"action `{action}` of agent `{agent}`", given), **_FINAL)
        return found

    def for_tool(self, tool: str, given: Mapping[str, Json]) -> Answer | None:
        """The next answer of the tool, None when the mocks do not name it.

        Raises ToolFailed when they name it and no entry fits the input.
        """
        answers = self._tools.get(tool)
        if answers is None:
            return None
        found = answers.next(given)
        if found is None:
            raise ToolFailed(_unmatched(f"tool `{tool}`", given), **_FINAL)
        return found

    def for_server(
        self, server: str, kind: str, name: str, given: Mapping[str, Json]
    ) -> Answer | None:
        """The next answer of a `resource` or `prompt`, None when the mocks do not name it.

        Raises ToolFailed when they name it and no entry fits what it is filled in with.
        """
        answers = self._servers.get(server, {}).get((f"{kind}s", name))
        if answers is None:
            return None
        found = answers.next(given)
        if found is None:
            raise ToolFailed(_unmatched(f"{kind} `{name}` of `{server}`", given), **_FINAL)
        return found

    def unknown(
        self,
        agents: Mapping[str, Collection[str]],
        tools: Collection[str],
        servers: Collection[str] = (),
        every_server: Collection[str] = (),
    ) -> list[Stranger]:
        """The ids that are mocked and that the project does not have.

        `agents` are the project's agents with the ids of their actions, `servers` those whose tools
        are not known: any may be of one of them.
        """
        out: list[Stranger] = []
        for agent, actions in self._agents.items():
            if agent not in agents:
                out.append(_stranger(("agents", agent), "agent", agents))
                continue
            out += [
                _stranger(("agents", agent, action), f"action of agent `{agent}`", agents[agent])
                for action in actions
                if action != ANY and action not in agents[agent]
            ]
        out += [
            _stranger(("tools", tool), "tool", tools)
            for tool in self._tools
            if tool not in tools and not servers
        ]
        return out + [
            _stranger(("mcps", server), "MCP server", every_server)
            for server in self._servers
            if server not in every_server
        ]


class MockedClient:
    """Answers what the mocks name, and hands the rest to `fallback`."""

    def __init__(self, mocks: Mocks, fallback: ModelClient | None = None) -> None:
        self._mocks = mocks
        self.fallback = fallback

    async def complete(
        self, request: ModelRequest, *, on_chunk: Listener | None = None
    ) -> ModelAnswer:
        """The next mocked answer of the action; a re-prompt is a call like any other.

        Raises ModelFailed for an `error`, for an input that no entry fits, and for an agent that
        is not mocked when there is no fallback.
        """
        found = self._mocks.for_agent(request.agent, request.action, request.input)
        if found is None:
            if self.fallback is None:
                raise ModelFailed(
                    f"action `{request.action}` of agent `{request.agent}` is not mocked, "
                    "and there is nothing else to ask",
                    retryable=False,
                )
            return await self.fallback.complete(request, on_chunk=on_chunk)
        if found.delay:
            await asyncio.sleep(found.delay)
        if found.error is not None:
            raise ModelFailed(found.error)
        # Text stands for the answer in words, whatever is to be read from them.
        if isinstance(found.output, str):
            text = found.output
        else:
            text = json.dumps(found.output, ensure_ascii=False)
        tell(text, on_chunk)
        return ModelAnswer(text, Usage(calls=1), "mocks")


_FINAL: dict[str, Any] = {"retryable": False}  # the same input finds no entry the next time either


def _unmatched(what: str, given: Mapping[str, Json]) -> str:
    return (
        f"the mocks of {what} have no entry for the input {shown(dict(given))}: no `when` matches, "
        "and there is no entry without one"
    )


def _stranger(path: Keys, what: str, known: Collection[str]) -> Stranger:
    name = str(path[-1])
    near = nearest(name, known)
    hint = f"; did you mean `{near}`?" if near else ""
    message = f"the mocks name the {what} `{name}`, which the project does not have{hint}"
    return Stranger(path, message)


def _server(data: Any, source: str, at: Keys) -> Iterator[tuple[tuple[str, str], _Answers]]:
    given = _mapping(data, source, at, "`resources` and `prompts`")
    _known(given, _SERVER, source, at)
    for kind, named in given.items():
        listed = _mapping(named, source, (*at, kind), "names and their answers")
        for name, answers in listed.items():
            yield (kind, name), _answers(answers, source, (*at, kind, name))


def _answers(data: Any, source: str, at: Keys) -> _Answers:
    if isinstance(data, list):
        if not data:
            raise MocksInvalid(source, at, "is an empty list; it needs at least one answer")
        return _Answers(_answer(item, source, (*at, n)) for n, item in enumerate(data))
    return _Answers([_answer(data, source, at)])


def _answer(data: Any, source: str, at: Keys) -> Answer:
    entry = _mapping(data, source, at, "`output` or `error`, and perhaps `delay` and `when`")
    _known(entry, _KEYS, source, at)
    if ("output" in entry) == ("error" in entry):
        both = "both `output` and `error`" if "output" in entry else "neither `output` nor `error`"
        raise MocksInvalid(source, at, f"has {both}; it needs one of them")
    error = entry.get("error")
    if "error" in entry and not isinstance(error, str):
        raise MocksInvalid(source, (*at, "error"), f"is {shown(error)}; it must be a text")
    when = entry.get("when")
    if "when" in entry:
        when = _mapping(when, source, (*at, "when"), "fields of the call's input")
    _json(entry.get("output"), source, (*at, "output"))
    delay = _seconds(entry["delay"], source, (*at, "delay")) if "delay" in entry else 0.0
    return Answer(output=entry.get("output"), error=error, delay=delay, when=when)


def _part(root: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    part = root.get(name)
    return {} if part is None else _mapping(part, source, (name,), "ids and their answers")


def _mapping(
    data: Any, source: str, at: Keys, wanted: str = "`agents` and `tools`"
) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise MocksInvalid(source, at, f"is {shown(data)}; it must be a map with {wanted}")
    for key in data:
        if not isinstance(key, str):
            raise MocksInvalid(source, at, f"has the key {shown(key)}; a key must be a text")
    return dict(data)


def _known(data: Mapping[str, Any], names: tuple[str, ...], source: str, at: Keys) -> None:
    for key in data:
        if key not in names:
            near = nearest(key, names)
            hint = f"; did you mean `{near}`?" if near else ""
            listed = ", ".join(f"`{name}`" for name in names)
            raise MocksInvalid(source, (*at, key), f"is unknown: there are {listed}{hint}")


def _json(value: Any, source: str, at: Keys) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as fault:
        raise MocksInvalid(source, at, f"is no JSON: {fault}") from None


def _seconds(value: Any, source: str, at: Keys) -> float:
    """Seconds of a duration such as `250ms` or `1h30m` (language.md §2.6)."""
    # Late, since the module brings pydantic, and few mocks have a delay.
    from compozy_prefect.language.durations import parse_duration

    try:
        return parse_duration(value)
    except ValueError as fault:
        raise MocksInvalid(source, at, f"is {shown(value)}: {fault}") from None
