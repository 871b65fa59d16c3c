"""Tools of a request → what a provider is told of them, and the calls of its answer → ours.

Names of tools may hold `/` and `.` and be long (language.md §6.1); a provider takes 64 letters,
digits, `_` and `-`. The names of a request are changed where they have to be, the same in its
offers and in the calls of earlier messages, and changed back in the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime import schemas
from compozy_prefect.runtime.llm.client import ModelRequest, ToolCall, ToolOffer

LONGEST = 64


class Names:
    """The names of tools in one request, ours and the provider's."""

    def __init__(self, ours: Iterable[str]) -> None:
        self._theirs: dict[str, str] = {}
        self._ours: dict[str, str] = {}
        # Names that need no change first: no other may take theirs.
        for name in sorted(dict.fromkeys(ours), key=lambda name: _fitting(name) != name):
            theirs, number = _fitting(name), 1
            while theirs in self._ours:
                number += 1
                end = f"_{number}"
                theirs = _fitting(name)[: LONGEST - len(end)] + end
            self._theirs[name], self._ours[theirs] = theirs, name

    @classmethod
    def of(cls, request: ModelRequest) -> Names:
        """Those that are offered, and those of calls in earlier messages."""
        called = (call["function"]["name"] for call in _calls(request.messages))
        return cls([*(tool.name for tool in request.tools), *called])

    def theirs(self, ours: str) -> str:
        return self._theirs.get(ours, ours)

    def ours(self, theirs: str) -> str:
        return self._ours.get(theirs, theirs)


def options(request: ModelRequest, names: Names) -> dict[str, Any]:
    """`tools` and `tool_choice` of the call; nothing when there is nothing to offer."""
    choice: Json = request.tool_choice
    offered = request.tools
    if request.model.provider == "ollama":
        # It knows no choice, so that less is offered: nothing, or the one that has to be called.
        offered = tuple(
            tool
            for tool in offered
            if choice != "none" and choice in ("auto", "required", tool.name)
        )
        choice = "auto"
    if not offered:
        return {}
    out: dict[str, Any] = {"tools": [_offer(tool, names) for tool in offered]}
    if choice in ("none", "required"):
        out["tool_choice"] = choice
    elif choice != "auto":
        out["tool_choice"] = {"type": "function", "function": {"name": names.theirs(choice)}}
    return out


def messages(request: ModelRequest, names: Names) -> list[dict[str, Any]]:
    """The messages, with the provider's names of tools.

    Arguments that were no JSON are wrapped into an object: litellm reads them again.
    """
    out: list[dict[str, Any]] = []
    for message in request.messages:
        message = dict(message)
        if message.get("tool_calls"):
            message["tool_calls"] = [_called(call, names) for call in message["tool_calls"]]
        if message.get("role") == "tool" and message.get("name"):
            message["name"] = names.theirs(message["name"])
        out.append(message)
    return out


def call(id: str, name: str, arguments: str, names: Names) -> ToolCall:
    """A call as it came over the wire."""
    return ToolCall(id, names.ours(name), _object(arguments))


def _offer(tool: ToolOffer, names: Names) -> dict[str, Any]:
    schema = schemas.plain(tool.schema)
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        schema = {}
    parameters = {"type": "object", "properties": {}} | schema
    function = {"name": names.theirs(tool.name), "parameters": parameters}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _called(call: Mapping[str, Any], names: Names) -> dict[str, Any]:
    function = dict(call["function"])
    arguments = function.get("arguments") or ""
    if isinstance(_object(arguments), str):
        arguments = json.dumps({"invalid_arguments": arguments}, ensure_ascii=False)
    function |= {"name": names.theirs(function["name"]), "arguments": arguments or "{}"}
    return {**call, "function": function}


def _calls(messages: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for message in messages:
        yield from message.get("tool_calls") or ()


def _object(text: str) -> dict[str, Json] | str:
    """The arguments, or the text where it is no JSON object. None at all are an empty object."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text, parse_constant=_refuse, strict=False)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _refuse(constant: str) -> Json:
    raise ValueError(constant)


def _fitting(name: str) -> str:
    fitting = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return (fitting if re.match(r"[A-Za-z_]", fitting) else f"_{fitting}")[:LONGEST]
