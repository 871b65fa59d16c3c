"""An output schema and a model → how the model is told to keep to it (language.md §4.5, no. 2).

Natively where litellm knows that the model can; else the schema stands in the prompt, and JSON
mode is on where there is one (service.md §8.2).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from compozy_prefect.compiler.plan import Json, ModelPlan
from compozy_prefect.runtime import schemas

_STRICT = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"}
    | {"$ref", "$defs", "description", "title"}
)


@dataclass(frozen=True, slots=True)
class Form:
    """`response_format` of the call, and what to add to the prompt; either may be nothing."""

    response_format: dict[str, Any] | None = None
    instruction: str = ""


def form(litellm: Any, prefix: str, model: ModelPlan, schema: Json | None, json_mode: bool) -> Form:
    """How `model` is asked for an answer that fits `schema`, or for JSON, or for words."""
    if schema is None or schema is True:
        if not json_mode:
            return Form()
        return Form(_json_mode(litellm, prefix, model), "Answer with one JSON object only.")
    shape = schemas.plain(schema)
    if _native(litellm, prefix, model, shape):
        body = {"name": "output", "schema": shape, "strict": strict(shape)}
        return Form({"type": "json_schema", "json_schema": body})
    text = json.dumps(shape, ensure_ascii=False, separators=(",", ":"))
    instruction = (
        "Answer with one JSON value only, without any other words, that fits this JSON schema:\n"
        + text
    )
    # JSON mode means an object; a schema for a list or a text would be at odds with it.
    wants_object = isinstance(shape, dict) and shape.get("type", "object") == "object"
    return Form(_json_mode(litellm, prefix, model) if wants_object else None, instruction)


def instructed(messages: tuple[dict[str, Any], ...], form: Form) -> list[dict[str, Any]]:
    """The messages with the instruction at the end of the first user message."""
    out = [dict(message) for message in messages]
    if form.instruction:
        for message in out:
            if message.get("role") == "user":
                message["content"] = f"{message['content']}\n\n{form.instruction}"
                break
    return out


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


def _native(litellm: Any, prefix: str, model: ModelPlan, schema: Json) -> bool:
    # All providers want an object at the root.
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return False
    if model.provider == "ollama":
        # Any model takes a schema there; litellm would ask the server about it, and block.
        return True
    if model.provider == "custom":
        return False
    try:
        return bool(litellm.supports_response_schema(model=model.model, custom_llm_provider=prefix))
    except Exception:
        return False


def _json_mode(litellm: Any, prefix: str, model: ModelPlan) -> dict[str, Any] | None:
    if model.provider == "anthropic":
        return None  # imitated by a forced tool, which does worse than the instruction
    try:
        known = litellm.get_supported_openai_params(model=model.model, custom_llm_provider=prefix)
    except Exception:
        return None
    return {"type": "json_object"} if "response_format" in (known or ()) else None
