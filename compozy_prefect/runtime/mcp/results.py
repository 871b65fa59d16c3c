"""What an MCP server answers to a call → any JSON (language.md §8)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime.mcp.faults import Failed

if TYPE_CHECKING:
    from mcp.types import CallToolResult


def result(answer: CallToolResult) -> Json:
    """The text, parsed where it is JSON; with other content, an object that lists all of it.

    Several texts are joined, unless the server also gives the result as data; so it is with a list,
    which the SDK cuts into a text for each item. Of images and sounds there is the size: a model
    could do nothing with their bytes as text. Raises Failed when the tool reports an error.
    """
    blocks = [_block(one) for one in answer.content]
    texts = [one["text"] for one in blocks if one["type"] == "text"]
    if answer.is_error:
        raise Failed("tool", "\n".join(texts).strip() or "it failed, and does not say why")
    data: Json = answer.structured_content
    if isinstance(data, dict) and (len(texts) != 1 or isinstance(data.get("result"), list)):
        return data
    if len(texts) < len(blocks):
        return {"content": blocks}
    return _parsed("\n".join(texts)) if texts else None


def _block(block: Any) -> dict[str, Any]:
    kind = block.type
    if kind == "text":
        return {"type": kind, "text": block.text}
    if kind in ("image", "audio"):
        return {"type": kind, "mime_type": block.mime_type, "bytes": len(block.data) * 3 // 4}
    if kind == "resource":
        inner = block.resource
        text = getattr(inner, "text", None)
        if text is not None:
            return {"type": "text", "text": text}
        of = {"uri": str(inner.uri), "mime_type": inner.mime_type}
        return {"type": kind, **of, "bytes": len(inner.blob) * 3 // 4}
    other: dict[str, Any] = block.model_dump(mode="json", exclude_none=True)
    return other


def _parsed(text: str) -> Json:
    try:
        value: Json = json.loads(text, parse_constant=_refuse)
        return value
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> Json:
    raise ValueError(constant)
