"""OpenAI's responses, to which litellm takes the models that chat completions do not have."""

from __future__ import annotations

from tests.support.formats.base import Json, Reply, cut, sse
from tests.support.formats.openai import OpenAI


class Responses(OpenAI):
    def schema(self, request: Json) -> Json | None:
        return ((request.get("text") or {}).get("format") or {}).get("schema")

    def body(self, reply: Reply, request: Json) -> Json:
        reply = self.filled(reply, request)
        return self._response(reply, request, self._items(reply))

    def events(self, reply: Reply, request: Json) -> list[bytes]:
        reply = self.filled(reply, request)
        items = self._items(reply)
        events: list[Json] = [
            {"type": "response.created", "response": self._response(reply, request, [])}
        ]
        for index, item in enumerate(items):
            at = {"output_index": index, "item_id": item["id"]}
            if item["type"] == "message":
                head = item | {"content": [], "status": "in_progress"}
                kind, pieces = "response.output_text.delta", reply.deltas()
                at |= {"content_index": 0}
            else:
                head = item | {"arguments": "", "status": "in_progress"}
                kind, pieces = "response.function_call_arguments.delta", cut(item["arguments"], 3)
            events.append({"type": "response.output_item.added", "output_index": index})
            events[-1]["item"] = head
            events += [{"type": kind, **at, "delta": piece} for piece in pieces]
            events.append({"type": "response.output_item.done", "output_index": index})
            events[-1]["item"] = item
        done = self._response(reply, request, items)
        events.append({"type": f"response.{done['status']}", "response": done})
        numbered = [event | {"sequence_number": i} for i, event in enumerate(events)]
        return [sse(event, event["type"]) for event in numbered]

    def _items(self, reply: Reply) -> list[Json]:
        items: list[Json] = []
        if reply.text:
            content = [{"type": "output_text", "text": reply.text, "annotations": []}]
            items.append({"type": "message", "role": "assistant", "content": content})
        for call in reply.calls:
            item = {"type": "function_call", "call_id": call.id, "name": call.name}
            items.append(item | {"arguments": call.text})
        return [
            item | {"id": f"item_{index}", "status": "completed"}
            for index, item in enumerate(items)
        ]

    def _response(self, reply: Reply, request: Json, items: list[Json]) -> Json:
        return {
            "id": "resp_scripted",
            "object": "response",
            "created_at": 1_700_000_000,
            "status": "incomplete" if reply.reason == "length" else "completed",
            "incomplete_details": (
                {"reason": "max_output_tokens"} if reply.reason == "length" else None
            ),
            "error": None,
            "model": request.get("model", "scripted"),
            "output": items,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": reply.prompt_tokens,
                "input_tokens_details": {"cached_tokens": reply.cached_tokens},
                "output_tokens": reply.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
                "total_tokens": reply.prompt_tokens + reply.completion_tokens,
            },
        }
