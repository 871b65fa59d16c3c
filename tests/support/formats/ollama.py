"""Ollama's /api/chat."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from tests.support.formats.base import Format, Json, Refusal, Reply


class Ollama(Format):
    base = ""
    stream_type = "application/x-ndjson"
    kinds: ClassVar[dict[Any, Any]] = {
        "context": Refusal(400, "the input length exceeds the context length"),
        "key": Refusal(401, "unauthorized"),
        "model": Refusal(404, "model 'nobody' not found"),
        "quota": Refusal(402, "you have reached your weekly usage limit"),
    }

    def streams(self, path: str, request: Json) -> bool:
        return request.get("stream") is not False

    def schema(self, request: Json) -> Json | None:
        wanted = request.get("format")
        return wanted if isinstance(wanted, dict) else None

    def body(self, reply: Reply, request: Json) -> Json:
        reply = self.filled(reply, request)
        message: Json = {"role": "assistant", "content": reply.text}
        if reply.calls:
            message["tool_calls"] = self._calls(reply)
        return self._line(request, message, reply)

    def events(self, reply: Reply, request: Json) -> list[bytes]:
        reply = self.filled(reply, request)
        messages: list[Json] = [
            {"role": "assistant", "content": text} for text in reply.deltas() if text
        ]
        if reply.calls:
            calls = self._calls(reply)
            messages.append({"role": "assistant", "content": "", "tool_calls": calls})
        lines = [self._line(request, message) for message in messages]
        lines.append(self._line(request, {"role": "assistant", "content": ""}, reply))
        return [json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines]

    def error(self, status: int, refusal: Refusal) -> Json:
        return {"error": refusal.message}

    def error_event(self, refusal: Refusal) -> bytes:
        return json.dumps(self.error(0, refusal)).encode() + b"\n"

    def _calls(self, reply: Reply) -> list[Json]:
        return [
            {"function": {"index": index, "name": call.name, "arguments": call.arguments}}
            for index, call in enumerate(reply.calls)
        ]

    def _line(self, request: Json, message: Json, last: Reply | None = None) -> Json:
        line = {
            "model": request.get("model", "scripted"),
            "created_at": "2026-01-01T00:00:00.000000Z",
            "message": message,
            "done": last is not None,
        }
        if last is not None:
            line |= {
                "done_reason": "length" if last.reason == "length" else "stop",
                "total_duration": 5_000_000,
                "prompt_eval_count": last.prompt_tokens,
                "eval_count": last.completion_tokens,
            }
        return line
