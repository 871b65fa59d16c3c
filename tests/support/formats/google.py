"""Gemini's generateContent."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.support.formats.base import Format, Json, Refusal, Reply, sse


class Google(Format):
    base = "/v1beta"
    kinds: ClassVar[dict[Any, Any]] = {
        "context": Refusal(
            400,
            "The input token count (1200003) exceeds the maximum number of tokens allowed "
            "(1048576).",
            "INVALID_ARGUMENT",
        ),
        "key": Refusal(
            400,
            "API key not valid. Please pass a valid API key.",
            "INVALID_ARGUMENT",
            "API_KEY_INVALID",
        ),
        "model": Refusal(
            404,
            "models/nobody is not found for API version v1beta, or is not supported for "
            "generateContent. Call ListModels to see the list of available models.",
            "NOT_FOUND",
        ),
        "quota": Refusal(
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            "RESOURCE_EXHAUSTED",
        ),
    }
    _statuses: ClassVar[dict[Any, Any]] = {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
    }
    _finishes: ClassVar[dict[Any, Any]] = {
        "stop": "STOP",
        "tool_calls": "STOP",
        "length": "MAX_TOKENS",
    }

    def streams(self, path: str, request: Json) -> bool:
        return ":streamGenerateContent" in path

    def request(self, path: str, body: Json) -> Json:
        return {"model": path.rpartition("/models/")[2].partition(":")[0], **(body or {})}

    def schema(self, request: Json) -> Json | None:
        config = request.get("generationConfig") or {}
        for name in ("response_json_schema", "responseJsonSchema", "response_schema"):
            if name in config:
                return config[name]
        return config.get("responseSchema")

    def body(self, reply: Reply, request: Json) -> Json:
        reply = self.filled(reply, request)
        parts: list[Json] = [{"text": reply.text}] if reply.text else []
        return self._answer(request, reply, parts + self._calls(reply), True)

    def events(self, reply: Reply, request: Json) -> list[bytes]:
        reply = self.filled(reply, request)
        pieces: list[list[Json]] = [[{"text": text}] for text in reply.deltas()]
        pieces += [[part] for part in self._calls(reply)]
        pieces = pieces or [[]]
        last = len(pieces) - 1
        return [sse(self._answer(request, reply, part, i == last)) for i, part in enumerate(pieces)]

    def error(self, status: int, refusal: Refusal) -> Json:
        kind = refusal.type or self._statuses.get(status, "INTERNAL")
        error: Json = {"code": status, "message": refusal.message, "status": kind}
        if refusal.code:
            info = "type.googleapis.com/google.rpc.ErrorInfo"
            error["details"] = [{"@type": info, "reason": refusal.code}]
        return {"error": error}

    def _calls(self, reply: Reply) -> list[Json]:
        return [
            {"functionCall": {"name": call.name, "args": call.arguments}} for call in reply.calls
        ]

    def _answer(self, request: Json, reply: Reply, parts: list[Json], last: bool) -> Json:
        thoughts = reply.reasoning_tokens
        usage = {
            "promptTokenCount": reply.prompt_tokens,
            "candidatesTokenCount": reply.completion_tokens - thoughts,
            "totalTokenCount": reply.prompt_tokens + reply.completion_tokens,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": reply.prompt_tokens}],
        }
        usage |= {"thoughtsTokenCount": thoughts} if thoughts else {}
        usage |= {"cachedContentTokenCount": reply.cached_tokens} if reply.cached_tokens else {}
        out = {"usageMetadata": usage, "modelVersion": request["model"], "responseId": "r"}
        if reply.reason == "content_filter" and not parts:
            return out | {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
        candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if last:
            candidate["finishReason"] = self._finishes.get(reply.reason, "SAFETY")
        return out | {"candidates": [candidate]}
