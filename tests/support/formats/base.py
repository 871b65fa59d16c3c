"""What a provider is made to say, and what each wire format has to write it down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from compozy_prefect.runtime.llm.samples import sample

Json = Any


@dataclass(frozen=True)
class Call:
    """A call of a tool. Arguments that are text are no JSON, and sent as they are."""

    name: str
    arguments: Json
    id: str = "call_1"

    @property
    def text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True)
class Reply:
    """A good answer. `text` None: data for the schema of the request, in its format.

    `finish` is OpenAI's reason; `pieces` is how many deltas a streamed text comes in.
    """

    text: str | None = "ok"
    prompt_tokens: int = 10
    completion_tokens: int = 5
    delay: float = 0.0
    calls: tuple[Call, ...] = ()
    finish: str = ""
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    pieces: int = 3

    @property
    def reason(self) -> str:
        return self.finish or ("tool_calls" if self.calls else "stop")

    def deltas(self) -> list[str]:
        return cut(self.text or "", self.pieces)


@dataclass(frozen=True)
class Fault:
    """A refusal with a status; `retry_after` in seconds or as a date becomes the header.

    A `kind` is told in the provider's own words, and with its own status unless one is given.
    """

    status: int = 0
    message: str = "the script says no"
    retry_after: float | str | None = None
    kind: str = ""


@dataclass(frozen=True)
class Refusal:
    """How a provider says one kind of no: its status and the fields of its error."""

    status: int
    message: str
    type: str = ""
    code: str = ""


class Format:
    """One wire format. `kinds` are its refusals, `base` the path of the API's address."""

    base = ""
    kinds: ClassVar[dict[str, Refusal]] = {}
    stream_type = "text/event-stream"

    def request(self, path: str, body: Json) -> Json:
        """The request, with the model that it is for."""
        return body or {}

    def streams(self, path: str, request: Json) -> bool:
        return bool(request.get("stream"))

    def body(self, reply: Reply, request: Json) -> Json:
        raise NotImplementedError

    def events(self, reply: Reply, request: Json) -> list[bytes]:
        """A streamed answer, event by event."""
        raise NotImplementedError

    def error(self, status: int, refusal: Refusal) -> Json:
        raise NotImplementedError

    def error_event(self, refusal: Refusal) -> bytes:
        """A refusal in the middle of a stream."""
        return sse(self.error(refusal.status, refusal))

    def schema(self, request: Json) -> Json | None:
        """The schema that the answer has to fit."""
        raise NotImplementedError

    def filled(self, reply: Reply, request: Json) -> Reply:
        """The reply, with data for the schema where it has no text."""
        if reply.text is not None:
            return reply
        schema = self.schema(request)
        if schema is None:
            return replace(reply, text="" if reply.calls else "ok")
        return replace(reply, text=json.dumps(sample(schema, "server")))

    def refusal(self, fault: Fault) -> tuple[int, Refusal]:
        found = self.kinds[fault.kind] if fault.kind else Refusal(fault.status, fault.message)
        return fault.status or found.status, found


def sse(event: Json, name: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def cut(text: str, pieces: int) -> list[str]:
    """The text in so many pieces of about the same length, none of them empty."""
    size = max(1, -(-len(text) // max(1, pieces)))
    return [text[at : at + size] for at in range(0, len(text), size)]


def parsed(text: str) -> Json:
    try:
        return json.loads(text)
    except ValueError:
        return text


def halves(events: list[bytes]) -> Iterator[bytes]:
    """The first half of a stream, at least its first event."""
    yield from events[: max(1, len(events) // 2)]
