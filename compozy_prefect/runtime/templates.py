"""A value of the plan with templates in it → the value with everything rendered.

Parsing is cached by `expressions.parse`, so that a template costs its parsing once a process. What
fails says where it stands in the YAML: the place comes from the plan's spans, by JSON pointer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compozy_prefect.compiler.plan import Json, Position, pointer
from compozy_prefect.errors import RunError, TemplateError
from compozy_prefect.expressions import Environment, parse, parse_condition
from compozy_prefect.runtime.outcome import plain

Spans = Mapping[str, Position]


class TemplateFailed(RunError):
    """A template could not be evaluated. The code is the diagnostic's (`compozy explain`)."""

    code = "TEMPLATE_ERROR"
    retryable = False


def render(
    value: Json, context: Mapping[str, Any], environment: Environment, at: str, spans: Spans
) -> Json:
    """`value` with each text in it rendered (language.md §11.4); keys are not templates.

    `at` is the JSON pointer of `value` in the plan. Raises TemplateFailed with the place in the
    YAML and the offending expression.
    """
    if isinstance(value, str):
        if "{{" not in value:
            return value
        try:
            return plain(parse(value).data(context, environment))
        except TemplateError as fault:
            raise located(fault, value, at, spans) from None
    if isinstance(value, dict):
        return {
            key: render(item, context, environment, at + pointer(key), spans)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            render(item, context, environment, at + pointer(index), spans)
            for index, item in enumerate(value)
        ]
    return value


def render_text(
    template: str, context: Mapping[str, Any], environment: Environment, at: str, spans: Spans
) -> str:
    """A prompt, a key or another text: never parsed as JSON. Raises TemplateFailed."""
    if "{{" not in template:
        return template
    try:
        return parse(template).text(context, environment)
    except TemplateError as fault:
        raise located(fault, template, at, spans) from None


def holds(
    condition: str, context: Mapping[str, Any], environment: Environment, at: str, spans: Spans
) -> bool:
    """Whether a condition, a template or a bare expression, is truthy as Go's templates have it.

    Text that says `false` or `0`, or nothing, is falsy too: so ends a condition with words around
    its action. Raises TemplateFailed.
    """
    try:
        value = parse_condition(condition).native(context, environment)
    except TemplateError as fault:
        raise located(fault, condition, at, spans) from None
    if isinstance(value, str):
        return value.strip().lower() not in ("", "false", "0")
    return bool(value)


def located(fault: TemplateError, template: str, at: str, spans: Spans) -> TemplateFailed:
    """The failure with its place: `workflows/hello.yaml:12:15: … in `{{ … }}``."""
    template = fault.template or template
    excerpt = template[fault.start : fault.end].strip()
    whole = " ".join(template.split())
    message = fault.message
    if excerpt and excerpt not in message:
        message += f", in `{_short(excerpt)}`"
    elif whole not in message:
        message += f", in `{_short(whole)}`"
    details: dict[str, Json] = {"expression": excerpt or whole, "template": _short(template, 400)}
    place = nearest_place(at, spans)
    if place is not None:
        file, line, column = place[:3]
        message = f"{file}:{line}:{column}: {message}"
        details |= {"file": file, "line": line, "column": column}
    if fault.hint:
        message += f"; {fault.hint}"
        details["hint"] = fault.hint
    return TemplateFailed(message, code=fault.code, details=details)


def nearest_place(at: str, spans: Spans) -> Position | None:
    """Where in the files a pointer leads, or what encloses it."""
    while at:
        if (place := spans.get(at)) is not None:
            return place
        at = at.rpartition("/")[0]
    return None


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
