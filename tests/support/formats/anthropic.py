"""Anthropic's messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from tests.support.formats.base import Call, Format, Json, Refusal, Reply, cut, parsed, sse


class Anthropic(Format):
    base = ""
    kinds: ClassVar[dict[Any, Any]] = {
        "context": Refusal(
            400, "prompt is too long: 210003 tokens > 200000 maximum", "invalid_request_error"
        ),
        "key": Refusal(401, "invalid x-api-key", "authentication_error"),
        "model": Refusal(404, "model: nobody", "not_found_error"),
        "quota": Refusal(
            400,
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & "
            "Billing to upgrade or purchase credits.",
            "invalid_request_error",
        ),
        "refused": Refusal(
            400, "Output blocked by content filtering policy", "invalid_request_error"
        ),
    }
    _types: ClassVar[dict[Any, Any]] = {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        504: "timeout_error",
        529: "overloaded_error",
    }
    _stops: ClassVar[dict[Any, Any]] = {
        "stop": "end_turn",
        "tool_calls": "tool_use",
        "length": "max_tokens",
        "content_filter": "refusal",
    }

    def schema(self, request: Json) -> Json | None:
        wanted = request.get("output_format") or (request.get("output_config") or {}).get("format")
        return (wanted or {}).get("schema") or (self._forced(request) or {}).get("input_schema")

    def filled(self, reply: Reply, request: Json) -> Reply:
        reply = super().filled(reply, request)
        forced = self._forced(request)
        value = parsed(reply.text or "")
        if forced is None or reply.calls or not isinstance(value, dict):
            return reply
        call = Call(forced["name"], value)
        return replace(reply, text="", calls=(call,), finish="tool_calls")

    def body(self, reply: Reply, request: Json) -> Json:
        reply = self.filled(reply, request)
        content: list[Json] = [{"type": "text", "text": reply.text}] if reply.text else []
        content += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
            for call in reply.calls
        ]
        message = self._message(request, reply)
        message["usage"]["output_tokens"] = reply.completion_tokens
        return message | {"content": content, "stop_reason": self._stops[reply.reason]}

    def events(self, reply: Reply, request: Json) -> list[bytes]:
        reply = self.filled(reply, request)
        events: list[Json] = [{"type": "message_start", "message": self._message(request, reply)}]
        blocks: list[tuple[Json, list[Json]]] = []
        if reply.text:
            deltas = [{"type": "text_delta", "text": text} for text in reply.deltas()]
            blocks.append(({"type": "text", "text": ""}, deltas))
        for call in reply.calls:
            head = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            pieces = [
                {"type": "input_json_delta", "partial_json": text} for text in cut(call.text, 3)
            ]
            blocks.append((head, pieces))
        for index, (head, deltas) in enumerate(blocks):
            events.append({"type": "content_block_start", "index": index, "content_block": head})
            events.append({"type": "ping"})
            events += [
                {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
            ]
            events.append({"type": "content_block_stop", "index": index})
        stop = {"stop_reason": self._stops[reply.reason], "stop_sequence": None}
        usage = {"output_tokens": reply.completion_tokens}
        events.append({"type": "message_delta", "delta": stop, "usage": usage})
        events.append({"type": "message_stop"})
        return [sse(event, event["type"]) for event in events]

    def error(self, status: int, refusal: Refusal) -> Json:
        kind = refusal.type or self._types.get(status, "api_error")
        error = {"type": kind, "message": refusal.message}
        return {"type": "error", "error": error, "request_id": "req_scripted"}

    def error_event(self, refusal: Refusal) -> bytes:
        return sse(self.error(refusal.status, refusal), "error")

    def _forced(self, request: Json) -> Json | None:
        choice = request.get("tool_choice") or {}
        named = [tool for tool in request.get("tools", ()) if tool["name"] == choice.get("name")]
        return named[0] if named else None

    def _message(self, request: Json, reply: Reply) -> Json:
        return {
            "id": "msg_scripted",
            "type": "message",
            "role": "assistant",
            "model": request.get("model", "scripted"),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                # What was read from the cache is counted apart here.
                "input_tokens": reply.prompt_tokens - reply.cached_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": reply.cached_tokens,
                "output_tokens": 1,
            },
        }
