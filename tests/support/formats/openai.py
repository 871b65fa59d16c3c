"""OpenAI's chat completions, and Groq's variant of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from tests.support.formats.base import Call, Format, Json, Refusal, Reply, cut, parsed, sse


class OpenAI(Format):
    base = "/v1"
    kinds: ClassVar[dict[Any, Any]] = {
        "context": Refusal(
            400,
            "This model's maximum context length is 128000 tokens. However, your messages "
            "resulted in 130003 tokens. Please reduce the length of the messages.",
            "invalid_request_error",
            "context_length_exceeded",
        ),
        "key": Refusal(
            401,
            "Incorrect API key provided: sk-te*****cdef. You can find your API key at "
            "https://platform.openai.com/account/api-keys.",
            "invalid_request_error",
            "invalid_api_key",
        ),
        "model": Refusal(
            404,
            "The model `nobody` does not exist or you do not have access to it.",
            "invalid_request_error",
            "model_not_found",
        ),
        "quota": Refusal(
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
            "insufficient_quota",
        ),
        "refused": Refusal(
            400,
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
            "invalid_request_error",
            "content_policy_violation",
        ),
    }

    def schema(self, request: Json) -> Json | None:
        wanted = (request.get("response_format") or {}).get("json_schema") or {}
        forced = _forced(request.get("tools"), request.get("tool_choice"))
        return wanted.get("schema") or (forced or {}).get("parameters")

    def filled(self, reply: Reply, request: Json) -> Reply:
        """Where a tool is forced, a text is what it is called with."""
        reply = super().filled(reply, request)
        forced = _forced(request.get("tools"), request.get("tool_choice"))
        if forced is None or reply.calls:
            return reply
        call = Call(forced["name"], parsed(reply.text or ""))
        return replace(reply, text="", calls=(call,), finish="tool_calls")

    def body(self, reply: Reply, request: Json) -> Json:
        reply = self.filled(reply, request)
        message: Json = {"role": "assistant", "content": reply.text or None}
        if reply.calls:
            message["tool_calls"] = [_call(call) for call in reply.calls]
        choice = {"index": 0, "message": message, "finish_reason": reply.reason, "logprobs": None}
        return self._envelope(request, "chat.completion") | {
            "choices": [choice],
            "usage": self.usage(reply),
        }

    def events(self, reply: Reply, request: Json) -> list[bytes]:
        reply = self.filled(reply, request)
        deltas: list[Json] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": text} for text in reply.deltas()]
        for index, call in enumerate(reply.calls):
            deltas.append({"tool_calls": [{"index": index, **_call(call, "")}]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
                for text in cut(call.text, 3)
            ]
        chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        chunks.append({"index": 0, "delta": {}, "finish_reason": reply.reason})
        head = self._envelope(request, "chat.completion.chunk")
        out = [sse(head | {"choices": [chunk]}) for chunk in chunks]
        if (request.get("stream_options") or {}).get("include_usage"):
            out.append(sse(head | {"choices": [], "usage": self.usage(reply)}))
        return [*out, b"data: [DONE]\n\n"]

    def usage(self, reply: Reply) -> Json:
        return {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": reply.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": reply.reasoning_tokens},
        }

    def error(self, status: int, refusal: Refusal) -> Json:
        error = {"message": refusal.message, "type": refusal.type or "scripted", "param": None}
        return {"error": error | {"code": refusal.code or None}}

    def _envelope(self, request: Json, kind: str) -> Json:
        return {
            "id": "chatcmpl-scripted",
            "object": kind,
            "created": 1_700_000_000,
            "model": request.get("model", "scripted"),
        }


class Groq(OpenAI):
    """OpenAI's, with a service tier, which litellm insists on, and refusals of its own."""

    base = "/openai/v1"
    kinds: ClassVar[dict[Any, Any]] = OpenAI.kinds | {
        "context": Refusal(
            400,
            "Please reduce the length of the messages or completion.",
            "invalid_request_error",
            "context_length_exceeded",
        ),
        "key": Refusal(401, "Invalid API Key", "invalid_request_error", "invalid_api_key"),
        "quota": Refusal(429, "Your organization has been restricted.", "insufficient_quota"),
        "tool": Refusal(
            400,
            "Failed to call a function. Please adjust your prompt. See 'failed_generation'.",
            "invalid_request_error",
            "tool_use_failed",
        ),
    }

    def body(self, reply: Reply, request: Json) -> Json:
        return super().body(reply, request) | {"service_tier": "on_demand", "x_groq": {"id": "r"}}


def _call(call: Call, arguments: str | None = None) -> Json:
    text = call.text if arguments is None else arguments
    function = {"name": call.name, "arguments": text}
    return {"id": call.id, "type": "function", "function": function}


def _forced(tools: Json, choice: Json) -> Json | None:
    """The function that OpenAI's `tool_choice` names."""
    if not isinstance(choice, dict):
        return None
    name = choice["function"]["name"]
    return next((t["function"] for t in tools or () if t["function"]["name"] == name), None)
