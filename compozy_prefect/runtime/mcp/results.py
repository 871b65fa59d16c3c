"""What an MCP server answers → any JSON (language.md §8): to a call, and to what prompts read."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime.mcp.faults import Failed

if TYPE_CHECKING:
    from mcp.types import CallToolResult, GetPromptResult, ReadResourceResult

LARGEST_READ = 1 << 19  # bytes of text, or characters of base64, that a template may get


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


def resource(answer: ReadResourceResult) -> Json:
    """Text, as JSON where its type is JSON; other data as `{mime_type, data}`, in base64.

    Several contents, such as those of a folder, are a list. Raises Failed.
    """
    size = sum(len(getattr(one, "text", "").encode()) for one in answer.contents)
    size += sum(len(getattr(one, "blob", "")) for one in answer.contents)
    _within(size)
    found = [_content(one) for one in answer.contents]
    if not found:
        raise Failed("protocol", "the server gives nothing for it")
    return found[0] if len(found) == 1 else found


def prompt(answer: GetPromptResult) -> str:
    """The texts of the messages, with an empty line between them.

    Where both roles speak each begins with `user: ` or `assistant: `. Of images and sounds there
    is the size. Raises Failed.
    """
    roles = {one.role for one in answer.messages}
    said = []
    for one in answer.messages:
        block = _block(one.content)
        text = block["text"] if block["type"] == "text" else json.dumps(block, ensure_ascii=False)
        said.append(f"{one.role}: {text}" if len(roles) > 1 else text)
    whole = "\n\n".join(said)
    _within(len(whole.encode()))
    return whole


def _within(size: int) -> None:
    if size > LARGEST_READ:
        most = f"{LARGEST_READ >> 10} KiB"
        raise Failed("output", f"it is {size:,} bytes, and a template gets at most {most}")


def _content(content: Any) -> Json:
    kind = (content.mime_type or "").partition(";")[0].strip().lower()
    text = getattr(content, "text", None)
    if text is None:
        try:
            base64.b64decode(content.blob, validate=True)
        except binascii.Error as fault:
            raise Failed("protocol", f"its data is no base64: {str(fault).lower()}") from None
        return {"mime_type": kind, "data": content.blob}
    if kind not in ("application/json", "text/json") and not kind.endswith("+json"):
        return str(text)
    try:
        return _json(text)
    except (ValueError, RecursionError) as fault:
        raise Failed("protocol", f"its type is {kind}, and it is no JSON: {fault}") from None


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
        return _json(text)
    except (ValueError, RecursionError):
        return text


def _json(text: str) -> Json:
    value: Json = json.loads(text, parse_constant=_refuse)
    return value


def _refuse(constant: str) -> Json:
    raise ValueError(constant)
