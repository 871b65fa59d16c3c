"""An output schema and a model → how the model is told to keep to it (language.md §4.5, no. 2).

Natively where the model can and no tools are offered; else the schema stands in the prompt, and
JSON mode is on where there is one (service.md §8.2).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from compozy_prefect.compiler.plan import Json
from compozy_prefect.runtime import schemas
from compozy_prefect.runtime.llm.capabilities import Capabilities
from compozy_prefect.runtime.llm.client import ModelRequest

_STRICT = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"}
    | {"$ref", "$defs", "description", "title"}
)


@dataclass(frozen=True, slots=True)
class Form:
    """`response_format` of the call, and what to add to the prompt; either may be nothing."""

    response_format: dict[str, Any] | None = None
    instruction: str = ""


def form(request: ModelRequest, can: Capabilities) -> Form:
    """How the model is asked for an answer that fits the schema, or for JSON, or for words."""
    schema = request.schema
    # In JSON mode there would be no calls of tools, and a schema would hold for them, too.
    json_mode = {"type": "json_object"} if can.json_mode and not request.tools else None
    if schema is None or schema is True:
        if not request.json_mode:
            return Form()
        return Form(json_mode, "Answer with one JSON object only.")
    shape = schemas.plain(schema)
    # All providers want an object at the root, and JSON mode means one.
    wants_object = isinstance(shape, dict) and shape.get("type", "object") == "object"
    whole = isinstance(shape, dict) and shape.get("type") == "object"
    if whole and can.schema != "prompt" and not request.tools:
        body = {"name": "output", "schema": shape, "strict": strict(shape)}
        return Form({"type": "json_schema", "json_schema": body})
    text = json.dumps(shape, ensure_ascii=False, separators=(",", ":"))
    instruction = (
        "Answer with one JSON value only, without any other words, that fits this JSON schema:\n"
        + text
    )
    return Form(json_mode if wants_object else None, instruction)


def instructed(messages: list[dict[str, Any]], form: Form) -> list[dict[str, Any]]:
    """The messages with the instruction at the end of what the user says last."""
    if form.instruction:
        for message in reversed(messages):
            if message.get("role") == "user":
                content = message["content"]
                if isinstance(content, list):
                    message["content"] = [*content, {"type": "text", "text": form.instruction}]
                else:
                    message["content"] = f"{content}\n\n{form.instruction}"
                break
    return messages


def strict(schema: Json) -> bool:
    """Whether OpenAI's strict mode takes the schema: closed objects, all properties required."""
    if not isinstance(schema, dict) or not set(schema) <= _STRICT:
        return False
    if isinstance(schema.get("type"), list) or not (set(schema) & {"type", "$ref", "anyOf"}):
        return False
    parts: list[Json] = [*schema.get("anyOf", []), *schema.get("$defs", {}).values()]
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False:
            return False
        if set(schema.get("required", ())) != set(properties):
            return False
        parts += properties.values()
    if schema.get("type") == "array":
        parts.append(schema.get("items"))
    return all(strict(part) for part in parts)
